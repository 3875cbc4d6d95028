"""An app ``notes`` with releases on a host that is a folder, and the steps of a release in short."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from slipway_host.events import for_people
from slipway_host.proxy import sockets
from slipway_host.proxy.nginx import Nginx, Refused
from slipway_host.release import (
    build,
    check,
    database,
    guest,
    hooks,
    manifest,
    proof,
    retire,
    source,
    start,
    switch,
    transaction,
)
from slipway_host.release.app import App
from slipway_host.release.progress import Progress
from slipway_host.system import Done, Failed, Late
from typing_extensions import override

from tests.unit.host.fakes import FakeSystem

if TYPE_CHECKING:
    from slipway_host.events import Event

RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-z]+")
IDS = [f"2026010{day}T000000Z-aaaaaa{day}" for day in range(1, 10)]
"""Releases, the oldest first."""
STEPS = ["fetch", "build", "check", "migrate", "start", "prove", "switch", "watch", "commit"]
SWITCH = "nginx switch notes "
COMMIT = "c" * 40


class SlowSystem(FakeSystem):
    """Some commands don't end in their time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.slow: list[str] = []
        """Beginnings of their command lines."""

    @override
    def run(self, *argv: str, check: bool = True, said: str | bytes = "", **options: Any) -> Done:
        done = super().run(*argv, check=check, said=said, **options)
        if any(" ".join(argv).startswith(each) for each in self.slow):
            raise Late(f"`{argv[0]}` was ended after {options.get('seconds', 3600)} s. ")
        return done


class Host:
    """The app, and its host; whatever systemd is asked for works."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.system = system = SlowSystem(root)
        self.layout = layout = system.layout
        self.said: list[str] = []
        """What the run told people, as they read it; every step took no time."""
        self.app = app = App(
            "notes", system, Progress("notes", system, lambda event: self.said.append(for_people(event)))
        )
        self.at = at = app.at
        for folder in (layout.units, layout.run, layout.sources, layout.upstreams, layout.proc, layout.plans):
            folder.mkdir(parents=True)
        for folder in (at.etc, at.releases, at.records):
            folder.mkdir(parents=True)
        system.states |= {unit: {"ActiveState": "inactive"} for unit in at.helpers}
        app.request = {"verb": "release", "by": "ann@desk", "wait": 0, "folder": str(root / "folder")}
        (root / "folder").mkdir()
        app.wanted = {
            "app": "notes.main:app",
            "source": {"kind": "archive", "commit": COMMIT, "subdir": ""},
            "python": "3.13",
            "uv_env": {},
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
            "build": {"sandbox": [], "only": None},
            "secrets": [],
            "static": None,
            "watch": 0,
            "drain_timeout": 0,
            "graceful_timeout": 10,
            "keep_warm": 0,
            "keep": 3,
            "inputs": {"source": COMMIT, "folder": "", "environment": hashlib.sha256(b"").hexdigest()},
        }
        at.environment.write_text("")
        at.wanted.write_text(json.dumps(app.wanted))
        served = json.dumps({"app": "notes.main:app", "interface": "asgi", "where": None})
        system.printing[str(layout.look_program)] = f"{app.mark}{served}\n"

    def hear(self, event: Event) -> None:
        """The run tells something."""
        self.said.append(for_people(event))

    # ── what is there ────────────────────────────────────────────────────────────────────────────────────────────

    def add(
        self, release: str, state: str = "good", *, units: bool = False, current: bool = False, **facts: Any
    ) -> None:
        """A release with its environment and its record; those of IDS are in their order, however they are added."""
        programs = self.at.venv(release) / "bin"
        programs.mkdir(parents=True)
        (programs / "python").touch(0o755)
        self.at.environments.mkdir(exist_ok=True)
        self.at.env(release).write_text("A=1\n")
        inputs = {"source": release, "folder": ""}
        known: dict[str, Any] = {"kind": "release", "inputs": inputs, "commit": release[-7:]}
        known["wanted"] = {**self.app.wanted, "inputs": inputs}
        known |= {"number": IDS.index(release) + 1} if release in IDS else {}
        known |= {"committed": "2026-01-01T00:00:00Z"} if state == "good" else {}
        self.app.write_record(release, state=state, **known | facts)
        self.app.describe(release)
        if units:
            self.install(release)
        if current:
            self.system.link(self.at.current, f"releases/{release}")
            self.name(release)

    def install(self, release: str, folder: Path | None = None) -> None:
        """The units of a release."""
        for kind in self.app.wanted["units"]:
            path = (folder or self.layout.units) / self.at.unit(release, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {release} {kind}\n")

    def enable(self, release: str) -> None:
        """Let a reboot start the units of a release."""
        for kind, target in (("socket", "sockets"), ("service", "multi-user")):
            unit = self.at.unit(release, kind)
            folder = self.layout.units / f"{target}.target.wants"
            folder.mkdir(exist_ok=True)
            (folder / unit).symlink_to(self.layout.units / unit)

    def warm(self, release: str, seconds: float = 100, pending: bool = False) -> None:
        """A release that served until a moment ago, and runs on for a while; `pending`: what ends it is still there."""
        self.add(release, warm_until=self.system.time() + seconds, left=self.system.time())
        self.install(release, self.layout.warm_units)
        if not pending:
            self.system.states |= {unit: {"ActiveState": "inactive"} for unit in self.at.ends(release)}

    def name(self, release: str | None) -> None:
        """Let nginx's upstream name this release."""
        path = self.layout.upstream("notes")
        if release:
            path.write_text(f"server unix:{self.at.socket(release)}{' down' if release == 'none' else ''};\n")
        else:
            path.unlink(missing_ok=True)

    def answering(self, release: str) -> None:
        """A release has a socket."""
        self.at.sockets.mkdir(parents=True, exist_ok=True)
        self.at.socket(release).touch()

    def serve_what_is_wanted(self, release: str = IDS[0]) -> None:
        """A release that serves and was made from just what is wanted."""
        self.add(release, units=True, current=True, inputs=self.app.wanted["inputs"])

    # ── what became of it ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def releases(self) -> list[str]:
        """Ids that have a folder."""
        return sorted(path.name for path in self.at.releases.iterdir())

    @property
    def newest(self) -> dict[str, Any]:
        """The record of the newest release or rollback."""
        return {**self.app.history()[-1]}

    def switched(self) -> list[str]:
        """The releases that nginx was switched to, in order."""
        return [call.removeprefix(SWITCH) for call in self.system.matching(SWITCH)]

    def on_disk(self) -> dict[str, str]:
        """All that a failed release must leave as it was."""
        passing = ("var/lib/slipway/", "run/slipway/", "folder/")
        return {path: text for path, text in tree(self.root).items() if not path.startswith(passing)}

    def told(self) -> str:
        """All that was said."""
        return "".join(f"{line}\n" for line in self.said)

    def remembered(self) -> dict[str, Any]:
        """What a release that is asked for on the host itself would want."""
        return {key: value for key, value in json.loads(self.at.wanted.read_text()).items() if key != "format"}


