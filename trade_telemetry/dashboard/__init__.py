"""The live page: what a viewer asks, the figures, the panels, the server."""
