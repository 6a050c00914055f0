"""Files to columns and runs, and what is shown beside what."""
