"""What a release and the database know of each other: the names alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from slipway_host.release.app import App
    from slipway_host.system import Done


def look(app: App, release: str) -> dict[str, Any] | None:
    """What a release's migrations and the database know of each other; None where Alembic isn't used."""
    return None


def schema(app: App, release: str, *argv: str, what: str = "schema", seconds: float = 120) -> Done:
    """Run the schema program with the release's own Python and Alembic."""
    raise NotImplementedError


def answer(app: App, done: Done, doing: str) -> Any:
    """The JSON that the schema program printed."""
    raise NotImplementedError


def patient(app: App, name: str, command: Callable[[float], Done]) -> str:
    """Run a migration, and again where it met a lock of the database's; says how often that was."""
    raise NotImplementedError


def migrate(app: App, release: str) -> str | None:
    """Bring the database's schema up, once, as the app's user, before traffic shifts."""
    raise NotImplementedError


def knower(app: App) -> str | None:
    """A release whose migrations know all that the database has: the one that serves, else the newest; or None."""
    return None
