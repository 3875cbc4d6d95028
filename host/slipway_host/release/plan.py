"""What a release would change: the names alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.protocol import Planned, Request
    from slipway_host.release.app import App


def plan(app: App, request: Request) -> Planned:
    """What a release would change, without making one: its commits, and the migrations with their SQL."""
    raise NotImplementedError


def sweep_plans(app: App) -> None:
    """Remove what plans that were killed have left."""
