"""An app ``notes`` on a host that is a folder: what the tests of a release's steps begin with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from slipway_host.proxy.nginx import Nginx
from slipway_host.release import build, guest, manifest
from slipway_host.release.app import App
from slipway_host.release.progress import Progress
from slipway_host.system import Done, Failed, System
from typing_extensions import override

from tests.unit.host.fakes import FakeSystem

if TYPE_CHECKING:
    from slipway_host.events import Event

IDS = [f"2026010{day}T000000Z-aaaaaa{day}" for day in range(1, 10)]
"""Releases, the oldest first."""
COMMIT = "c" * 40
GROUP = 4711
PYTHONS = "/opt/slipway/python"


class RealCommands(FakeSystem):
    """Commands are run, as this user."""

    @override
    def run(self, *argv: str, check: bool = True, said: str | bytes = "", **options: Any) -> Done:
        self.calls.append(" ".join(argv))
        return System.run(self, *argv, check=check, said=said, **options)


class Place:
    """The app, and its host."""

    def __init__(self, system: FakeSystem) -> None:
        self.system = system
        self.layout = layout = system.layout
        self.events: list[Event] = []
        """What the run said."""
        self.app = app = App("notes", system, Progress("notes", system, self.events.append))
        self.at = at = app.at
        for folder in (layout.units, at.etc, at.releases, layout.sources, layout.mirrors, layout.plans, at.runs / "1"):
            folder.mkdir(parents=True)
        app.mark = "slipway-schema: "
        app.request = {"verb": "release", "by": "ann@desk", "wait": 0, "folder": str(at.runs / "1")}
        app.wanted = {
            "app": "notes.main:app",
            "source": {"kind": "archive", "commit": COMMIT, "subdir": ""},
            "python": "3.13",
            "uv_env": {"UV_PYTHON_INSTALL_DIR": PYTHONS},
            "migration": {"command": None, "timeout": 60, "lock_timeout": 5, "statement_timeout": 60, "retries": 2},
            "hooks": {"before_migrate": None, "after_migrate": None, "after_switch": None, "timeout": 60},
            "readiness": {
                "path": "/readyz",
                "strict": True,
                "interval": 1,
                "timeout": 5,
                "host": "notes.example.com",
                "scheme": "https",
            },
            "units": {"socket": "# @RELEASE@ socket\n", "service": "# @RELEASE@ service\n"},
            "sandbox": ["User=notes", "ProtectSystem=strict"],
            "build": {"sandbox": ["ProtectSystem=strict", "CPUWeight=20"], "only": None},
            "programs": ["gunicorn", "python"],
            "secrets": [],
            "static": None,
            "inputs": {"source": COMMIT, "folder": "", "environment": hashlib.sha256(b"").hexdigest()},
        }
        at.environment.write_text("")
        self.found()

    def add(self, release: str, state: str = "good", *, current: bool = False, **facts: Any) -> None:
        """A release with its environment and its record; `current`: it serves."""
        programs = self.at.venv(release) / "bin"
        programs.mkdir(parents=True)
        (programs / "gunicorn").touch(0o755)
        self.at.environments.mkdir(exist_ok=True)
        self.at.env(release).write_text("A=1\n")
        inputs = {"source": release, "folder": ""}
        known = {"kind": "release", "inputs": inputs, "commit": release[-7:]}
        known["wanted"] = {**self.app.wanted, "inputs": inputs}
        self.app.write_record(release, state=state, **known | facts)
        self.app.describe(release)
        if current:
            self.system.link(self.at.current, f"releases/{release}")

    def found(
        self,
        application: str = "notes.main:app",
        interface: str = "asgi",
        where: str | None = None,
        health: Sequence[str] = (),
    ) -> None:
        """What the look at a release's application answers."""
        told = json.dumps({"app": application, "interface": interface, "where": where, "health": health})
        self.system.printing[str(self.layout.look_program)] = f"{self.app.mark}{told}\n"

    def migrates(self, command: Any = "auto") -> None:
        """How the app's database is migrated."""
        self.app.wanted["migration"]["command"] = command

    def migrating(self, command: Any = "auto", file: str | None = "alembic.ini", **facts: Any) -> Path:
        """A release ``r1`` that was built and checked, and is about to migrate; returns its folder.

        + file: which says that it has Alembic
        """
        self.migrates(command)
        self.add("r1", "started", **facts)
        folder = self.at.folder("r1")
        (folder / "pyproject.toml").write_text("[project]\n" + ("[tool.alembic]\n" if file == "pyproject.toml" else ""))
        if file == "alembic.ini":
            (folder / file).write_text("")
        return folder

    def schema(self, *words: str) -> str:
        """Part of a command line that runs the schema program."""
        return " ".join([str(self.layout.schema_program), *words])

    def schema_says(self, command: str, **told: Any) -> None:
        """Let the schema program answer a command."""
        said = f"INFO  [alembic] noise\n{self.app.mark}{json.dumps(told)}\n"
        self.system.printing[self.schema(command)] = said

    def said(self) -> list[str]:
        """What the run told people."""
        return [event["text"] for event in self.events if event["event"] == "said"]


def place_at(root: Path, monkeypatch: pytest.MonkeyPatch, system: type[FakeSystem] = FakeSystem) -> Place:
    """The app on a host below `root`, where whatever systemd is asked for works."""
    made = Place(system(root))
    monkeypatch.setattr(build, "group_id", {"notes": GROUP}.__getitem__)
    monkeypatch.setattr(guest, "processes", lambda user: {"_notes": []}[user])
    monkeypatch.setattr(guest, "take_over", lambda *words: made.system.run("take over", *map(str, words)))
    monkeypatch.setattr(manifest, "flush", lambda *paths: made.system.run("flush", *map(str, paths)))
    monkeypatch.setattr(Nginx, "check", lambda self: self.system.run("nginx check"))
    return made


def failure(function: Any, *arguments: Any) -> str:
    """The message with which a function fails."""
    with pytest.raises(Failed) as told:
        function(*arguments)
    return str(told.value)


def seen(**other: Any) -> dict[str, Any]:
    """What the schema program's `look` tells of a database that is up to date."""
    return {"heads": ["r2"], "current": ["r2"], "unknown": [], "pending": []} | other


def revision(name: str, *contract: str, downgrade: bool = True) -> dict[str, Any]:
    """A revision as the schema program tells it."""
    return {"revision": name, "doc": f"does {name}", "contract": list(contract), "downgrade": downgrade}


def tree(folder: Path) -> dict[str, str]:
    """Relative path → content of a file, or the target of a link."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
