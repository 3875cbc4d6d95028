"""Migrations of apps of several shapes, as their authors left them: found, planned, run once, and taken back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, Run
from tests.e2e.apps import add_revision, leftovers
from tests.e2e.conftest import MakeHost, looked_at, systems, variants

pytestmark = [pytest.mark.story, pytest.mark.slow]

APPS = ROOT / "tests/apps/migrated"
QUICK = {"watch": 0, "keep_warm": 0, "workers": 1, "readiness_path": "/", "liveness_path": "/", "tls": {"mode": "off"}}
ALEMBIC = 'op.add_column("notes", sa.Column("title", sa.Text()))'
DJANGO = """from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("notes", "0001_notes")]
    operations = [migrations.AddField("note", "title", models.TextField(null=True))]
"""


@dataclass(frozen=True)
class Shape:
    """How an app migrates."""

    app: str | None
    """The object that serves; None: it is found."""
    revisions: str
    """Folder of its migrations."""
    env: dict[str, str]
    second: str = "0002"
    """Name of its second migration, as a plan tells it."""
    table: str = "notes"


SHAPES = {
    "below": Shape(
        "main:app",
        "db/migrations/versions",
        {"DATABASE_URL": "sqlite:////var/lib/below/db", "ALEMBIC_CONFIG": "/srv/below/current/db/alembic.ini"},
    ),
    "guestbook": Shape(
        "guestbook:create_app", "migrations/versions", {"DATABASE_URL": "sqlite:////var/lib/guestbook/db"}
    ),
    "archive": Shape(None, "app/migrations/versions", {"DATABASE_URL": "sqlite:////var/lib/archive/db"}),
    "ledger": Shape("ledger:app", "db/migrations/versions", {"DATABASE_URL": "sqlite+aiosqlite:////var/lib/ledger/db"}),
    "journal": Shape(
        "config.asgi:application",
        "notes/migrations",
        {"DATABASE_FILE": "/var/lib/journal/db", "SECRET_KEY": "not-secret-in-this-story"},
        "notes.0002_title",
        "notes_note",
    ),
}


@dataclass
class Place:
    """The host of this story, and copies of the apps."""

    host: Host

    def folder(self, app: str) -> Path:
        """An app's source."""
        return self.host.folder / app

    def columns(self, app: str) -> list[str]:
        """Columns of an app's table of notes."""
        program = (
            f"import sqlite3; print(*[row[1] for row in sqlite3.connect('/var/lib/{app}/db')"
            f".execute('PRAGMA table_info({SHAPES[app].table})')])"
        )
        return self.host.ssh(f'python3 -c "{program}"').split()

    def serves(self, app: str) -> None:
        """Fail unless the app answers from its table."""
        assert self.host.get("/", domain=f"{app}.test", scheme="http").text == "0"
        assert leftovers(self.host, app) == []

    def task(self, verb: str, app: str, *, check: bool = True, **data: Any) -> Run:
        """A release or a rollback of one app."""
        return self.host.task(f"tasks/{verb}.py", check=check, app=app, **data)


@pytest.fixture(scope="module", params=systems("debian13"))
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """The apps that this run looks at; settings name nothing of their migrations."""
    host = make_host("migrations", request.param, ())
    for name in looked_at(request, "name"):
        shape = SHAPES[name]
        shutil.copytree(APPS / name, host.folder / name)
        host.slipway.setdefault("apps", {})[name] = {
            "domains": [f"{name}.test"],
            "source": {"path": name},
            "app": shape.app,
            "env": shape.env,
            **QUICK,
        }
    return Place(host)


def test_a_configuration_that_is_not_found_stops_the_release(place: Place) -> None:
    """Before it serves on an empty database."""
    ini = place.folder("below") / "db/alembic.ini"
    other = ini.with_name("other.ini")
    ini.rename(other)
    place.host.slipway["apps"]["below"]["env"] = {"DATABASE_URL": "sqlite:////var/lib/below/db"}
    run = place.host.deploy(check=False)
    assert run.code != 0
    run.says("The release has Alembic, but its source has no alembic.ini", "set migrate_config")
    other.rename(ini)
    place.host.slipway["apps"]["below"]["env"] = SHAPES["below"].env


def test_the_first_migration_makes_the_table(place: Place) -> None:
    place.host.deploy()
    for name in place.host.slipway["apps"]:
        place.serves(name)
        assert place.columns(name) == ["id"]
    place.host.converged()


@pytest.mark.parametrize("name", variants(SHAPES, ("below",)))
def test_the_next_one_is_planned_and_run_once(place: Place, name: str) -> None:
    """Its SQL is told, and nothing is done by a plan. With a path through `current`, it is the new release's."""
    shape, folder = SHAPES[name], place.folder(name) / SHAPES[name].revisions
    if name == "journal":
        (folder / "0002_title.py").write_text(DJANGO)
        models = place.folder(name) / "notes/models.py"
        models.write_text(models.read_text() + "\n    title = models.TextField(null=True)\n")
    else:
        path = add_revision(folder, "0002", "0001", ALEMBIC)
        path.write_text(f'{path.read_text()}\n\ndef downgrade() -> None:\n    op.drop_column("notes", "title")\n')
    planned = place.host.run_slipway("release", "--dry", "--app", name)
    told = planned.stdout + planned.stderr
    assert f"migration {shape.second} of {name}" in told and "ADD COLUMN" in told, told
    assert place.columns(name) == ["id"]
    place.task("release", name, prove=True)
    place.serves(name)
    assert place.columns(name) == ["id", "title"]
    planned = place.host.run_slipway("release", "--dry", "--app", name)
    assert f"migration {shape.second}" not in planned.stdout + planned.stderr


@pytest.mark.parametrize("name", variants(SHAPES, ("below",)))
def test_going_back_asks_what_becomes_of_the_schema(place: Place, name: str) -> None:
    newer = place.host.release(name)
    run = place.task("rollback", name, check=False)
    assert run.code != 0
    run.says("The database is ahead of", SHAPES[name].second, "--schema code-only", "--schema downgrade")
    assert place.host.release(name) == newer and place.columns(name) == ["id", "title"]
    place.task("rollback", name, schema="downgrade", prove=True)
    assert place.host.release(name) != newer and place.columns(name) == ["id"]
    place.serves(name)
