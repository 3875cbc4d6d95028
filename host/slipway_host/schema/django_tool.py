"""The commands for an app of Django: with its manage.py, its settings and its own Django, of any version from 3.2.

A migration is named LABEL.NAME, and the heads of a database are the last migrations of each app. The answers are those
of the commands for Alembic (commands.py), with `merge`, the command that joins forked heads.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

from slipway_host.schema import django_contract, django_source
from slipway_host.schema.errors import Failed
from slipway_host.schema.locks import Guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from slipway_host.protocol import Revision
    from slipway_host.schema.commands import Answer
    from slipway_host.schema.django_source import Key

MERGE = "`manage.py makemigrations --merge`"
SETTINGS = "DJANGO_SETTINGS_MODULE"
OFFLINE = {"postgresql": {"pg_version": 150_000}}
"""What a connection would ask its database for."""
CANNOT = "CANNOT BE WRITTEN AS SQL"
"""Django's words in the SQL of an operation that has none."""


def act(options: argparse.Namespace, answer: Answer) -> None:
    """Run a command."""
    if options.command.__name__ == "read":
        read(options, answer)
        return
    work = {"look": look, "render": render, "undone": undone, "upgrade": upgrade, "downgrade": downgrade}
    started(options.config, lambda: work[options.command.__name__](options, answer))


def started(manage: str, work: Callable[[], None]) -> None:
    """Do something as a command of manage.py would; without one, with the settings of DJANGO_SETTINGS_MODULE."""
    try:
        import django
        from django.core import management
    except ImportError as error:
        raise Failed(f"Django can't be imported ({error}): `uv add django` in the project.") from error
    failures: list[BaseException] = []
    reached: list[bool] = []

    def instead(*_: object, **__: object) -> None:
        reached.append(True)
        try:
            django.setup()
            work()
        except BaseException as error:
            failures.append(error)
            raise

    if manage:
        management.execute_from_command_line = instead
        sys.path.insert(0, str(Path(manage).parent))
        sys.argv = [manage, "migrate"]
        try:
            runpy.run_path(manage, run_name="__main__")
        except BaseException as error:  # of manage.py's own, perhaps instead of the first one
            failures.append(error)
        if failures:
            raise failures[0]
        if not reached:
            raise Failed(f"{Path(manage).name} ended without execute_from_command_line().")
        return
    if not os.environ.get(SETTINGS):
        raise Failed(f"There is no manage.py, and no {SETTINGS} in the environment.")
    sys.path.insert(0, str(Path.cwd()))
    instead()


def names(keys: Iterable[Key]) -> list[str]:
    """Names of migrations, sorted."""
    return sorted(".".join(key) for key in keys)


def key_of(name: str) -> Key:
    """The opposite of `names`."""
    label, _, rest = name.partition(".")
    return label, rest


# ── what a database has ──────────────────────────────────────────────────────────────────────────────────────────────


