"""What can be done about the ways into this host: the names alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from slipway_host.system import System


def apply(system: System, request: Any) -> Any:
    """Arm the revert and make a change; returns what confirms it."""
    raise NotImplementedError


def confirm(system: System, token: str) -> None:
    """Keep the change that `token` names."""
    raise NotImplementedError


def revert(system: System, booting: bool = False) -> str:
    """Take an unconfirmed change back. Returns what people should know: nothing if none was."""
    raise NotImplementedError


def reload(system: System, say: Callable[[str], object]) -> None:
    """Let sshd read its configuration, or start it where it has ended."""
    raise NotImplementedError


def free(system: System, say: Callable[[str], object]) -> None:
    """End apps that have a port of sshd's, which is about to start."""
    raise NotImplementedError