def host_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The app on a host below `root`, with no release."""
    host = Host(root)

    def switched(self: Nginx, app: str, release: str) -> None:
        line = f"nginx switch {app} {release}"
        host.system.calls.append(line)
        if said := next((text for part, text in host.system.failing.items() if part in line), None):
            raise Refused(said)
        host.name(release)

    monkeypatch.setattr(Nginx, "switch", switched)
    monkeypatch.setattr(retire, "leaving", lambda app: False)
    monkeypatch.setattr(sockets, "connections", lambda path: 0)
    monkeypatch.setattr(guest, "processes", lambda user: [])
    monkeypatch.setattr(manifest, "flush", lambda *paths: host.system.calls.append("flush"))
    monkeypatch.setattr(database, "look", lambda app, release: None)
    monkeypatch.setattr(transaction, "import_ahead", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return host


class Story:
    """The steps of releases and rollbacks, each noted; one may fail."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.fails: str | None = None
        self.error: BaseException | None = None
        """Why it fails, if not "… is broken"."""
        self.before: dict[str, Callable[[], object]] = {}
        """Step → what happens as it begins."""
        self.hooks: list[tuple[str, str, dict[str, str]]] = []
        """Hooks that ran: name, release, what they were told."""
        self.hook_fails: str | None = None


def story_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Steps that do no more than make a folder, units and links."""
    story = Story()

    def fetch(app: App, release: str) -> None:
        program = app.at.venv(release) / "bin/python"
        program.parent.mkdir(parents=True)
        program.touch(0o755)

    def switched(app: App, release: str) -> str:
        Nginx(app.system).switch(app.name, release)
        return "the public name has no certificate yet"

    def hook(app: App, release: str, name: str, **told: str) -> None:
        if app.wanted["hooks"].get(name):
            story.hooks.append((name, release, told))
            if story.hook_fails:
                raise Failed(story.hook_fails)

    doing: dict[str, Callable[[App, str], Any]] = {
        "fetch": fetch,
        "check": check.prepare,
        "start": start.start,
        "switch": switched,
        "commit": switch.commit,
    }
    places: dict[str, tuple[Any, str]] = {
        "fetch": (source, "fetch"),
        "build": (build, "build"),
        "check": (check, "check"),
        "migrate": (database, "migrate"),
        "start": (start, "start"),
        "prove": (proof, "prove"),
        "switch": (switch, "switch"),
        "watch": (proof, "watch"),
        "commit": (switch, "commit"),
    }

    def step(name: str) -> Callable[[App, str], Any]:
        def made(app: App, release: str) -> Any:
            story.steps.append(name)
            if name in story.before:
                story.before[name]()
            if name == story.fails:
                raise story.error or Failed(f"{name} is broken")
            return doing[name](app, release) if name in doing else None

        return made

    for name, (module, function) in places.items():
        monkeypatch.setattr(module, function, step(name))
    monkeypatch.setattr(hooks, "hook", hook)
    return story


def went_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """After a rollback: the first release serves, and the second one is marked as bad and is warm."""
    host = host_at(root, monkeypatch)
    story_at(host, monkeypatch)
    bad = {"since": "2026-01-02T00:00:00Z", "by": "ann@desk", "why": f"rolled back to {IDS[0]}"}
    host.warm(IDS[1])
    host.app.write_record(IDS[1], previous=IDS[0], bad=bad)
    host.add(IDS[0], units=True, current=True)
    host.enable(IDS[0])
    return host


def full_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written any more."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(host.system, "sync", full)


def failure(function: Any, *arguments: Any) -> str:
    """The message with which a function fails."""
    with pytest.raises(Failed) as told:
        function(*arguments)
    return str(told.value)


def tree(folder: Path) -> dict[str, str]:
    """Relative path → content of a file, or the target of a link."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
