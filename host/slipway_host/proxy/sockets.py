"""How many connections a Unix socket has: the name alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def connections(path: Path) -> int:
    """How many connections a listening socket has, those included that nobody has accepted yet; 0 if it isn't there."""
    raise NotImplementedError
