"""The guards of the kinds of databases: what they ask, and what they say of who holds a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slipway_host.schema import lines, locks, runs
from slipway_host.schema.errors import Failed, Locked
from slipway_host.schema.locks import Guard


class Connection:
    """A connection that answers as told: part of a statement → its rows, in turn, the last one again and again."""

    def __init__(self, dialect: str, answers: dict[str, list[list[tuple[Any, ...]]]], begun: bool = True) -> None:
        self.dialect = SimpleNamespace(name=dialect, is_mariadb=dialect == "mariadb")
        self.answers, self.begun = answers, begun
        self.asked: list[str] = []
        self.engine = self

    def in_transaction(self) -> bool:
        return self.begun

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self

    def exec_driver_sql(self, statement: str) -> Any:
        self.asked.append(statement)
        rows: list[list[tuple[Any, ...]]]
        rows = next((each for part, each in self.answers.items() if part in statement), [[]])
        now = rows.pop(0) if len(rows) > 1 else rows[0]
        first = now[0] if now else None
        return SimpleNamespace(scalar=lambda: first and first[0], first=lambda: first, all=lambda: now)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that waits for nobody: the seconds that were slept."""
    slept: list[float] = []
    time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(locks, "time", time)
    return slept


def taken(guard: Guard, connection: Connection, plan: Callable[[], list[Any]] = list, **opts: object) -> list[str]:
    """What was asked to have the database."""
    guard.take(SimpleNamespace(connection=connection, opts=opts), plan)
    return connection.asked


SESSION = "SELECT pg_try_advisory_lock(1936484720, 2002876705)"
WHOLE = "SELECT pg_try_advisory_xact_lock(1936484720, 2002876705)"
HELD = (
    "SELECT count(*) FROM pg_locks WHERE pid = 7 AND locktype = 'advisory' AND classid = 1936484720 "
    "AND objid = 2002876705 AND objsubid = 2"
)
ROW = (9, "postgres", "psql", "idle", "SELECT\n  1", "2026-01-01 00:00:00", None)


def postgresql(held: int = 1, tries: tuple[int, ...] = (1,), begun: bool = True) -> Connection:
    answers: dict[str, list[list[tuple[Any, ...]]]] = {
        "pg_backend_pid(), count": [[(7, 4)]],
        "pg_try_advisory": [[(each,)] for each in tries],
        "count(*) FROM pg_locks": [[(held,)]],
        "pg_stat_activity": [[ROW]],
    }
    return Connection("postgresql", answers, begun)


def settings(local: bool, rows: str) -> str:
    return (
        f"SELECT pg_backend_pid(), count(set_config(name, wanted.value, {str(local).lower()})) "
        f"FROM pg_settings JOIN (VALUES {rows}) AS wanted (name, value) USING (name)"
    )


LIMITED = (
    "('lock_timeout', '1500'), ('statement_timeout', '5000'), "
    "('idle_in_transaction_session_timeout', '60000'), ('client_connection_check_interval', '2000')"
)


def test_postgresql_in_one_transaction_holds_its_lock_in_it() -> None:
    guard = Guard(1.5, 5)
    assert taken(guard, postgresql()) == [settings(True, LIMITED), WHOLE, HELD]
    assert guard.pid == 7


def test_postgresql_with_a_transaction_in_name_only_holds_it_as_a_session() -> None:
    asked = taken(Guard(1.5, 5), postgresql(held=0))
    assert asked == [settings(True, LIMITED), WHOLE, HELD, settings(False, LIMITED), SESSION, HELD]


@pytest.mark.parametrize("how", ["each", "block", "sourceless", "none"])
def test_postgresql_with_several_transactions_holds_it_as_a_session(how: str, tmp_path: Path) -> None:
    path = tmp_path / ("0001.pyc" if how == "sourceless" else "0001.py")
    path.write_text("with op.get_context().autocommit_block():" if how == "block" else "")
    plan = [SimpleNamespace(revision=SimpleNamespace(path=str(path)))]
    opts = {"transaction_per_migration": True} if how == "each" else {}
    connection = postgresql(begun=how != "none")
    assert taken(Guard(1.5, 5), connection, lambda: plan, **opts) == [settings(False, LIMITED), SESSION, HELD]


def test_postgresql_without_a_statements_limit_has_none_for_idle_transactions() -> None:
    rows = "('lock_timeout', '1500'), ('statement_timeout', '0'), ('client_connection_check_interval', '2000')"
    assert taken(Guard(1.5, 0), postgresql())[0] == settings(True, rows)
    assert "('idle_in_transaction_session_timeout', '90000')" in taken(Guard(1.5, 90), postgresql())[0]


def test_it_waits_for_another_migration_and_says_who_has_the_lock(clock: list[float]) -> None:
    guard = Guard(1, 5)
    assert taken(guard, postgresql(tries=(0, 0, 1)))[1:-1] == [WHOLE] * 3
    assert clock == [locks.POLL_SECONDS] * 2
    with pytest.raises(Locked) as caught:
        taken(guard, postgresql(tries=(0,)))
    assert str(caught.value) == (
        "Another migration of this database still runs, after 1 s of waiting; held by\n"
        "  pid 9, user postgres, psql, idle since 2026-01-01 00:00:00 UTC: SELECT 1"
    )


