"""The schema program with real Flask-Migrate and advanced-alchemy, on databases of SQLite."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slipway_host.schema import apps
from slipway_host.schema.errors import Failed

from tests.unit.host.schemas import LIMITS, PROGRAM, ROOT, SECONDS, python_with

APPS = ROOT / "tests/apps/migrated"
FACTORY = """
import os
from pathlib import Path
from advanced_alchemy.extensions.litestar import AlembicAsyncConfig, SQLAlchemyAsyncConfig, SQLAlchemyPlugin
from litestar import Litestar

def create_app(debug=False):
    scripts = AlembicAsyncConfig(script_location=str(Path(__file__).parent / "db/migrations"))
    config = SQLAlchemyAsyncConfig(connection_string=os.environ["DATABASE_URL"], alembic_config=scripts)
    return Litestar([], plugins=[SQLAlchemyPlugin(config=config)], debug=debug)

bare = Litestar([])
"""
STARLETTE = """
from starlette.applications import Starlette
from advanced_alchemy.extensions.starlette import AdvancedAlchemy, SQLAlchemyAsyncConfig, AlembicAsyncConfig

def create_app():
    app = Starlette()
    scripts = AlembicAsyncConfig(script_location="db/migrations")
    AdvancedAlchemy(SQLAlchemyAsyncConfig(connection_string="sqlite+aiosqlite:///app.db", alembic_config=scripts), app)
    return app
"""


@dataclass
class Place:
    """A copy of an app, and its database."""

    folder: Path
    python: Path
    options: list[str]
    url: str
    more: dict[str, str] = field(default_factory=dict)
    """Of the environment."""

    def run(self, command: str, *argv: str, app: str = "", code: int = 0) -> str:
        """What a command prints, both streams, after it has ended with this code."""
        named = [f"--app={app}"] if app else []
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "DATABASE_URL": self.url} | self.more
        done = subprocess.run(
            [self.python, PROGRAM, command, *self.options, *named, *argv],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def pending(self, app: str = "") -> list[str]:
        """The revisions that its database lacks."""
        lines = [line for line in self.run("look", app=app).splitlines() if line.startswith("slipway-schema: ")]
        return [each["revision"] for each in json.loads(lines[-1].removeprefix("slipway-schema: "))["pending"]]


@pytest.fixture(scope="session")
def with_flask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(tmp_path_factory, "flask", "flask~=3.1", "flask-migrate~=4.1", "flask-sqlalchemy~=3.1")


@pytest.fixture(scope="session")
def with_alchemy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packages = ("advanced-alchemy~=1.8", "litestar~=2.15", "starlette", "aiosqlite")
    return python_with(tmp_path_factory, "alchemy", *packages)


@pytest.fixture
def guestbook(tmp_path: Path, with_flask: Path) -> Place:
    folder = shutil.copytree(APPS / "guestbook", tmp_path / "guestbook")
    options = ["--tool=flask", "--config=migrations/alembic.ini"]
    return Place(folder, with_flask, options, f"sqlite:///{tmp_path}/app.db")


@pytest.fixture
def ledger(tmp_path: Path, with_alchemy: Path) -> Place:
    folder = shutil.copytree(APPS / "ledger", tmp_path / "ledger")
    (folder / "made.py").write_text(FACTORY)
    (folder / "plain.py").write_text(STARLETTE)
    (folder / "broken.py").write_text("import nowhere\n")
    options = ["--tool=advanced-alchemy", "--config=db/migrations/env.py"]
    return Place(folder, with_alchemy, options, f"sqlite+aiosqlite:///{tmp_path}/app.db")


@pytest.mark.parametrize("app", ["guestbook:create_app", "guestbook:create_app()", "guestbook"])
def test_flask_migrate(guestbook: Place, app: str) -> None:
    assert guestbook.pending(app) == ["0001"]
    guestbook.run("upgrade", *LIMITS, app=app)
    assert guestbook.pending(app) == []


def test_flask_app_names_it_first(guestbook: Place) -> None:
    guestbook.more["FLASK_APP"] = "guestbook.py"
    assert guestbook.pending() == guestbook.pending("nowhere:app") == ["0001"]


def test_what_names_no_app_of_flask(guestbook: Place) -> None:
    assert guestbook.run("look", code=1) == (
        "FAILED: Nothing names the app that configures its migrations: set app, or FLASK_APP in env.\n"
    )
    (guestbook.folder / "other.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    assert guestbook.run("look", app="other:app", code=1) == (
        "FAILED: other:app has no Flask-Migrate: correct app, or set FLASK_APP in env.\n"
    )
    guestbook.more["FLASK_APP"] = "other"
    assert guestbook.run("look", code=1) == "FAILED: other has no Flask-Migrate: correct FLASK_APP in env.\n"


@pytest.mark.parametrize("app", ["ledger:app", "made:create_app", "made:create_app(debug=True)", "plain:create_app"])
def test_advanced_alchemy(ledger: Place, app: str) -> None:
    """An app, a factory, and a call of one; of Litestar, and of Starlette."""
    assert ledger.pending(app) == ["0001"]


def test_advanced_alchemy_migrates(ledger: Place) -> None:
    ledger.more["LITESTAR_APP"] = "made:create_app"
    ledger.run("upgrade", *LIMITS)
    assert ledger.pending() == []


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("nowhere:app", "can't be imported: there is no module nowhere"),
        ("unnamed.inner:app", "can't be imported: there is no module unnamed.inner"),
        ("unnamed:nothing", "can't be loaded: there is no nothing"),
        ("unnamed:make(debug=name)", "is no module:attribute, and no call with constants"),
        ("unnamed:(", "is no module:attribute, and no call with constants"),
    ],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_what_names_no_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, told: str, by_variable: bool
) -> None:
    """One line says it, and where to correct it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "unnamed.py").write_text("def make(debug=False): pass\n")
    monkeypatch.delenv("LITESTAR_APP", raising=False)
    if by_variable:
        monkeypatch.setenv("LITESTAR_APP", app)
    options = argparse.Namespace(tool="advanced-alchemy", app="" if by_variable else app, config="db/migrations/env.py")
    with pytest.raises(Failed) as failed:
        apps.by_app(options, lambda config: None)
    do = "correct LITESTAR_APP in env" if by_variable else "correct app, or set LITESTAR_APP in env"
    assert str(failed.value) == f"{app} {told}: {do}."


def test_what_an_app_of_advanced_alchemy_lacks(ledger: Place) -> None:
    """What is missing in its own code is told with its place."""
    scripts = ledger.folder / "db/migrations"
    assert ledger.run("look", app="made:bare", code=1) == (
        f"FAILED: made:bare has no configuration of advanced-alchemy with the scripts of {scripts}: "
        "correct app, or set LITESTAR_APP in env.\n"
    )
    told = ledger.run("look", app="broken:app", code=1)
    assert (
        told == "FAILED:\n  broken.py:1, in <module>: import nowhere\nModuleNotFoundError: No module named 'nowhere'\n"
    )
    assert ledger.run("look", code=1) == (
        "FAILED: Nothing names the app that configures its migrations: set app, or LITESTAR_APP in env.\n"
    )
