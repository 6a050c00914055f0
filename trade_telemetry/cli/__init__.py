"""Say it in a shell: the verbs of `trade-telemetry`."""
