"""One migration of a database at a time, and its time-outs, for PostgreSQL, MySQL, MariaDB and SQLite.

Connections and contexts are objects of the app's own SQLAlchemy and Alembic, of any version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from functools import partial
from pathlib import Path

from slipway_host.schema import alembic_api
from slipway_host.schema.errors import Locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

LOCK = (0x736C6970, 0x77617921)
"""Slipway's advisory lock in PostgreSQL: every migration takes it. It must never change."""
POLL_SECONDS = 0.2
SHOWN_HOLDERS = 3
QUIET_SECONDS = 60  # a transaction may be idle at least that long


class Guard:
    """The lock and the settings of a run that migrates."""

    def __init__(self, lock_timeout: float, statement_timeout: float) -> None:
        """Time-outs in seconds: `lock_timeout` for another migration and for each lock, the other for a statement."""
        self.lock_timeout = lock_timeout
        self.statement_timeout = statement_timeout
        self.pid: int | None = None
        """Process id of PostgreSQL's process for the migrating connection."""
        self.folders: dict[str, int] = {}
        """SQLite: folder → the descriptor that locks it."""

    def take(self, context: Any, plan: Callable[[], Iterable[Any]]) -> None:
        """Reserve a connection's database for this run. Raises Locked if another migration has it for too long.

        + context: Alembic's MigrationContext
        + plan: gives Alembic's steps
        """
        guards = {"postgresql": self._postgresql, "mysql": self._mysql, "mariadb": self._mysql, "sqlite": self._sqlite}
        if guard := guards.get(context.connection.dialect.name):
            guard(context, plan)

    def _wait(self, taken: Callable[[], Any], who: Callable[[], str]) -> None:
        """Wait until `taken()`, for lock_timeout at most. It polls: a statement that waits would block a
        CREATE INDEX CONCURRENTLY of the lock's holder."""
        deadline = time.monotonic() + self.lock_timeout
        while not taken():
            if time.monotonic() >= deadline:
                seconds = f"{self.lock_timeout:g} s"
                raise Locked(f"Another migration of this database still runs, after {seconds} of waiting{who()}")
            time.sleep(POLL_SECONDS)

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────

    def _postgresql(self, context: Any, plan: Callable[[], Iterable[Any]]) -> None:
        connection = context.connection
        # If the run is one transaction, lock and settings are bound to it. They then end with it, even behind a pooler
        # that gives the server's process to another client. Otherwise they last as long as the session.
        whole = connection.in_transaction() and not alembic_api.options_of(context).get("transaction_per_migration")
        if whole and any("autocommit_block" in text_of(step) for step in plan()):
            whole = False
        settings = {"lock_timeout": self.lock_timeout, "statement_timeout": self.statement_timeout}
        if self.statement_timeout:
            settings["idle_in_transaction_session_timeout"] = max(QUIET_SECONDS, self.statement_timeout)
        # PostgreSQL 14: it notices within this time that we are gone, and stops waiting for a lock.
        settings["client_connection_check_interval"] = 2
        rows = ", ".join(f"('{name}', '{round(seconds * 1000)}')" for name, seconds in settings.items())
        held = f"locktype = 'advisory' AND classid = {LOCK[0]} AND objid = {LOCK[1]} AND objsubid = 2"
        for local in (True, False) if whole else (False,):
            self.pid = connection.exec_driver_sql(
                f"SELECT pg_backend_pid(), count(set_config(name, wanted.value, {str(local).lower()})) "
                f"FROM pg_settings JOIN (VALUES {rows}) AS wanted (name, value) USING (name)"
            ).scalar()
            function = "pg_try_advisory_xact_lock" if local else "pg_try_advisory_lock"
            self._wait(
                partial(answered, connection, f"SELECT {function}({LOCK[0]}, {LOCK[1]})"),
                partial(holders, connection, held, self.pid),
            )
            # With AUTOCOMMIT the lock has ended already: then take it for the session.
            if answered(connection, f"SELECT count(*) FROM pg_locks WHERE pid = {self.pid} AND {held}"):
                break

    def relation_holders(self, connection: Any, error: BaseException) -> str:
        """Who has locks on the tables that the failed statement names, as the end of a sentence.

        PostgreSQL's own error doesn't say it.
        """
        statement = getattr(error, "statement", None) or ""
        with contextlib.suppress(Exception), connection.engine.connect() as other:
            return holders(other, "locktype = 'relation' AND relation >= 16384", self.pid, statement)
        return "."

    # ── MySQL and MariaDB ────────────────────────────────────────────────────────────────────────────────────────

    def _mysql(self, context: Any, plan: Callable[[], Iterable[Any]]) -> None:
        connection = context.connection
        seconds = max(1, round(self.lock_timeout))
        settings: dict[str, float] = {"innodb_lock_wait_timeout": seconds, "lock_wait_timeout": seconds}
        if getattr(connection.dialect, "is_mariadb", False) and self.statement_timeout:
            settings["max_statement_time"] = self.statement_timeout  # MySQL has one for SELECT only
        for name, value in settings.items():
            connection.exec_driver_sql(f"SET SESSION {name} = {value:g}")
        name = "CONCAT('slipway ', MD5(COALESCE(DATABASE(), '')))"

        def who() -> str:
            row = connection.exec_driver_sql(
                f"SELECT id, user, host FROM information_schema.processlist WHERE id = IS_USED_LOCK({name})"
            ).first()
            return f"; it is held by connection {row[0]}, {row[1]} from {row[2]}." if row else "."

        self._wait(partial(answered, connection, f"SELECT GET_LOCK({name}, 0)"), who)

    # ── SQLite ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _sqlite(self, context: Any, plan: Callable[[], Iterable[Any]]) -> None:
        from sqlalchemy import delete, false, table
        from sqlalchemy.exc import OperationalError

        connection = context.connection
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(self.lock_timeout * 1000)}")
        files = [row[2] for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main"]
        if files and files[0]:  # it is empty for a database in memory
            self.lock_folder(Path(files[0]))
        if getattr(connection.connection.driver_connection, "in_transaction", False):
            # A transaction that has read can't wait to write. So write before anything is read.
            name, schema = alembic_api.version_table_of(context)
            versions = table(name, schema=schema)
            try:
                connection.execute(delete(versions).where(false()))
            except OperationalError as error:
                if "no such table" not in str(error.orig):
                    raise

    def lock_folder(self, database: Path) -> None:
        """Lock the folder of a database of SQLite.

        SQLite's own lock ends with each transaction, and Python's sqlite3 begins none before the first INSERT. So lock
        the folder: it exists before the database's files, and a lock leaves nothing in it.
        """
        folder = str(database.parent)
        if folder not in self.folders:
            self._wait(partial(self._locks, folder), lambda: ".")

    def _locks(self, folder: str) -> bool:
        try:
            if folder not in self.folders:
                self.folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self.folders[folder], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without such locks, or a folder that can't be read
            return True
        return True


def answered(connection: Any, statement: str) -> Any:
    """The first value of a statement's result."""
    return connection.exec_driver_sql(statement).scalar()


def text_of(step: Any) -> str:
    """The source of a step's revision; without a source, the text that it may contain."""
    path = Path(step.revision.path)
    return path.read_text(errors="replace") if path.suffix == ".py" else "autocommit_block?"


def holders(connection: Any, which: str, own: int | None, statement: str | None = None) -> str:
    """Who holds certain locks of PostgreSQL, as the end of a sentence.

    + which: a condition on pg_locks
    + own: pid of a process to leave out, besides the connection's
    + statement: only locks on tables that it names
    """
    rows = connection.exec_driver_sql(
        "SELECT pid, usename, application_name, state, left(query, 80), "
        "to_char(state_change AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), "
        "(SELECT relname FROM pg_class WHERE oid = relation) "
        "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted AND pid NOT IN (pg_backend_pid(), "
        f"{own}) AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND {which} "
        "ORDER BY xact_start, pid"
    ).all()
    said: dict[int, str] = {}
    for pid, user, program, state, query, since, relation in rows:
        if statement is None or (relation and re.search(rf"\b{re.escape(relation)}\b", statement)):
            # The database shows no more of another user's session.
            doing = f"{state} since {since} UTC: {' '.join((query or '').split())}" if state else "activity hidden"
            said[pid] = f"  pid {pid}, user {user}, {program or 'no application_name'}, {doing}"
    return "\n".join(["; held by", *list(said.values())[:SHOWN_HOLDERS]]) if said else "."
