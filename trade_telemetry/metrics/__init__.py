"""One number, one side at a time: sums of trades and the figures made of them."""
