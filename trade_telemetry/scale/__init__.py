"""Where one machine ends: folded states beside files, a lake, executors."""
