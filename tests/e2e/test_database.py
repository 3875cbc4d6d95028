"""Databases: PostgreSQL on the host with an async driver, and the file that an app has by default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, Run, wait_until
from tests.e2e.apps import add_revision, copy_example, facts, leftovers
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]

PASSWORD = "p%40ss-71c0de"
"""Of the database's user, as a URL has it: the @ in it is escaped."""
OTHER = "application_name = 'psql' AND usename = 'notes'"
TERMINATE = f'runuser -u postgres -- psql -q -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHER}"'
"""What ends the other client of a `session`: its end alone isn't noticed by PostgreSQL while a statement runs."""
URL = f"postgres://notes:{PASSWORD}@127.0.0.1:5432/notes?sslmode=prefer"


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A host with one app; nothing is deployed yet."""
    host = make_host("database", "debian13", ())
    source = copy_example("notes", host.folder)
    host.slipway["apps"] = {
        "notes": {
            "domains": ["notes.test"],
            "source": {"path": str(source)},
            "app": "notes.main:app",
            "liveness_path": "/healthz",
            "readiness_path": "/readyz",
            "tls": {"mode": "off"},
            "workers": 1,
            "watch": 0,
            "keep_warm": 0,
            "migrate_lock_timeout": 1,
        }
    }
    host.slipway["packages"] = ["postgresql"]
    return host


def say(host: Host, text: str) -> None:
    """Store a note."""
    answer = host.request("POST", "/api/notes", scheme="http", json={"text": text})
    assert answer.status_code == 201, answer.text


def said(host: Host) -> list[str]:
    """Every note, the newest first."""
    answer = host.get("/api/notes", scheme="http")
    assert answer.status_code == 200, answer.text
    return [note["text"] for note in answer.json()]


def environment(host: Host) -> dict[str, str]:
    """The environment of the service's main process."""
    pid = host.ssh(f"systemctl show -p MainPID --value notes@{host.release()}.service")
    lines = host.ssh(f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def psql(host: Host, query: str) -> str:
    """Ask PostgreSQL as its superuser."""
    return host.ssh("runuser -u postgres -- psql -qtA -d notes", stdin=query)


def migrations(host: Host) -> Path:
    """The folder of the app's revisions."""
    return Path(host.app()["source"]["path"]) / "migrations/versions"


def change_code(host: Host, text: str) -> None:
    """Make the next run release."""
    (Path(host.app()["source"]["path"]) / "notes/__init__.py").write_text(f'"""{text}"""\n')


def test_file_by_default(host: Host) -> None:
    """Without DATABASE_URL the app keeps a file in its own folder, which survives releases."""
    host.deploy()
    first = host.release()
    say(host, "in a file")
    change_code(host, "Second.")
    host.deploy()
    assert host.release() != first
    assert said(host) == ["in a file"]
    assert host.ssh("stat -c '%U %a' /var/lib/notes /var/lib/notes/notes.db") == "notes 750\nnotes 640"
    assert "DATABASE_URL" not in environment(host)


def test_not_before_the_database_is_there(host: Host) -> None:
    """A URL that leads nowhere ends the release at its check; the old one serves from its file, password unseen."""
    before = host.release()
    host.app()["env_file"] = host.file("notes.env", f"DATABASE_URL={URL}\n")
    host.app()["database_driver"] = "asyncpg"
    run = host.deploy("-vv", check=False)
    assert run.code != 0
    run.says("failed at check (3 of 9)", "The database's schema can't be looked at:", f"{before} keeps serving")
    run.says('password authentication failed for user "notes"')
    assert PASSWORD not in run.output and "p@ss-71c0de" not in run.output
    assert said(host) == ["in a file"]
    assert leftovers(host, "notes") == []


def test_postgresql(host: Host) -> None:
    """The app's async engine and Alembic get the URL as they need it, other tools as it was given."""
    make = "CREATE USER notes PASSWORD 'p@ss-71c0de'; CREATE DATABASE notes OWNER notes;"
    host.ssh("runuser -u postgres -- psql -q", stdin=make.replace("; ", ";\n"))
    host.deploy()
    seen = environment(host)
    assert seen["DATABASE_URL"] == URL.replace("postgres://", "postgresql+asyncpg://").replace("sslmode=", "ssl=")
    assert seen["DATABASE_URL_SYNC"] == URL.replace("postgres://", "postgresql://")
    assert said(host) == []
    say(host, "in PostgreSQL")
    assert psql(host, "SELECT text FROM notes") == "in PostgreSQL"
    assert psql(host, "SELECT version_num FROM alembic_version") == facts(host, "/readyz", "notes.test")["revision"]
    assert psql(host, "SELECT tableowner FROM pg_tables WHERE tablename = 'notes'") == "notes"
    host.converged()


def test_release_with_postgresql(host: Host) -> None:
    """A release migrates and swaps without a failed request, and keeps the data."""
    add_revision(migrations(host), "0003", "0002", 'op.add_column("notes", sa.Column("title", sa.Text))')
    with host.traffic(path="/api/notes", scheme="http") as public:
        host.deploy()
    public.unbroken()
    assert facts(host, "/readyz", "notes.test")["revision"] == "0003"
    assert said(host) == ["in PostgreSQL"]


def test_failed_migration_with_postgresql(host: Host) -> None:
    """A revision that fails half-way leaves the schema as it was."""
    before = host.release()
    statements = 'op.add_column("notes", sa.Column("half", sa.Text))', 'op.execute("SELECT 1/0")'
    wrong = add_revision(migrations(host), "0004", "0003", *statements)
    with host.traffic(path="/api/notes", scheme="http") as public:
        run = host.deploy(check=False)
    public.unbroken()
    run.says("failed at migrate (4 of 9)", "division by zero", f"{before} keeps serving")
    assert PASSWORD not in run.output
    assert psql(host, "SELECT version_num FROM alembic_version") == "0003"
    assert psql(host, "SELECT count(*) FROM information_schema.columns WHERE column_name = 'half'") == "0"
    wrong.unlink()
    host.deploy()
    assert host.release() == before
    host.converged()


@contextmanager
def session(host: Host, statement: str) -> Iterator[None]:
    """Another client of the database, in a transaction that began with this statement, while the block runs."""
    query = f"BEGIN; {statement}; SELECT pg_sleep(120);"
    url = URL.replace("?sslmode=prefer", "")
    host.ssh(f"systemd-run --quiet --collect --unit=other -p User=notes psql -q -c '{query}' {url}")
    with host.afterwards(f"{TERMINATE}; systemctl stop other.service"):
        wait_until(lambda: "pg_sleep" in psql(host, f"SELECT query FROM pg_stat_activity WHERE {OTHER}"), 10, "it")
        yield


def release(host: Host, *says: str, **options: object) -> Run:
    """Release with these settings, and fail unless it is refused with these words, and nothing has changed."""
    before, revision = host.release(), psql(host, "SELECT version_num FROM alembic_version")
    with host.changed({"apps": {"notes": options}}), host.traffic(path="/api/notes", scheme="http") as public:
        run = host.task("tasks/release.py", check=False)
    public.unbroken()
    assert run.code != 0
    run.says("failed at migrate (4 of 9)", *says, f"{before} keeps serving")
    assert psql(host, "SELECT version_num FROM alembic_version") == revision
    assert leftovers(host, "notes") == []
    return run


def test_another_migration_of_the_database_is_waited_for(host: Host) -> None:
    """One that another host makes, say: under one lock, whose holder is named."""
    add_revision(migrations(host), "0004", "0003", 'op.add_column("notes", sa.Column("colour", sa.Text))')
    with session(host, f"SELECT pg_advisory_lock({0x736C6970}, {0x77617921})"):
        run = release(host, "met a lock", "Another migration of this database still runs, after 1 s", migrate_retries=0)
        run.says("held by", "user notes, psql, active since", "pg_advisory_lock")


def test_a_table_in_use_is_waited_for_in_turns(host: Host) -> None:
    """A long transaction keeps the migration out, and the migration doesn't keep everybody else out meanwhile."""
    last = "cat $(ls -td /run/slipway/notes/*/ | head -n 1)/log"
    with (
        host.traffic(path="/api/notes", scheme="http") as public,
        session(host, "LOCK TABLE notes IN ACCESS SHARE MODE"),
        ThreadPoolExecutor(1) as pool,
    ):
        before = host.ssh("ls /run/slipway/notes")
        going = pool.submit(host.task, "tasks/release.py")
        wait_until(lambda: host.ssh("ls /run/slipway/notes") != before, 60, "the run")
        wait_until(lambda: "met a lock" in host.ssh(last), 60, "the first try")
        host.ssh(TERMINATE)
        run = going.result()
    public.unbroken()
    run.says("the migration met a lock; it is tried again", "4/9 migrate", "times, for a lock)")
    assert facts(host, "/readyz", "notes.test")["revision"] == "0004"
    assert leftovers(host, "notes") == []


def test_a_statement_that_takes_too_long_is_ended(host: Host) -> None:
    """By the database itself, where it says so."""
    slow = add_revision(migrations(host), "0005", "0004", 'op.execute("SELECT pg_sleep(60)")')
    run = release(host, "A statement took longer than the statement time-out, 2 s.", migrate_statement_timeout=2)
    run.says("migrations/versions/0005_added.py", "pg_sleep(60)")
    slow.unlink()


def test_a_killed_migration_leaves_no_work_at_the_database(host: Host) -> None:
    """After `kill -9` its statement ends too, and the lock is free: the next migration is let in."""
    add_revision(migrations(host), "0005", "0004", 'op.execute("SELECT pg_sleep(60)")')
    working = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(release, host, "The migration `alembic` failed")
        wait_until(lambda: psql(host, working) == "1", 60, "the statement")
        host.ssh("systemctl kill --signal=KILL notes-migrate.service")
        wait_until(lambda: psql(host, working) == "0", 10, "the statement's end")
        going.result()
    add_revision(migrations(host), "0005", "0004", 'op.execute("SELECT 1")')
    host.task("tasks/release.py")
    assert facts(host, "/readyz", "notes.test")["revision"] == "0005"


def test_database_away_and_back(host: Host) -> None:
    """While PostgreSQL is stopped the app lives and isn't ready; it recovers by itself."""
    host.ssh("systemctl stop 'postgresql@*'")
    assert host.get("/readyz", scheme="http").status_code == 503
    assert host.get("/healthz", scheme="http").status_code == 200
    host.ssh("systemctl restart postgresql")
    wait_until(lambda: host.get("/readyz", scheme="http").status_code == 200, 15, "readiness")


@pytest.mark.parametrize("hard", [False, True], ids=["reboot", "power cut"])
def test_reboot(host: Host, hard: bool) -> None:
    """After a reboot the app waits for its database and serves again; a run finds nothing to do."""
    before, started = host.release(), boot(host)
    host.reboot(hard=hard)
    wait_until(lambda: host.get("/readyz", scheme="http").status_code == 200, 30, "readiness after the reboot")
    assert boot(host) != started
    assert said(host) == ["in PostgreSQL"]
    assert host.release() == before
    units: dict[str, Any] = json.loads(host.ssh("systemctl list-units --failed --output=json"))
    assert not units
    assert leftovers(host, "notes") == []
    host.converged()


def boot(host: Host) -> str:
    """What tells one boot from another: the time at which systemd started."""
    return host.ssh("systemctl show -p UserspaceTimestampMonotonic --value")