class Seen:
    """The migrations of the release, compared with those of the database."""

    def __init__(self) -> None:
        from django.db import connections
        from django.db.migrations.executor import MigrationExecutor
        from django.db.migrations.recorder import MigrationRecorder

        self.connection = connections["default"]
        self.executor = MigrationExecutor(self.connection)
        self.loader = self.executor.loader
        self.loader.check_consistent_history(self.connection)
        recorder = MigrationRecorder(self.connection)
        there = recorder.has_table()
        self.rows: list[Key] = list(recorder.migration_qs.order_by("id").values_list("app", "name")) if there else []
        """The migrations that the database has, oldest first."""
        disk = self.loader.disk_migrations
        self.known = {*disk, *(each for one in disk.values() for each in one.replaces)}
        self.leaves: list[Key] = sorted(self.loader.graph.leaf_nodes())
        self.forked = django_source.conflicts(self.leaves)
        self.unknown = self._unknown()

    def _unknown(self) -> list[Key]:
        """What is newer than this release. What is older than all that it knows of an app was squashed once."""
        found = []
        for label in sorted(self.loader.migrated_apps):
            rows = [key for key in self.rows if key[0] == label]
            last = max((number for number, key in enumerate(rows) if key in self.known), default=-1)
            found += [key for key in rows[last + 1 :] if key not in self.known]
        return found

    @property
    def current(self) -> list[Key]:
        """The last migration of each app that the database has; several, if their order isn't known."""
        graph, applied = self.loader.graph, set(self.loader.applied_migrations)
        last = [
            key
            for key in graph.nodes
            if key in applied
            and not any(child.key in applied and child.key[0] == key[0] for child in graph.node_map[key].children)
        ]
        newer = {label for label, _ in self.unknown}
        return sorted([*(key for key in last if key[0] not in newer), *self.unknown])

    def pending(self) -> list[Revision]:
        """What `migrate` would do; a squashed migration that it would only note as applied is part of that."""
        if self.unknown or self.forked:
            return []
        todo = [each for each, _ in self.executor.migration_plan(self.leaves)]
        noted = [one for key, one in sorted(self.loader.replacements.items()) if self._to_note(key)]
        return described([*noted, *todo], self.loader) if noted or todo else []

    def _to_note(self, key: Key) -> bool:
        return key in self.loader.applied_migrations and key not in self.rows

    def back(self, to: Sequence[str]) -> list[Any]:
        """Django's migrations that are to be undone, in this order, so that the database is at earlier heads."""
        return [each for each, backwards in self.executor.migration_plan(self.targets(to)) if backwards]

    def targets(self, to: Sequence[str]) -> list[tuple[str, str | None]]:
        """Django's targets for earlier heads; an app without one goes back to nothing."""
        heads = dict(map(key_of, to))
        applied = self.loader.applied_migrations
        missing = [f"{label}.{name}" for label, name in heads.items() if (label, name) not in applied and name]
        if missing:
            at = ", ".join(names(self.current)) or "nothing"
            raise Failed(f"The database is at {at}: it has no {', '.join(missing)} to go back to.")
        return [
            (label, heads.get(label)) for label in sorted({label for label, _ in applied} & self.loader.migrated_apps)
        ]


def described(wanted: Sequence[Any], loader: Any) -> list[Revision]:
    """Migrations of Django as part of the answer."""
    sources = {}
    for key, migration in loader.disk_migrations.items():
        path = getattr(sys.modules[type(migration).__module__], "__file__", None) or ""
        if path.endswith(".py"):
            sources[key] = django_source.Source(key, Path(path))
    state = django_contract.State()
    keys = [(each.app_label, each.name) for each in wanted]
    told = {each.key: state.described(each, each.key in keys) for each in django_source.in_order(sources)}
    return [told.get(key) or unread(".".join(key)) for key in keys]


def unread(name: str) -> Revision:
    """A migration without a source."""
    return {"revision": name, "doc": "", "contract": ["can't be checked: it has no source"], "downgrade": False}


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def look(_: argparse.Namespace, answer: Answer) -> None:
    """See commands.look."""
    seen = Seen()
    answer(
        heads=names(seen.leaves),
        forked=seen.forked,
        merge=MERGE,
        current=names(seen.current),
        unknown=names(seen.unknown),
        dialect=seen.connection.vendor,
        pending=seen.pending(),
    )


def read(options: argparse.Namespace, answer: Answer) -> None:
    """See commands.read. What other packages bring isn't read."""
    sources = django_source.sources_below(Path.cwd())
    at = [key_of(name) for name in options.at]
    applied, labels = django_source.applied(sources, at), {label for label, _ in sources}
    known = {*sources, *(each for one in sources.values() for each in one.replaces)}
    leaves = django_source.leaves(sources)
    unknown = [key for key in at if key[0] in labels and key not in known]
    begun = {each for one in sources.values() for each in one.replaces if applied.intersection(one.replaces)}
    left_out = {
        each
        for key, one in sources.items()
        if one.replaces
        for each in ([key] if begun.intersection(one.replaces) else one.replaces)
    }
    state = django_contract.State()
    done = applied | left_out
    told = [(each.key, state.described(each, each.key not in done)) for each in django_source.in_order(sources)]
    pending = [one for key, one in told if key not in done]
    forked = django_source.conflicts(leaves)
    answer(
        heads=names(leaves),
        forked=forked,
        merge=MERGE,
        unknown=names(unknown),
        pending=[] if unknown or forked else pending,
    )


