"""Tools that look at a host from outside, each with a bar: see `python -m tests.audit --help`."""
