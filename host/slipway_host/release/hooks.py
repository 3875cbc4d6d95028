"""Commands of the user's own: the name alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App


def hook(app: App, release: str, name: str, **told: str) -> None:
    """Run a command of the user's own at its moment; no output of it is shown unless it fails."""
    if app.wanted["hooks"].get(name):
        raise NotImplementedError
