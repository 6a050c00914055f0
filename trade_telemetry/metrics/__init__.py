"""One number, one side at a time: every close once, from rows or ledgers."""
