"""slipway-release, loaded as a module, on a host that is a temporary folder: what each step does, and when it fails."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from roles.release import wanted
from slipway.engine.overview import HostOverview
from slipway.settings import Settings
from tests.unit.inventories import certificate, new_key, pem_key
from tests.unit.programs import NGINX, RELEASE, Recorder, load, tree

RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-z]+")
IDS = [f"2026010{day}T000000Z-aaaaaa{day}" for day in range(1, 10)]
"""Releases, the oldest first."""
SWITCH = "slipway-nginx switch notes "


HELPERS = [f"notes-{what}.service" for what in ("build", "check", "schema", "hook", "migrate")]


@dataclass
class Host(Recorder):
    """Stands in for a program's `run`, on a host where every unit runs but those of `states`."""

    states: dict[str, dict[str, str]] = field(
        default_factory=lambda: {each: {"ActiveState": "inactive"} for each in HELPERS}
    )
    """Unit → what systemd knows of it, where that isn't what it knows of all."""

    def __call__(self, *argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        done = super().__call__(*argv, check=check, **options)
        if note := re.search(r"ExecStopPost=\+-.* >(\S+)'", " ".join(argv)):
            result = "success" if done.returncode == 0 else "exit-code"
            Path(note[1]).write_text(f"{result} exited {done.returncode}\n")
        if argv[:2] == ("systemctl", "list-units"):
            states = {unit: self.states.get(unit, {"ActiveState": "active"}) for unit in argv if ".service" in unit}
            # Columns as they are: the fifth is there while some unit has a job. An inactive unit without one is gone.
            listed = [
                f"{unit}   loaded   {each['ActiveState']:8} dead {each.get('Job', ''):5} a release of notes"
                for unit, each in states.items()
                if each["ActiveState"] != "inactive" or "Job" in each
            ]
            return subprocess.CompletedProcess(argv, 0, "\n".join(listed))
        if argv[:2] != ("systemctl", "show"):
            return done
        known = {"ActiveState": "active", "LoadState": "loaded", "NRestarts": "0", "MainPID": "1"}
        known |= {"Description": "x none"} | dict(line.split("=", 1) for line in done.stdout.splitlines())
        names = argv[2].removeprefix("--property=").split(",")
        blocks = [known | self.states.get(unit, {}) for unit in argv[3:]]
        told = ["".join(f"{name}={block[name]}\n" for name in names if name in block) for block in blocks]
        return subprocess.CompletedProcess(argv, 0, "\n".join(told))

    def done_to(self, part: str) -> list[str]:
        """The command lines that have this part, but for those that only ask."""
        return [call for call in self.matching(part) if not call.startswith(("systemctl show", "systemctl list-units"))]


@dataclass
class Release:
    """slipway-release on a host that is a folder, for the app ``notes``."""

    program: Any
    app: Any
    root: Path
    run: Host
    named: str | None = None
    """The release that nginx's upstream names."""
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    """File → the owner and group that it was given."""

    def add(
        self, release: str, state: str = "good", *, units: bool = False, current: bool = False, **facts: Any
    ) -> None:
        """A release with its environment and its record."""
        programs = self.app.releases / release / ".venv/bin"
        programs.mkdir(parents=True)
        (programs / "gunicorn").touch(0o755)
        (self.app.etc / "releases").mkdir(exist_ok=True)
        self.app.env(release).write_text("A=1\n")
        made = {key: value for key, value in self.app.wanted.items() if key != "inputs"}
        inputs = {"source": release, "folder": ""}
        known = {"kind": "release", "inputs": inputs, "wanted": made | {"inputs": inputs}, "commit": release[-7:]}
        known |= {"committed": "2026-01-01T00:00:00Z"} if state == "good" else {}
        self.app.write_record(release, state=state, **known | facts)
        self.app.describe(release)
        if units:
            self.install(release)
        if current:
            self.app.current.unlink(missing_ok=True)
            self.app.current.symlink_to(f"releases/{release}")
            self.named = release

    def install(self, release: str, folder: Path | None = None) -> None:
        """The units of a release."""
        for kind in ("socket", "service"):
            path = (folder or self.program.UNITS) / self.app.unit(release, kind)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"# {release} {kind}\n")

    def enable(self, release: str) -> None:
        """Let a reboot start the units of a release."""
        for kind, target in (("socket", "sockets"), ("service", "multi-user")):
            unit = self.app.unit(release, kind)
            folder = self.program.UNITS / f"{target}.target.wants"
            folder.mkdir(exist_ok=True)
            (folder / unit).symlink_to(self.program.UNITS / unit)

    def warm(self, release: str, seconds: float = 100) -> None:
        """A release that served until a moment ago, and runs on for a while."""
        self.add(release, warm_until=time.time() + seconds, left=time.time())
        self.install(release, self.program.WARM_UNITS)

    @property
    def releases(self) -> list[str]:
        """Ids that have a folder."""
        return sorted(path.name for path in self.app.releases.iterdir())

    def fails(self, *argv: Any) -> str:
        """The message with which a function of the program fails."""
        function, *arguments = argv
        with pytest.raises(self.program.Failed) as told:
            function(*arguments)
        return str(told.value)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A host with the app's folders, and no release; whatever systemd is asked for works."""
    program = load(RELEASE)
    for folder in ("systemd", "etc/notes", "srv/notes/releases", "run", "cache/sources", "plans"):
        (tmp_path / folder).mkdir(parents=True)
    places = {"UNITS": "systemd", "WARM_UNITS": "warm", "CACHE": "cache", "SEEN": "seen", "PLANS": "plans"}
    for name, path in places.items():
        assert hasattr(program, name)
        monkeypatch.setattr(program, name, tmp_path / path)
    app = program.App("notes")
    app.etc, app.root = tmp_path / "etc/notes", tmp_path / "srv/notes"
    app.releases, app.current = app.root / "releases", app.root / "current"
    app.records, app.lock, app.ended = tmp_path / "records", tmp_path / "lock/notes.lock", tmp_path / "lock/ended"
    app.runs = tmp_path / "runs"
    app.cache = tmp_path / "cache/notes"
    app.socket = lambda release: tmp_path / "run" / f"{release}.sock"
    app.attempt = None
    app.request = {"verb": "deploy", "by": "ann@desk", "wait": 0, "folder": f"{tmp_path}.run"}
    Path(app.request["folder"]).mkdir()  # where the next boot finds nothing
    app.wanted = {
        "app": "notes.main:app",
        "source": {"kind": "archive", "commit": "c" * 40, "subdir": ""},
        "python": "3.13",
        "uv_env": {"UV_PYTHON_INSTALL_DIR": "/opt/slipway/python"},
        "migration": {"command": None, "timeout": 60, "lock_timeout": 5, "statement_timeout": 60, "retries": 2},
        "hooks": dict.fromkeys(("before_migrate", "after_migrate", "after_switch", "on_failure")) | {"timeout": 60},
        "readiness": {"path": "/readyz", "timeout": 5, "host": "notes.example.com", "scheme": "https"},
        "units": {"socket": "# @RELEASE@ socket\n", "service": "# @RELEASE@ service\n"},
        "sandbox": ["User=notes", "ProtectSystem=strict"],
        "build": {"sandbox": ["ProtectSystem=strict", "CPUWeight=20"], "only": None},
        "secrets": [],
        "static": None,
        "watch": 0,
        "drain_timeout": 0,
        "graceful_timeout": 10,
        "keep_warm": 0,
        "keep": 3,
        "inputs": {"source": "c" * 40, "folder": "", "environment": hashlib.sha256(b"").hexdigest()},
    }
    (app.etc / "env").write_text("")
    (app.etc / "release.json").write_text(json.dumps(app.wanted))
    made = Release(program, app, tmp_path, Host(program.Failed))

    def switch(line: str) -> None:
        made.named = line.removeprefix(SWITCH)

    made.run.doing[SWITCH] = switch
    monkeypatch.setattr(program, "run", made.run)
    monkeypatch.setattr(program, "MARK", "slipway-schema: ")
    monkeypatch.setattr(program, "import_ahead", lambda: None)  # only a host has slipway_nginx where it is looked for
    monkeypatch.setattr(program, "nginx", functools.partial(made.run, "slipway-nginx"))
    monkeypatch.setattr(type(app), "proxied", lambda self: made.named)
    monkeypatch.setattr(program, "leaving", lambda: False)
    monkeypatch.setattr(program, "group_id", {"notes": 4711}.__getitem__)
    monkeypatch.setattr(program.slipway_guest, "processes", lambda user: {"_notes": []}[user])
    monkeypatch.setattr(program.slipway_guest, "take_over", lambda *words: made.run("take over", *map(str, words)))
    monkeypatch.setattr(program, "flush", lambda app: made.run("flush"))
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "RETRY_SECONDS", 0)
    monkeypatch.setattr(program.os, "fsync", lambda descriptor: None)  # no power fails here

    def chown(path: Path, user: str, group: str) -> None:
        made.owners[Path(path).name] = (user, group)

    monkeypatch.setattr(program.shutil, "chown", chown)
    return made


def test_the_paths_of_an_app() -> None:
    app = load(RELEASE).App("wiki-next")
    assert str(app.env("r1")) == "/etc/wiki-next/releases/r1.env"
    assert str(app.socket("r1")) == "/run/wiki-next/r1.sock"
    assert app.unit("r1", "service") == "wiki-next@r1.service"
    assert app.units("r1") == ["wiki-next@r1.socket", "wiki-next@r1.service"]
    assert (str(app.releases), str(app.current)) == ("/srv/wiki-next/releases", "/srv/wiki-next/current")
    assert str(app.records) == "/var/lib/slipway/wiki-next"
    assert (str(app.lock), str(app.runs)) == ("/run/slipway/wiki-next.lock", "/run/slipway/wiki-next")
    assert app.run_unit == "wiki-next-release.service"


def test_what_is_wanted_here_is_what_the_role_sends(
    release: Release, minimal: Settings, overview: HostOverview
) -> None:
    """These tests would be of no use if the two parted."""
    sent = wanted(minimal, overview, minimal.apps["notes"], "c" * 40)
    assert sent.keys() == release.app.wanted.keys()
    for key in ("source", "migration", "hooks", "readiness", "units"):
        assert sent[key].keys() == release.app.wanted[key].keys(), key
    assert release.app.wanted["inputs"].keys() <= sent["inputs"].keys()


# ── commands and files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_is_run() -> None:
    program = load(RELEASE)
    done = program.run("sh", "-c", "echo out; echo err >&2; cat; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "out\nerr\n"), "both streams, and nothing on standard input"
    with pytest.raises(program.Failed, match=r"^`sh` ended with 3:\nline 11\n(line \d\d\n){28}line 40$"):
        program.run("sh", "-c", "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; exit 3")


def test_a_command_that_prints_without_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, or one that never ends; the last of them are what a message needs."""
    program = load(RELEASE)
    monkeypatch.setattr(program, "KEPT_BYTES", 1000)
    monkeypatch.setattr(program, "LONGEST_LINE", 100)
    done = program.run("sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x; seq 1 400; echo the end")
    assert 900 <= len(done.stdout) <= 1000 and done.stdout.endswith("\n399\n400\nthe end\n")
    done = program.run("sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x", most=60_000)
    assert len(done.stdout) == 50_000, "an answer is whole"


def test_a_command_that_takes_too_long_is_ended() -> None:
    program = load(RELEASE)
    with pytest.raises(program.Failed, match=r"^`sh` was ended after 0\.4 s\. so far$"):
        program.run("sh", "-c", "echo so far; exec sleep 9", seconds=0.4, check=False)


def test_a_step_that_takes_long_gives_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, slept, clock = load(RELEASE), [0], [100.0]
    progress = program.progress

    def sleep(seconds: float) -> None:
        slept[0] += 1
        clock[0] += seconds
        if slept[0] == 3:
            progress.last = "x" * 200
        if slept[0] == 4:
            progress.what = ""
        if slept[0] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(program.time, "sleep", sleep)
    monkeypatch.setattr(program.time, "monotonic", lambda: clock[0])
    progress.begin("notes: 2/9 build")
    clock[0] += 1
    with pytest.raises(KeyboardInterrupt):
        progress.beat()
    assert capsys.readouterr().out.splitlines() == [
        "notes: 2/9 build, 6 s so far",
        "notes: 2/9 build, 11 s so far",
        f"notes: 2/9 build, 16 s so far: {'x' * 150}",
    ]


def test_what_a_command_says_last_is_the_sign_of_life() -> None:
    program = load(RELEASE)
    program.run("echo", "of a small one")
    assert program.progress.last == ""
    program.run("printf", "one\ntwo\n\n", live=True)
    assert program.progress.last == "two"


def test_nobody_who_listens_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(RELEASE)

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    program.progress.say("lost")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_is_replaced_in_one_step(release: Release, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = release.root / "file"
    path.write_text("before")
    (release.root / ".file.partial").write_text("a killed run's")
    seen: list[int] = []
    monkeypatch.setattr(
        release.program.shutil, "chown", lambda path, *owner: seen.append(stat.S_IMODE(path.stat().st_mode))
    )
    release.program.replace(path, "after", mode, "notes")
    assert path.read_text() == "after" and stat.S_IMODE(path.stat().st_mode) == mode
    assert seen == [0o600], "nobody else may read it before its owner is right"
    assert not (release.root / ".file.partial").exists()


def test_the_owner_of_a_replaced_file(release: Release) -> None:
    release.program.replace(release.root / "file", "x", 0o640, "notes")
    release.program.replace(release.root / "other", "x", 0o600)
    assert release.owners == {".file.partial": ("root", "notes"), ".other.partial": ("root", "root")}


def test_a_replaced_file_and_its_name_are_on_the_disk(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    path = release.root / "file"
    synced: list[Path] = []
    monkeypatch.setattr(release.program.os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    release.program.replace(path, "x", 0o600)
    assert synced == [release.root / ".file.partial", release.root]


def named_by_nginx(release: Release, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    """Between switch and commit: nginx names a release that isn't the truth yet, and that answers."""
    if before:
        release.add(before, units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.app.socket(IDS[1]).touch()
    release.named = IDS[1]
    monkeypatch.setattr(release.program, "probe", lambda app, release: (True, "200"))


def full_disk(monkeypatch: pytest.MonkeyPatch, program: Any) -> None:
    """Let nothing be written any more."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(program.os, "fsync", full)


def test_a_file_whose_writing_fails_stays_as_it_was(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    path = release.root / "file"
    path.write_text("before")
    full_disk(monkeypatch, release.program)
    with pytest.raises(OSError, match="No space left"):
        release.program.replace(path, "after", 0o644)
    assert path.read_text() == "before" and not path.with_name(".file.partial").exists(), "it would take room"


# ── what is true of an app ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_units_that_are_installed(release: Release) -> None:
    """For good, and until the next boot."""
    program = release.program
    for name in (
        "notes@r1.service",
        "notes@r1.socket",
        "notes@r2.socket",
        "notes@.service",
        "notes-two@r3.service",
        "other@r4.service",
        ".notes@r5.service.partial",
    ):
        (program.UNITS / name).write_text("")
    (program.UNITS / "notes@.service.d").mkdir()
    (program.UNITS / "notes@r6.service").symlink_to("/dev/null")  # masked by the operator
    (program.UNITS / "notes@r7.service").symlink_to("notes@r1.service")
    assert release.app.installed_units() == {"r1", "r2"}, "no folder of warm ones yet"
    release.install("r8", program.WARM_UNITS)
    release.install("r1", program.WARM_UNITS)
    assert release.app.installed_units() == {"r1", "r2", "r8"}


def test_the_releases_that_one_can_go_back_to(release: Release) -> None:
    assert release.app.good() == []
    for each, state in zip(IDS, ("good", "failed", "good", "started"), strict=False):
        release.add(each, state)
    (release.app.releases / IDS[5]).mkdir()
    release.app.write_record(IDS[6], state="good")  # pruned: its record is history
    assert release.app.good() == [IDS[0], IDS[2]]
    shutil.rmtree(release.app.releases)
    assert release.app.good() == []


def test_the_releases_that_are_warm(release: Release) -> None:
    release.warm(IDS[0])
    release.warm(IDS[1], seconds=-1)
    release.add(IDS[2], warm_until=time.time() + 100)  # its units are gone
    release.add(IDS[3], units=True, warm_until=time.time() + 100)  # it was about to serve again
    release.add(IDS[4], units=True, current=True, warm_until=time.time() + 100)  # it serves again
    assert release.app.warm() == {IDS[0]}


@pytest.mark.parametrize(("named", "found"), [("r1", "r1"), (None, None)])
def test_the_release_that_nginx_names(monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None) -> None:
    """Read from just what slipway-nginx writes."""
    text, program = load(NGINX).upstream("notes", named), load(RELEASE)
    read: list[str] = []

    def read_text(path: Path) -> str:
        read.append(str(path))
        return str(text)

    monkeypatch.setattr(program.Path, "read_text", read_text)
    assert program.App("notes").proxied() == found
    assert read == ["/etc/nginx/upstreams/notes.conf"]


def test_no_release_is_named_before_nginx_is_there() -> None:
    assert load(RELEASE).App("no-such-app").proxied() is None


def test_the_release_that_serves(release: Release) -> None:
    assert release.app.serving() is None
    release.add(IDS[0], current=True)
    assert release.app.serving() == IDS[0]


def test_records(release: Release) -> None:
    app = release.app
    assert app.record("r1") == {} and app.record(None) == {} and app.history() == []
    app.write_record("r1", state="started", steps={})
    app.write_record("r1", state="good")
    assert app.record("r1") == {"id": "r1", "state": "good", "steps": {}}
    path = app.records / "r1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    app.write_record("r0", state="failed")
    assert [record["id"] for record in app.history()] == ["r0", "r1"]


@pytest.mark.parametrize("text", ["", "half {", "{}"])
def test_a_record_that_cannot_be_read_is_none(release: Release, text: str) -> None:
    release.app.write_record("r1", state="good")
    (release.app.records / "r1.json").write_text(text)
    assert release.app.record("r1") == {} and release.app.history() == []


@pytest.mark.parametrize(
    ("serving", "found"),
    [
        ({"source": "one"}, IDS[1]),  # went back from what is wanted
        ({"source": "two"}, None),  # it serves after all: it was released again
    ],
)
def test_the_release_that_was_gone_back_from(release: Release, serving: dict[str, str], found: str | None) -> None:
    bad = {"since": "2026-01-01T00:00:00Z", "by": "bob", "why": "slow"}
    release.app.wanted["inputs"] = {"source": "two"}
    release.add(IDS[0], inputs={"source": "one"})
    release.add(IDS[1], inputs={"source": "two"}, bad=bad)
    release.add(IDS[2], inputs={"source": "three"}, bad=bad)
    release.add(IDS[3], inputs=serving, current=True)
    assert (release.app.rolled_back() or {}).get("id") == found


def test_what_nobody_went_back_from_is_not_held(release: Release) -> None:
    release.add(IDS[0], inputs=release.app.wanted["inputs"], bad=None)
    release.add(IDS[1], current=True)
    assert release.app.rolled_back() is None


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("nothing", None),
        ("notes@r1.socket inactive", "notes@r1.socket isn't running"),
        ("notes@r1.service failed", "notes@r1.service isn't running"),
        ("notes@r1.service reloading", None),
        ("enabled", "notes@r1.service isn't enabled"),
        ("masked", "notes@r1.socket isn't enabled"),
        ("proxied", "nginx's upstream names r0"),
        ("unproxied", "nginx's upstream names no release"),
        ("units", "units of other releases are there: r2, r3"),
        ("warm", None),
        ("folder", "unfinished releases are there: r2"),
        ("gunicorn", "{releases}/r1 is damaged: .venv/bin/gunicorn can't be started any more"),
        ("wanted", "{etc}/release.json is missing"),
    ],
)
def test_what_is_wrong_with_the_release_that_serves(release: Release, spoil: str, fault: str | None) -> None:
    release.add("r1", units=True, current=True)
    release.enable("r1")
    unit, _, state = spoil.partition(" ")
    if state:
        release.run.states[unit] = {"ActiveState": state}
    if spoil == "enabled":
        (release.program.UNITS / "multi-user.target.wants/notes@r1.service").unlink()
    if spoil == "masked":
        (release.program.UNITS / "notes@r1.socket").unlink()
        (release.program.UNITS / "notes@r1.socket").symlink_to("/dev/null")
    release.named = {"proxied": "r0", "unproxied": None}.get(spoil, "r1")
    if spoil == "units":
        for name in ("notes@r3.service", "notes@r2.socket"):
            (release.program.UNITS / name).write_text("")
    if spoil == "warm":
        release.warm("r2")
    if spoil == "folder":
        release.add("r2", "started")
    if spoil == "gunicorn":
        (release.app.releases / "r1/.venv/bin/gunicorn").chmod(0o644)
    if spoil == "wanted":
        (release.app.etc / "release.json").unlink()
    expected = fault.format(releases=release.app.releases, etc=release.app.etc) if fault else None
    assert release.program.status(release.app)["faults"] == ([expected] if expected else [])


# ── status, history, log ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_of_an_app(release: Release) -> None:
    release.run.states["notes-release.service"] = {"ActiveState": "inactive", "Description": ""}
    assert release.program.status(release.app) == {
        "release": None,
        "commit": None,
        "inputs": {},
        "faults": ["no release serves yet"],
        "steps": {},
        "warm": [],
        "rolled_back": [],
        "run": None,
        "wanted": release.app.wanted,
    }
    bad = {"since": "2026-01-01T00:00:00Z", "by": "bob@desk", "why": "slow"}
    release.add(IDS[0], units=True, current=True, steps={"fetch": 1.5})
    release.enable(IDS[0])
    release.warm(IDS[1])
    release.app.write_record(IDS[1], bad=bad)
    found = release.program.status(release.app)
    assert (found["release"], found["commit"], found["faults"]) == (IDS[0], IDS[0][-7:], [])
    assert found["inputs"] == {"source": IDS[0], "folder": ""} and found["steps"] == {"fetch": 1.5}
    assert found["warm"] == [IDS[1]]
    assert found["rolled_back"] == [{"id": IDS[1], "inputs": {"source": IDS[1], "folder": ""}, **bad}]
    assert json.dumps(found), "it is printed as JSON"


def under_way(release: Release, token: str | None, state: str = "active", **about: Any) -> Path:
    """Let the app's run be that of a folder."""
    release.run.printing["systemctl show"] = f"ActiveState={state}\nDescription=Slipway: a run {token}\n"
    folder: Path = release.app.runs / str(token)
    if token:
        folder.mkdir(parents=True)
        (folder / "log").write_text("")
        (folder / "about.json").write_text(json.dumps({"verb": "deploy", "by": "bob", "since": "noon"} | about))
    return folder


@pytest.mark.parametrize(
    ("state", "there"), [("active", True), ("deactivating", True), ("inactive", False), ("failed", False)]
)
def test_the_run_that_is_under_way(release: Release, state: str, there: bool) -> None:
    """One that was told to stop still takes back what it did."""
    folder = under_way(release, "t1", state)
    assert release.program.under_way(release.app) == (folder if there else None)
    told = release.program.status(release.app)["run"]
    assert told == ({"verb": "deploy", "by": "bob", "since": "noon"} if there else None)
    assert release.run.calls[0] == "systemctl show --property=ActiveState,Description notes-release.service"
    assert len(release.run.calls) == 2, "one question, however much of it there is to know"


def test_a_unit_of_that_name_that_is_no_run_of_ours(release: Release) -> None:
    under_way(release, None)
    assert release.program.under_way(release.app) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "60 min"),
        (3_600, "1 h"),
        (86_399, "24 h"),
        (86_400, "1 d"),
        (864_000, "10 d"),
    ],
)
def test_an_age(release: Release, monkeypatch: pytest.MonkeyPatch, seconds: float, words: str) -> None:
    monkeypatch.setattr(release.program, "seconds_since", lambda stamp: seconds)
    assert release.program.age("2026-01-01T00:00:00Z") == words


def test_the_age_of_now(release: Release) -> None:
    assert 0 <= release.program.seconds_since(release.program.now()) < 60


def write_history(release: Release) -> None:
    """A release of each kind that there is."""
    stamp = release.program.now()
    common = {"by": "ann@desk", "started": stamp, "commit": "a" * 40}
    bad = {"since": stamp, "by": "bob", "why": f"went back to {IDS[2]}"}
    steps = {"fetch": 1.25, "build": 2.5}
    release.add(IDS[0], **common, subject="pruned since", revisions={"before": [], "after": ["r1"]}, steps=steps)
    shutil.rmtree(release.app.folder(IDS[0]))
    release.app.write_record(
        IDS[1], kind="release", state="failed", step="check", revisions={"before": ["r1"]}, **common
    )
    revisions = {"before": ["r1"], "after": ["r1"]}
    release.add(IDS[2], current=True, **common, subject="Good", revisions=revisions, steps=steps)
    release.warm(IDS[3])
    release.app.write_record(IDS[3], **common, subject="w" * 80, bad=bad, revisions={"before": ["r1"], "after": ["r2"]})
    release.app.write_record(IDS[4], kind="rollback", state="good", to=IDS[2], **common)
    (release.app.records / f"{IDS[2]}.log").write_text("said\n")
    sizes = [f"{size}\t{release.app.folder(each)}" for each, size in ((IDS[2], 120), (IDS[3], 4))]
    release.run.printing["du -sm"] = "\n".join(sizes) + "\n"


