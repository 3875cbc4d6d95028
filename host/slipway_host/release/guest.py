"""What runs as a user: the name alone."""

from __future__ import annotations


def processes(user: str) -> list[int]:
    """Process ids of what runs as this user, by whichever of its ids."""
    raise NotImplementedError
