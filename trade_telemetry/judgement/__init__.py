"""Is it better, is it worse, how sure."""