def test_the_history(release: Release) -> None:
    write_history(release)
    rows = release.program.history(release.app)
    assert [row["id"] for row in rows] == IDS[4::-1], "the newest first"
    assert release.run.matching("du") == [f"du -sm {release.app.folder(IDS[2])} {release.app.folder(IDS[3])}"]
    columns = ("outcome", "now", "schema", "size_mb", "seconds", "what")
    assert [tuple(row[key] for key in columns) for row in rows] == [
        ("good", "", "", None, 0, f"back to {IDS[2]}"),
        ("bad", "warm", "r1 -> r2", 4, 0, "w" * 80),
        ("good", "serves", "r1", 120, 3.8, "Good"),
        ("failed at check", "", "r1", None, 0, ""),
        ("good, removed", "", "none -> r1", None, 3.8, "pruned since"),
    ]
    assert rows[2]["log"] == str(release.app.records / f"{IDS[2]}.log") and rows[1]["log"] is None
    assert rows[2]["steps"] == {"fetch": 1.25, "build": 2.5} and rows[2]["commit"] == "a" * 12
    assert json.dumps(rows)


def test_the_history_for_a_person(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    write_history(release)
    release.program.table(release.app)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["RELEASE", "NOW", "OUTCOME", "AGE", "TOOK", "BY", "SCHEMA", "SIZE", "WHAT"]
    assert len(lines) == 5 and all(line == line.rstrip() for line in lines)
    at = head.index("WHAT")
    assert [line[at:] for line in lines] == [f"back to {IDS[2]}", "w" * 50, "Good", "", "pruned since"]
    assert f"{IDS[2]}  serves  good " in lines[2] and "3.8 s  ann@desk  r1 " in lines[2] and "120 MB" in lines[2]


def test_no_row_of_the_history_can_forge_another(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    release.add(IDS[0], subject="good\nFORGED\r\u2028row\x1b[1A", by="ann\n20990101T000000Z-forged  serves  good")
    release.program.table(release.app)
    _, *lines = capsys.readouterr().out.splitlines()
    (line,) = lines
    assert "ann\\x0a20990101" in line and line.endswith("good\\x0aFORGED\\x0d\\u2028row\\x1b[1A")


def test_no_history_yet(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    release.program.table(release.app)
    assert capsys.readouterr().out.splitlines()[1:] == ["no release yet"]
    assert release.run.calls == []


def test_what_an_attempt_said(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    release.app.records.mkdir()
    for each in IDS[:2]:
        (release.app.records / f"{each}.log").write_text(f"{each} said\n")
    for named, found in (("", IDS[1]), (None, IDS[1]), (IDS[0], IDS[0]), ("20260101", IDS[0])):
        release.program.log(release.app, named)
        assert capsys.readouterr().out == f"{found} said\n"
    assert release.fails(release.program.log, release.app, "2025") == (
        f"There is no log of 2025; there are: {IDS[0]}, {IDS[1]}."
    )


# ── healing: tidy and prune ──────────────────────────────────────────────────────────────────────────────────────────


def test_tidying_keeps_what_serves_what_did_and_the_newest(release: Release) -> None:
    for each in IDS:
        release.add(each)
    release.add("20260110T000000Z-failed0", "failed")
    release.add("20260111T000000Z-killed0", "started")
    release.add("20260112T000000Z-serving", units=True, current=True, previous=IDS[1])
    release.program.tidy(release.app)
    # Three of the good ones, as keep says, and the one that served before, however old it is.
    assert release.releases == [IDS[1], IDS[7], IDS[8], "20260112T000000Z-serving"]
    assert sorted(path.stem for path in (release.app.etc / "releases").iterdir()) == release.releases
    left = {path.stem for path in release.app.records.iterdir()}
    assert left >= {*IDS, "20260110T000000Z-failed0", "20260111T000000Z-killed0"}, "all of it is history"
    assert release.run.matching("slipway-nginx") == []


def test_tidying_keeps_what_serves_however_old_it_is(release: Release) -> None:
    for each in IDS[1:]:
        release.add(each)
    release.add(IDS[0], units=True, current=True)
    release.program.tidy(release.app)
    assert release.releases == [IDS[0], *IDS[-3:]]
    assert release.app.installed_units() == {IDS[0]}


def test_tidying_keeps_what_is_warm(release: Release) -> None:
    release.warm(IDS[0])
    for each in IDS[1:5]:
        release.add(each)
    release.add(IDS[5], units=True, current=True)
    release.program.tidy(release.app)
    assert release.releases == [IDS[0], *IDS[3:6]]
    assert release.app.installed_units() == {IDS[0], IDS[5]}
    assert release.run.done_to(IDS[0]) == [], "it must not be touched"


@pytest.mark.parametrize("known", ["not-found", "loaded"])
def test_systemd_reads_its_units_anew_where_it_still_knows_what_is_gone(release: Release, known: str) -> None:
    """It takes longer than all the rest of taking a release away."""
    release.warm(IDS[0])
    release.run.states[f"notes@{IDS[0]}.socket"] = {"LoadState": "not-found"}
    release.run.states[f"notes@{IDS[0]}.service"] = {"LoadState": known}
    release.program.take_away(release.app, IDS[0])
    reloaded = [call == "systemctl daemon-reload" for call in release.run.calls]
    assert sum(reloaded) == (known == "loaded") == reloaded[-1], "after the files are gone"


@pytest.mark.parametrize("why", ["over", "stopped"])
def test_tidying_takes_away_what_is_warm_no_more(release: Release, why: str) -> None:
    """Its timer went with a reboot, or it crashed."""
    release.add(IDS[1], units=True, current=True)
    release.warm(IDS[0], seconds=-1 if why == "over" else 100)
    if why == "stopped":
        release.run.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    release.program.tidy(release.app)
    assert release.app.installed_units() == {IDS[1]} and release.releases == IDS[:2]
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in release.run.calls
    assert release.run.matching("SIGKILL") == [], "it may have requests"
    assert list(release.program.WARM_UNITS.iterdir()) == []


def test_tidying_takes_every_trace_of_an_unfinished_release_away(release: Release) -> None:
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.app.socket(IDS[1]).write_text("")
    (release.app.releases / "20260109T000000Z-norecor").mkdir()  # killed before its record was written
    (release.app.etc / "releases/20260108T000000Z-nofolde.env").write_text("SECRET=1")
    for path in (
        release.app.root / ".current.partial",
        release.app.etc / ".release.json.partial",
        release.app.etc / f"releases/.{IDS[1]}.env.partial",
        release.app.records / f".{IDS[1]}.json.partial",
        release.program.UNITS / f".notes@{IDS[1]}.service.partial",
    ):
        path.write_text("half")
    release.program.tidy(release.app)
    gone = (IDS[1], "partial", "norecor", "nofolde")
    left = [name for name in tree(release.root) if any(part in name for part in gone)]
    assert left == [f"records/{IDS[1]}.json"]
    assert release.app.installed_units() == {IDS[0]}
    for verb in ("disable --quiet --no-reload", "kill --signal=SIGKILL", "stop", "reset-failed"):
        assert [call for call in release.run.calls if f"systemctl {verb} notes@{IDS[1]}.s" in call], verb
    assert release.run.done_to(IDS[0]) == [], "what serves must not be touched"


def test_tidying_stops_what_outlived_its_run(release: Release) -> None:
    release.program.tidy(release.app)
    assert release.run.matching("systemctl stop") == [] == release.run.matching("reset-failed"), "there is none"
    release.run.states["notes-check.service"] = {"ActiveState": "active"}
    release.run.states["notes-hook.service"] = {"ActiveState": "failed"}
    release.run.states["notes-migrate.service"] = {"ActiveState": "inactive", "Job": "start"}
    release.program.tidy(release.app)
    left = "notes-check.service notes-hook.service notes-migrate.service"
    assert release.run.matching(left) == [f"systemctl stop {left}", f"systemctl reset-failed {left}"]


@pytest.mark.parametrize("named", [None, IDS[1]])
def test_tidying_brings_nginx_back_to_what_current_says(release: Release, named: str | None) -> None:
    """The upstream was lost, or names a release that doesn't run."""
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.named = named
    release.program.tidy(release.app)
    calls = release.run.calls
    switched = calls.index(f"{SWITCH}{IDS[0]}")
    started = calls.index(f"systemctl start notes@{IDS[0]}.service")
    stopped = next(at for at, call in enumerate(calls) if call.startswith(f"systemctl stop notes@{IDS[1]}"))
    assert started < switched < stopped, "one that serves at every instant"
    assert release.app.serving() == IDS[0] and release.releases == [IDS[0]]
    killed = release.run.matching("SIGKILL")
    assert bool(killed) is (named is None), "one that nginx named may have requests"


def test_tidying_waits_for_the_requests_of_the_one_that_nginx_named(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[str, float]] = []

    def drained(app: Any, each: str, until: float) -> None:
        waited.append((each, until - time.time()))
        assert f"{SWITCH}{IDS[0]}" in release.run.calls and not release.run.matching(f"stop notes@{IDS[1]}")

    release.app.wanted["drain_timeout"] = 30
    monkeypatch.setattr(release.program, "drained", drained)
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.named = IDS[1]
    release.program.tidy(release.app, forward=False)
    assert [(each, round(seconds)) for each, seconds in waited] == [(IDS[1], 30)]


@pytest.mark.parametrize("before", [None, IDS[0]])
def test_tidying_ends_what_was_killed_between_switch_and_commit(
    release: Release, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """nginx names a release only once it was proven: if it still answers, it is the one that serves."""
    named_by_nginx(release, monkeypatch, before)
    release.program.tidy(release.app)
    assert release.app.serving() == IDS[1] and release.releases == [*([before] if before else []), IDS[1]]
    assert release.app.warm() == ({before} if before else set()), "it is let go as after any release"
    assert [path.name for path in release.program.UNITS.glob("*.service")] == [f"notes@{IDS[1]}.service"]
    record = release.app.record(IDS[1])
    assert (record["state"], record["previous"]) == ("good", before) and record["committed"]
    assert not (before and release.app.record(before).get("bad"))
    # Whether it was reloaded isn't known.
    assert release.run.matching(SWITCH) == [f"{SWITCH}{IDS[1]}"] and not release.run.matching(f"stop notes@{IDS[1]}")


def test_tidying_ends_a_rollback_that_was_killed_between_switch_and_commit(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was gone back from must not be released again by the next run."""
    release.add(IDS[0], units=True, previous="older", committed="2026-01-01T00:00:00Z")
    release.add(IDS[1], units=True, current=True, inputs=release.app.wanted["inputs"])
    release.app.socket(IDS[0]).touch()
    release.named = IDS[0]
    monkeypatch.setattr(release.program, "probe", lambda app, release: (True, "200"))
    release.app.request = {}
    release.program.tidy(release.app)
    assert release.app.serving() == IDS[0] and release.app.record(IDS[0])["previous"] == "older"
    bad = release.app.record(IDS[1])["bad"]
    assert bad.pop("since") and bad == {"by": "a run that was killed", "why": f"went back to {IDS[0]}"}
    assert release.app.rolled_back()["id"] == IDS[1]


def test_a_release_that_failed_after_the_switch_is_gone_back_from(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike one that was killed there, it answers and is not to serve."""
    named_by_nginx(release, monkeypatch, IDS[0])
    release.program.tidy(release.app, forward=False)
    assert (release.app.serving(), release.named, release.releases) == (IDS[0], IDS[0], [IDS[0]])
    assert release.run.matching("SIGKILL") == [], "it had requests"


def test_the_very_first_release_that_turned_bad_serves_no_more(release: Release) -> None:
    release.add(IDS[0], "started", units=True)
    release.named = IDS[0]
    release.program.tidy(release.app, forward=False)
    assert release.run.matching(SWITCH) == [f"{SWITCH}none"] and release.releases == []
    release.run.calls.clear()
    release.program.tidy(release.app)
    assert release.run.matching(SWITCH) == [], "once is enough"


@pytest.mark.parametrize("missing", ["socket", "folder", "answer"])
def test_a_release_that_nginx_names_but_that_does_not_answer_is_not_believed(
    release: Release, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    release.add(IDS[0], units=True, current=True)
    if missing != "folder":
        release.add(IDS[1], "started", units=True)
    if missing != "socket":
        release.app.socket(IDS[1]).touch()
    release.named = IDS[1]
    monkeypatch.setattr(release.program, "probe", lambda app, release: (missing != "answer", "503"))
    release.program.tidy(release.app)
    assert (release.app.serving(), release.named) == (IDS[0], IDS[0])


def test_tidying_writes_down_what_a_killed_run_could_not(release: Release) -> None:
    release.add(IDS[0], "started", units=True, current=True)
    release.program.tidy(release.app)
    assert release.app.record(IDS[0])["state"] == "good" and release.releases == [IDS[0]]


def test_tidying_leaves_a_number_of_records(release: Release) -> None:
    for number in range(60):
        each = f"20250101T0000{number:02}Z-aaaaaaa"
        release.app.write_record(each, state="failed")
        (release.app.records / f"{each}.log").write_text("said")
    release.add("20240101T000000Z-aaaaaaa", units=True, current=True)  # the oldest of them all, and it serves
    release.program.tidy(release.app)
    left = sorted(path.stem for path in release.app.records.glob("*.json"))
    assert left[:2] == ["20240101T000000Z-aaaaaaa", "20250101T000010Z-aaaaaaa"], "the oldest go"
    assert len(left) == release.program.KEEP_RECORDS + 1
    assert sorted(path.stem for path in release.app.records.glob("*.log")) == left[1:]


def test_tidying_leaves_other_apps_alone(release: Release) -> None:
    release.app.wanted["source"]["commit"] = "new"
    others = [
        release.program.UNITS / "notes-two@r1.service",
        release.program.UNITS / "nginx.service",
        release.program.CACHE / "sources/notes-two.old.tar.gz",
        release.program.CACHE / "sources/notes.new.tar.gz",
    ]
    old = release.program.CACHE / "sources/notes.old.tar.gz"
    for path in (*others, old):
        path.write_text("")
    release.program.tidy(release.app)
    assert [path for path in others if not path.exists()] == [] and not old.exists()


def test_the_source_of_a_run_that_waits_is_kept(release: Release) -> None:
    """It came with its request, before its turn."""
    (release.app.runs / "t1").mkdir(parents=True)
    (release.app.runs / "t1/about.json").write_text(json.dumps({"verb": "deploy", "inputs": {"source": "next"}}))
    (release.app.runs / "t2").mkdir()
    (release.app.runs / "t2/about.json").write_text(json.dumps({"verb": "rollback", "inputs": None}))
    sources = release.program.CACHE / "sources"
    for commit in ("c" * 40, "next", "old"):
        (sources / f"notes.{commit}.tar.gz").touch()
    release.program.tidy(release.app)
    assert sorted(path.name for path in sources.iterdir()) == [f"notes.{'c' * 40}.tar.gz", "notes.next.tar.gz"]


# ── the old one: draining ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("grace", "warm", "stays", "timers"),
    [
        (30, 300, 300, ["drain", "--timer-property=AccuracySec=1s --on-active=300s retire"]),
        (30, 0, 70, ["drain"]),  # as long as it may take to stop
        (60, 20, 100, ["drain", "--timer-property=AccuracySec=1s --on-active=60s retire"]),
    ],
)
def test_the_old_one_is_let_go(release: Release, grace: int, warm: int, stays: int, timers: list[str]) -> None:
    release.app.wanted |= {"drain_timeout": grace, "keep_warm": warm}
    release.add(IDS[0], units=True)
    release.program.let_go(release.app, IDS[0])
    record = release.app.record(IDS[0])
    assert abs(record["left"] - time.time()) < 5 and round(record["warm_until"] - record["left"]) == stays
    # A reboot ends it, since its units are in /run alone; nothing else does before its time.
    assert list(release.program.UNITS.iterdir()) == []
    assert tree(release.program.WARM_UNITS) == {
        f"notes@{IDS[0]}.service": f"# {IDS[0]} service\n",
        f"notes@{IDS[0]}.socket": f"# {IDS[0]} socket\n",
    }
    units = f"notes@{IDS[0]}.socket notes@{IDS[0]}.service"
    program = "/opt/slipway/bin/slipway-release"
    expected = []
    for timer in timers:
        *options, what = timer.split()
        unit = f"--unit=notes-{what}-{IDS[0]}"
        shut_off = [f"--property={each}" for each in release.program.SHUT_OFF]
        words = ["systemd-run --quiet --collect", *shut_off, unit, *options, program, what, "notes", IDS[0]]
        expected.append(" ".join(words))
    assert sorted(release.run.calls) == sorted([f"systemctl disable --quiet --no-reload {units}", *expected])
    assert release.app.warm() == {IDS[0]}


def test_an_old_one_that_a_killed_run_began_to_let_go(release: Release) -> None:
    """What that run left to end it has its name still: it makes room."""
    release.app.wanted |= {"drain_timeout": 30, "keep_warm": 300}
    release.add(IDS[0], units=True)
    drain = f"--unit=notes-drain-{IDS[0]} "
    forget = f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service"
    release.run.failing[drain] = "Unit notes-drain was already loaded"
    release.run.doing[forget] = lambda line: release.run.failing.clear()
    release.program.let_go(release.app, IDS[0])
    after = release.run.calls[release.run.calls.index(forget) + 1 :]
    assert [each.split("--unit=notes-")[1].split("-")[0] for each in after] == ["drain", "retire"]
    assert release.app.warm() == {IDS[0]}


def test_an_old_one_that_nothing_is_there_to_end_is_not_warm(release: Release) -> None:
    release.add(IDS[0], units=True)
    release.run.failing["systemd-run"] = "Failed to connect to bus"
    assert release.fails(release.program.let_go, release.app, IDS[0]) == "Failed to connect to bus"
    assert release.app.warm() == set()


def test_an_old_one_without_units_is_let_go_all_the_same(release: Release) -> None:
    """Somebody took them away: the new release is no worse for it."""
    release.add(IDS[0])
    (release.program.UNITS / f"notes@{IDS[0]}.service").write_text("")
    release.program.let_go(release.app, IDS[0])
    assert release.app.installed_units() == set()
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in release.run.calls
    assert release.run.matching("systemd-run") == []


def test_the_connections_of_a_release(release: Release) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        release.app.socket = lambda each: Path(folder) / f"{each}.sock"  # the path of a socket must be short
        assert release.program.busy(release.app, "r1") == 0
        servers = {name: stack.enter_context(socket.socket(socket.AF_UNIX)) for name in ("r1", "r2")}
        for name, server in servers.items():
            server.bind(f"{folder}/{name}.sock")
            server.listen()
        assert release.program.busy(release.app, "r1") == 0, "it listens, and that is all"
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        accepted = []
        for client, name in zip(clients, ("r1", "r1", "r2"), strict=True):
            client.connect(f"{folder}/{name}.sock")
            accepted.append(stack.enter_context(servers[name].accept()[0]))
        assert [release.program.busy(release.app, name) for name in ("r1", "r2")] == [2, 1]
        accepted[0].close()
        assert release.program.busy(release.app, "r1") == 1


def test_workers_that_are_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    program, titles = load(RELEASE), {10: "nginx: worker process", 11: "nginx: worker process"}
    monkeypatch.setitem(sys.modules, "slipway_nginx", types.SimpleNamespace(workers=lambda: titles))
    assert program.leaving() is False
    titles[10] += " is shutting down"
    assert program.leaving() is True
    titles.clear()
    assert program.leaving() is False


@pytest.mark.parametrize(
    ("leaving", "busy", "looks"),
    [
        ([False], [0], 1),
        ([True, True, False], [0], 3),  # a request may be between nginx and the app
        ([False], [2, 1, 0], 3),
        ([False], [1], 10),  # until the time is over
    ],
)
def test_the_wait_for_the_last_request(
    release: Release, monkeypatch: pytest.MonkeyPatch, leaving: list[bool], busy: list[int], looks: int
) -> None:
    clock, looked = [1000.0], [0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def left() -> bool:
        looked[0] += 1
        return leaving[min(looked[0], len(leaving)) - 1]

    monkeypatch.setattr(release.program.time, "time", lambda: clock[0])
    monkeypatch.setattr(release.program.time, "sleep", sleep)
    monkeypatch.setattr(release.program, "leaving", left)
    monkeypatch.setattr(release.program, "busy", lambda app, each: busy[min(looked[0], len(busy)) - 1])
    release.program.drained(release.app, "r1", until=1000.95)
    assert looked[0] == looks
    release.program.drained(release.app, "r1", until=999)
    assert looked[0] == looks, "it was too late already"


@pytest.mark.parametrize(
    ("state", "keep_warm", "busy", "does"),
    [
        ("left", 0, 0, "remove"),
        ("left", 300, 0, None),
        ("left", 300, 2, "restart"),  # WebSockets get a clean close, and the release stays warm
        ("serves again", 0, 2, None),
        ("serves again", 300, 2, None),
        ("removed", 300, 2, None),
    ],
)
def test_a_drain(
    release: Release, monkeypatch: pytest.MonkeyPatch, state: str, keep_warm: int, busy: int, does: str | None
) -> None:
    waited: list[float] = []
    release.app.wanted |= {"keep_warm": keep_warm, "drain_timeout": 7}
    release.warm(IDS[0])
    release.app.write_record(IDS[0], left=1000)
    if state == "serves again":
        release.install(IDS[0])
        release.app.current.symlink_to(f"releases/{IDS[0]}")
    if state == "removed":
        shutil.rmtree(release.program.WARM_UNITS)
    monkeypatch.setattr(release.program, "drained", lambda app, each, until: waited.append(until))
    monkeypatch.setattr(release.program, "busy", lambda app, each: busy)
    release.program.drain(release.app, IDS[0])
    assert waited == [1007]
    unit = f"notes@{IDS[0]}.service"
    assert release.run.calls[0] == "systemctl daemon-reload", "let_go moved the units"
    expected = {"remove": f"systemctl stop {unit} notes@{IDS[0]}.socket", "restart": f"systemctl restart {unit}"}
    assert [call for call in release.run.calls if call in expected.values()] == ([expected[does]] if does else [])
    assert (IDS[0] in release.app.installed_units()) is (does != "remove" and state != "removed")


def test_a_warm_release_retires(release: Release) -> None:
    release.warm(IDS[0])
    release.add(IDS[1], units=True, current=True)
    release.program.retire(release.app, IDS[1])
    assert release.run.calls == [], "it serves again"
    release.program.retire(release.app, IDS[0])
    assert release.app.installed_units() == {IDS[1]} and release.releases == IDS[:2], "its folder stays"
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in release.run.calls
    assert release.run.matching("notes-retire") == [], "that is the unit that this runs in"


# ── what doesn't end or start in its time ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def late(release: Release, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Beginnings of command lines that don't end in their time."""
    slow: list[str] = []
    run = release.program.run

    def timed(*argv: str, seconds: float = 3600, **options: Any) -> Any:
        done = run(*argv, **options)
        if any(" ".join(argv).startswith(each) for each in slow):
            raise release.program.Late(f"`{argv[0]}` was ended after {seconds} s. ")
        return done

    monkeypatch.setattr(release.program, "run", timed)
    release.run.printing["systemctl show"] = "TimeoutStopUSec=1min 5s\nTimeoutStartUSec=infinity"
    return slow


def test_a_release_that_does_not_stop_is_killed(release: Release, late: list[str]) -> None:
    release.warm(IDS[0])
    release.run.doing["systemctl kill"] = lambda line: late.clear()
    late.append("systemctl stop notes@")
    release.program.take_away(release.app, IDS[0])
    units = f"notes@{IDS[0]}.service notes@{IDS[0]}.socket"
    stop = f"systemctl stop {units}"
    kill = f"systemctl kill --signal=SIGKILL {units}"
    assert release.run.done_to(units)[:4] == [stop, stop, kill, stop], "what systemd is about is joined"
    assert release.app.installed_units() == set()


def test_a_unit_whose_description_has_lines_is_found(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an earlier Slipway, or of somebody else: systemd-run makes one of the command line."""
    listed = "notes-check.service loaded active running /bin/python -c\n    import x\n\n    gc.freeze()\n"
    listed += "notes@r1.service loaded inactive dead notes release r1\n"
    monkeypatch.setattr(release.program, "run", lambda *argv, **_: subprocess.CompletedProcess(argv, 0, listed))
    told = release.program.loaded(["notes-check.service", "notes@r1.service", "notes-hook.service"])
    assert told == {"notes-check.service": "active", "notes@r1.service": "inactive"}


def test_what_cannot_be_killed_is_told(release: Release, late: list[str]) -> None:
    late.append("systemctl stop notes@")
    told = release.fails(release.program.stop, "notes@r1.service")
    assert told.startswith("notes@r1.service can't be ended, not even by SIGKILL")


@pytest.mark.parametrize(("verb", "seconds"), [("stop", 65), ("start", 905), ("restart", 970)])
def test_a_job_has_the_time_of_its_unit_and_a_little_more(
    release: Release, late: list[str], verb: str, seconds: int
) -> None:
    program = release.program
    assert program.JOB_SECONDS + program.job_seconds(verb, ["notes@r1.service"]) == pytest.approx(seconds, abs=5)
    late.append(f"systemctl {verb}")
    assert program.in_time(verb, "notes@r1.service") is None


def test_a_release_that_does_not_start_is_killed(release: Release, late: list[str]) -> None:
    release.run.printing["journalctl"] = "still loading"
    late.append("systemctl start notes@r1.service")
    told = release.fails(release.program.launch, release.app, "r1")
    assert told == "The app didn't start within the time of its unit (TimeoutStartSec):\nstill loading"
    assert "systemctl kill --signal=SIGKILL notes@r1.service" in release.run.calls


def test_a_release_that_a_signal_ended_is_told(release: Release) -> None:
    """Of what was before it was started, Slipway itself may be the reason."""
    release.run.printing["journalctl"] = "notes@r1.service: Main process exited, code=killed, status=9/KILL"
    assert "which Slipway didn't send" not in release.program.journal(release.app, "r1")
    release.run.failing["systemctl start notes@r1.service"] = "no"
    told = release.fails(release.program.launch, release.app, "r1")
    assert "It was killed by SIGKILL, which Slipway didn't send" in told and "--stop-first" in told
    assert release.run.matching("journalctl")[-1].partition(" --since=@")[2].startswith(str(int(release.app.launched)))


def test_a_warm_release_that_does_not_restart_is_taken_away(
    release: Release, late: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    release.app.wanted["keep_warm"] = 300
    release.warm(IDS[0])
    monkeypatch.setattr(release.program, "drained", lambda *_, **__: None)
    monkeypatch.setattr(release.program, "busy", lambda *_: 2)
    late.append("systemctl restart")
    release.program.drain(release.app, IDS[0])
    assert release.app.installed_units() == set()
    assert f"systemctl kill --signal=SIGKILL notes@{IDS[0]}.service" in release.run.calls


def test_a_step_whose_unit_does_not_end_is_killed(release: Release, late: list[str]) -> None:
    late.append("systemd-run")
    release.add("r1")
    done = release.program.as_app(release.app, "r1", "hook", ["page"], 9)
    assert done.returncode == 1 and release.run.calls[-1] == "systemctl kill --signal=SIGKILL notes-hook.service"


@pytest.mark.parametrize(
    ("note", "code", "says"),
    [
        ("signal killed KILL", 137, "It was killed by SIGKILL, which Slipway didn't send"),
        ("success killed TERM", 143, "It was killed by SIGTERM, which Slipway didn't send"),
        ("timeout killed TERM", 143, "It was ended after 9 s."),
    ],
)
def test_a_signal_is_never_success(
    release: Release, monkeypatch: pytest.MonkeyPatch, note: str, code: int, says: str
) -> None:
    release.add("r1")
    run = release.program.run

    def killed(*argv: str, **options: Any) -> Any:
        done = run(*argv, **options)
        (release.app.ended / "notes-hook").write_text(note)
        return done

    monkeypatch.setattr(release.program, "run", killed)
    done = release.program.as_app(release.app, "r1", "hook", ["page"], 9)
    assert done.returncode == code and says in done.stdout


# ── what is stopped first ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_serves_is_stopped_first(
    release: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its units before its processes, or systemd would start them anew; those outside of its slice as well."""
    release.add(IDS[0], units=True, current=True)
    release.warm(IDS[1])
    left, killed = [[17, 4711], [4711], []], []
    monkeypatch.setattr(release.program.slipway_guest, "processes", lambda user: left.pop(0))
    monkeypatch.setattr(release.program.os, "kill", lambda process, number: killed.append((process, number)))
    release.app.wanted["sandbox"].append("Slice=app-notes.slice")
    assert release.program.make_way(release.app, IDS[2]) is None
    calls = release.run.matching("systemctl")
    stopped = next(at for at, call in enumerate(calls) if call.startswith("systemctl stop --no-block"))
    assert all(f"notes@{each}.{kind}" in calls[stopped] for each in IDS[:2] for kind in ("socket", "service"))
    assert calls[stopped + 1] == "systemctl kill --signal=SIGKILL app-notes.slice"
    assert killed == [(17, 9), (4711, 9), (4711, 9)]
    assert f"{IDS[0]} is stopped first, as told: requests are lost" in said(capsys)
    assert release.app.record(IDS[0])["stopped_first"]


def test_processes_that_do_not_end_are_told(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program, "KILL_SECONDS", 0)
    monkeypatch.setattr(release.program.slipway_guest, "processes", lambda user: [17])
    monkeypatch.setattr(release.program.os, "kill", lambda process, number: None)
    message = "Processes of notes don't end (17): see `ps -u notes`."
    assert release.fails(release.program.make_way, release.app, IDS[0]) == message


def test_what_was_stopped_first_is_started_again(release: Release) -> None:
    release.add(IDS[0], units=True, current=True, stopped_first="2026-01-01T00:00:00Z")
    assert release.program.start_again(release.app) == f"{IDS[0]}, which was stopped first, was started again."
    assert f"systemctl start notes@{IDS[0]}.service" in release.run.calls
    assert release.program.start_again(release.app) == "", "once"


def test_what_was_stopped_first_is_not_kept_warm(release: Release) -> None:
    release.add(IDS[0], units=True, stopped_first="2026-01-01T00:00:00Z")
    release.program.let_go(release.app, IDS[0])
    assert release.app.installed_units() == set() and release.run.matching("systemd-run") == []
    assert not release.app.record(IDS[0])["stopped_first"]


# ── one run at a time ────────────────────────────────────────────────────────────────────────────────────────────────

HELD = (
    "Another run of notes is under way (deploy by ann, process 4711, since 2026-01-01T00:00:00Z), and did not end "
    "within 0 s. Follow it with `/opt/slipway/bin/slipway-release attach notes`, or wait, then run again."
)


def test_only_one_run_of_an_app_at_a_time(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program, "now", lambda: "2026-01-01T00:00:00Z")
    monkeypatch.setattr(release.program.os, "getpid", lambda: 4711)
    with release.program.locked(release.app, "deploy by ann", 0):
        with pytest.raises(release.program.Failed) as told, release.program.locked(release.app, "drain", 0):
            pass
        assert str(told.value) == HELD
    with release.program.locked(release.app, "drain", 9):
        assert stat.S_IMODE(release.app.lock.stat().st_mode) == 0o600, "nobody else can open it, and so hold it"
        assert release.app.lock.read_text() == "drain, process 4711, since 2026-01-01T00:00:00Z"
    assert release.app.lock.read_text() == ""


def test_a_run_waits_for_another(release: Release) -> None:
    release.app.lock.parent.mkdir()
    with release.app.lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.15, fcntl.flock, (other, fcntl.LOCK_UN))
        began = time.monotonic()
        timer.start()
        with release.program.locked(release.app, "deploy by ann", 60):
            assert time.monotonic() - began >= 0.15
        timer.join()


def test_a_lock_ends_with_its_holder_whatever_it_left_written(release: Release) -> None:
    release.app.lock.parent.mkdir()
    release.app.lock.write_text("deploy, process 1, since 1970, which was killed and had a long name")
    release.app.lock.chmod(0o644)
    with release.program.locked(release.app, "drain", 0):
        assert release.app.lock.read_text().startswith("drain, process ") and "1970" not in release.app.lock.read_text()
    with release.app.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ── a whole release ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Story:
    """The steps of a release or a rollback, each noted; one may fail."""

    steps: list[str] = field(default_factory=list)
    fails: str | None = None
    error: Exception | None = None
    """Why it fails, if not "… is broken"."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Step → what happens as it begins."""


ALL = ["fetch", "build", "check", "migrate", "start", "prove", "switch", "watch", "commit"]


@pytest.fixture
def story(release: Release, monkeypatch: pytest.MonkeyPatch) -> Story:
    """`deploy` and `rollback`, with steps that do no more than make a folder, units and links."""
    told = Story()
    program = release.program
    real = {step.__name__: step for step in program.STEPS}

    def fetch(app: Any, each: str) -> None:
        gunicorn = app.folder(each) / ".venv/bin/gunicorn"
        gunicorn.parent.mkdir(parents=True)
        gunicorn.touch(0o755)

    def check(app: Any, each: str) -> None:
        program.prepare(app, each)

    def switch(app: Any, each: str) -> str | None:
        program.nginx("switch", app.name, each)
        return "the public name has no certificate yet"

    doing = {"fetch": fetch, "check": check, "switch": switch, "commit": real["commit"]}

    def step(name: str) -> Callable[[Any, str], Any]:
        def made(app: Any, each: str) -> Any:
            told.steps.append(name)
            told.before.get(name, lambda: None)()
            if name == told.fails:
                raise told.error or program.Failed(f"{name} is broken")
            return doing.get(name, lambda *_: None)(app, each)

        made.__name__ = name
        return made

    steps = {name: step(name) for name in real}
    monkeypatch.setattr(program, "STEPS", tuple(steps.values()))
    monkeypatch.setattr(program, "prove", steps["prove"])
    monkeypatch.setattr(program, "switch", steps["switch"])
    return told


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed; every step took no time."""
    return re.sub(r"\b\d+\.\d s\b", "0.0 s", capsys.readouterr().out)


def on_disk(release: Release) -> dict[str, str]:
    """All that a failed release must leave as it was."""
    return {path: text for path, text in tree(release.root).items() if not path.startswith(("records/", "lock/"))}


def newest(release: Release) -> dict[str, Any]:
    """The record of the newest attempt."""
    found: dict[str, Any] = release.app.history()[-1]
    return found


def test_the_steps_of_a_release(release: Release) -> None:
    assert [step.__name__ for step in release.program.STEPS] == ALL


def test_a_release(release: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    release.program.deploy(release.app)
    (made,) = release.releases
    assert story.steps == ALL
    assert made.endswith("Z-ccccccc") and RELEASE_ID.fullmatch(made)
    assert (release.app.serving(), release.app.attempt, release.named) == (made, made, made)
    record = release.app.record(made)
    assert (record["kind"], record["state"], record["commit"]) == ("release", "good", "c" * 40)
    assert record["inputs"] == release.app.wanted["inputs"] and record["wanted"] == release.app.wanted
    assert (record["app"], record["by"], record["previous"]) == ("notes", "ann@desk", None)
    assert list(record["steps"]) == ALL and record["started"] <= record["committed"] <= record["finished"]
    lines = said(capsys).splitlines()
    assert lines[0] == "notes: 1/9 fetch 0.0 s" and lines[-1] == f"notes: {made} serves (0.0 s)"
    assert lines[6] == "notes: 7/9 switch 0.0 s (the public name has no certificate yet)"
    assert not list(release.app.root.glob(".*"))


@pytest.mark.parametrize("step", ALL)
def test_a_release_that_fails_leaves_the_old_one_serving(release: Release, story: Story, step: str) -> None:
    release.add(IDS[0], units=True, current=True)
    before = on_disk(release)
    story.fails = step
    message = release.fails(release.program.deploy, release.app)
    number = ALL.index(step) + 1
    assert story.steps == ALL[:number]
    first, reason, end = message.splitlines()
    assert first.startswith("release 2") and first.endswith(f"-ccccccc failed at {step} ({number} of 9).")
    assert reason == f"{step} is broken"
    again = "serves again" if number > 7 else "goes on serving"
    assert end == f"{IDS[0]} {again}. Correct the cause and run again."
    assert (release.app.serving(), release.named, on_disk(release)) == (IDS[0], IDS[0], before)
    failed = newest(release)
    assert (failed["state"], failed["step"], failed["error"]) == ("failed", step, f"{step} is broken")
    assert list(failed["steps"]) == ALL[: number - 1] and failed["finished"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (subprocess.SubprocessError("odd"), "SubprocessError: odd"),
        (KeyError("heads"), "KeyError: 'heads'"),
    ],
)
def test_whatever_a_step_fails_of_is_undone(release: Release, story: Story, error: Exception, told: str) -> None:
    release.add(IDS[0], units=True, current=True)
    story.fails, story.error = "build", error
    assert release.fails(release.program.deploy, release.app).splitlines()[1:] == [
        told,
        f"{IDS[0]} goes on serving. Correct the cause and run again.",
    ]
    assert release.releases == [IDS[0]]


def test_a_first_release_that_fails(release: Release, story: Story) -> None:
    story.fails = "build"
    message = release.fails(release.program.deploy, release.app)
    assert message.endswith("\nNo release serves yet. Correct the cause and run again.")
    assert release.releases == []


def test_a_first_release_that_fails_after_the_switch(release: Release, story: Story) -> None:
    story.fails = "watch"
    message = release.fails(release.program.deploy, release.app)
    assert message.endswith("\nNo release serves yet. Correct the cause and run again.")
    assert (release.releases, release.named, release.app.installed_units()) == ([], "none", set())


def test_a_failure_after_the_commit_leaves_the_new_one_serving(
    release: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_go(app: Any, each: str) -> None:
        raise release.program.Failed("it can't be let go")

    release.add(IDS[0], units=True, current=True)
    monkeypatch.setattr(release.program, "let_go", let_go)
    message = release.fails(release.program.deploy, release.app)
    made = release.app.serving()
    assert message.splitlines()[1:] == [
        "it can't be let go",
        f"{made} goes on serving. Correct the cause and run again.",
    ]
    assert made != IDS[0] and made in release.app.installed_units(), "the next run ends what is left of the old one"
    record = release.app.record(made)
    assert (record["state"], record["step"], record["error"]) == ("good", "commit", "it can't be let go")


def test_a_migration_that_was_made_is_told(release: Release, story: Story) -> None:
    """Migrations aren't taken back: who reads the message must know."""
    release.add(IDS[0], units=True, current=True)

    def migrated() -> None:
        release.app.write_record(release.app.attempt, revisions={"before": ["r1"], "after": ["r3", "x3"]})

    story.fails, story.before["migrate"] = "start", migrated
    assert release.fails(release.program.deploy, release.app).endswith(
        f"\n{IDS[0]} goes on serving. The database stays at r3, x3: migrations aren't taken back. "
        "Correct the cause and run again."
    )


@pytest.mark.parametrize("revisions", [{"before": ["r1"]}, {"before": ["r1"], "after": ["r1"]}])
def test_a_database_that_did_not_change_is_not_mentioned(
    release: Release, story: Story, revisions: dict[str, list[str]]
) -> None:
    release.add(IDS[0], units=True, current=True)
    story.before["migrate"] = lambda: release.app.write_record(release.app.attempt, revisions=revisions)
    story.fails = "start"
    assert "database" not in release.fails(release.program.deploy, release.app)


FULL = "The disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError("error: failed to write: No space left on device (os error 28)"), True),
        (OSError("tar: uv.lock: Wrote only 512 of 10240 bytes"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_what_to_do_about_a_full_disk(release: Release, story: Story, error: Exception, told: bool) -> None:
    story.fails, story.error = "build", error
    message = release.fails(release.program.deploy, release.app)
    assert (FULL in message.splitlines()) is told


def test_what_cannot_be_undone_is_told_and_written_down(
    release: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = release.program.tidy

    def tidy(app: Any, forward: bool = True) -> None:
        if not forward:
            raise release.program.Failed("systemd is stuck")
        real(app)

    release.add(IDS[0], units=True, current=True)
    monkeypatch.setattr(release.program, "tidy", tidy)
    story.fails = "start"
    assert release.fails(release.program.deploy, release.app).splitlines()[1:] == [
        "start is broken",
        "What was begun can't be taken away yet (systemd is stuck); the next run does it.",
        f"{IDS[0]} goes on serving. Correct the cause and run again.",
    ]
    assert (newest(release)["state"], newest(release)["step"]) == ("failed", "start")


def test_a_failure_that_cannot_be_written_down_is_told(
    release: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.add(IDS[0], units=True, current=True)
    story.fails, story.before["start"] = "start", lambda: full_disk(monkeypatch, release.program)
    message = release.fails(release.program.deploy, release.app)
    assert message.endswith(f"{IDS[0]} goes on serving. Correct the cause and run again.")
    assert newest(release)["state"] == "started"


def test_a_run_that_takes_back_is_not_stopped_again(
    release: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored: list[tuple[Any, ...]] = []
    monkeypatch.setattr(release.program.signal, "signal", lambda *given: ignored.append(given))
    story.fails, story.error = "start", release.program.Interrupted("notes-release.service was told to stop.")
    message = release.fails(release.program.deploy, release.app)
    assert message.splitlines()[1] == "notes-release.service was told to stop."
    assert ignored == [(signal.SIGTERM, signal.SIG_IGN)]


def test_the_release_before_is_kept_and_its_units_end_with_a_reboot(release: Release, story: Story) -> None:
    release.add(IDS[0], units=True, current=True)
    release.program.deploy(release.app)
    made = release.app.serving()
    assert release.releases == [IDS[0], made]
    assert {path.name.split("@")[1].split(".")[0] for path in release.program.UNITS.iterdir()} == {made}
    assert release.app.warm() == {IDS[0]} and release.app.record(made)["previous"] == IDS[0]


@pytest.mark.parametrize("before", ["good", "started"])
def test_what_killed_runs_left_is_healed_first(release: Release, story: Story, before: str) -> None:
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], before, units=True)
    release.app.write_record("20260102T000001Z-rollback", kind="rollback", state="started")
    release.program.deploy(release.app)
    assert IDS[1] not in release.app.installed_units()
    assert release.app.record(IDS[1])["state"] == ("good" if before == "good" else "killed")
    assert release.app.record("20260102T000001Z-rollback")["state"] == "killed"
    assert release.app.record("20260102T000001Z-rollback")["finished"]


def remembered(release: Release) -> dict[str, Any]:
    """What a run on the host itself would want."""
    path = release.app.etc / "release.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_what_was_released_is_what_the_host_wants_from_then_on(release: Release, story: Story) -> None:
    release.app.wanted["keep"] = 7
    story.before["commit"] = lambda: before.append(remembered(release)["keep"])
    before: list[int] = []
    release.program.deploy(release.app)
    assert before == [3] and remembered(release) == release.app.wanted
    assert stat.S_IMODE((release.app.etc / "release.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fetch", "switch", "watch"])
def test_what_failed_is_not_what_the_host_wants(release: Release, story: Story, step: str) -> None:
    release.add(IDS[0], units=True, current=True)
    release.app.wanted["keep"] = 7
    story.fails = step
    release.fails(release.program.deploy, release.app)
    assert remembered(release)["keep"] == 3


@pytest.mark.parametrize("held", [False, True])
def test_settings_that_need_no_release_are_kept(release: Release, story: Story, held: bool) -> None:
    (hold if held else serve_what_is_wanted)(release)
    release.app.wanted["keep"] = 7
    release.program.deploy(release.app)
    assert story.steps == ["prove"] and remembered(release)["keep"] == 7


def test_the_secrets_of_a_build_are_kept_for_the_next_one(release: Release, story: Story) -> None:
    release.app.request["build"] = {"PASSWORD": "s3cr3t"}
    release.program.deploy(release.app)
    path = release.app.etc / "build.env"
    assert json.loads(path.read_text()) == {"PASSWORD": "s3cr3t"} and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cr3t" not in (release.app.etc / "release.json").read_text()
    del release.app.request["build"]  # on the host, by hand
    release.program.deploy(release.app)
    assert json.loads(path.read_text()) == {"PASSWORD": "s3cr3t"}


def serve_what_is_wanted(release: Release, each: str = IDS[0]) -> None:
    """A release that serves and was made from just what is wanted."""
    release.add(each, units=True, current=True, inputs=release.app.wanted["inputs"])


def test_a_release_that_is_what_is_wanted_is_not_made_again(
    release: Release, story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_what_is_wanted(release)
    release.program.deploy(release.app)
    assert story.steps == ["prove"] and release.releases == [IDS[0]] and release.app.attempt is None
    assert f"systemctl start notes@{IDS[0]}.service" in release.run.calls
    assert release.run.calls[-1] == f"{SWITCH}{IDS[0]}"
    assert said(capsys) == f"notes: {IDS[0]} already is what is wanted; it serves\n"


def test_a_run_with_nothing_to_do_leaves_a_warm_release_warm(release: Release, story: Story) -> None:
    serve_what_is_wanted(release)
    release.warm(IDS[1])
    release.program.deploy(release.app)
    assert release.run.done_to(IDS[1]) == []


def test_units_that_somebody_took_away_are_written_again(release: Release, story: Story) -> None:
    serve_what_is_wanted(release)
    (release.program.UNITS / f"notes@{IDS[0]}.service").unlink()
    release.program.deploy(release.app)
    assert (release.program.UNITS / f"notes@{IDS[0]}.service").read_text() == f"# {IDS[0]} service\n"
    assert (release.program.UNITS / f"notes@{IDS[0]}.socket").read_text() == f"# {IDS[0]} socket\n"
    calls = release.run.calls
    assert calls.index("systemctl daemon-reload") < calls.index(f"systemctl start notes@{IDS[0]}.service")


@pytest.mark.parametrize("spoil", ["damaged", "start", "prove", "switch"])
def test_a_release_that_cannot_be_brought_back_is_made_anew(
    release: Release, story: Story, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_what_is_wanted(release)
    if spoil == "damaged":
        (release.app.releases / IDS[0] / ".venv/bin/gunicorn").unlink()
    elif spoil == "prove":
        story.fails = "prove"
    else:
        release.run.failing = {f"start notes@{IDS[0]}.service" if spoil == "start" else SWITCH: "no"}
    with contextlib.suppress(release.program.Failed):
        release.program.deploy(release.app)
    assert [step for step in story.steps if step == "fetch"] and newest(release)["id"] != IDS[0]
    reason = {"start": "The app doesn't start:\n", "prove": "prove is broken", "switch": "no"}.get(spoil)
    shown = said(capsys)
    told = f"notes: {IDS[0]} can't be brought back.\n{reason}"
    damaged = f"notes: {IDS[0]} is damaged: .venv/bin/gunicorn is missing\nnotes: no other release can take its place\n"
    assert shown.startswith(told if reason else damaged)


def after_a_power_cut(release: Release) -> None:
    """Nothing is known any more of what was found right, and the app's file of the release that serves is empty."""
    shutil.rmtree(release.program.SEEN, ignore_errors=True)
    (release.app.releases / IDS[1] / "main.py").write_text("")


@pytest.fixture
def two_releases(release: Release, story: Story) -> Release:
    """Two releases with a file each; the newer one is what is wanted, and serves."""
    for each in IDS[:2]:
        release.add(each, previous=IDS[0])
        (release.app.releases / each / "main.py").write_text("app = 1\n")
        release.app.describe(each)
    release.install(IDS[1])
    release.app.write_record(IDS[1], inputs=release.app.wanted["inputs"], previous=IDS[0])
    release.app.current.symlink_to(f"releases/{IDS[1]}")
    release.named = IDS[1]
    return release


@pytest.mark.parametrize("alive", [False, True])
def test_a_release_that_a_power_cut_has_damaged_is_made_anew(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], alive: bool
) -> None:
    """The last whole one serves until then, unless the damaged one still answers."""
    release = two_releases
    after_a_power_cut(release)
    assert release.program.status(release.app)["faults"][0].endswith(f"{IDS[1]} is damaged: main.py is empty")
    assert release.program.history(release.app)[0]["outcome"] == "good, damaged"
    monkeypatch.setattr(release.program, "probe", lambda app, each: (alive or each != IDS[1], "200"))
    release.app.socket(IDS[1]).touch()
    release.program.deploy(release.app)
    told = said(capsys).splitlines()
    assert told[0] == f"notes: {IDS[1]} is damaged: main.py is empty"
    switched = [call.removeprefix(SWITCH) for call in release.run.matching(SWITCH)]
    assert (IDS[0] in switched) != alive and (f"notes: {IDS[0]} serves in its place" in told) != alive
    assert newest(release)["id"] == release.app.serving() not in IDS[:2]
    assert not release.app.record(IDS[1]).get("bad"), "nobody went back from it: the same is released again"


def test_a_damaged_release_that_cannot_be_made_anew_leaves_the_last_whole_one(
    two_releases: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    after_a_power_cut(release)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (each != IDS[1], "200"))
    story.fails = "fetch"
    assert f"\n{IDS[0]} goes on serving." in release.fails(release.program.deploy, release.app)
    assert release.app.serving() == release.named == IDS[0]


def test_a_damaged_release_is_not_said_to_serve(
    two_releases: Release, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    shutil.rmtree(release.app.releases / IDS[0])
    after_a_power_cut(release)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (False, "502"))
    story.fails = "fetch"
    told = release.fails(release.program.deploy, release.app)
    assert f"{IDS[1]}, which should serve, is damaged and doesn't answer." in told and "goes on serving" not in told


def test_a_rollback_from_a_damaged_release_ends_with_the_last_whole_one(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    after_a_power_cut(release)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (each != IDS[1], "200"))
    release.program.rollback(release.app)
    assert release.app.serving() == release.named == IDS[0]


def test_a_damaged_release_that_does_not_serve_stays_to_be_seen(two_releases: Release) -> None:
    """Nobody goes back to it, nor builds on it; it goes when its time has come, as others do."""
    release = two_releases
    (release.app.releases / IDS[0] / "main.py").unlink()
    with pytest.raises(release.program.Failed, match=rf"no good release before {IDS[1]}.* Damaged: {IDS[0]}\.$"):
        release.program.choose(release.app, IDS[1], None)
    shutil.rmtree(release.program.SEEN)
    release.program.heal(release.app)
    assert release.releases == IDS[:2]
    assert [row["outcome"] for row in release.program.history(release.app)] == ["good", "good, damaged"]


@pytest.mark.parametrize("why", ["went back from", "its revision"])
def test_what_takes_the_place_of_a_damaged_release_is_what_one_would_choose(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    release = two_releases
    after_a_power_cut(release)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (each != IDS[1], "200"))
    if why == "went back from":
        release.app.write_record(IDS[0], bad={"since": "2026-01-01T00:00:00Z", "by": "ann", "why": "slow"})
    else:
        monkeypatch.setattr(release.program, "look", lambda app, each: {"pending": [], "unknown": ["r9"]})
    assert release.program.replace_damaged(release.app) is None
    told = said(capsys)
    assert told.endswith("notes: no other release can take its place\n") and release.app.serving() == IDS[1]
    assert (f"{IDS[0]} can't take its place: the database isn't at its revision" in told) == (why == "its revision")


def test_one_that_does_not_come_up_in_the_place_of_a_damaged_release_is_stopped_again(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    after_a_power_cut(release)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (False, "502"))
    monkeypatch.setattr(release.program, "bring_back", lambda app, each: False)
    assert release.program.replace_damaged(release.app) is None
    assert release.run.matching(f"systemctl stop notes@{IDS[0]}.service")


def test_one_bad_answer_of_a_damaged_release_is_no_reason_to_replace_it(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    after_a_power_cut(release)
    release.app.socket(IDS[1]).touch()
    answers = iter([(False, "503"), (True, "200")])
    monkeypatch.setattr(release.program, "probe", lambda app, each: next(answers))
    assert release.program.replace_damaged(release.app) is None and release.app.serving() == IDS[1]


def test_a_release_is_asked_by_the_path_that_it_was_made_with(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wanted now may name another one."""
    release = two_releases
    asked: list[str] = []

    def ask(connect: Any, readiness: dict[str, str]) -> tuple[int, str, None]:
        asked.append(readiness["path"])
        return 200, "", None

    monkeypatch.setattr(release.program, "ask", ask)
    release.app.wanted["readiness"] = release.app.wanted["readiness"] | {"path": "/new"}
    release.program.probe(release.app, IDS[0])
    release.program.probe(release.app, "none")
    assert asked == ["/readyz", "/new"]


def test_what_was_gone_back_from_is_bad_even_if_somebody_has_edited_it(two_releases: Release) -> None:
    release = two_releases
    (release.app.releases / IDS[1] / "main.py").write_text("print('why?')\n")
    release.program.confirm(release.app, IDS[0])
    assert release.app.record(IDS[1])["bad"]


def test_a_damaged_release_that_was_gone_back_to_says_the_ways_out(
    two_releases: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = two_releases
    monkeypatch.setattr(release.program, "probe", lambda app, each: (True, "200"))
    release.app.write_record(IDS[1], inputs={"source": "other"})
    release.add(IDS[2], inputs=release.app.wanted["inputs"], bad={"since": "now", "by": "ann", "why": "slow"})
    release.app.socket(IDS[1]).touch()
    (release.app.releases / IDS[1] / "main.py").write_text("")
    told = release.fails(release.program.deploy, release.app)
    assert told.startswith(f"{IDS[1]} is damaged: main.py is empty. And {IDS[2]} was made from just this")
    assert told.endswith(
        "Go back to another release (--to), or release that again (--data again=true; on the host: --again)."
    )


def test_a_broken_release_of_an_earlier_slipway_is_not_taken_for_whole(two_releases: Release) -> None:
    release = two_releases
    for each in IDS[:2]:
        release.app.write_record(each, manifest=None)
    (release.app.venv(IDS[0]) / "bin/gunicorn").unlink()
    release.program.heal(release.app)
    assert not release.app.record(IDS[0])["manifest"] and release.app.record(IDS[1])["manifest"]


@pytest.mark.parametrize("spoil", ["gone", "cut off"])
def test_a_release_without_its_manifest_is_not_trusted(two_releases: Release, spoil: str) -> None:
    release = two_releases
    path = release.app.manifest(IDS[1])
    path.unlink() if spoil == "gone" else path.write_text(path.read_text()[:9])
    shutil.rmtree(release.program.SEEN)
    assert release.app.damage(IDS[1]) == {str(path): "is damaged"}


def test_a_release_of_an_earlier_slipway_is_described(two_releases: Release) -> None:
    release = two_releases
    release.app.write_record(IDS[0], manifest=None)
    release.app.manifest(IDS[0]).unlink()
    release.program.heal(release.app)
    assert release.app.manifest(IDS[0]).exists() and release.app.damage(IDS[0]) == {}


def test_what_is_committed_is_on_the_disk_before_anything_of_the_old_one_goes(two_releases: Release) -> None:
    release = two_releases
    release.add(IDS[2], units=True)
    seen: list[tuple[str | None, bool]] = []
    release.run.doing["flush"] = lambda line: seen.append(
        (release.app.serving(), (release.program.UNITS / release.app.unit(IDS[1], "service")).exists())
    )
    release.program.settle(release.app, IDS[2])
    assert seen == [(IDS[2], True)]


def test_what_cannot_be_written_to_the_disk_fails(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(RELEASE)
    error = subprocess.CalledProcessError(1, ["sync"])
    monkeypatch.setattr(program.slipway_manifest, "flush", lambda *paths: (_ for _ in ()).throw(error))
    with pytest.raises(
        program.Failed, match=r"^The release can't be written to the disk \(.*: see `dmesg` and `df -h`"
    ):
        program.flush(release.app)


def hold(release: Release) -> None:
    """The operator went back from what is wanted."""
    bad = {"since": "2026-01-02T03:04:05Z", "by": "bob@desk", "why": f"went back to {IDS[0]}"}
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], inputs=release.app.wanted["inputs"], bad=bad)


TOLD = f"{IDS[1]} was made from just this, and bob@desk went back from it at 2026-01-02T03:04:05Z"


def test_what_was_gone_back_from_is_held(release: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    hold(release)
    release.run.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    release.program.deploy(release.app)
    assert (story.steps, release.app.serving(), release.app.attempt) == (["prove"], IDS[0], None)
    assert said(capsys) == (
        f"notes: notes@{IDS[0]}.service didn't run: starting again\n"
        f"notes: {TOLD}; {IDS[0]} serves. New code, or --data again=true (on the host: --again), makes a release.\n"
    )


def test_what_was_gone_back_from_is_held_even_if_nothing_serves(release: Release, story: Story) -> None:
    hold(release)
    story.fails = "prove"
    assert release.fails(release.program.deploy, release.app) == (
        f"{IDS[0]} doesn't serve, and {TOLD}: --data again=true releases that again."
    )


@pytest.mark.parametrize("why", ["again", "new code"])
def test_what_was_gone_back_from_is_released_when_told(release: Release, story: Story, why: str) -> None:
    hold(release)
    if why == "again":
        release.app.request["again"] = True
    else:
        release.app.wanted["inputs"] = release.app.wanted["inputs"] | {"source": "new"}
    release.program.deploy(release.app)
    assert story.steps == ALL and release.app.serving() not in IDS
    assert release.app.record(IDS[1])["bad"], "it is history"
    release.app.request["again"] = False
    release.program.deploy(release.app)
    assert story.steps == [*ALL, "prove"], "what serves is what is wanted"


def test_an_id_is_not_given_twice(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    first = release.program.new_id(release.app, "abc1234")

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (release.app.records / f"{first}.json").unlink()

    at = time.strptime(first.partition("-")[0], "%Y%m%dT%H%M%SZ")
    monkeypatch.setattr(release.program.time, "gmtime", lambda *_: at)
    release.app.write_record(first, state="failed")
    monkeypatch.setattr(release.program.time, "sleep", sleep)
    assert release.program.new_id(release.app, "abc1234") == first and slept == [0.1]
    assert RELEASE_ID.fullmatch(first)


# ── a whole rollback ─────────────────────────────────────────────────────────────────────────────────────────────────

BACK = ["schema", "start", "prove", "switch", "commit"]


@pytest.fixture
def two(release: Release) -> Release:
    """A host with a release that serves, and one that served before."""
    release.add(IDS[0])
    release.add(IDS[1], units=True, current=True, previous=IDS[0], committed="2026-01-02T00:00:00Z")
    release.app.request = {"verb": "rollback", "by": "ann@desk", "wait": 0, "to": None, "schema": None}
    release.run.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    return release


def test_a_rollback(two: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    two.program.rollback(two.app)
    assert (two.app.serving(), two.named) == (IDS[0], IDS[0])
    assert two.run.matching("start notes@") == [
        f"systemctl start notes@{IDS[0]}.socket",
        f"systemctl start notes@{IDS[0]}.service",
    ]
    attempt = two.app.record(two.app.attempt)
    assert (attempt["kind"], attempt["state"], attempt["to"]) == ("rollback", "good", IDS[0])
    assert (attempt["previous"], attempt["by"]) == (IDS[1], "ann@desk") and "revisions" not in attempt
    assert attempt["id"].endswith("Z-rollback") and list(attempt["steps"]) == BACK
    left = two.app.record(IDS[1])
    assert left["state"] == "good" and left["bad"]["by"] == "ann@desk"
    assert left["bad"]["why"] == f"went back to {IDS[0]}" and left["bad"]["since"]
    assert two.app.warm() == {IDS[1]} and two.releases == IDS[:2]
    lines = said(capsys).splitlines()
    assert lines[0] == "notes: 1/5 schema 0.0 s (no migrations)"
    assert lines[-1] == f"notes: {IDS[0]} serves again (0.0 s); {IDS[1]} was before"


def test_a_rollback_to_a_warm_release_starts_nothing(two: Release, story: Story) -> None:
    """That is what it is kept for."""
    del two.run.states[f"notes@{IDS[0]}.service"]
    two.app.write_record(IDS[0], warm_until=time.time() + 100, left=time.time())
    two.install(IDS[0], two.program.WARM_UNITS)
    two.program.rollback(two.app)
    assert two.app.serving() == IDS[0]
    assert two.run.matching("start notes@") == [] and two.run.matching("SIGKILL") == []
    assert f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service" in two.run.calls
    for kind in ("socket", "service"):
        assert (two.program.UNITS / f"notes@{IDS[0]}.{kind}").read_text() == f"# {IDS[0]} {kind}\n"
        assert not (two.program.WARM_UNITS / f"notes@{IDS[0]}.{kind}").exists(), "it stays after a reboot"


def test_a_rollback_uses_what_the_release_was_made_from(two: Release, story: Story) -> None:
    made = two.app.record(IDS[0])["wanted"] | {
        "app": "old:app",
        "static": "old",
        "readiness": {"path": "/old", "timeout": 1, "host": "old.example.com", "scheme": "http"},
        "keep": 99,
        "drain_timeout": 99,
    }
    two.app.write_record(IDS[0], wanted=made)
    two.program.rollback(two.app)
    assert (two.app.wanted["app"], two.app.wanted["static"]) == ("old:app", "old")
    assert two.app.wanted["readiness"] == {
        "path": "/old",
        "timeout": 5,
        "host": "notes.example.com",
        "scheme": "https",
    }
    assert (two.app.wanted["keep"], two.app.wanted["drain_timeout"]) == (3, 0), "settings of the host"
    assert json.loads((two.app.etc / "release.json").read_text())["app"] == "notes.main:app", "what is wanted stays"


def test_going_back_and_forth(two: Release, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going forward again, by name, makes a bad release a good one; what served before it stays known."""
    ids = iter(f"2026020{day}T000000Z-rollback" for day in range(1, 9))
    monkeypatch.setattr(two.program, "new_id", lambda app, name: next(ids))
    two.program.rollback(two.app)
    two.app.request["to"] = IDS[1]
    two.program.rollback(two.app)
    record = two.app.record(IDS[1])
    assert two.app.serving() == IDS[1] and record["bad"] is None and record["previous"] == IDS[0]
    assert not two.app.record(IDS[0]).get("bad"), "only what one goes back from is bad"
    two.app.request["to"] = None
    two.program.rollback(two.app)
    assert two.app.serving() == IDS[0]


def test_a_rollback_to_what_serves(two: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    two.app.request["to"] = IDS[1]
    two.program.rollback(two.app)
    assert said(capsys) == f"notes: {IDS[1]} serves already\n"
    assert story.steps == ["prove"] and two.app.attempt is None and two.app.record(IDS[1]).get("bad") is None


def test_a_rollback_to_what_should_serve(two: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody stopped it: it is started, and that is said."""
    for unit in (f"notes@{IDS[1]}.service", "nginx.service"):
        two.run.states[unit] = {"ActiveState": "inactive"}
    two.app.request["to"] = IDS[1]
    two.program.rollback(two.app)
    down = f"notes: notes@{IDS[1]}.service, nginx.service didn't run: starting again"
    assert said(capsys) == f"{down}\nnotes: {IDS[1]} serves already\n"
    story.fails = "prove"
    assert two.fails(two.program.rollback, two.app) == (
        f"{IDS[1]} doesn't serve, though it is what should: go back to another one, or release anew."
    )


@pytest.mark.parametrize("step", ["prove", "switch"])
def test_a_rollback_that_fails(two: Release, story: Story, step: str) -> None:
    before = on_disk(two)
    story.fails = step
    message = two.fails(two.program.rollback, two.app)
    assert message.splitlines() == [
        f"going back to {IDS[0]} failed at {step} ({BACK.index(step) + 1} of 5).",
        f"{step} is broken",
        f"{IDS[1]} goes on serving. Correct the cause and run again.",
    ]
    assert (two.app.serving(), on_disk(two)) == (IDS[1], before)
    attempt = two.app.record(two.app.attempt)
    assert (attempt["state"], attempt["step"], attempt["to"]) == ("failed", step, IDS[0])
    assert two.app.record(IDS[0])["state"] == "good", "it can be tried again"
    assert not two.app.record(IDS[1]).get("bad")


@pytest.mark.parametrize(
    ("before", "after", "failing", "told"),
    [
        (["r4"], ["r4"], "", ""),
        (
            ["r4"],
            ["r2"],
            "",
            " The database was downgraded, and is at r4 again, without what was lost by that.",
        ),
        (
            ["r4"],
            ["r2"],
            "no disk",
            " The database stays at r2, and can't be brought to r4 again:\nno disk\n",
        ),
        (["r4"], [], "no disk", " The database stays at base, and can't be brought to r4 again:\nno disk\n"),
    ],
)
def test_a_downgrade_is_made_good_if_the_rollback_fails(
    two: Release, story: Story, before: list[str], after: list[str], failing: str, told: str
) -> None:
    def downgraded() -> None:
        two.app.write_record(two.app.attempt, revisions={"before": before, "after": after})

    if failing:
        two.run.failing["slipway-schema upgrade"] = failing
    two.app.knower = IDS[1]
    story.fails, story.before["prove"] = "prove", downgraded
    message = two.fails(two.program.rollback, two.app)
    assert message.endswith(f"\n{IDS[1]} goes on serving.{told} Correct the cause and run again.")
    upgrades = two.run.matching("slipway-schema upgrade")
    assert len(upgrades) == (before != after)
    assert all(f"releases/{IDS[1]}/.venv/bin/python " in call for call in upgrades), "by the release that knows how"


@pytest.mark.parametrize("step", ["prove", "switch"])
def test_a_rollback_to_a_warm_release_that_fails(two: Release, story: Story, step: str) -> None:
    """It was about to serve, so that nothing would end it any more: it must not run on, nor start with the host."""
    del two.run.states[f"notes@{IDS[0]}.service"]
    two.app.write_record(IDS[0], warm_until=time.time() + 100, left=time.time())
    two.install(IDS[0], two.program.WARM_UNITS)
    story.fails = step
    two.fails(two.program.rollback, two.app)
    assert two.app.installed_units() == {IDS[1]} and two.releases == IDS[:2]
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in two.run.calls


# ── which release to go back to ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def many(release: Release) -> Release:
    """A host with a history; the fifth release serves."""
    for each in (IDS[0], IDS[1], IDS[3]):
        release.add(each)
    release.add(IDS[2], "failed")
    release.add(IDS[4], units=True, current=True, previous=IDS[3])
    release.add(IDS[5])
    release.app.write_record(IDS[6], kind="release", state="good")
    release.app.write_record(IDS[7], kind="rollback", state="good")
    return release


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, 3),
        (IDS[0], 0),
        ("20260102", 1),
        ("aaaaaa2", 1),
        (IDS[5], 5),  # forward again
    ],
)
def test_the_release_to_go_back_to(many: Release, named: str | None, found: int) -> None:
    assert many.program.choose(many.app, IDS[4], named) == IDS[found]


GOABLE = ", ".join((IDS[0], IDS[1], IDS[3], IDS[4], IDS[5]))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (IDS[2], f"{IDS[2]} never went live. Nearest: {{}}; those one can go back to: {GOABLE}."),
        (
            IDS[6],
            f"{IDS[6]} isn't on this host any more (keep_releases). Nearest: {{}}; those one can go back to: {GOABLE}.",
        ),
        (
            "20260105T000000Z-bbbbbbb",
            f"There is no release 20260105T000000Z-bbbbbbb. Nearest: {IDS[4]}; those one can go back to: {GOABLE}.",
        ),
        ("zzz", f"There is no release zzz. Nearest: {IDS[5]}; those one can go back to: {GOABLE}."),
        (IDS[7], f"There is no release {IDS[7]}. Nearest: {{}}; those one can go back to: {GOABLE}."),
        ("2026010", f"2026010 is the beginning of {GOABLE}: name one of them."),
        ("aaaaaa", f"aaaaaa is the beginning of {GOABLE}: name one of them."),
    ],
)
def test_a_release_that_one_cannot_go_back_to(many: Release, named: str, message: str) -> None:
    told = many.fails(many.program.choose, many.app, IDS[4], named)
    nearest = told.partition("Nearest: ")[2].partition(";")[0]
    assert told == message.format(nearest) and (not nearest or nearest in GOABLE)


def test_an_ambiguous_name_lists_the_newest(release: Release) -> None:
    ids = [f"20261121T23000{second}Z-aaaaaa{second}" for second in range(7)]
    for each in ids:
        release.add(each, current=each == ids[-1])
    listed = f"{', '.join(ids[2:])} and 2 older ones: name one of them."
    for named in ("20261121T23", "2026112123"):  # with and without the T
        told = release.fails(release.program.choose, release.app, ids[-1], named)
        assert told == f"{named} is the beginning of {listed}"
        assert release.program.target(release.app, named) == {"release": None, "error": told}
    assert release.program.target(release.app, "20261121230003") == {"release": ids[3], "error": None}


def test_a_commit_is_named_by_its_beginning(release: Release) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    release.add(IDS[0], commit=commit)
    release.add(IDS[1], commit="f" * 40, current=True)
    for named in ("0123", commit[:7], commit[:12], commit):
        assert release.program.choose(release.app, IDS[1], named) == IDS[0]
    other = commit[:20] + "f" * 20
    assert release.fails(release.program.choose, release.app, IDS[1], other).startswith(f"There is no release {other}")


def test_a_commit_that_was_released_several_times(release: Release) -> None:
    """The newest that isn't bad: it differs in its environment alone."""
    for each in IDS[:3]:
        release.add(each, commit="abcdef0" * 5)
    release.add(IDS[3], commit="f" * 40, current=True)
    assert release.program.choose(release.app, IDS[3], "abcdef0") == IDS[2]
    release.app.write_record(IDS[2], bad={"by": "bob"})
    assert release.program.choose(release.app, IDS[3], "abcdef0") == IDS[1]
    for each in IDS[:2]:
        release.app.write_record(each, bad={"by": "bob"})
    assert release.program.choose(release.app, IDS[3], "abcdef0") == IDS[2], "it was named, after all"


def test_a_bad_release_is_skipped(many: Release) -> None:
    many.app.write_record(IDS[3], bad={"by": "bob"})
    assert many.program.choose(many.app, IDS[4], None) == IDS[1]
    assert many.program.choose(many.app, IDS[4], IDS[3]) == IDS[3], "unless it is named"


@pytest.mark.parametrize("lost", ["environment", "wanted", "folder"])
def test_a_release_that_is_not_whole_is_skipped(many: Release, lost: str) -> None:
    if lost == "environment":
        many.app.env(IDS[3]).unlink()
    elif lost == "wanted":
        many.app.write_record(IDS[3], wanted=None)  # of an older slipway-release
    else:
        shutil.rmtree(many.app.folder(IDS[3]))
    assert many.program.choose(many.app, IDS[4], None) == IDS[1]


def test_nothing_to_go_back_to(release: Release) -> None:
    choose = release.program.choose
    assert release.fails(choose, release.app, None, None) == (
        "No release serves yet, so there is nothing to go back from."
    )
    release.add(IDS[2], current=True)
    message = f"There is no good release before {IDS[2]} on this host."
    assert release.fails(choose, release.app, IDS[2], None) == message
    release.add(IDS[0], bad={"by": "bob"})
    release.add(IDS[1], bad={"by": "bob"})
    release.add(IDS[3])  # newer than the one that serves: not to be gone back to unless named
    assert release.fails(choose, release.app, IDS[2], None) == (
        f"{message} Marked as bad, and skipped unless named: {IDS[0]}, {IDS[1]}."
    )


def test_a_name_where_no_release_is_whole(release: Release) -> None:
    """All are of an older slipway-release, say."""
    release.add(IDS[0], current=True, wanted=None)
    assert release.fails(release.program.choose, release.app, IDS[0], "x") == (
        "There is no release x. Nearest: none; those one can go back to: ."
    )


# ── the database and the release one goes back to ────────────────────────────────────────────────────────────────────


def schema_says(release: Release, command: str, **told: Any) -> None:
    """Let slipway-schema answer a command."""
    release.run.printing[f"slipway-schema {command}"] = f"INFO  [alembic] noise\nslipway-schema: {json.dumps(told)}\n"


def seen(**other: Any) -> dict[str, Any]:
    """What `slipway-schema look` tells of a database that is up to date."""
    return {"heads": ["r2"], "current": ["r2"], "unknown": [], "pending": []} | other


def revision(name: str, *contract: str, downgrade: bool = True) -> dict[str, Any]:
    """A revision as slipway-schema tells it."""
    return {"revision": name, "doc": f"does {name}", "contract": list(contract), "downgrade": downgrade}


@pytest.fixture
def alembic(release: Release, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A host whose serving release is two revisions ahead of the one before it."""
    monkeypatch.setattr(release.program, "knower", lambda app: IDS[1])
    release.app.wanted["migration"]["command"] = "auto"
    for each in IDS[:2]:
        release.add(each)
        (release.app.folder(each) / "alembic.ini").write_text("")
    release.app.current.symlink_to(f"releases/{IDS[1]}")
    release.app.attempt = ATTEMPT
    schema_says(release, "look", **seen(current=["r4"], unknown=["r4"]))
    schema_says(release, "undone", undone=[revision("r4"), revision("r3")])
    return release


ATTEMPT = "20260103T000000Z-rollback"
AHEAD = f"The database is ahead of {IDS[0]} by:\n  r4 does r4\n  r3 does r3\n"
ALONE = f"To let the code alone go back, if {IDS[0]} can live with that: --data schema=code-only."


@pytest.mark.parametrize("missing", ["environment", "gunicorn"])
def test_a_damaged_release_is_not_gone_back_to(alembic: Release, missing: str) -> None:
    if missing == "environment":
        alembic.app.env(IDS[0]).unlink()
    else:
        (alembic.app.venv(IDS[0]) / "bin/gunicorn").unlink()
    what = alembic.app.env(IDS[0]) if missing == "environment" else ".venv/bin/gunicorn"
    assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
        f"{IDS[0]} is damaged: {what} is missing. Name another one, or release its commit anew."
    )


@pytest.mark.parametrize(
    ("command", "note"),
    [
        (None, "no migrations"),
        (["own", "tool"], "its schema can't be looked at: no Alembic"),
    ],
)
def test_a_schema_that_cannot_be_looked_at(alembic: Release, command: Any, note: str) -> None:
    alembic.app.wanted["migration"]["command"] = command
    assert alembic.program.consider(alembic.app, IDS[0]) == note and alembic.run.calls == []


def test_a_database_that_fits_the_release(alembic: Release) -> None:
    schema_says(alembic, "look", **seen())
    assert alembic.program.consider(alembic.app, IDS[0]) is None
    assert alembic.app.record(ATTEMPT)["revisions"] == {"before": ["r2"], "after": ["r2"]}
    (looked,) = alembic.run.calls
    assert f"{IDS[0]}/.venv/bin/python /opt/slipway/bin/slipway-schema look" in looked, "with its own migrations"


def test_a_database_that_is_behind_the_release(alembic: Release) -> None:
    schema_says(alembic, "look", **seen(current=["r0"], pending=[revision("r1"), revision("r2")]))
    assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
        f"The database is behind {IDS[0]}: it lacks r1, r2. Release its commit anew, which migrates."
    )


def test_a_database_that_is_ahead_needs_a_word(alembic: Release) -> None:
    assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
        f"{AHEAD}{ALONE}\nTo take that back first, and lose what is stored in what it added: --data schema=downgrade. "
        "(On the host: --schema.)"
    )
    asked = alembic.run.matching("slipway-schema undone")[0]
    assert asked.endswith("undone --to r2") and f"{IDS[1]}/.venv/bin/python" in asked, "by who knows these revisions"
    assert alembic.run.matching("slipway-schema downgrade") == []


def test_the_code_alone_goes_back(alembic: Release, capsys: pytest.CaptureFixture[str]) -> None:
    alembic.app.request["schema"] = "code-only"
    assert alembic.program.consider(alembic.app, IDS[0]) == "code only"
    assert said(capsys) == f"notes: {AHEAD}The code alone goes back, as told.\n"
    assert alembic.run.matching("slipway-schema downgrade") == []


def test_the_database_goes_back_too(alembic: Release) -> None:
    alembic.app.request["schema"] = "downgrade"
    assert alembic.program.consider(alembic.app, IDS[0]) == "downgraded to r2"
    (ran,) = alembic.run.matching("slipway-schema downgrade")
    assert ran.endswith("downgrade --to r2 --lock-timeout 5 --statement-timeout 60") and "--unit notes-migrate " in ran
    assert f"{IDS[1]}/.venv/bin/python" in ran
    assert alembic.app.record(ATTEMPT)["revisions"] == {"before": ["r4"], "after": ["r2"]}


def test_a_database_goes_back_to_nothing(alembic: Release) -> None:
    alembic.app.request["schema"] = "downgrade"
    schema_says(alembic, "look", **seen(heads=[], current=["r4"], unknown=["r4"]))
    assert alembic.program.consider(alembic.app, IDS[0]) == "downgraded to base"


def test_a_migration_that_cannot_be_taken_back(alembic: Release) -> None:
    alembic.app.request["schema"] = "downgrade"
    schema_says(alembic, "undone", undone=[revision("r4"), revision("r3", downgrade=False)])
    assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
        f"{AHEAD}{ALONE}\nr3 can't be taken back: it has no downgrade. (On the host: --schema.)"
    )
    assert alembic.run.matching("slipway-schema downgrade") == []


@pytest.mark.parametrize("told", [None, "downgrade", "code-only"])
def test_a_database_that_no_release_here_knows(
    alembic: Release, monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    """One that failed after it had migrated, say: the code alone can go back, and nothing is in the way."""
    monkeypatch.setattr(alembic.program, "knower", lambda app: None)
    alembic.app.request["schema"] = told
    if told == "code-only":
        assert alembic.program.consider(alembic.app, IDS[0]) == "code only"
    else:
        assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
            f"The database is ahead of {IDS[0]} by:\n  r4 (no release on this host has it)\n{ALONE}\n"
            "It can't be taken back from here: release code that has r4, and go back from that. "
            "(On the host: --schema.)"
        )
    assert alembic.run.matching("slipway-schema undone") == alembic.run.matching("slipway-schema downgrade") == []


def test_who_knows_what_the_database_has(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release that serves, else the newest that does; one that can't be asked doesn't."""
    for each in IDS[:4]:
        release.add(each)
    release.app.current.symlink_to(f"releases/{IDS[1]}")
    lacks: dict[str, list[str]] = {IDS[0]: [], IDS[1]: ["r4"], IDS[2]: []}

    def look(app: Any, each: str) -> dict[str, Any]:
        if each not in lacks:
            raise release.program.Failed("it can't be looked at")
        return seen(unknown=lacks[each])

    monkeypatch.setattr(release.program, "look", look)
    assert release.program.knower(release.app) == IDS[2]
    lacks[IDS[1]] = []
    assert release.program.knower(release.app) == IDS[1]
    lacks.clear()
    assert release.program.knower(release.app) is None


def test_a_downgrade_that_fails(alembic: Release) -> None:
    alembic.app.request["schema"] = "downgrade"
    alembic.run.failing["slipway-schema downgrade"] = "IntegrityError"
    assert alembic.fails(alembic.program.consider, alembic.app, IDS[0]) == (
        "The migration `downgrade` failed:\nIntegrityError"
    )


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [(1, "OperationalError: no such host", "OperationalError: no such host"), (0, "odd", "odd"), (0, "", "")],
)
def test_a_schema_that_tells_nothing(alembic: Release, code: int, output: str, told: str) -> None:
    (alembic.run.failing if code else alembic.run.printing)["slipway-schema look"] = output
    assert alembic.fails(alembic.program.look, alembic.app, IDS[0]) == (
        f"The database's schema can't be looked at:\n{told}"
    )


# ── the database and the new release ─────────────────────────────────────────────────────────────────────────────────

LATER = ["drops the table old", "renames the column a to b"]


def test_migrations_that_fit(release: Release) -> None:
    release.add(IDS[0], current=True)
    release.program.fits(release.app, seen(pending=[revision("r2")]))


def test_several_heads(release: Release) -> None:
    assert release.fails(release.program.fits, release.app, seen(heads=["r2", "x2"])) == (
        "The migrations have 2 heads (r2, x2): `alembic merge heads`, and run again."
    )


def test_code_that_is_older_than_the_database(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.add(IDS[0], current=True)
    monkeypatch.setattr(release.program, "knower", lambda app: IDS[0])
    message = (
        "The database is at revision r4, x4, which this release doesn't have: it is older than the database, "
        "which another release has migrated. Release code that has that too."
    )
    ahead = seen(unknown=["r4", "x4"])
    assert release.fails(release.program.fits, release.app, ahead) == message
    # Just another environment for code that serves so already, since it went back by "code-only".
    release.app.write_record(IDS[0], inputs={"source": "c" * 40, "folder": "", "environment": "other"})
    release.program.fits(release.app, ahead)
    release.app.write_record(IDS[0], inputs={"source": "c" * 40, "folder": "sub"})
    assert release.fails(release.program.fits, release.app, ahead) == message


def test_a_first_release_that_is_older_than_the_database(release: Release) -> None:
    """Or an app wrote there what no release ever had, and would block the release that mends it."""
    assert release.fails(release.program.fits, release.app, seen(unknown=["r4"])) == (
        "The database is at revision r4, which this release doesn't have: nor has any release on this host. Release "
        "code that has it; or, if it was never one of the app's, set the database right: "
        "`alembic stamp --purge REVISION`, with the app's environment."
    )


def test_migrations_that_the_old_release_may_not_bear(release: Release) -> None:
    found = seen(pending=[revision("r1"), revision("r2", *LATER)])
    release.program.fits(release.app, found)  # nothing serves that could break
    release.add(IDS[0], current=True)
    assert release.fails(release.program.fits, release.app, found) == (
        "The release that serves may not survive these migrations:\n"
        "  r2 drops the table old\n  r2 renames the column a to b\n"
        "If it no longer uses what they change, consent: --data contract=true (on the host: --contract)."
    )
    release.app.request["contract"] = True
    release.program.fits(release.app, found)


def prepared(release: Release, command: Any = "auto", file: str | None = "alembic.ini", **facts: Any) -> Path:
    """A release that was built and checked, and is about to migrate."""
    release.app.wanted["migration"]["command"] = command
    release.add("r1", "started", **facts)
    folder: Path = release.app.folder("r1")
    (folder / "pyproject.toml").write_text("[project]\n" + ("[tool.alembic]\n" if file == "pyproject.toml" else ""))
    if file == "alembic.ini":
        (folder / file).write_text("")
    return folder


@pytest.mark.parametrize("file", ["alembic.ini", "pyproject.toml"])
def test_pending_migrations(release: Release, file: str) -> None:
    folder = prepared(
        release,
        file=file,
        heads=["r2"],
        pending=[revision("r1"), revision("r2")],
        revisions={"before": ["r0"]},
    )
    assert release.program.migrate(release.app, "r1") == "r1, r2"
    (ran,) = release.run.calls
    assert ran.startswith("systemd-run --quiet --wait --pipe --collect --unit notes-migrate --property User=notes ")
    assert ran.endswith(
        f" -- {folder}/.venv/bin/python /opt/slipway/bin/slipway-schema upgrade --lock-timeout 5 --statement-timeout 60"
    )
    assert "--property RuntimeMaxSec=60 " in ran and f"--property WorkingDirectory={folder} " in ran
    assert f"--setenv PATH={folder}/.venv/bin:" in ran and f"EnvironmentFile={release.app.env('r1')} " in ran
    assert release.app.record("r1")["revisions"] == {"before": ["r0"], "after": ["r2"]}


def test_nothing_to_migrate(release: Release) -> None:
    prepared(release, heads=["r2"], pending=[], revisions={"before": ["r2"]})
    assert release.program.migrate(release.app, "r1") == "nothing pending" and release.run.calls == []
    assert release.app.record("r1")["revisions"] == {"before": ["r2"], "after": ["r2"]}


def test_a_database_that_is_ahead_stays_so(release: Release) -> None:
    prepared(release, heads=["r2"], pending=[], revisions={"before": ["r4"]})
    release.program.migrate(release.app, "r1")
    assert release.app.record("r1")["revisions"] == {"before": ["r4"], "after": ["r4"]}


@pytest.mark.parametrize(("command", "file"), [("auto", None), (None, "alembic.ini")])
def test_no_migration(release: Release, command: Any, file: str | None) -> None:
    prepared(release, command, file)
    assert release.program.migrate(release.app, "r1") == "no migration" and release.run.calls == []
    assert "revisions" not in release.app.record("r1")


@pytest.mark.parametrize("own", [False, True])
def test_a_migration_by_a_command_of_the_users_own(release: Release, own: bool) -> None:
    folder = prepared(release, ["migrate", "--all"])
    if own:
        (folder / ".venv/bin/migrate").touch(0o755)
    release.program.migrate(release.app, "r1")
    (ran,) = release.run.calls
    assert ran.endswith(f" -- {folder}/.venv/bin/migrate --all" if own else " -- migrate --all")
    assert "--unit notes-migrate " in ran and "--property RuntimeMaxSec=60 " in ran


def test_hooks_around_a_migration(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(release, heads=["r2"], pending=[revision("r1"), revision("r2")], revisions={"before": []})
    release.app.wanted["hooks"] |= {"before_migrate": ["bin/before", "x"], "after_migrate": ["after"], "timeout": 7}
    release.program.migrate(release.app, "r1")
    before, migration, after = release.run.calls
    assert before.endswith("/releases/r1/bin/before x") and after.endswith(" -- after") and "upgrade" in migration
    for call, name in ((before, "before_migrate"), (after, "after_migrate")):
        assert f"--setenv SLIPWAY_HOOK={name} --setenv SLIPWAY_PENDING=r1,r2 " in call
        assert "--unit notes-hook " in call and "--property RuntimeMaxSec=7 " in call
    assert said(capsys) == "notes: hook before_migrate 0.0 s\nnotes: hook after_migrate 0.0 s\n"


def test_hooks_run_without_a_migration(release: Release) -> None:
    prepared(release, None)
    release.app.wanted["hooks"] |= {"before_migrate": ["before"], "after_migrate": ["after"]}
    assert release.program.migrate(release.app, "r1") == "no migration"
    assert [call.split(" -- ")[1] for call in release.run.calls] == ["before", "after"]
    assert all("--setenv SLIPWAY_PENDING= " in call for call in release.run.calls)


@pytest.mark.parametrize(("failing", "ran"), [("-- before", 1), ("slipway-schema", 2), ("-- after", 3)])
def test_what_fails_ends_the_migration(release: Release, failing: str, ran: int) -> None:
    prepared(release, heads=["r2"], pending=[revision("r2")], revisions={"before": []})
    release.app.wanted["hooks"] |= {"before_migrate": ["before"], "after_migrate": ["after"]}
    release.run.failing = {failing: "no"}
    release.fails(release.program.migrate, release.app, "r1")
    assert len(release.run.calls) == ran
    assert ("after" in release.app.record("r1")["revisions"]) is (ran == 3), "what became of the database"


# ── a migration that meets a lock ────────────────────────────────────────────────────────────────────────────────────


def tries(*codes: int, output: str = "LockNotAvailable") -> Callable[[int], Any]:
    """A migration that ends so, one try after the other."""
    given = iter(codes)

    def command(limit: int) -> Any:
        return subprocess.CompletedProcess([], next(given), f"noise\n{output}\n")

    return command


def test_a_command_of_the_apps_waits_for_the_end_of_its_journal(release: Release) -> None:
    """Before the first release serves, the journal ends and begins with each of them."""
    told = "Failed to start transient service unit: Transaction for notes-hook.service/start is destructive (x@notes"
    release.run.failing["-- page"] = told
    tries: list[str] = []

    class Failing(dict[str, str]):
        def items(self) -> Any:
            tries.append("")
            return super().items() if len(tries) < 3 else []

    release.run.failing = Failing(release.run.failing)
    assert release.program.as_app(release.app, "r1", "hook", ["page"], 9).returncode == 0
    assert len(release.run.matching("-- page")) == 3
    release.run.failing = {"-- page": f"no luck\n{told}"}
    assert release.program.as_app(release.app, "r1", "hook", ["page"], 9).returncode == 1
    assert len(release.run.matching("-- page")) == 4, "it was run, and says so of itself"


@pytest.mark.parametrize(
    ("codes", "note"),
    [((0,), ""), ((75, 0), " (tried 2 times, for a lock)"), ((75, 75, 0), " (tried 3 times, for a lock)")],
)
def test_a_migration_is_tried_again_for_a_lock(
    release: Release, capsys: pytest.CaptureFixture[str], codes: tuple[int, ...], note: str
) -> None:
    assert release.program.patient(release.app, "alembic", tries(*codes)) == note
    line = "notes: the migration met a lock; it is tried again. LockNotAvailable\n"
    assert said(capsys) == line * (len(codes) - 1)


@pytest.mark.parametrize(
    ("codes", "retries", "how"),
    [
        ((1,), 2, "failed"),
        ((75, 1), 2, "failed"),
        ((75, 75, 75), 2, "met a lock 3 times (migrate_retries), and waited for migrate_lock_timeout"),
        ((75,), 0, "met a lock once, and waited for migrate_lock_timeout"),
    ],
)
def test_a_migration_that_fails(release: Release, codes: tuple[int, ...], retries: int, how: str) -> None:
    release.app.wanted["migration"]["retries"] = retries
    message = release.fails(release.program.patient, release.app, "alembic", tries(*codes))
    assert message == f"The migration `alembic` {how}:\nnoise\nLockNotAvailable"


def test_only_the_end_of_what_a_migration_said_is_told(release: Release) -> None:
    lines = "\n".join(f"line {number}" for number in range(40))
    message = release.fails(release.program.patient, release.app, "own tool", tries(1, output=lines))
    assert message.splitlines() == ["The migration `own tool` failed:", *(f"line {n}" for n in range(10, 40))]


def test_the_time_of_a_migration_is_for_all_tries(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def command(limit: int) -> Any:
        limits.append(limit)
        clock[0] += 25
        return subprocess.CompletedProcess([], 75, "lock")

    limits: list[int] = []
    monkeypatch.setattr(release.program.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(release.program.time, "sleep", lambda seconds: None)
    release.app.wanted["migration"]["retries"] = 9
    assert release.fails(release.program.patient, release.app, "alembic", command) == (
        "The migration `alembic` was ended after migrate_timeout (60 s):\nlock"
    )
    assert limits == [60, 35, 10]


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hooks_that_are_there(release: Release) -> None:
    release.add("r1")
    folder = release.app.folder("r1")
    (folder / "bin").mkdir()
    (folder / "bin/hook").touch(0o755)
    (folder / ".venv/bin/tool").touch(0o755)
    release.app.wanted["hooks"] |= {
        "before_migrate": ["bin/hook", "x"],
        "after_migrate": ["tool"],
        "after_switch": ["sh", "-c", "true"],
        "on_failure": ["/bin/sh"],
    }
    release.program.missing_hooks(release.app, "r1")


def test_hooks_of_an_app_in_a_subfolder(release: Release) -> None:
    """The environment lies beside its folder, not in it."""
    release.add("r1")
    (release.app.folder("r1") / "apps/notes/bin").mkdir(parents=True)
    (release.app.folder("r1") / "apps/notes/bin/hook").touch(0o755)
    (release.app.folder("r1") / ".venv/bin/tool").touch(0o755)
    release.app.write_record("r1", wanted={"source": {"subdir": "apps/notes"}})
    release.app.wanted["hooks"] |= {"before_migrate": ["bin/hook"], "after_migrate": ["tool"]}
    release.program.missing_hooks(release.app, "r1")


@pytest.mark.parametrize(
    ("command", "program", "near"),
    [
        (["bin/hok"], "bin/hok", "; there is bin/hook"),
        (["bin/plain"], "bin/plain", ""),  # not executable
        (["/usr/bin/no-such-thing"], "/usr/bin/no-such-thing", ""),
        (["other/hook"], "other/hook", ""),
        (["gunicron"], "gunicron", "; there is gunicorn"),
        (["no-such-thing"], "no-such-thing", ""),
    ],
)
def test_a_hook_that_is_not_there(release: Release, command: list[str], program: str, near: str) -> None:
    release.add("r1")
    (release.app.folder("r1") / "bin").mkdir()
    (release.app.folder("r1") / "bin/hook").touch(0o755)
    (release.app.folder("r1") / "bin/plain").touch(0o644)
    release.app.wanted["hooks"]["after_switch"] = command
    told = release.fails(release.program.missing_hooks, release.app, "r1")
    assert told == f"hooks.after_switch: there is no program {program} in the release, nor in the PATH{near}."


@pytest.mark.parametrize(("seconds", "how"), [(1.0, "ended with 3"), (60.0, "was ended after 60 s")])
def test_a_hook_that_fails(release: Release, monkeypatch: pytest.MonkeyPatch, seconds: float, how: str) -> None:
    clock = [0.0]

    def pass_time(line: str) -> None:
        clock[0] += seconds

    release.add("r1")
    release.app.wanted["hooks"]["after_switch"] = ["warm", "--up"]
    monkeypatch.setattr(release.program.time, "monotonic", lambda: clock[0])

    def run(*argv: str, **_: Any) -> Any:
        clock[0] += seconds
        return subprocess.CompletedProcess(argv, 3, "said this\n")

    monkeypatch.setattr(release.program, "run", run)
    message = release.fails(release.program.hook, release.app, "r1", "after_switch")
    assert message == f"The hook after_switch (`warm --up`) {how}:\nsaid this"


def test_a_hook_that_nobody_wants(release: Release) -> None:
    release.program.hook(release.app, "r1", "after_switch")
    assert release.run.calls == []


def test_the_hook_after_the_switch(release: Release, story: Story) -> None:
    release.app.wanted["hooks"]["after_switch"] = ["warm"]
    release.program.deploy(release.app)
    made = release.app.serving()
    assert release.run.calls[-1].endswith(" -- warm") and made in release.run.calls[-1]
    assert "--setenv SLIPWAY_HOOK=after_switch " in release.run.calls[-1]


def test_a_hook_after_the_switch_that_fails(release: Release, story: Story) -> None:
    """The release serves; the run fails."""
    release.app.wanted["hooks"]["after_switch"] = ["warm"]
    release.run.failing["-- warm"] = "no"
    message = release.fails(release.program.deploy, release.app)
    made = release.app.serving()
    assert message == (
        f"{made} serves, and goes on serving. But: The hook after_switch (`warm`) ended with 1:\nno\n"
        "A run doesn't call it again: see to what it should have done."
    )
    assert release.app.record(made)["state"] == "good"
    assert release.program.history(release.app)[0]["outcome"] == "good, after_switch failed"


@pytest.mark.parametrize(("step", "at"), [("fetch", "old"), ("build", "old"), ("start", "new")])
def test_the_hook_on_a_failure(release: Release, story: Story, step: str, at: str) -> None:
    """With the new release's environment where it has one, and before it is taken away."""
    release.add(IDS[0], units=True, current=True)
    release.app.wanted["hooks"]["on_failure"] = ["page", "me"]
    story.fails = step
    release.fails(release.program.deploy, release.app)
    (ran,) = release.run.matching(" -- page me")
    made = release.app.attempt
    assert f"--setenv SLIPWAY_STEP={step} --setenv SLIPWAY_RELEASE={made} " in ran
    used = IDS[0] if at == "old" else made
    assert f"EnvironmentFile={release.app.env(used)} " in ran
    if at == "new":
        assert release.run.calls.index(ran) < release.run.calls.index(release.run.matching("SIGKILL")[0])


def test_a_hook_on_a_failure_that_fails_is_told_and_changes_nothing(release: Release, story: Story) -> None:
    release.add(IDS[0], units=True, current=True)
    release.app.wanted["hooks"]["on_failure"] = ["page"]
    release.run.failing["-- page"] = "no network"
    story.fails = "start"
    assert release.fails(release.program.deploy, release.app).splitlines()[1:] == [
        "start is broken",
        "The hook on_failure (`page`) ended with 1:",
        "no network",
        f"{IDS[0]} goes on serving. Correct the cause and run again.",
    ]
    assert release.releases == [IDS[0]] and newest(release)["error"] == "start is broken"


def test_a_hook_on_a_failure_needs_an_environment(release: Release, story: Story) -> None:
    release.app.wanted["hooks"]["on_failure"] = ["page"]
    story.fails = "build"
    assert release.fails(release.program.deploy, release.app).splitlines()[1:] == [
        "build is broken",
        "The hook on_failure wasn't run: no release has an environment yet.",
        "No release serves yet. Correct the cause and run again.",
    ]


# ── fetch ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def real(release: Release, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Commands are run, and as this user."""
    monkeypatch.setattr(release.program, "run", load(RELEASE).run)
    monkeypatch.setattr(release.program, "as_builder", lambda app: [])
    return release


def test_an_archive_is_unpacked(real: Release) -> None:
    archive = real.program.CACHE / f"sources/notes.{'c' * 40}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        (real.root / "pyproject.toml").write_text("[project]\n")
        tar.add(real.root / "pyproject.toml", "apps/pyproject.toml")
    real.program.fetch(real.app, "r1")
    folder = real.app.folder("r1")
    assert tree(folder) == {"apps/pyproject.toml": "[project]\n"}
    assert real.owners["r1"] == ("_notes", "_notes")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert "subject" not in real.app.record("r1")


def test_an_archive_that_did_not_arrive(release: Release) -> None:
    with pytest.raises(FileNotFoundError):
        release.program.fetch(release.app, "r1")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """URL of a repository, and its commits."""
    folder = tmp_path_factory.mktemp("repository")
    identity = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull} | identity

    def git(*argv: str) -> str:
        done = subprocess.run(["git", "-C", folder, *argv], check=True, capture_output=True, text=True, env=environment)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    commits = []
    for number, subject in enumerate(("First", "Second: größer")):
        (folder / "pyproject.toml").write_text(f"# {number}\n")
        git("add", ".")
        git("commit", "--quiet", "-m", f"{subject}\n\nand why")
        commits.append(git("rev-parse", "HEAD"))
    return f"file://{folder}", commits


def source(release: Release, url: str, commit: str) -> None:
    """Let the source be a commit of a repository."""
    release.app.wanted["source"] = {"kind": "git", "url": url, "ssh": "", "subdir": "", "commit": commit}


def test_a_commit_is_fetched(real: Release, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    for release, commit, subject, text in (
        ("r1", commits[1], "Second: größer", "# 1\n"),
        ("r2", commits[0], "First", "# 0\n"),
    ):
        source(real, url, commit)
        real.program.fetch(real.app, release)
        assert tree(real.app.folder(release)) == {"pyproject.toml": text}
        assert real.app.record(release)["subject"] == subject


def test_a_commit_that_is_there_needs_no_network(real: Release, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    source(real, url, commits[0])
    real.program.fetch(real.app, "r1")
    calls: list[str] = []
    run = real.program.run

    def noted(*argv: str, **options: Any) -> Any:
        calls.append(" ".join(argv))
        return run(*argv, **options)

    real.program.run = noted
    source(real, url, commits[1])
    real.program.fetch(real.app, "r2")
    assert not [call for call in calls if " fetch " in call]


def test_a_commit_that_is_not_there(real: Release, repository: tuple[str, list[str]]) -> None:
    url, _ = repository
    source(real, url, "0" * 40)
    assert real.fails(real.program.fetch, real.app, "r1") == (f"Commit {'0' * 40} is on no branch and no tag of {url}.")


def test_a_repository_that_moved(real: Release, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    source(real, url, commits[0])
    real.program.fetch(real.app, "r1")
    other = f"file://{real.root}/none"
    source(real, other, commits[0])
    message = real.fails(real.program.fetch, real.app, "r2")
    assert message.startswith(f"{other} can't be fetched:\nfatal: "), "the mirror of the old one isn't asked"


@pytest.mark.parametrize("damaged", ["objects/??/*", "HEAD", "config", "refs/heads/main"])
def test_a_mirror_that_a_power_cut_has_damaged_is_made_anew(
    real: Release, repository: tuple[str, list[str]], damaged: str
) -> None:
    url, commits = repository
    source(real, url, commits[1])
    real.program.fetch(real.app, "r1")
    files = list((real.program.CACHE / "git/notes.git").glob(damaged))
    for path in files:
        path.chmod(0o644)
        path.write_bytes(b"")
    real.program.fetch(real.app, "r2")
    assert files and tree(real.app.folder("r2")) == {"pyproject.toml": "# 1\n"}


# ── build ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def project(release: Release) -> Path:
    """A release that was fetched: a project with its lock file."""
    folder: Path = release.app.folder("r1")
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "uv.lock").write_text("version = 1\n")

    def sync(line: str) -> None:
        for name in ("gunicorn", "python"):
            path = release.app.venv("r1") / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o755)

    release.run.doing["uv sync"] = sync
    release.run.printing["du -sm"] = f"7\t{release.app.cache}/uv\n"
    return folder


def test_a_build(release: Release, project: Path) -> None:
    """Each command in a unit of its own; nothing of it is left when root takes the files over."""
    assert release.program.build(release.app, "r1") is None
    sync, closed, *_, compiled, owned = release.run.calls
    assert " -- find " in closed
    for unit in (sync, compiled):
        begins = "systemd-run --quiet --wait --pipe --collect --unit notes-build "
        begins += "--property User=_notes --property Group=_notes --property ProtectSystem=strict "
        assert unit.startswith(begins)
        for line in (
            "TemporaryFileSystem=/srv /run",
            f"BindPaths={project}",
            f"ReadWritePaths={project} {release.app.cache}",
            f"EnvironmentFile={release.app.request['folder']}/build.env",
            f"WorkingDirectory={project}",
            "RuntimeMaxSec=3600",
        ):
            assert f"--property {line} " in unit, line
    assert sync.endswith(" -- /opt/slipway/bin/uv sync --locked --no-dev --compile-bytecode --python 3.13")
    assert "--property ExecStartPre=+nft -f /etc/slipway/builds.nft " in sync and "PrivateNetwork" not in sync
    assert compiled.endswith(f" -- {project}/.venv/bin/python -ISm compileall -q -x /\\.venv/ {project}")
    assert "--property PrivateNetwork=yes " in compiled
    assert owned == f"take over {project} 0 4711 ['/opt/slipway/python']"
    assert re.fullmatch(r"[0-9a-f]{64}", release.app.record("r1")["environment"])


def test_a_build_that_is_not_over_is_not_looked_at(
    release: Release, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release.program.slipway_guest, "processes", lambda user: [17, 4711])
    message = "Processes of the build are left (17, 4711): see `ps -u _notes`."
    assert release.fails(release.program.build, release.app, "r1") == message
    assert release.run.matching("take over") == []


@pytest.mark.parametrize("path", ["pyproject.toml", "uv.lock"])
def test_a_source_whose_files_are_links(release: Release, project: Path, path: str) -> None:
    """Those that stay in it are followed."""
    (project / path).rename(project / "real")
    (project / path).symlink_to("./real")
    release.program.build(release.app, "r1")
    (project / path).unlink()
    (project / path).symlink_to("/dev/zero")
    told = release.fails(release.program.build, release.app, "r1")
    assert told == f"{path}: a link leads out of the folder."
    (project / path).unlink()
    os.mkfifo(project / path)
    assert release.fails(release.program.build, release.app, "r1") == f"{path} is no regular file."


def test_a_build_that_leaves_no_room_is_ended(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it left in its caches is removed."""
    left = [(10 << 30, None)]
    monkeypatch.setattr(release.program.slipway_room, "EVERY", 0.01)
    monkeypatch.setattr(release.program.slipway_room, "free", lambda path: left[-1])
    (release.app.cache / "home/big").mkdir(parents=True)

    def fill(line: str) -> None:
        left.append((100 << 20, None))
        time.sleep(0.2)

    release.run.doing["uv sync"] = fill
    told = release.fails(release.program.build, release.app, "r1")
    assert told.startswith("The build was ended: 100 MB were left on the disk of /")
    assert release.run.matching("systemctl kill") == ["systemctl kill --signal=SIGKILL notes-build.service"]
    assert list((release.app.cache / "home").iterdir()) == []


def test_an_environment_that_is_a_link_is_not_read(release: Release, project: Path) -> None:
    shutil.rmtree(project / ".venv", ignore_errors=True)
    (project / ".venv").symlink_to("/")
    assert release.program.unlike_records(release.app, "r1") == []


def test_a_build_that_takes_too_long_is_ended(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release.run.failing["uv sync"] = "Building forever"
    monkeypatch.setattr(release.program, "BUILD_SECONDS", 0)
    assert release.fails(release.program.build, release.app, "r1") == (
        "`/opt/slipway/bin/uv` was ended after 0 s. Building forever"
    )


def test_what_has_no_place_in_a_release(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(*_: Any) -> None:
        raise release.program.slipway_guest.Strange("pipe is a pipe.")

    monkeypatch.setattr(release.program.slipway_guest, "take_over", unfit)
    assert release.fails(release.program.build, release.app, "r1") == "pipe is a pipe."


def test_only_what_is_listed_is_built(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "uv.lock").write_text(
        'version = 1\n\n[[package]]\nname = "web-kit"\nversion = "1"\ndependencies = [\n    { name = "idna" },\n]\n\n'
        '[[package]]\nname = "idna"\nversion = "3"\n\n[[package]]\nname = "notes"\nsource = { editable = "." }\n'
    )
    given: list[dict[str, str]] = []

    def noted(values: dict[str, str]) -> str:
        given.append(values)
        return ""

    monkeypatch.setattr(release.program, "environment_file", noted)
    for only, refused in ((None, None), ([], "idna notes web-kit"), (["Web_Kit", "notes"], "idna")):
        release.app.wanted["build"]["only"] = only
        given.clear()
        release.program.build(release.app, "r1")
        assert given[0].get("UV_NO_BUILD_PACKAGE") == refused


@pytest.mark.parametrize(("size", "cleaned"), [(2048, 0), (2049, 1)])
@pytest.mark.parametrize("name", ["uv", "home"])
def test_a_cache_does_not_grow_for_ever(release: Release, project: Path, size: int, cleaned: int, name: str) -> None:
    folder = release.app.cache / name
    (folder / "left").mkdir(parents=True)
    said = "du: cannot access '/x/9\t9': Structure needs cleaning\n"
    release.run.printing = {f"du -sm {folder}": f"{said}{size}\t{folder}\n", "du -sm": "7\tx\n"}
    release.program.build(release.app, "r1")
    assert folder.is_dir() and (folder / "left").exists() != bool(cleaned)


def test_a_build_from_empty_caches(release: Release, project: Path) -> None:
    """Whatever an earlier build left: caches, home, the copy of the repository, and other releases' environments."""
    release.program.build(release.app, "r1")
    shutil.rmtree(project / ".venv")
    environment(release, IDS[0], release.app.record("r1")["environment"])
    folders = [
        release.app.cache / "uv/archive",
        release.app.cache / "home/.config",
        release.program.CACHE / "git/notes.git",
    ]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    other = release.program.CACHE / "git/other.git"
    other.mkdir()
    release.run.calls.clear()
    release.app.request["fresh"] = True
    assert release.program.build(release.app, "r1") is None
    assert release.run.matching("uv sync") and not any(folder.exists() for folder in folders) and other.exists()
    for name in ("uv", "home"):
        assert release.owners[name] == ("_notes", "_notes")
        assert stat.S_IMODE((release.app.cache / name).stat().st_mode) == 0o700


def test_a_build_from_a_damaged_cache_is_made_once_more_without_it(
    release: Release, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once: what differs from its own RECORD even then says something wrong of itself, and is let be."""
    sync = release.run.doing["uv sync"]

    def damaged(line: str) -> None:
        sync(line)
        record = release.app.venv("r1") / "lib/python3.13/site-packages/web_kit-1.0.dist-info/RECORD"
        record.parent.mkdir(parents=True)
        record.touch()

    release.run.doing["uv sync"] = damaged
    release.program.build(release.app, "r1")
    assert [call.partition("bin/uv ")[2].partition(" --")[0] for call in release.run.matching("bin/uv ")] == [
        "sync",
        "sync",
    ]
    assert release.run.matching("uv sync")[1].endswith(" --no-cache"), (
        "the cache may be right: web_kit differs without it"
    )
    assert "web_kit isn't as it says of itself; the dependencies are installed once more" in capsys.readouterr().out


def test_a_cache_that_uv_cannot_read_is_cleaned(release: Release, project: Path) -> None:
    release.run.failing["--python 3.13"] = "error: The wheel is invalid: Metadata field Name not found"

    class Failing(dict[str, str]):
        def items(self) -> Any:
            return [] if release.run.calls[-1].endswith("--no-cache") else super().items()

    release.run.failing = Failing(release.run.failing)
    release.program.build(release.app, "r1")
    assert release.run.matching("uv cache clean")


def test_what_uv_is_given(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    run, file = release.program.run, Path(release.app.request["folder"], "build.env")

    def noted(*argv: str, **options: Any) -> Any:
        if "sync" in argv:
            given.update(options, text=file.read_text(), mode=stat.S_IMODE(file.stat().st_mode))
        return run(*argv, **options)

    monkeypatch.setattr(release.program, "run", noted)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/operators")
    (release.app.etc / "build.env").write_text(json.dumps({"PASSWORD": 's3"c$r\\3t`'}))
    release.app.wanted["uv_env"]["UV_INDEX_URL"] = "https://index.example.com"
    release.program.build(release.app, "r1")
    assert given["text"].splitlines() == [
        f'HOME="{release.app.cache}/home"',
        'LC_ALL="C.UTF-8"',
        r'PASSWORD="s3\"c\$r\\3t\`"',
        'PATH="/usr/local/bin:/usr/bin:/bin"',
        f'UV_CACHE_DIR="{release.app.cache}/uv"',
        'UV_INDEX_URL="https://index.example.com"',
        'UV_LINK_MODE="copy"',
        'UV_NO_PROGRESS="1"',
        f'UV_PROJECT_ENVIRONMENT="{project}/.venv"',
        'UV_PYTHON_INSTALL_DIR="/opt/slipway/python"',
    ]
    assert given["mode"] == 0o600 and not file.exists(), "nobody reads it afterwards"
    assert given["live"] is True and list(given["secrets"]) == ['s3"c$r\\3t`']
    assert "s3" not in "".join(release.run.calls)


def test_a_failed_build_hides_its_secrets(release: Release, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (release.app.etc / "build.env").write_text(
        json.dumps({"PASSWORD": "s3cr3t", "LONGER": "s3cr3t-and-more", "EMPTY": ""})
    )
    fails = "echo '401 for https://u:s3cr3t-and-more@x and s3cr3t'; exit 2"
    run = load(RELEASE).run
    monkeypatch.setattr(release.program, "run", lambda *argv, **given: run("/bin/sh", "-c", fails, **given))
    assert release.fails(release.program.build, release.app, "r1") == (
        "`uv sync --locked --no-dev` failed:\n401 for https://u:***@x and ***"
    )


def test_the_secrets_of_a_command_are_not_shown() -> None:
    """Neither while it goes on nor when it fails."""
    program = load(RELEASE)
    secrets = ["s3cr3t", "s3cr3t-and-more", "", "-----BEGIN\nof a key\n"]
    says = "printf 'of a key\n401 for https://u:s3cr3t-and-more@x and s3cr3t\n'; exit 2"
    with pytest.raises(program.Failed, match=r"\*\*\*\n401 for https://u:\*\*\*@x and \*\*\*$"):
        program.run("sh", "-c", says, live=True, secrets=secrets)
    assert program.progress.last == "401 for https://u:***@x and ***"
    assert program.shown("nothing to hide", secrets) == "nothing to hide"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.",
            "uv.lock is older than pyproject.toml: `uv lock` in the project, commit it, and run again.",
        ),
        (
            "error: No interpreter found for Python 3.13 in managed installations",
            "Python 3.13 isn't installed on this host: a run of deploy.py installs it.",
        ),
    ],
)
def test_what_to_do_about_a_failed_build(release: Release, project: Path, said: str, advice: str) -> None:
    release.run.failing = {"uv sync": said}
    assert release.fails(release.program.build, release.app, "r1").splitlines()[1:] == [said, advice]


ADD = "`uv add gunicorn uvicorn-worker uvloop httptools` in the project, commit, and run again."


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "pyproject.toml",
            "There is no pyproject.toml in the root of the source: set source.subdir to the app's folder.",
        ),
        ("uv.lock", "The source has no uv.lock: `uv lock` in the project, commit it, and run again."),
        ("gunicorn", f"The lock file has no gunicorn: {ADD}"),
    ],
)
def test_a_build_that_cannot_be(release: Release, project: Path, spoil: str, message: str) -> None:
    if spoil == "gunicorn":
        release.run.doing.clear()
    else:
        (project / spoil).unlink()
    assert release.fails(release.program.build, release.app, "r1") == message


def test_a_member_of_a_workspace(release: Release, project: Path) -> None:
    """Its lock file lies above it, and is part of what its environment is made from."""
    release.app.wanted["source"]["subdir"] = "apps/notes"
    assert "There is no pyproject.toml in apps/notes of" in release.fails(release.program.build, release.app, "r1")
    (project / "apps/notes").mkdir(parents=True)
    (project / "apps/notes/pyproject.toml").write_text("[project]\n")
    release.program.build(release.app, "r1")
    before = release.app.record("r1")["environment"]
    (project / "pyproject.toml").write_text("[tool.uv]\n")
    release.program.build(release.app, "r1")
    assert release.app.record("r1")["environment"] != before


def test_a_lock_file_outside_the_source_does_not_count(release: Release, project: Path) -> None:
    (project / "uv.lock").rename(release.app.releases / "uv.lock")
    assert release.fails(release.program.build, release.app, "r1").startswith("The source has no uv.lock")


@pytest.fixture
def library(release: Release) -> Path:
    """The standard library of a Python that uv has installed."""
    folder = release.root / "python/cpython-3.13.1/lib/python3.13"
    folder.mkdir(parents=True)
    for name in ("abc", "zipimport"):
        (folder / f"{name}.py").touch()
    release.app.wanted["uv_env"] = {"UV_PYTHON_INSTALL_DIR": str(release.root / "python")}
    return folder


def test_the_standard_library_is_compiled_once(release: Release, library: Path) -> None:
    """The app may not write there, so that each of its starts would do it."""
    python = str(library.parents[1] / "bin/python3.13")

    def compiled() -> int:
        release.run.calls.clear()
        release.program.compile_library(release.app, python)
        return len(release.run.matching(f"{python} -IS -m compileall "))

    assert compiled() == 1 and release.run.calls[0].endswith(f" {library}")
    (library / "__pycache__").mkdir()
    (library / "__pycache__/abc.cpython-313.pyc").touch()
    assert compiled() == 1, "it was killed before the end"
    (library / "__pycache__/zipimport.cpython-313.pyc").touch()
    assert compiled() == 0
    release.run.failing["compileall"] = "a file that can't be"
    (library / "new.py").touch()
    assert compiled() == 1, "which is slower, and no more"


def test_the_standard_library_of_another_python_is_not_ours(release: Release, library: Path) -> None:
    release.app.wanted["uv_env"] = {"UV_PYTHON_INSTALL_DIR": "/opt/slipway/python"}
    release.program.compile_library(release.app, str(library.parents[1] / "bin/python3.13"))
    release.program.compile_library(release.app, str(release.root / "nowhere/bin/python3.13"))
    release.app.wanted["uv_env"] = {}
    release.program.compile_library(release.app, str(library.parents[1] / "bin/python3.13"))
    assert release.run.calls == []


# ── an environment that is there already ─────────────────────────────────────────────────────────────────────────────


def environment(release: Release, each: str, made_from: str = "e1") -> Path:
    """A good release with an environment; returns its packages' folder."""
    release.add(each, environment=made_from)
    venv = release.app.venv(each)
    packages: Path = venv / "lib/python3.13/site-packages"
    (packages / "fastapi").mkdir(parents=True)
    (packages / "fastapi/__init__.py").write_text("# fastapi\n")
    (packages / "fastapi-1.dist-info").mkdir()
    (packages / "distutils-precedence.pth").write_text("import os\n")
    (venv / "bin/gunicorn").write_text(f"#!{venv}/bin/python\nmain()\n")
    (venv / "bin/activate").write_text(f"VIRTUAL_ENV='{venv}'\n. {venv}/x\n")
    (venv / "bin/activate").chmod(0o640)
    (venv / "bin/tool").write_text("#!/bin/sh\n")
    (venv / "bin/python").symlink_to("/opt/slipway/python/bin/python3.13")
    release.app.describe(each)
    return packages


def test_the_newest_release_of_the_same_environment_is_used(release: Release) -> None:
    assert release.program.reusable(release.app, "e1") is None
    for each in IDS[:2]:
        environment(release, each)
    environment(release, IDS[2], "e2")
    release.add(IDS[3], "failed", environment="e1")
    assert release.program.reusable(release.app, "e1") == IDS[1]
    assert release.program.reusable(release.app, "e2") == IDS[2]
    assert release.program.reusable(release.app, "e3") is None


def test_a_damaged_environment_is_not_used(release: Release) -> None:
    for each in IDS[:2]:
        environment(release, each)
    (release.app.venv(IDS[1]) / "bin/gunicorn").unlink()
    assert release.program.reusable(release.app, "e1") == IDS[0]


@pytest.mark.parametrize(
    "file",
    ["_notes.pth", "__editable__.notes-1.0.pth", "__editable___notes_finder.py", "notes-1.dist-info/direct_url.json"],
)
def test_an_environment_that_names_its_release_is_not_used(release: Release, file: str) -> None:
    """A project that is installed as a package would be that of the release before."""
    packages = environment(release, IDS[0])
    (packages / file).parent.mkdir(exist_ok=True)
    (packages / file).write_text(f'{{"url": "file://{release.app.folder(IDS[0])}"}}')
    release.app.describe(IDS[0])
    assert release.program.reusable(release.app, "e1") is None
    (packages / file).write_text('{"url": "https://example.com/fastapi.whl"}')
    release.app.describe(IDS[0])
    assert release.program.reusable(release.app, "e1") == IDS[0]


def test_an_environment_is_taken_along(real: Release) -> None:
    packages = environment(real, IDS[0])
    before, folder = real.app.venv(IDS[0]), real.app.folder(IDS[1])
    folder.mkdir()
    untouched = tree(before)
    after = real.app.venv(IDS[1])
    real.program.adopt(real.app, IDS[0], IDS[1]).rename(after)
    path = (packages / "fastapi/__init__.py").relative_to(before)
    assert (after / path).stat().st_ino == (before / path).stat().st_ino, "a hard link takes no room"
    assert (after / "bin/tool").stat().st_ino == (before / "bin/tool").stat().st_ino
    assert (after / "bin/gunicorn").read_text() == f"#!{after}/bin/python\nmain()\n"
    assert (after / "bin/activate").read_text() == f"VIRTUAL_ENV='{after}'\n. {after}/x\n"
    modes = {name: stat.S_IMODE((after / "bin" / name).stat().st_mode) for name in ("gunicorn", "activate")}
    assert modes == {"gunicorn": stat.S_IMODE((before / "bin/gunicorn").stat().st_mode), "activate": 0o640}
    assert real.owners["gunicorn"] == ("root", "notes") and "tool" not in real.owners
    assert (after / "bin/python").readlink() == Path("/opt/slipway/python/bin/python3.13")
    assert tree(before) == untouched, "the release before it may serve"


@pytest.mark.parametrize("change", [None, "uv.lock", "pyproject.toml", "python", "index"])
def test_a_build_uses_the_environment_unless_something_of_it_changed(
    release: Release, project: Path, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    release.program.build(release.app, "r1")
    made_from = release.app.record("r1")["environment"]
    release.run.calls.clear()
    shutil.rmtree(project / ".venv")
    environment(release, IDS[0], made_from)
    adopted: list[tuple[str, str]] = []

    def adopt(app: Any, base: str, each: str) -> Path:
        adopted.append((base, each))
        partial: Path = app.releases / f".{each}.partial"
        partial.mkdir()
        return partial

    monkeypatch.setattr(release.program, "adopt", adopt)
    if change == "python":
        release.app.wanted["python"] = "3.12"
    elif change == "index":
        release.app.wanted["uv_env"]["UV_INDEX_URL"] = "https://other.example.com"
    elif change:
        (project / change).write_text("# changed\n")
    note = release.program.build(release.app, "r1")
    if change:
        assert note is None and adopted == [] and release.run.matching("uv sync")
    else:
        assert note == f"the environment of {IDS[0]}" and adopted == [(IDS[0], "r1")]
        assert release.run.matching("uv sync") == []
        compiled = release.run.matching("compileall")[0]
        assert "/opt/slipway/python/bin/python3.13 -ISm compileall" in compiled, "the environment isn't there yet"
        assert release.app.record("r1")["environment"] == made_from, "the next one may take it from this one"


# ── who may read a release ───────────────────────────────────────────────────────────────────────────────────────────


def test_nginx_may_read_the_static_files_and_nothing_else(release: Release) -> None:
    folder = release.app.releases / "r1"
    (folder / "web/static").mkdir(parents=True)
    for path in (folder, folder / "web"):
        path.chmod(0o750)
    release.app.wanted |= {"static": "web/static"}
    before = stat.S_IMODE(release.app.releases.stat().st_mode)
    release.program.own(release.app, "r1")
    assert release.run.calls == [
        f"take over {folder} 0 4711 ['/opt/slipway/python']",
        f"chmod -R o=rX {folder}/web/static",
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "web")] == [0o751, 0o751]
    assert stat.S_IMODE(release.app.releases.stat().st_mode) == before


@pytest.mark.parametrize("static", ["none", "file", "outside", "../../../.."])
def test_static_files_are_a_folder_of_the_release(release: Release, static: str) -> None:
    folder = release.app.releases / "r1"
    folder.mkdir()
    (folder / "file").write_text("")
    (folder / "outside").symlink_to(release.root / "etc")
    release.app.wanted |= {"static": static}
    message = release.fails(release.program.own, release.app, "r1")
    assert re.fullmatch(r"static\.path: .* is no folder inside the app's source\.", message)
    assert len(release.run.calls) == 1


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_check_writes_the_environment_and_the_units(release: Release) -> None:
    (release.app.etc / "env").write_text('A="1"\n')
    release.add("r1", "started")
    release.app.env("r1").unlink()
    assert release.fails(release.program.check, release.app, "r1") == (
        f"{release.app.etc}/env isn't the environment this release was asked for: somebody changed it meanwhile."
    )
    assert not release.app.env("r1").exists()
    release.app.wanted["inputs"]["environment"] = hashlib.sha256(b'A="1"\n').hexdigest()
    release.program.check(release.app, "r1")
    assert release.app.env("r1").read_text() == 'A="1"\nRELEASE_ID="r1"\n'
    assert stat.S_IMODE(release.app.env("r1").stat().st_mode) == 0o640
    assert release.owners[".r1.env.partial"] == ("root", "notes") and release.owners["releases"] == ("root", "notes")
    assert (release.program.UNITS / "notes@r1.service").read_text() == "# r1 service\n"
    assert (release.program.UNITS / "notes@r1.socket").read_text() == "# r1 socket\n"
    (imported,) = release.run.matching("systemd-run")
    assert "--unit notes-check " in imported and imported.endswith(" notes.main app")
    for line in (*release.app.wanted["sandbox"], f"EnvironmentFile={release.app.env('r1')}"):
        assert f"--property {line} " in imported
    assert release.run.matching("slipway-nginx check") == ["slipway-nginx check"]
    (verified,) = release.run.matching("systemd-analyze verify ")
    assert verified.count("notes@r1.") == 2
    assert release.run.matching("daemon-reload") == [], "systemd knows neither unit yet, and will read its file"


@pytest.mark.parametrize(
    ("failing", "printing", "message"),
    [
        (
            {"notes-check": "ModuleNotFoundError: No module named 'notes'"},
            {},
            "notes.main:app can't be imported:\nModuleNotFoundError: No module named 'notes'",
        ),
        ({"slipway-nginx check": "nginx refuses"}, {}, "nginx refuses"),
        (
            {},
            {"systemd-analyze": "/etc/x: notes@r1.service:3: Unknown key\nother.service: y"},
            "systemd refuses the unit:\n/etc/x: notes@r1.service:3: Unknown key",
        ),
        ({"slipway-schema": "no database"}, {}, "The database's schema can't be looked at:\nno database"),
        (
            {},
            {"slipway-schema": "slipway-schema: " + json.dumps(seen(heads=["a", "b"]))},
            "The migrations have 2 heads (a, b): `alembic merge heads`, and run again.",
        ),
    ],
)
def test_a_check_that_fails(release: Release, failing: dict[str, str], printing: dict[str, str], message: str) -> None:
    prepared(release)
    release.run.failing = failing
    schema_says(release, "look", **seen())
    release.run.printing |= printing
    for part in printing:
        release.run.printing = {part: printing[part]} | release.run.printing
    assert release.fails(release.program.check, release.app, "r1") == message


def test_what_a_check_finds_of_the_database_is_written_down(release: Release) -> None:
    prepared(release)
    schema_says(release, "look", **seen(current=["r1"], pending=[revision("r2")]))
    release.program.check(release.app, "r1")
    record = release.app.record("r1")
    assert (record["heads"], record["revisions"]) == (["r2"], {"before": ["r1"]})
    assert [each["revision"] for each in record["pending"]] == ["r2"]


def test_a_check_asks_for_consent_before_anything_starts(release: Release) -> None:
    prepared(release)
    release.add(IDS[0], current=True)
    schema_says(release, "look", **seen(pending=[revision("r2", "drops the table old")]))
    assert release.fails(release.program.check, release.app, "r1").startswith("The release that serves may not survive")
    assert release.run.matching("start notes@") == []


def test_the_import_is_gunicorns(release: Release, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class make:\n    app = 1\n")
    argv = [sys.executable, "-c", release.program.IMPORT]
    assert subprocess.run([*argv, "one", "make.app"], cwd=tmp_path, check=False).returncode == 0
    done = subprocess.run([*argv, "one", "make.none"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "has no attribute 'none'" in done.stderr


# ── start, prove, switch, watch ──────────────────────────────────────────────────────────────────────────────────────


def test_a_start(release: Release) -> None:
    release.program.start(release.app, "r1")
    assert release.run.calls == ["systemctl start notes@r1.socket", "systemctl start notes@r1.service"]


def test_a_start_that_fails(release: Release) -> None:
    release.run.failing["start notes@r1.service"] = ""
    release.run.printing["journalctl"] = "the last line\n"
    assert release.fails(release.program.start, release.app, "r1") == "The app doesn't start:\nthe last line"


def test_what_is_warm_makes_room_for_a_new_release(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for two releases is needed, not for three; its last requests are waited for all the same."""
    waited: list[tuple[str, float]] = []
    release.app.wanted["drain_timeout"] = 7
    release.add(IDS[1], current=True, units=True)
    release.warm(IDS[0])
    release.app.write_record(IDS[0], left=1000)
    monkeypatch.setattr(release.program, "drained", lambda app, each, until: waited.append((each, until)))
    release.program.start(release.app, IDS[2])
    assert waited == [(IDS[0], 1007)]
    assert release.run.calls == [
        f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service",
        f"systemctl stop --no-block notes@{IDS[0]}.service",
        f"systemctl start notes@{IDS[2]}.socket",
        f"systemctl start notes@{IDS[2]}.service",
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["one", "two"], ["one", "two"]),
        (
            ["Traceback", "ValueError: no database", "[INFO] Worker exiting (pid: 7)", "[INFO] Shutting down: Master"],
            ["Traceback", "ValueError: no database", "[INFO] Worker exiting (pid: 7)"],
        ),
        (
            ["died", "[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "[INFO] Booting worker"],
            ["died", "[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?"],
        ),
        (
            ["x", "[ERROR] Worker (pid:7) was sent SIGTERM!", "y"],
            ["x", "[ERROR] Worker (pid:7) was sent SIGTERM!", "y"],
        ),
        ([f"line {number}" for number in range(40)], [f"line {number}" for number in range(10, 40)]),
    ],
)
def test_the_journals_last_lines(release: Release, lines: list[str], told: list[str]) -> None:
    release.run.printing["journalctl --namespace=+notes -u notes@r1.service"] = "\n".join(lines) + "\n"
    assert release.program.journal(release.app, "r1").splitlines() == told


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", (True, "200 ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (True, "204 ")),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nno db", (False, "503 no db")),
        (b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n", (False, "307 ")),
        (b"", (False, "no answer (Remote end closed connection without response)")),
    ],
)
def test_a_probe_asks_through_the_releases_own_socket(release: Release, answer: bytes, found: tuple[bool, str]) -> None:
    asked: list[str] = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/r1.sock")  # the path of a socket must be short
        server.listen()
        release.app.socket = lambda release: Path(folder) / f"{release}.sock"

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        assert release.program.probe(release.app, "r1") == found
        serving.join()
    lines = asked[0].split("\r\n")
    assert lines[0] == "GET /readyz HTTP/1.1"
    assert {"Host: notes.example.com", "X-Forwarded-Proto: https", "X-Forwarded-For: 127.0.0.1"} <= set(lines)


def test_a_probe_of_a_socket_that_is_not_there(release: Release) -> None:
    ready, seen = release.program.probe(release.app, "r1")
    assert ready is False and seen.startswith("no answer ([Errno 2] ")


@pytest.fixture
def clock(release: Release, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only where it is waited for."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(release.program.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(release.program.time, "sleep", sleep)
    return now


def probes(release: Release, *answers: tuple[bool, str]) -> list[tuple[bool, str]]:
    """Let the release answer so, and then go on as it did last; returns what was answered."""
    given: list[tuple[bool, str]] = []

    def probe(app: Any, each: str) -> tuple[bool, str]:
        given.append(answers[min(len(given), len(answers) - 1)])
        return given[-1]

    release.program.probe = probe
    return given


GOOD, BAD = (True, "200 ok"), (False, "503 no db")


def test_a_proof(release: Release, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    given = probes(release, BAD, BAD, GOOD)
    monkeypatch.setattr(release.program, "environment_of", lambda process: b"A=1\0RELEASE_ID=r1\0")
    release.program.prove(release.app, "r1")
    assert given == [BAD, BAD, GOOD] and release.program.progress.last == "200 ok"
    message = release.fails(release.program.prove, release.app, "r2")
    assert message == (
        "notes@r2.service runs with another release's environment: `systemctl cat notes@r2.service` tells why."
    )


def test_a_proof_that_does_not_come(release: Release, clock: list[float]) -> None:
    probes(release, BAD)
    release.run.printing["journalctl"] = "the last line"
    assert release.fails(release.program.prove, release.app, "r1") == (
        "/readyz wasn't ready within 5 s; it last answered 503 no db. The journal's last lines:\nthe last line"
    )
    assert 5 < clock[0] < 5.5


@pytest.mark.parametrize("state", ["ActiveState=failed\nNRestarts=0", "ActiveState=activating\nNRestarts=2"])
def test_a_crash_on_boot_is_not_waited_for(release: Release, clock: list[float], state: str) -> None:
    probes(release, BAD)
    release.run.printing = {"systemctl show": state, "journalctl": "ValueError: no database"}
    message = release.fails(release.program.prove, release.app, "r1")
    assert message == "The app crashes on boot:\nValueError: no database" and clock[0] == 0


def test_what_nginx_refuses_fails_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    program, other = load(RELEASE), load(NGINX)
    monkeypatch.setitem(sys.modules, "slipway_nginx", other)
    monkeypatch.setattr(other, "locked", contextlib.nullcontext)
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(other, "switch", lambda app, release: told.append((app, release)))
    program.nginx("switch", "notes", "r1")
    assert told == [("notes", "r1")]

    def refuse() -> None:
        raise other.Refused("nginx refuses the configuration")

    monkeypatch.setattr(other, "check", refuse)
    with pytest.raises(program.Failed, match=r"^nginx refuses the configuration$"):
        program.nginx("check")


def test_a_host_without_a_part_of_slipway_says_what_brings_it() -> None:
    program = load(RELEASE)
    with pytest.raises(program.Failed, match=r"missing on this host \(No module named 'slipway_nginx'\): a run of dep"):
        program.nginx("check")
    program.import_ahead()


def test_a_switch(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program, "public", lambda app, each: f"asked for {each}")
    assert release.program.switch(release.app, "r1") == "asked for r1"
    assert release.run.calls == [
        "systemctl enable --quiet --no-reload notes@r1.socket notes@r1.service",
        "flush",
        f"{SWITCH}r1",
    ], "a reboot or a power cut at this moment finds both, whole"
    assert release.app.record("r1")["switched"]


def site(release: Release, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """The site's file of nginx's."""
    place = Path("/etc/nginx/slipway/sites/notes.conf")
    exists, read_text = Path.exists, Path.read_text
    monkeypatch.setattr(Path, "exists", lambda path: text is not None if path == place else exists(path))
    monkeypatch.setattr(
        Path, "read_text", lambda path, *options, **named: text if path == place else read_text(path, *options, **named)
    )


@pytest.mark.parametrize("text", [None, "server { listen 80; }"])
def test_a_site_without_a_certificate_cannot_be_asked(
    release: Release, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    site(release, monkeypatch, text)
    assert release.program.public(release.app, "r1") == "the public name has no certificate yet"


@pytest.mark.parametrize(
    "trickle",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 90\r\n\r\nready",
    ],
)
def test_an_answer_that_trickles_is_none(release: Release, trickle: bytes) -> None:
    """However much has come, and though each byte comes in time."""
    here, there = socket.socketpair()
    ended = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            there.sendall(trickle)
            while not ended.wait(0.02):
                there.sendall(b"x")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        asked = release.program.ask(lambda: here, release.app.wanted["readiness"], seconds=0.3)
    finally:
        ended.set()
        sender.join(9)
        there.close()
    assert asked == (0, "no whole answer within 0.3 s", None)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([(200, "ok", "r1")], None),
        ([(503, "no db", "r1")], None),  # it is the app that answers; `watch` judges it
        ([(200, "ok", "r0"), (200, "ok", "r1")], None),  # by one of nginx's workers that are leaving
        ([(200, "ok", "r0")], "by r0: 200 ok"),
        ([(200, "ok", None)], "by no release: 200 ok"),
        ([(502, "Bad Gateway", "r1")], "by r1: 502 Bad Gateway"),
        ([(504, "", "r1")], "by r1: 504 "),
        ([(0, "no answer (timed out)", None)], "by no release: 0 no answer (timed out)"),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_public_name_is_answered_by_the_new_release(
    release: Release,
    monkeypatch: pytest.MonkeyPatch,
    clock: list[float],
    answers: list[tuple[int, str, str | None]],
    wrong: str | None,
    scheme: str,
) -> None:
    reached: set[tuple[str, bool]] = set()
    asked = [0]
    monkeypatch.setattr(release.program, "site_socket", lambda name, tls: reached.add((name, tls)))

    def ask(connect: Callable[[], Any], readiness: dict[str, Any]) -> tuple[int, str, str | None]:
        connect()
        asked[0] += 1
        return answers[min(asked[0], len(answers)) - 1]

    monkeypatch.setattr(release.program, "PUBLIC_SECONDS", 0.1)
    site(release, monkeypatch, "server { ssl_certificate /x; }" if scheme == "https" else "server { listen 80; }")
    release.app.wanted["readiness"]["scheme"] = scheme
    monkeypatch.setattr(release.program, "ask", ask)
    if wrong is None:
        assert release.program.public(release.app, "r1") is None and asked[0] == len(answers)
    else:
        message = release.fails(release.program.public, release.app, "r1")
        assert message == f"{scheme}://notes.example.com/readyz isn't answered by r1 but {wrong}"
    assert reached == {("notes.example.com", scheme == "https")}


def test_the_public_name_is_asked_of_this_hosts_nginx(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name in the handshake, and whatever certificate it has."""
    key, names, asked = new_key(), [], []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, content in (("chain.pem", certificate(key, ["other.example.com"])), ("key.pem", pem_key(key))):
        (release.root / name).write_bytes(content)
    context.load_cert_chain(release.root / "chain.pem", release.root / "key.pem")
    context.sni_callback = lambda connection, name, _: names.append(name)
    create = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as server:

        def redirected(address: tuple[str, int], timeout: float, source: tuple[str, int]) -> socket.socket:
            assert (address, source) == (("127.0.0.1", 443), ("127.83.76.87", 0))
            return create(server.getsockname(), timeout)

        def serve() -> None:
            plain, _ = server.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slipway-Release: r1\r\nContent-Length: 2\r\n\r\nok")

        monkeypatch.setattr(socket, "create_connection", redirected)
        serving = threading.Thread(target=serve)
        serving.start()
        readiness = release.app.wanted["readiness"]
        connect = functools.partial(release.program.site_socket, "notes.example.com", True)
        assert release.program.ask(connect, readiness) == (200, "ok", "r1")
        serving.join()
    assert names == ["notes.example.com"] and "\r\nHost: notes.example.com\r\n" in asked[0]


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([GOOD], None),
        ([GOOD, BAD, GOOD, BAD, BAD, GOOD], None),  # hiccups
        ([GOOD, BAD, BAD, BAD, GOOD], "503 no db"),
        ([BAD], "503 no db"),
    ],
)
def test_a_release_is_watched(
    release: Release, clock: list[float], answers: list[tuple[bool, str]], wrong: str | None
) -> None:
    release.add(IDS[0], current=True)
    release.app.wanted["watch"] = 3
    release.run.printing["journalctl"] = "the last line"
    given = probes(release, *answers)
    if wrong is None:
        release.program.watch(release.app, "r1")
        assert 3 <= clock[0] < 3.3 and len(given) >= 15
    else:
        message = release.fails(release.program.watch, release.app, "r1")
        assert message == f"It served, then /readyz turned bad: it answered {wrong}.\nthe last line"
        assert clock[0] < 1


def test_a_crash_while_it_is_watched_is_enough(release: Release, clock: list[float]) -> None:
    """systemd restarts it, and the next answer would be good."""
    release.add(IDS[0], current=True)
    release.app.wanted["watch"] = 3
    release.run.printing |= {"systemctl show": "NRestarts=4\n", "journalctl": "MemoryError"}
    given = probes(release, GOOD)

    def crash(line: str) -> None:
        if len(given) == 3:
            release.run.printing["systemctl show"] = "NRestarts=5\n"

    release.run.doing["systemctl show"] = crash
    assert release.fails(release.program.watch, release.app, "r1") == (
        "It served, then /readyz turned bad: it answered nothing: it crashed.\nMemoryError"
    )


@pytest.mark.parametrize("state", ["active", "deactivating", "inactive", "failed"])
def test_what_made_room_is_taken_away_during_the_watch_once_it_has_ended(
    release: Release, clock: list[float], state: str
) -> None:
    release.app.wanted["watch"] = 3
    release.warm(IDS[0])
    release.add(IDS[1], units=True, current=True)
    release.add(IDS[2], "started", units=True)
    release.run.states[f"notes@{IDS[0]}.service"] = {"ActiveState": state}
    probes(release, GOOD)
    release.program.watch(release.app, IDS[2])
    gone = state in ("inactive", "failed")
    assert release.app.installed_units() == {*IDS[gone:3]}, "what serves and what is watched stay"
    assert release.releases == IDS[:3], "whether one is to be deleted is for the commit"


def test_what_is_let_go_is_kept_while_the_rest_is_pruned(release: Release) -> None:
    """A commit deletes what is too old before the release that it lets go counts as warm."""
    for number in (0, 1, 2, 3):
        release.add(IDS[number], units=number == 0, current=number == 0, previous=None)
    release.app.wanted["keep"] = 1
    release.program.commit(release.app, IDS[3])
    assert release.releases == [IDS[0], IDS[3]]


@pytest.mark.parametrize(("seconds", "first"), [(0, False), (3, True)])
def test_no_watch(release: Release, seconds: int, first: bool) -> None:
    """None is wanted, or there is nothing to go back to."""
    if not first:
        release.add(IDS[0], current=True)
    release.app.wanted["watch"] = seconds
    given = probes(release, BAD)
    assert release.program.watch(release.app, "r1") == ("none to go back to" if first else None)
    assert given == []


# ── the unit that a run is ───────────────────────────────────────────────────────────────────────────────────────────


def ask_for(release: Release, **other: Any) -> dict[str, Any]:
    """A request for a release."""
    made = {"verb": "deploy", "by": "ann@desk", "wait": 0, "build": {"PASSWORD": "s3cr3t"}}
    return made | {"wanted": release.app.wanted} | other


def run_of(release: Release) -> Path:
    """The folder of the one run that there is."""
    (folder,) = release.app.runs.iterdir()
    assert isinstance(folder, Path)
    return folder


def ending(release: Release, code: int, text: str) -> Callable[[str], None]:
    """A run that says something and ends."""

    def end(line: str) -> None:
        folder = release.app.runs / line.split()[-1]
        (folder / "log").write_text(text)
        (folder / "result.json").write_text(json.dumps({"code": code}))

    return end


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_is_a_unit_of_its_own(release: Release, capsys: pytest.CaptureFixture[str], code: int) -> None:
    release.run.doing["systemd-run"] = ending(release, code, "notes: 1/9 fetch\n")
    assert release.program.submit(release.app, ask_for(release), 0) == code
    folder = run_of(release)
    (started,) = release.run.calls
    assert started == (
        "systemd-run --quiet --collect --unit notes-release.service "
        f"--description=Slipway: deploy of notes, run {folder.name} "
        f"--property StandardOutput=append:{folder}/log --property StandardError=append:{folder}/log "
        "--property KillMode=mixed --property TimeoutStopSec=180 --property MemoryMax=75% "
        + "".join(f"--property {each} " for each in release.program.SHUT_OFF)
        + f"/opt/slipway/bin/slipway-release run notes {folder.name}"
    )
    assert "s3cr3t" not in started
    begun = "notes: on the host as notes-release, whatever becomes of you (`systemctl stop notes-release` ends it)"
    assert capsys.readouterr().out == f"{begun}\nnotes: 1/9 fetch\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    request = folder / "request.json"
    assert stat.S_IMODE(request.stat().st_mode) == 0o600 and json.loads(request.read_text()) == ask_for(release)
    about = json.loads((folder / "about.json").read_text())
    assert about.pop("since") and about == {
        "verb": "deploy",
        "inputs": release.app.wanted["inputs"],
        "to": None,
        "by": "ann@desk",
    }


ALREADY = "Failed to start transient service unit: Unit notes-release.service was already loaded.\n"


def test_a_run_that_asks_for_the_same_follows_the_first(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """Two people, or one whose connection was lost."""
    release.run.failing["systemd-run"] = ALREADY
    other = under_way(release, "t1", inputs=release.app.wanted["inputs"])
    (other / "log").write_text("what it says\n")
    (other / "result.json").write_text('{"code": 1}')
    assert release.program.submit(release.app, ask_for(release), 0) == 1
    assert capsys.readouterr().out == ("notes: bob began this very release at noon; following it\nwhat it says\n")
    assert run_of(release) == other, "its secrets are gone"


@pytest.mark.parametrize("other", [{"verb": "rollback"}, {"inputs": {"source": "other"}}, {"inputs": None}])
def test_a_run_that_asks_for_something_else_waits_and_gives_up(
    release: Release, clock: list[float], capsys: pytest.CaptureFixture[str], other: dict[str, Any]
) -> None:
    release.run.failing["systemd-run"] = ALREADY
    folder = under_way(release, "t1", **other)
    verb = other.get("verb", "deploy")
    assert release.fails(release.program.submit, release.app, ask_for(release), 3) == (
        f"Another run of notes is under way ({verb} by bob since noon), and did not end within 3 s. "
        "Follow it with `/opt/slipway/bin/slipway-release attach notes`, or wait, then run again."
    )
    assert capsys.readouterr().out == f"notes: waiting for another run ({verb} by bob since noon), 3 s at most\n"
    assert 3 < clock[0] < 3.5 and run_of(release) == folder


def test_a_run_waits_its_turn(release: Release, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    under_way(release, "t1", verb="rollback")
    release.run.failing["systemd-run"] = ALREADY
    release.run.doing["systemd-run"] = ending(release, 0, "done\n")

    def end(line: str) -> None:
        if clock[0] > 1:
            release.run.failing.clear()

    release.run.doing["systemctl show"] = end
    assert release.program.submit(release.app, ask_for(release), 3) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "done"


def test_a_run_that_cannot_be_started(release: Release) -> None:
    release.run.failing["systemd-run"] = "Failed to connect to bus\n"
    under_way(release, None, "inactive")
    assert release.fails(release.program.submit, release.app, ask_for(release), 9) == (
        "notes-release.service can't be started:\nFailed to connect to bus"
    )
    assert list(release.app.runs.iterdir()) == []


def test_all_that_a_run_says_is_shown(
    release: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = under_way(release, "t1")
    parts = ["one\ntw", "o\n", "", "the end\n"]

    def sleep(seconds: float) -> None:
        with (folder / "log").open("a") as log:
            log.write(parts.pop(0))
        if not parts:
            (folder / "result.json").write_text('{"code": 7}')

    monkeypatch.setattr(release.program.time, "sleep", sleep)
    assert release.program.follow(release.app, folder) == 7
    assert capsys.readouterr().out == "one\ntwo\nthe end\n"


def test_a_run_that_was_killed(release: Release, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    folder = under_way(release, "t1", "failed")
    (folder / "log").write_text("notes: 3/9 check\n")
    assert release.fails(release.program.follow, release.app, folder) == (
        "The run ended without a result: it was killed, or the host ran out of memory "
        "(`journalctl -u notes-release.service`). Run again: it begins by putting the host in order."
    )
    assert capsys.readouterr().out == "notes: 3/9 check\n" and clock[0] < 2


def test_a_run_whose_unit_is_anothers_by_now_was_killed(release: Release, clock: list[float]) -> None:
    folder = under_way(release, "t1")
    under_way(release, "t2")
    assert release.fails(release.program.follow, release.app, folder).startswith("The run ended without a result")


def test_a_run_that_is_told_to_stop_is_followed_to_its_end(
    release: Release, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes back what it did, which may take a while."""
    folder = under_way(release, "t1", "deactivating")

    def end(line: str) -> None:
        if clock[0] > 20:
            (folder / "result.json").write_text('{"code": 1}')

    release.run.doing["systemctl show"] = end
    assert release.program.follow(release.app, folder) == 1


def test_a_run_is_attached_to(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.fails(release.program.attach, release.app) == (
        "There was no run of notes since the host booted; `/opt/slipway/bin/slipway-release history notes` shows all."
    )
    for name, code in (("t1", 1), ("t2", 0)):
        folder = under_way(release, name)
        (folder / "about.json").write_text(json.dumps({"since": "noon"}))
        (folder / "log").write_text(f"{name}\n")
        (folder / "result.json").write_text(json.dumps({"code": code}))
        os.utime(folder, (int(name[1]), int(name[1])))
    shutil.copytree(release.app.runs / "t1", release.app.runs / "t0")
    os.utime(release.app.runs / "t0", (0, 0))
    release.run.printing["systemctl show"] = "ActiveState=active\nDescription=run t1\n"
    assert release.program.attach(release.app) == 1 and capsys.readouterr().out == "t1\n"
    release.run.printing["systemctl show"] = "ActiveState=inactive\nDescription=run t1\n"
    assert release.program.attach(release.app) == 0
    said_last = "notes: no run is under way; this is what the last one, begun at noon, said"
    assert capsys.readouterr().out == f"{said_last}\nt2\n"


@pytest.fixture
def unit(release: Release, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was just started, with a `deploy` that works."""
    folder: Path = release.app.runs / "20260101T000000000000-1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(ask_for(release)))
    (folder / "log").write_text("notes: 1/9 fetch\n")
    release.app.records.mkdir()

    def deploy(app: Any) -> None:
        app.attempt = IDS[0]
        assert app.lock.read_text().startswith("deploy by ann@desk, process ")

    monkeypatch.setattr(release.program, "deploy", deploy)
    monkeypatch.setattr(release.program.threading.Thread, "start", lambda thread: None)  # no sign of life
    monkeypatch.setattr(release.program, "DRAIN_END_SECONDS", 0)
    return folder


def result(folder: Path) -> dict[str, Any]:
    """How a run ended."""
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_the_work_of_a_run(release: Release, unit: Path) -> None:
    release.app.wanted = {}
    assert release.program.work(release.app, unit.name) == 0
    assert not (unit / "request.json").exists(), "it held secrets"
    assert result(unit) == {"code": 0}
    log = release.app.records / f"{IDS[0]}.log"
    assert log.read_text() == "notes: 1/9 fetch\n" and stat.S_IMODE(log.stat().st_mode) == 0o600
    assert release.app.wanted["app"] == "notes.main:app" and "wanted" not in release.app.request
    assert release.app.request["build"] == {"PASSWORD": "s3cr3t"}


def test_a_run_that_nobody_described_is_about_what_is_wanted(release: Release, unit: Path) -> None:
    """`slipway-release deploy notes` on the host."""
    request = {"verb": "deploy", "by": "ann@desk", "wait": 0}
    (unit / "request.json").write_text(json.dumps(request))
    release.app.wanted = {}
    release.program.work(release.app, unit.name)
    assert release.app.wanted["app"] == "notes.main:app"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Failed", "slipway-release: no\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            f"slipway-release: [Errno 28] No space left on device\n{FULL}\n",
        ),
        (OSError(errno.EACCES, "Permission denied", "/x"), "slipway-release: [Errno 13] Permission denied: '/x'\n"),
    ],
)
def test_a_run_that_fails(
    release: Release,
    unit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Any,
    said: str,
) -> None:
    def deploy(app: Any) -> None:
        app.attempt = IDS[0]
        raise release.program.Failed("no") if error == "Failed" else error

    monkeypatch.setattr(release.program, "deploy", deploy)
    assert release.program.work(release.app, unit.name) == 1
    assert capsys.readouterr().out == said
    assert result(unit) == {"code": 1} and (release.app.records / f"{IDS[0]}.log").exists()


def test_a_run_that_made_no_attempt_has_no_log(release: Release, unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program, "deploy", lambda app: None)
    assert release.program.work(release.app, unit.name) == 0
    assert list(release.app.records.iterdir()) == []


def test_a_log_that_cannot_be_kept_is_no_failure(release: Release, unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (release.app.records / f"{IDS[0]}.log").mkdir()
    assert release.program.work(release.app, unit.name) == 0 and result(unit) == {"code": 0}


def test_a_run_on_a_host_where_nothing_was_ever_released(
    release: Release, unit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (unit / "request.json").write_text(json.dumps({"verb": "rollback", "by": "ann@desk", "wait": 0}))
    (release.app.etc / "release.json").unlink()
    assert release.program.work(release.app, unit.name) == 1
    assert capsys.readouterr().out == (
        f"slipway-release: {release.app.etc}/release.json is missing: nothing was ever released here; run deploy.py.\n"
    )


def test_a_run_that_does_not_get_the_lock(release: Release, unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with release.program.locked(release.app, "drain", 0):
        assert release.program.work(release.app, unit.name) == 1
    assert "Another run of notes is under way (drain, process " in capsys.readouterr().out
    assert result(unit) == {"code": 1}


def test_a_run_that_is_told_to_stop(
    release: Release, unit: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers: dict[int, Callable[..., None]] = {}
    monkeypatch.setattr(release.program.signal, "signal", lambda number, handler: handlers.update({number: handler}))
    monkeypatch.setattr(release.program, "deploy", lambda app: handlers[signal.SIGTERM](signal.SIGTERM, None))
    assert release.program.work(release.app, unit.name) == 1
    assert capsys.readouterr().out == "slipway-release: notes-release.service was told to stop.\n"


def test_earlier_runs_are_forgotten(release: Release, unit: Path) -> None:
    gone, alive = 4_194_305, os.getpid()  # more than Linux's highest process id
    names = [f"2025010{day}T000000000000-{gone}" for day in range(1, 9)]
    waiting = f"20240101T000000000000-{alive}"
    for name in (*names, waiting, f"plan-{gone}", f"plan-{alive}"):
        (release.app.runs / name).mkdir()
        (release.app.runs / name / "request.json").write_text("s3cr3t")
    release.program.sweep_runs(release.app, unit)
    left = sorted(path.name for path in release.app.runs.iterdir())
    assert waiting in left and f"plan-{alive}" in left and unit.name in left and f"plan-{gone}" not in left
    assert names[0] not in left and names[-1] in left
    asked = {path.parent.name for path in release.app.runs.glob("*/request.json")}
    assert asked == {waiting, f"plan-{alive}", unit.name}, "the questions of those who died hold secrets"


# ── what a release would change ──────────────────────────────────────────────────────────────────────────────────────


def plan_for(release: Release) -> dict[str, Any]:
    """The plan of a release of what is wanted."""
    request = {"wanted": release.app.wanted, "placeholders": {"URL": "x://localhost/placeholder"}}
    found: dict[str, Any] = release.program.plan(release.app, request)
    assert not list(release.program.PLANS.iterdir()), "nothing is left"
    return found


def test_a_plan(real: Release, monkeypatch: pytest.MonkeyPatch, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    source(real, url, commits[1])
    real.add(IDS[0], current=True, commit=commits[0])
    assert plan_for(real) == {
        "commits": [f"{commits[1][:7]} Second: größer"],
        "pending": [],
        "error": None,
        "sql_error": None,
    }
    assert real.releases == [IDS[0]]


def test_a_plan_has_the_memory_of_a_run_at_most(
    release: Release, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(argv)
        return subprocess.CompletedProcess(argv, 3)

    monkeypatch.setattr(release.program.subprocess, "run", run)
    assert command("plan", "notes", stdin={}) == 3
    (argv,) = ran
    assert "MemoryMax=75%" in argv and argv[-4:] == ["/opt/slipway/bin/slipway-release", "plan", "--here", "notes"]


def test_a_plan_of_what_is_no_file(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.app.wanted["migration"]["command"] = "auto"
    release.add(IDS[0], current=True)

    def unpack(app: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").symlink_to("/dev/zero")

    monkeypatch.setattr(release.program, "unpack", unpack)
    assert plan_for(release)["error"] == "pyproject.toml: a link leads out of the folder."
    assert release.run.calls == []


def test_what_a_killed_plan_left_is_removed(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of those that go on, nor of other apps or other users."""
    gone, alive = 4_194_305, os.getpid()
    names = [f"slipway-plan-notes-x.{gone}", f"slipway-plan-notes-y.{alive}", f"slipway-plan-other-x.{gone}", "mine.9"]
    for name in names:
        (release.program.PLANS / name / "source/d").mkdir(parents=True)
    monkeypatch.setattr(release.program.os, "geteuid", lambda: 12345)
    release.program.tidy(release.app)
    assert sorted(path.name for path in release.program.PLANS.iterdir()) == sorted(names)
    monkeypatch.undo()
    release.program.PLANS = release.root / "plans"
    release.program.sweep_plans(release.app)
    assert sorted(path.name for path in release.program.PLANS.iterdir()) == sorted(names[1:])


def test_a_plan_of_migrations(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.app.wanted["migration"]["command"] = "auto"
    release.add(IDS[0], current=True)

    def unpack(app: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "alembic.ini").write_text("")

    monkeypatch.setattr(release.program, "unpack", unpack)
    (release.app.folder(IDS[0]) / "alembic.ini").write_text("")
    schema_says(release, "look", current=["r1", "x1"], dialect="postgresql", heads=["r1", "x1"])
    schema_says(release, "read", heads=["r3"], unknown=[], pending=[revision("r2"), revision("r3", *LATER)])
    schema_says(release, "render", sql={"r2": "ALTER TABLE x\x1b[2J", "r3": None, "r9": "forged"}, heads=["forged"])
    told = plan_for(release)
    assert told["pending"] == [
        revision("r2") | {"sql": "ALTER TABLE x\\x1b[2J"},
        revision("r3", *LATER) | {"sql": ""},
    ]
    assert (told["current"], told["heads"], told["sql_error"]) == (["r1", "x1"], ["r3"], None)
    owned, looked, read, _, rendered, _ = release.run.calls
    assert owned.startswith("chown -hR root:notes ")
    # Who serves asks the database, with its own code and environment.
    assert (
        f"--unit notes-plan-look-{os.getpid()} " in looked and f"EnvironmentFile={release.app.env(IDS[0])} " in looked
    )
    assert f"--property WorkingDirectory={release.app.folder(IDS[0])} " in looked
    assert read.endswith("slipway-schema read --at=r1,x1")
    assert rendered.endswith("slipway-schema render --at=r1,x1 --dialect=postgresql")
    (folder,) = set(re.findall(rf"RootDirectory=({release.program.PLANS}/slipway-plan-notes-\w+\.\d+)/root", read))
    for shut_off in (read, rendered):
        assert "EnvironmentFile" not in shut_off and "User=notes" not in shut_off
        assert f" --property RootDirectory={folder}/root " in shut_off and " --property DynamicUser=yes " in shut_off
        assert f" {folder}/source:/source " in shut_off and " --property WorkingDirectory=/source/ " in shut_off
        assert " --property PrivateNetwork=yes " in shut_off
        assert f"/{IDS[0]}/.venv/bin/python /opt/slipway/bin/slipway-schema" in shut_off
    assert "--setenv URL=x://localhost/placeholder " in rendered and "--setenv URL" not in read
    release.run.failing["slipway-schema render"] = "os.environ: KeyError"
    told = plan_for(release)
    assert told["error"] is None and [each["sql"] for each in told["pending"]] == [None, None]
    assert told["sql_error"] == "The database's schema can't be written as SQL:\nos.environ: KeyError"
    del release.run.failing["slipway-schema render"]
    schema_says(release, "render", sql="no table")  # it knows the mark, and says what it likes
    told = plan_for(release)
    assert told["sql_error"].startswith("AttributeError: ") and len(told["pending"]) == 2
    release.run.failing["slipway-schema"] = "ModuleNotFoundError: new"
    assert plan_for(release)["error"] == ("The database's schema can't be looked at:\nModuleNotFoundError: new")


def test_an_answer_is_told_from_what_a_migration_prints(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with what only slipway-schema was told, on its standard input."""
    program = load(RELEASE)
    assert re.fullmatch(r"slipway-schema [0-9a-f]{32}: ", program.MARK)
    forged = 'slipway-schema: {"heads": []}\nslipway-schema 0: {"heads": []}\n'
    printed = f'{program.MARK}{{"heads": ["r1"]}}\n{forged}'
    done = subprocess.CompletedProcess([], 0, printed)
    assert program.answer(done, "read") == {"heads": ["r1"]}
    with pytest.raises(program.Failed, match="can't be read"):
        program.answer(subprocess.CompletedProcess([], 0, forged), "read")
    assert load(RELEASE).MARK != program.MARK
    echoed = program.run("sh", "-c", "read -r line; echo got $line; cat", said=f"{program.MARK}\n")
    assert echoed.stdout == f"got {program.MARK.strip()}\n"


def test_a_subject_is_one_line_whatever_is_in_it(real: Release, tmp_path: Path) -> None:
    mirror = real.program.CACHE / "git/notes.git"
    mirror.mkdir(parents=True)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(mirror)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subject = "safe\rdeadbee forged\x1b]52;c;aGk=\x07\u2028next\x0bline"
    for each in ("first", subject):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", each], check=True)
    second, first = real.program.subjects(real.app, "HEAD")
    assert first.endswith(" first")
    assert second.partition(" ")[2] == "safe\\x0ddeadbee forged\\x1b]52;c;aGk=\\x07\\u2028next\\x0bline"


def test_what_a_command_draws_anew_is_shown_as_it_was_drawn_last() -> None:
    program = load(RELEASE)
    done = program.run("printf", r"one\n 10 %%\r 50 %%\r100 %%\r\nlast \033[2J\n", live=True)
    assert done.stdout == "one\n100 %\nlast \\x1b[2J\n"
    assert program.progress.last == "last \\x1b[2J"


def test_the_secrets_of_an_app(release: Release) -> None:
    """Of what is wanted, of each release, and of the builds; what `env` holds is none."""
    app = release.app
    url = "postgresql://app:p%40ss-word1@db/notes"
    app.wanted["secrets"] = ["URL", "LEVEL"]
    (app.etc / "env").write_text(f'URL="{url}"\nGREETING="hello-world-42"\nLEVEL="info"\nRELEASE_ID="x"\n')
    release.add(IDS[0], wanted=app.wanted | {"secrets": ["OLD"]})
    app.env(IDS[0]).write_text('OLD="of-an-older-1"\nURL="no-secret-then-1"\n')
    (app.etc / "build.env").write_text(json.dumps({"UV_INDEX_PASSWORD": "builds-0nly"}))
    app.request["build"] = {"TOKEN": "asked-f0r"}
    release.program.hide(app.secrets())
    said = f"{url} p@ss-word1 hello-world-42 info of-an-older-1 no-secret-then-1 builds-0nly asked-f0r"
    assert release.program.shown(said) == "*** *** hello-world-42 info *** no-secret-then-1 *** ***"


def test_a_host_that_was_told_no_names_shows_no_value(release: Release) -> None:
    """Of an earlier Slipway; but for the name of the release."""
    release.app.wanted.pop("secrets")
    (release.app.etc / "env").write_text('URL="x://u:s3cr3t-one@h"\n')
    release.add(IDS[0], wanted={})
    release.app.env(IDS[0]).write_text(f'KEY="s3cr3t-two"\nRELEASE_ID="{IDS[0]}"\n')
    release.program.hide(release.app.secrets())
    assert release.program.shown(f"s3cr3t-one s3cr3t-two {IDS[0]}") == f"*** *** {IDS[0]}"


def test_what_failed_is_written_down_without_secrets(release: Release) -> None:
    """Neither it nor what steers a terminal."""
    release.program.hide(["s3cr3t-value"])

    def step(app: Any, name: str) -> None:
        raise release.program.Failed("wrong: s3cr3t-value\x1b[2J\nsecond")

    with pytest.raises(release.program.Failed):
        release.program.transact(release.app, "r1", "r1", [step], kind="release")
    assert release.app.record("r1")["error"] == "wrong: ***\\x1b[2J\nsecond"


def test_a_command_that_writes_too_much_is_ended() -> None:
    program = load(RELEASE)
    with pytest.raises(program.Failed, match=r"^`sh` was ended: it wrote more than 1000000 bytes\.$"):
        program.run("sh", "-c", "exec cat /dev/zero", most=1_000_000)


def test_a_plan_of_a_source_that_is_not_there(release: Release) -> None:
    assert str(plan_for(release)["error"]).startswith("[Errno 2] No such file or directory: ")


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def command(release: Release, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`command(*argv, stdin=…)`: what `main` ends with."""
    monkeypatch.setattr(release.program, "App", lambda name: release.app)
    monkeypatch.setattr(release.program.os, "umask", lambda mask: None)
    monkeypatch.setenv("LC_ALL", "C")

    def make(*argv: str, stdin: Any = None) -> Any:
        monkeypatch.setattr(sys, "argv", ["slipway-release", *argv])
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(stdin)))
        with pytest.raises(SystemExit) as ended:
            release.program.main()
        return ended.value.code

    return make


COMMANDS = ("deploy", "rollback", "attach", "status", "history", "log")
HIDDEN = ("plan", "run", "drain", "retire")


@pytest.mark.parametrize("name", [*COMMANDS, *HIDDEN])
def test_every_command_explains_itself(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert command(name, "--help") == 0
    usage, text, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: slipway-release {name} ") and "APP" in usage and text.strip()
    assert "SUPPRESS" not in usage and "--request" not in usage


def test_the_help(command: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    shown = capsys.readouterr().out
    listed = re.findall(r"^    (\w+) ", shown, re.MULTILINE)
    assert tuple(listed) == COMMANDS, "the others are for the program itself"
    assert "systemctl stop APP-release" in shown


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nonsense", "notes"),
        ("deploy",),
        ("rollback", "notes", "--schema", "both"),
        ("deploy", "notes", "--to", "x"),
    ],
)
def test_wrong_usage(command: Callable[..., Any], argv: tuple[str, ...]) -> None:
    assert command(*argv) == 2


@pytest.mark.parametrize(
    ("argv", "stdin", "request_made", "wait"),
    [
        (
            ("deploy", "notes", "--by", "ann"),
            None,
            {
                "verb": "deploy",
                "by": "ann",
                "wait": 60,
                "contract": False,
                "again": False,
                "fresh": False,
                "stop_first": False,
            },
            60,
        ),
        (
            ("deploy", "notes", "--by", "ann", "--contract", "--again", "--wait", "5"),
            None,
            {
                "verb": "deploy",
                "by": "ann",
                "wait": 5,
                "contract": True,
                "again": True,
                "fresh": False,
                "stop_first": False,
            },
            5,
        ),
        (
            ("rollback", "notes", "--by", "ann", "--to", "r1", "--schema", "downgrade"),
            None,
            {"verb": "rollback", "by": "ann", "wait": 60, "to": "r1", "schema": "downgrade", "stop_first": False},
            60,
        ),
        (
            ("rollback", "notes", "--request"),
            {"by": "bob", "wait": 7, "to": None, "schema": None},
            {"verb": "rollback", "by": "bob", "wait": 7, "to": None, "schema": None, "stop_first": False},
            7,
        ),
    ],
)
def test_a_request_of_the_command_line(
    release: Release,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    stdin: Any,
    request_made: dict[str, Any],
    wait: int,
) -> None:
    made: list[Any] = []

    def submit(app: Any, request: dict[str, Any], wait: int) -> int:
        made.append((request, wait))
        return 3

    monkeypatch.setattr(release.program, "submit", submit)
    assert command(*argv, stdin=stdin) == 3
    assert made == [(request_made, wait)]


def test_a_source_that_comes_with_a_request_is_kept(
    release: Release, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def submit(app: Any, request: dict[str, Any], wait: int) -> int:
        made.append(request)
        return 0

    monkeypatch.setattr(release.program, "submit", submit)
    archive = base64.b64encode(b"\x1f\x8b\0").decode()
    assert (
        command("deploy", "notes", "--request", stdin={"wait": 0, "wanted": release.app.wanted, "archive": archive})
        == 0
    )
    assert "archive" not in made[0] and made[0]["wanted"] == release.app.wanted
    (path,) = (release.program.CACHE / "sources").iterdir()
    assert path.name == f"notes.{'c' * 40}.tar.gz" and path.read_bytes() == b"\x1f\x8b\0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_asks(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program.os, "uname", lambda: os.uname_result(("Linux", "box", "6", "1", "x86_64")))
    for name, found in (("SUDO_USER", "ann@box"), ("USER", "bob@box")):
        monkeypatch.delenv("SUDO_USER", raising=False)
        monkeypatch.setenv(name, found.partition("@")[0])
        assert release.program.asker() == found
    monkeypatch.delenv("USER")
    assert release.program.asker() == "root@box"


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (("attach", "notes"), "attach"),
        (("run", "notes", "t1"), "work t1"),
        (("drain", "notes", "r1"), "drain r1"),
        (("retire", "notes", "r1"), "retire r1"),
        (("log", "notes"), "log "),
        (("log", "notes", "r1"), "log r1"),
        (("history", "notes"), "table"),
    ],
)
def test_a_command(
    release: Release,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    called: str,
) -> None:
    made: list[str] = []
    for name in ("attach", "work", "drain", "retire", "log", "table"):
        monkeypatch.setattr(release.program, name, lambda app, *given, name=name: made.append(" ".join((name, *given))))
    assert not command(*argv)
    assert made == [called]


@pytest.mark.parametrize("odd", ["../tmp/q/x", "r1/../r2", "r1.sock", "-r", "", "r1\n", "a b", "r1;x", "..", "é"])
@pytest.mark.parametrize("argv", [("drain", "notes"), ("rollback", "notes", "--to"), ("log", "notes"), ("status",)])
def test_what_becomes_part_of_a_path_is_a_plain_name(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], odd: str
) -> None:
    assert command(*argv, odd) == 2
    told = capsys.readouterr().err
    assert f"{odd!r} is no name: letters, digits and hyphens" in told or "expected one argument" in told or "-r" in told


def test_commands_that_answer_in_json(
    release: Release, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release.program, "plan", lambda app, request: {"commits": [request["wanted"]["app"]]})
    expected = {
        ("status", "notes"): release.program.status(release.app),
        ("history", "notes", "--json"): [],
        ("plan", "notes", "--here"): {"commits": ["notes.main:app"]},
    }
    for argv, found in expected.items():
        assert command(*argv, stdin={"wanted": release.app.wanted}) == 0
        assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("Failed", "slipway-release: no"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            f"slipway-release: [Errno 28] No space left on device\n{FULL}",
        ),
        (
            KeyboardInterrupt(),
            (
                "\nslipway-release: a run that was begun goes on without you; "
                "`/opt/slipway/bin/slipway-release attach notes` follows it again."
            ),
        ),
    ],
)
def test_a_command_that_fails(
    release: Release, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Any, message: str
) -> None:
    def attach(app: Any) -> int:
        raise release.program.Failed("no") if error == "Failed" else error

    monkeypatch.setattr(release.program, "attach", attach)
    assert command("attach", "notes") == message


def test_an_app_that_is_not_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(RELEASE)
    monkeypatch.setattr(sys, "argv", ["slipway-release", "status", "no-such-app"])
    monkeypatch.setattr(program.os, "umask", lambda mask: None)
    monkeypatch.setenv("LC_ALL", "C")
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert str(ended.value.code).startswith("slipway-release: there is no app no-such-app on this host; there are: ")
    monkeypatch.setattr(program.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == (
        "slipway-release: only root may do that: sudo /opt/slipway/bin/slipway-release status no-such-app"
    )


# ── what a reading of the program found ──────────────────────────────────────────────────────────────────────────


def test_a_disk_that_is_full_between_two_steps(release: Release, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The durations can't be written: what was begun is taken back all the same."""
    release.add(IDS[0], units=True, current=True)
    story.before["start"] = lambda: full_disk(monkeypatch, release.program)
    with pytest.raises((release.program.Failed, OSError)):
        release.program.deploy(release.app)
    assert release.releases == [IDS[0]]


def test_what_a_killed_asker_was_storing_is_swept(release: Release) -> None:
    """A source half written to the cache, by a process that is gone."""
    partial = release.program.CACHE / "sources" / f".notes.{'c' * 40}.tar.gz.4194999.partial"
    partial.touch()
    release.program.tidy(release.app)
    assert not partial.exists()


def test_a_release_whose_record_is_lost_is_settled_all_the_same(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between switch and commit, with half a record."""
    named_by_nginx(release, monkeypatch, IDS[0])
    (release.app.records / f"{IDS[1]}.json").write_text("")
    release.program.tidy(release.app)
    assert release.app.serving() == IDS[1]


def test_a_connection_that_waits_to_be_accepted_counts(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a request as well."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        monkeypatch.setattr(release.app, "socket", lambda each: Path(folder) / f"{each}.sock")
        server.bind(f"{folder}/r1.sock")
        server.listen()
        client.connect(f"{folder}/r1.sock")
        assert release.program.busy(release.app, "r1") == 1


def test_a_process_that_dies_while_it_is_brought_back(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a new release is made, and the run doesn't end there."""
    release.add(IDS[0], units=True, current=True)
    monkeypatch.setattr(release.program, "probe", lambda app, each: (True, "200"))
    release.run.printing["systemctl show"] = "ActiveState=active\nNRestarts=0\nMainPID=0\n"
    assert release.program.bring_back(release.app, IDS[0]) is False


def test_an_environment_without_packages_is_not_taken_along(release: Release) -> None:
    """Somebody removed them."""
    release.add(IDS[0], environment="e1")
    assert release.program.reusable(release.app, "e1") is None


def test_a_dry_runs_folder_is_no_run_to_follow(release: Release) -> None:
    """It was killed and left its folder."""
    (release.app.runs / "plan-4194999").mkdir(parents=True)
    release.run.printing["systemctl show"] = "ActiveState=inactive\nDescription=\n"
    release.fails(release.program.attach, release.app)


def test_the_hook_of_a_failure_runs_in_the_release_that_can(release: Release, story: Story) -> None:
    """The failed one's environment is damaged."""
    release.add(IDS[0], units=True, current=True)
    release.app.wanted["hooks"]["on_failure"] = ["page"]
    story.before["start"] = lambda: (release.app.venv(release.app.attempt) / "bin/gunicorn").unlink()
    story.fails = "start"
    release.fails(release.program.deploy, release.app)
    assert release.run.matching("-- page")


def test_a_line_of_a_commands_is_told_in_short(release: Release) -> None:
    told = release.program.tail("a\n" + "x" * 100_000 + "\nb")
    assert told.startswith("a\nxxx") and told.endswith("x\nb") and len(told) < 2010


@pytest.mark.parametrize("output", ["Failed to start transient service unit: Access denied", ""])
def test_a_compiling_that_was_not_run_is_told(release: Release, project: Path, output: str) -> None:
    release.run.failing["compileall"] = output
    release.run.codes["compileall"] = 1 if output else 226
    told = release.fails(release.program.build, release.app, "r1")
    assert (
        told.endswith(f"couldn't be run in notes-build.service:\n{output}") and release.run.matching("take over") == []
    )


def test_what_cannot_be_compiled_is_only_slower(release: Release, project: Path) -> None:
    release.run.failing["compileall"] = "*** Error compiling 'template.py'...\nFailed to start transient service unit"
    release.program.build(release.app, "r1")
    assert release.run.matching("take over")
