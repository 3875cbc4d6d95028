"""The way to a host: a connector that needs few round trips."""
