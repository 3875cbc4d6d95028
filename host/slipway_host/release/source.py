"""The source of a release: the names alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App


def fetch(app: App, release: str) -> None:
    """Bring the source into the release's folder, owned by the builder."""
    raise NotImplementedError


def store(app: App, commit: str, archive: str) -> None:
    """Keep a source that came with a request, where the fetch finds it."""
    raise NotImplementedError
