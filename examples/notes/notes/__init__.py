"""Notes: a small application to start from."""