def test_who_holds_a_table_that_a_statement_names() -> None:
    rows = [
        (1, "a", "", None, None, None, "notes"),
        (2, "b", "web", "active", "SELECT 2", "2026-01-01 00:00:00", "note"),
        (3, "c", "web", "active", "SELECT 3", "2026-01-01 00:00:00", "notes"),
        *[(each, "d", "web", "active", "", "2026-01-01 00:00:00", "notes") for each in (4, 5)],
    ]
    guard = Guard(1, 5)
    guard.pid = 7
    connection = Connection("postgresql", {"pg_stat_activity": [rows]})
    error = SimpleNamespace(statement="ALTER TABLE notes ADD x int")
    assert guard.relation_holders(connection, error).splitlines() == [  # type: ignore[arg-type]
        "; held by",
        "  pid 1, user a, no application_name, activity hidden",
        "  pid 3, user c, web, active since 2026-01-01 00:00:00 UTC: SELECT 3",
        "  pid 4, user d, web, active since 2026-01-01 00:00:00 UTC: ",
    ]
    assert "pid NOT IN (pg_backend_pid(), 7)" in connection.asked[0]
    assert guard.relation_holders(Connection("postgresql", {}), ValueError()) == "."
    assert guard.relation_holders(None, ValueError()) == ".", "whatever is wrong with the connection"


def test_mysql_and_mariadb() -> None:
    name = "CONCAT('slipway ', MD5(COALESCE(DATABASE(), '')))"
    sets = ["SET SESSION innodb_lock_wait_timeout = 1", "SET SESSION lock_wait_timeout = 1"]
    lock = f"SELECT GET_LOCK({name}, 0)"
    answers: dict[str, list[list[tuple[Any, ...]]]] = {"GET_LOCK": [[(1,)]], "processlist": [[(5, "app", "web:1")]]}
    assert taken(Guard(0.1, 2.5), Connection("mysql", answers)) == [*sets, lock]
    limit = "SET SESSION max_statement_time = 2.5"
    assert taken(Guard(0.1, 2.5), Connection("mariadb", answers)) == [*sets, limit, lock]
    answers["GET_LOCK"] = [[(0,)]]
    with pytest.raises(Locked, match=r"waiting; it is held by connection 5, app from web:1\.$"):
        taken(Guard(0.1, 2.5), Connection("mysql", answers))


def test_of_another_kind_of_database_nothing_is_asked() -> None:
    assert taken(Guard(1, 5), Connection("oracle", {})) == []


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    first, second = Guard(1, 5), Guard(1, 5)
    assert first._locks(str(tmp_path)) and first._locks(str(tmp_path)), "again for each database in it"
    assert not second._locks(str(tmp_path))
    assert second._locks(str(tmp_path / "nowhere")), "what can't be locked is no reason to wait"


class Error(Exception):
    """PostgreSQL's, of a lock on a table."""

    sqlstate, statement = "55P03", "ALTER TABLE notes"


def test_a_migration_that_meets_a_lock_says_who_has_it() -> None:
    change = runs.Change(None, SimpleNamespace(_upgrade_revs=lambda target, heads: []), 1, 5)
    connection = postgresql()
    connection.answers["pg_stat_activity"] = [[(*ROW[:6], "notes")]]
    context = SimpleNamespace(connection=connection, opts={}, get_current_heads=lambda: ())

    def failing(context: object, **options: object) -> None:
        raise Error("canceling statement due to lock timeout")

    with pytest.raises(Locked, match=r"^; held by\n  pid 9, user postgres, psql, idle since") as caught:
        change.visit(context, {}, failing)
    assert isinstance(caught.value.__cause__, Error)


class Scripts:
    """Revisions in a row, as Alembic's ScriptDirectory has them."""

    def __init__(self, *names: str) -> None:
        self.all = [SimpleNamespace(revision=name) for name in names]

    def walk_revisions(self) -> list[Any]:
        return self.all[::-1]

    def get_revisions(self, names: tuple[str, ...]) -> list[Any]:
        return [each for each in self.all if each.revision in names]

    def iterate_revisions(self, upper: object, lower: object, implicit_base: bool = False) -> list[Any]:
        names = [each.revision for each in self.all]
        top = len(names) if upper == "heads" else max(names.index(each) for each in upper) + 1  # type: ignore[attr-defined]
        bottom = max((names.index(each) + 1 for each in lower), default=0) if lower != "base" else 0  # type: ignore[attr-defined]
        return self.all[bottom:top][::-1]


def test_what_is_to_do_and_to_undo() -> None:
    scripts = Scripts("a", "b", "c")
    assert lines.to_do(scripts, ["a"]) == ([], scripts.all[1:])
    assert lines.to_do(scripts, ["a", "x"]) == (["x"], []), "nobody can tell what is between"
    assert lines.to_undo(scripts, ["c"], ["a"]) == scripts.all[:0:-1]
    assert lines.to_undo(scripts, [], []) == []
    with pytest.raises(Failed, match=r"^The database is at base: it has no a, b to go back to\.$"):
        lines.to_undo(scripts, [], ["b", "a"])