def render(options: argparse.Namespace, answer: Answer) -> None:
    """See commands.render."""
    from django.db import connections
    from django.db.migrations.loader import MigrationLoader

    connection, loader = connections["default"], MigrationLoader(None)
    if connection.vendor == "sqlite":
        connection.settings_dict["NAME"] = ":memory:"
    connection.__dict__.update(OFFLINE.get(connection.vendor, {}))
    graph = loader.graph
    heads = [key_of(name) for name in options.at]
    applied = {each for key in heads if key in graph.nodes for each in graph.forwards_plan(key)}
    order = list(dict.fromkeys(each for leaf in graph.leaf_nodes() for each in graph.forwards_plan(leaf)))
    state = loader.project_state([])
    sql: dict[str, str | None] = {}
    for key in order:
        migration = graph.nodes[key]
        if key in applied:
            migration.mutate_state(state, preserve=False)
            continue
        after = migration.mutate_state(state)
        try:
            sql[".".join(key)] = written(migration, state.clone(), connection)
        except Exception:  # it asks the database, for the name of a constraint, say
            sql[".".join(key)] = None
        state = after
    answer(sql=sql, without_env=None)


def written(migration: Any, state: Any, connection: Any) -> str | None:
    """The SQL of a migration of Django, without a database; None where a part of it can't be written."""
    editor = connection.schema_editor(collect_sql=True, atomic=False)
    if hasattr(connection.ops, "compose_sql"):  # PostgreSQL's asks a connection how to quote

        def composed(sql: str, values: Sequence[Any]) -> str:
            return sql % tuple(map(editor.quote_value, values))

        connection.ops.compose_sql = composed
    editor.__enter__()
    editor.atomic_migration = True  # or each operation would begin a transaction
    migration.apply(state, editor, collect_sql=True)
    editor.atomic_migration = False
    editor.__exit__(None, None, None)
    text = "\n".join(line for line in editor.collected_sql if not line.startswith("--"))
    return None if any(CANNOT in line for line in editor.collected_sql) else text


def undone(options: argparse.Namespace, answer: Answer) -> None:
    """See commands.undone."""
    seen = Seen()
    told = described(seen.back(options.to), seen.loader)
    answer(undone=[{"revision": one["revision"], "doc": one["doc"], "downgrade": one["downgrade"]} for one in told])


def upgrade(options: argparse.Namespace, _: Answer) -> None:
    """See commands.upgrade."""
    from django.core.management import call_command

    with Locking(options):
        call_command("migrate", interactive=False, no_color=True)


def downgrade(options: argparse.Namespace, _: Answer) -> None:
    """See commands.downgrade."""
    from django.core.management import call_command

    with Locking(options):
        for label, name in Seen().targets(options.to):
            if any(each.app_label == label for each in Seen().back(options.to)):
                call_command("migrate", label, name or "zero", interactive=False, no_color=True)


# ── a lock ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Locking:
    """Locks the database for the time of a block, and sets the time-outs of Django's connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        """`options`: with the time-outs."""
        self.guard = Guard(options.lock_timeout, options.statement_timeout)

    def __enter__(self) -> None:
        from django.db import connections

        connection = connections["default"]
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            Plain(connection).exec_driver_sql(f"PRAGMA busy_timeout = {round(self.guard.lock_timeout * 1000)}")
            self.guard.lock_folder(Path(str(connection.settings_dict["NAME"])))
        else:
            self.guard.take(SimpleNamespace(connection=Plain(connection)), list)

    def __exit__(self, *_: object) -> None:
        """Nothing: the lock ends with the connection."""


class Plain:
    """A connection of Django with the names of SQLAlchemy's that `Guard` uses."""

    def __init__(self, connection: Any) -> None:
        """`connection`: of Django."""
        self.connection = connection
        maria = connection.vendor == "mysql" and connection.mysql_is_mariadb
        self.dialect = SimpleNamespace(name=connection.vendor, is_mariadb=maria)

    def in_transaction(self) -> bool:
        """Django begins one for each migration: so the lock is the session's."""
        return False

    def exec_driver_sql(self, statement: str) -> Rows:
        """The rows of a statement."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return Rows(cursor.fetchall() if cursor.description else [])


class Rows:
    """The rows of a statement."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.rows = rows

    def all(self) -> Sequence[Sequence[Any]]:
        """All of them."""
        return self.rows

    def first(self) -> Sequence[Any] | None:
        """The first one, if there is one."""
        return self.rows[0] if self.rows else None

    def scalar(self) -> Any:
        """The first value."""
        return self.rows[0][0] if self.rows else None
