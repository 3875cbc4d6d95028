"""All of Alembic that Slipway touches and Alembic doesn't promise.

It is an app's own, of any version. What its documentation shows is used where it is needed. A version that lacks one of
these names is told by it, and nothing was done by then.
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
"""What is touched by name: a class or a module → its attributes."""


def missing(name: str) -> str:
    """What to say where Alembic has no `name`."""
    import alembic

    return f"Alembic {alembic.__version__} lacks {name}, which Slipway touches: pin an older one in the project."


def _of(holder: Any, name: str) -> Any:
    """An attribute; Failed where this Alembic lacks it."""
    try:
        return getattr(holder, name)
    except AttributeError:
        raise Failed(missing(name)) from None


def read_by(read: Callable[[str, str], Any], locate: Callable[[str], Path]) -> None:
    """Let Alembic read revisions, and find their folder, by these functions, and run nothing of them: for good.

    + read: folder and name of a file → the module that it is taken for
    + locate: `script_location` → its folder
    """
    from alembic import util

    for name, function in (("load_python_file", read), ("coerce_resource_to_filename", locate)):
        _of(util, name)  # one that has another name would run them
        setattr(util, name, function)


@contextlib.contextmanager
def migrated_by(visited: Callable[..., None]) -> Iterator[Callable[..., Any]]:
    """Let this be called where env.py asks Alembic to migrate, while the block lasts; gives what Alembic does then.

    Not in `fn`, the place for it: by then the heads are read and the version table is made, before any lock.
    """
    from alembic.runtime.migration import MigrationContext

    run_migrations: Callable[..., Any] = _of(MigrationContext, "run_migrations")
    MigrationContext.run_migrations = visited
    try:
        yield run_migrations
    finally:
        MigrationContext.run_migrations = run_migrations


def upgrade_steps(script: Any, heads: Any) -> Sequence[Any]:
    """Alembic's steps from these heads to the head.

    + script: its ScriptDirectory
    """
    steps: Sequence[Any] = _of(script, "_upgrade_revs")("head", heads)
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
