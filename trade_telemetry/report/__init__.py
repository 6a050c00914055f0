"""The audit report: one file to send."""
