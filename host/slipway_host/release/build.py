"""The build of a release: the name alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App


def build(app: App, release: str) -> str | None:
    """Install Python and the locked dependencies into the release's own environment; then it becomes root's."""
    raise NotImplementedError
