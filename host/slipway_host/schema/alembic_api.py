"""All names of Alembic that Slipway uses and that Alembic doesn't promise.

The app brings its own Alembic, of any version. If that lacks one of these names, the message names it, and nothing has
been changed. Other modules use only what Alembic's documentation shows.
"""

from __future__ import annotations

import contextlib

from slipway_host.schema.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

TOUCHED = {
    "alembic.config.CommandLine": ("main", "run_cmd"),
    "alembic.script.ScriptDirectory": ("_upgrade_revs", "env_py_location", "revision_map", "run_env"),
    "alembic.runtime.migration.MigrationContext": ("opts", "run_migrations", "version_table", "version_table_schema"),
    "alembic.runtime.migration.MigrationStep": ("downgrade_from_script",),
    "alembic.util": ("coerce_resource_to_filename", "load_python_file"),
}
"""A class or a module → the attributes used."""


def missing(name: str) -> str:
    """The message if Alembic lacks `name`."""
    import alembic

    return f"Alembic {alembic.__version__} lacks {name}, which Slipway touches: pin an older one in the project."


def _of(holder: Any, name: str) -> Any:
    """An attribute. Raises Failed if this Alembic lacks it."""
    try:
        return getattr(holder, name)
    except AttributeError:
        raise Failed(missing(name)) from None


def read_by(read: Callable[[str, str], Any], locate: Callable[[str], Path]) -> None:
    """From now on, let Alembic find and read revisions by these functions, without running them.

    + read: folder and name of a file → its module
    + locate: `script_location` → its folder
    """
    from alembic import util

    for name, function in (("load_python_file", read), ("coerce_resource_to_filename", locate)):
        _of(util, name)  # under another name, Alembic's own function would run them
        setattr(util, name, function)


@contextlib.contextmanager
def migrated_by(visited: Callable[..., None]) -> Iterator[Callable[..., Any]]:
    """Call `visited` where env.py asks Alembic to migrate, during the block. Yields Alembic's own function.

    Alembic's hook `fn` is too late: by then it has read the heads and made the version table, without a lock.
    """
    from alembic.runtime.migration import MigrationContext

    run_migrations: Callable[..., Any] = _of(MigrationContext, "run_migrations")
    MigrationContext.run_migrations = visited
    try:
        yield run_migrations
    finally:
        MigrationContext.run_migrations = run_migrations


def upgrade_steps(script: Any, heads: Any) -> Sequence[Any]:
    """Alembic's steps from these heads to those of the scripts.

    + script: its ScriptDirectory
    """
    steps: Sequence[Any] = _of(script, "_upgrade_revs")("heads", heads)
    return steps


def downgrade_steps(script: Any, undone: Iterable[Any]) -> Sequence[Any]:
    """Alembic's steps that undo these revisions (Scripts), in their order.

    + script: its ScriptDirectory
    """
    from alembic.runtime.migration import MigrationStep

    step, revisions = _of(MigrationStep, "downgrade_from_script"), _of(script, "revision_map")
    return [step(revisions, each) for each in undone]


def env_of(script: Any) -> str:
    """Path of env.py."""
    return str(_of(script, "env_py_location"))


def options_of(context: Any) -> dict[str, Any]:
    """What env.py gave to context.configure() of a MigrationContext."""
    options: dict[str, Any] = _of(context, "opts")
    return options


def version_table_of(context: Any) -> tuple[str, str | None]:
    """Name and schema of the table in which a MigrationContext keeps the database's revisions."""
    return _of(context, "version_table"), _of(context, "version_table_schema")
