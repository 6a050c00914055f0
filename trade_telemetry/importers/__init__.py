"""Other engines' logs to trace files."""
