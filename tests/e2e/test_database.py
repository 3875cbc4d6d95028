"""Databases: PostgreSQL on the host with an async driver, and the file that an app has by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import add_revision, copy_example, facts, leftovers
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

PASSWORD = "p%40ss-71c0de"
"""Of the database's user, as a URL has it: the @ in it is escaped."""
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
            "tls": {"mode": "off"},
            "workers": 1,
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
    """A URL that leads nowhere ends the release at its migration; the old one serves from its file, password unseen."""
    before = host.release()
    host.app()["env_file"] = host.file("notes.env", f"DATABASE_URL={URL}\n")
    host.app()["database_driver"] = "asyncpg"
    run = host.deploy("-vv", check=False)
    assert run.code != 0
    run.says("failed at migrate (4 of 8)", f"{before} goes on serving")
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
    statements = 'op.drop_column("notes", "title")', 'op.execute("SELECT 1/0")'
    wrong = add_revision(migrations(host), "0004", "0003", *statements)
    with host.traffic(path="/api/notes", scheme="http") as public:
        run = host.deploy(check=False)
    public.unbroken()
    run.says("failed at migrate (4 of 8)", "division by zero", f"{before} goes on serving")
    assert PASSWORD not in run.output
    assert psql(host, "SELECT version_num FROM alembic_version") == "0003"
    assert psql(host, "SELECT count(title) FROM notes") == "0"
    wrong.unlink()
    host.converged()


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
