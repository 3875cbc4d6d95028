"""Notes with Litestar: a small application to start from."""
