"""Verifies a provisioned host over SSH and from outside, read-only: pytest tests/host --inventory INVENTORY."""
