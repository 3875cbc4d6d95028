"""The programs that run on the host, loaded as modules, with their paths in a temporary folder."""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import importlib.machinery
import importlib.util
import json
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.inventories import certificate, new_key

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("nginx/slipway-nginx", "release/slipway-release", "tls/slipway-acme")


def load(path: str) -> Any:
    """A host program as a module; it has no ending, and leaves no compiled copy beside itself."""
    loader = importlib.machinery.SourceFileLoader(Path(path).name.replace("-", "_"), str(ROOT / "files" / path))
    specification = importlib.util.spec_from_loader(loader.name, loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@dataclass
class Recorder:
    """Stands in for a program's `run`: notes the command lines, and answers as told."""

    error: type[Exception]
    calls: list[str] = field(default_factory=list)
    failing: dict[str, str] = field(default_factory=dict)
    """Part of a command line → what it prints when it fails."""
    printing: dict[str, str] = field(default_factory=dict)
    """Part of a command line → what it prints."""

    def __call__(self, *argv: str, check: bool = True, **_: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(argv)
        self.calls.append(line)
        for part, output in self.failing.items():
            if part in line:
                if check:
                    raise self.error(output)
                return subprocess.CompletedProcess(argv, 1, output)
        found = next((output for part, output in self.printing.items() if part in line), "")
        return subprocess.CompletedProcess(argv, 0, found)


def tree(folder: Path) -> dict[str, str]:
    """Relative path → content of a file, or the target of a link."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_runs_with_python_3_10_and_nothing_else(path: str) -> None:
    text = (ROOT / "files" / path).read_text()
    assert text.startswith("#!/usr/bin/python3\n")
    parsed = ast.parse(text, feature_version=(3, 10))
    imported = {
        name.split(".")[0]
        for node in ast.walk(parsed)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported <= sys.stdlib_module_names, imported
    assert "tomllib" not in imported, "since Python 3.11"
    attributes = {node.attr for node in ast.walk(parsed) if isinstance(node, ast.Attribute)}
    assert not attributes & {"UTC", "StrEnum", "file_digest", "batched", "walk", "chdir"}, "newer than Python 3.10"


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_says_who_manages_it(path: str) -> None:
    documentation = load(path).__doc__
    assert "Managed by Slipway (roles/" in documentation


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_explains_itself_and_refuses_what_it_does_not_know(path: str) -> None:
    program = ROOT / "files" / path
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {program.name} "), done.stderr
    done = subprocess.run([sys.executable, str(program), "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


# ── slipway-nginx ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Nginx:
    """slipway-nginx on a host that is a folder, with an nginx that accepts and serves what it is told to."""

    program: Any
    etc: Path
    run: Recorder
    validated: list[list[tuple[Path, Path]]] = field(default_factory=list)
    proven: list[dict[str, str | None]] = field(default_factory=list)
    refuses: str | None = None
    """What nginx -t says, if it refuses."""
    not_live: str | None = None
    """Why the reload isn't live, if it isn't."""

    def validate(self, mounts: list[tuple[Path, Path]]) -> None:
        """In place of `validate`: nobody may see the change yet."""
        self.validated.append(mounts)
        for source, place in mounts:
            assert source.exists() and place.exists(), f"{source} over {place}"
        if self.refuses:
            raise self.program.Refused(self.refuses)

    def prove(self, expected: dict[str, str | None]) -> None:
        """In place of `reload_and_prove`."""
        self.proven.append(expected)
        if self.not_live:
            raise self.program.Refused(self.not_live)

    @property
    def live(self) -> str:
        """The generation that the files on disk name."""
        target = (self.etc / "slipway").readlink()
        assert target.parts[0] == "slipway.d"
        return target.name

    @property
    def generations(self) -> set[str]:
        """Names in slipway.d."""
        return {path.name for path in (self.etc / "slipway.d").iterdir()}


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    """A host as Debian's package leaves it."""
    program = load(PROGRAMS[0])
    etc = tmp_path / "nginx"
    etc.mkdir()
    (etc / "nginx.conf").write_text("# Debian's\n")
    for name, path in {
        "ETC": etc,
        "LIVE": etc / "slipway",
        "GENERATIONS": etc / "slipway.d",
        "UPSTREAMS": etc / "upstreams",
        "MAIN": etc / "nginx.conf",
        "LOCK": tmp_path / "run/nginx.lock",
    }.items():
        assert hasattr(program, name)
        setattr(program, name, path)
    made = Nginx(program, etc, Recorder(program.Refused))
    monkeypatch.setattr(program, "run", made.run)
    monkeypatch.setattr(program, "validate", made.validate)
    monkeypatch.setattr(program, "reload_and_prove", made.prove)
    monkeypatch.setattr(program.os, "sync", lambda: None)
    return made


def configuration(text: str = "one") -> dict[str, str]:
    """The files of a generation."""
    return {"nginx.conf": f"# @GENERATION@ {text}\n", "sites/notes.conf": f"# {text}\n", "sites/wiki-next.conf": "#\n"}


def test_an_upstream_with_a_release(nginx: Nginx) -> None:
    text = nginx.program.upstream("wiki-next", "20260101T000000Z-abc")
    assert "upstream wiki-next {\n    server unix:/run/wiki-next/20260101T000000Z-abc.sock;\n" in text
    assert 'map "" $release_wiki_next {\n    default "20260101T000000Z-abc";\n}\n' in text
    assert "none" not in text and "down" not in text


def test_an_upstream_before_the_first_release(nginx: Nginx) -> None:
    text = nginx.program.upstream("notes", None)
    assert "server unix:/run/notes/none.sock down;" in text
    assert 'default "none";' in text


def test_nginx_closes_an_idle_connection_before_the_app_does(nginx: Nginx) -> None:
    """60 s here, and 75 s is the app's keep_alive by default; the other way round a request would be lost."""
    assert "keepalive 32;\n    keepalive_timeout 60s;\n" in nginx.program.upstream("notes", "r")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/etc/nginx/conf.d/own.conf", True),
        ("/etc/nginx/nginx.conf", True),
        ("/etc/nginx/slipway/sites/notes.conf", False),
        ("/etc/nginx/slipway.d/abc/sites/notes.conf", False),
        ("/etc/nginx/upstreams/notes.conf", False),
    ],
)
def test_whose_file_is_wrong(path: str, told: bool) -> None:
    said = f'nginx: [emerg] unknown directive "x" in {path}:7\n'
    text: str = load(PROGRAMS[0]).explain(said)
    advice = f"\n{path} isn't Slipway's: correct line 7 there (`nginx -t` checks it) and run again."
    assert text == said.strip() + (advice if told else "")


def test_what_names_no_file_is_told_as_it_is(nginx: Nginx) -> None:
    assert nginx.program.explain("  nginx: [emerg] bind() failed\n") == "nginx: [emerg] bind() failed"


def test_the_first_configuration(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    name = nginx.live
    assert tree(nginx.etc) == {
        "nginx.conf": "-> slipway/nginx.conf",
        "nginx.conf.before-slipway": "# Debian's\n",
        "slipway": f"-> slipway.d/{name}",
        f"slipway.d/{name}/nginx.conf": f"# {name} one\n",
        f"slipway.d/{name}/sites/notes.conf": "# one\n",
        f"slipway.d/{name}/sites/wiki-next.conf": "#\n",
        "upstreams/notes.conf": nginx.program.upstream("notes", None),
        "upstreams/wiki-next.conf": nginx.program.upstream("wiki-next", None),
    }
    assert nginx.proven == [{"/generation": name, "/release/notes": "none", "/release/wiki-next": "none"}]
    for path in (nginx.etc / "slipway.d").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_the_first_configuration_is_validated_as_nginx_will_read_it(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    candidate = nginx.etc / "slipway.d" / nginx.live
    ((folder, main),) = nginx.validated
    assert folder == (candidate, candidate.resolve())
    assert main == (candidate / "nginx.conf", nginx.etc / "nginx.conf")


def test_the_first_configuration_refused(nginx: Nginx) -> None:
    nginx.refuses = "no"
    with pytest.raises(nginx.program.Refused, match=r"^no$"):
        nginx.program.apply(configuration())
    assert not (nginx.etc / "slipway").is_symlink()
    assert (nginx.etc / "nginx.conf").read_text() == "# Debian's\n"
    assert nginx.proven == [] and nginx.run.calls == []


def test_the_first_configuration_not_live(nginx: Nginx) -> None:
    nginx.not_live = "port 80 is taken"
    with pytest.raises(nginx.program.Refused, match=r"^port 80 is taken\nThe configuration from before was put back.$"):
        nginx.program.apply(configuration())
    assert not (nginx.etc / "nginx.conf").is_symlink()
    assert (nginx.etc / "nginx.conf").read_text() == "# Debian's\n"
    assert nginx.run.calls == ["systemctl reload nginx"]
    nginx.not_live = None
    nginx.program.apply(configuration())
    assert nginx.program.managed()


def test_another_configuration(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    first = nginx.live
    nginx.program.apply(configuration("two"))
    assert nginx.live != first and nginx.generations == {first, nginx.live}
    live = nginx.etc / "slipway.d" / first
    assert nginx.validated[-1] == [(nginx.etc / "slipway.d" / nginx.live, live.resolve())]
    assert (nginx.etc / "nginx.conf.before-slipway").read_text() == "# Debian's\n"


def test_a_refused_configuration_changes_nothing(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    first, main = nginx.live, tree(nginx.etc / "slipway")
    nginx.refuses = "no"
    with pytest.raises(nginx.program.Refused, match=r"^no$"):
        nginx.program.apply(configuration("two"))
    assert nginx.live == first and tree(nginx.etc / "slipway") == main
    assert len(nginx.proven) == 1, "nothing to reload"
    assert nginx.run.calls == []


def test_a_configuration_that_is_not_live_is_taken_back(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    first = nginx.live
    nginx.not_live = "no new worker"
    with pytest.raises(nginx.program.Refused, match=r"^no new worker\nThe configuration from before was put back.$"):
        nginx.program.apply(configuration("two"))
    assert nginx.live == first
    assert nginx.run.calls == ["systemctl reload nginx"]


def test_a_configuration_that_is_not_live_and_has_none_before_it_stays(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    first = nginx.live
    nginx.not_live = "no"
    with pytest.raises(nginx.program.Refused, match=r"^no$"):
        nginx.program.apply(configuration())
    assert nginx.live == first and nginx.generations == {first}


def test_the_generation_that_serves_and_the_one_before_are_kept(nginx: Nginx) -> None:
    names = []
    for text in ("one", "two", "three", "four"):
        nginx.program.apply(configuration(text))
        names.append(nginx.live)
    assert nginx.generations == set(names[-2:])


def test_going_back_uses_the_generation_that_is_there(nginx: Nginx) -> None:
    nginx.program.apply(configuration("one"))
    first = nginx.live
    nginx.program.apply(configuration("two"))
    nginx.program.apply(configuration("one"))
    assert nginx.live == first


def test_a_generation_that_was_edited_by_hand_is_not_believed(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    first = nginx.live
    edited = nginx.etc / "slipway.d" / first / "sites/notes.conf"
    edited.write_text("# by hand\n")
    nginx.program.apply(configuration())
    assert nginx.live == f"{first}.2"
    assert tree(nginx.etc / "slipway")["sites/notes.conf"] == "# one\n"
    assert tree(nginx.etc / "slipway")["nginx.conf"] == f"# {first}.2 one\n"
    assert nginx.proven[-1]["/generation"] == f"{first}.2"
    (nginx.etc / "slipway.d" / f"{first}.2" / "sites/new.conf").write_text("# by hand\n")
    nginx.program.apply(configuration())
    assert nginx.live == f"{first}.3" and nginx.generations == {f"{first}.2", f"{first}.3"}


def test_what_a_killed_run_left_is_swept(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    (nginx.etc / "slipway.d/.abc.partial/sites").mkdir(parents=True)
    (nginx.etc / "slipway.d/.abc.partial/sites/notes.conf").write_text("half")
    (nginx.etc / "upstreams/.notes.conf.candidate.partial").write_text("half")
    (nginx.etc / ".slipway.partial").symlink_to("slipway.d/none")
    (nginx.etc / ".nginx.conf.partial").write_text("half")
    nginx.program.apply(configuration("two"))
    assert not [path for path in tree(nginx.etc) if "partial" in path]
    assert not (nginx.etc / "slipway.d/.abc.partial").exists()


def test_a_half_written_generation_of_the_same_name_is_written_anew(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    name = nginx.live
    shutil.rmtree(nginx.etc / "slipway.d")
    (nginx.etc / f"slipway.d/.{name}.partial").mkdir(parents=True)
    (nginx.etc / f"slipway.d/.{name}.partial/stray.conf").write_text("half")
    nginx.program.apply(configuration())
    assert set(tree(nginx.etc / "slipway")) == set(configuration())


def test_the_release_that_serves_survives_another_configuration(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    nginx.program.switch("notes", "r1")
    nginx.program.apply(configuration("two"))
    assert nginx.proven[-1]["/release/notes"] == "r1"
    assert (nginx.etc / "upstreams/notes.conf").read_text() == nginx.program.upstream("notes", "r1")


def test_a_switch(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    nginx.program.switch("notes", "r1")
    path = nginx.etc / "upstreams/notes.conf"
    assert path.read_text() == nginx.program.upstream("notes", "r1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert nginx.validated[-1][0][1] == path and nginx.proven[-1] == {"/release/notes": "r1"}
    assert not [name for name in tree(nginx.etc) if "partial" in name]


@pytest.mark.parametrize("what", ["refuses", "not_live"])
def test_a_switch_that_fails(nginx: Nginx, what: str) -> None:
    nginx.program.apply(configuration())
    nginx.program.switch("notes", "r1")
    before = tree(nginx.etc)
    setattr(nginx, what, "no")
    with pytest.raises(nginx.program.Refused) as told:
        nginx.program.switch("notes", "r2")
    assert tree(nginx.etc) == before
    assert str(told.value) == ("no" if what == "refuses" else "no\nThe release from before goes on serving.")
    assert nginx.run.calls == ([] if what == "refuses" else ["systemctl reload nginx"])


def test_a_reload_proves_what_is_on_disk(nginx: Nginx) -> None:
    nginx.program.apply(configuration())
    nginx.program.switch("wiki-next", "r1")
    nginx.program.reload()
    assert nginx.validated[-1] == []
    assert nginx.proven[-1] == {"/generation": nginx.live, "/release/notes": "none", "/release/wiki-next": "r1"}


def answering(nginx: Nginx, answers: dict[str, str | None]) -> Callable[[str], str | None]:
    """In place of `ask`: a running nginx."""
    return lambda path: answers.get(path)


def test_the_status(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nginx.program.status() == {"generation": None, "managed": False, "live": False, "files": {}}
    nginx.program.apply(configuration())
    served: dict[str, str | None] = {"/generation": nginx.live, "/release/notes": "none", "/release/wiki-next": "none"}
    monkeypatch.setattr(nginx.program, "ask", answering(nginx, served))
    files = nginx.program.named(configuration(), nginx.live)
    assert nginx.program.status() == {"generation": nginx.live, "managed": True, "live": True, "files": files}
    others: list[dict[str, str | None]] = [{"/generation": "old"}, {"/release/notes": "r0"}, {"/generation": None}]
    for other in others:
        monkeypatch.setattr(nginx.program, "ask", answering(nginx, served | other))
        assert nginx.program.status()["live"] is False, other


@pytest.mark.parametrize("what", ["main", "upstream", "generation"])
def test_the_status_of_a_host_that_somebody_changed(nginx: Nginx, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    nginx.program.apply(configuration())
    answers = nginx.program.expectation()
    monkeypatch.setattr(nginx.program, "ask", answering(nginx, answers))
    if what == "main":
        (nginx.etc / "nginx.conf").unlink()
        (nginx.etc / "nginx.conf").write_text("# by hand\n")
    elif what == "upstream":
        (nginx.etc / "upstreams/notes.conf").unlink()
    else:
        shutil.rmtree(nginx.etc / "slipway.d")
    found = nginx.program.status()
    assert found["live"] is False or found["files"] != nginx.program.named(configuration(), nginx.live)


def test_a_proof_needs_the_right_answer_from_a_new_worker(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(PROGRAMS[0])
    workers = iter([{1, 2}, {1, 2}, {2, 3}])
    clock = iter(range(100))
    monkeypatch.setattr(program, "run", nginx.run)
    monkeypatch.setattr(program, "workers", lambda: next(workers, {2, 3}))
    monkeypatch.setattr(program, "ask", lambda path: "g")
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(program.time, "monotonic", lambda: next(clock))
    program.reload_and_prove({"/generation": "g"})
    assert nginx.run.calls == ["systemctl is-active --quiet nginx", "systemctl reload nginx"]
    with pytest.raises(program.Refused, match=r"isn't live \(/generation is g, not h\)"):
        program.reload_and_prove({"/generation": "h"})
    monkeypatch.setattr(program, "workers", lambda: {2, 3})
    with pytest.raises(program.Refused, match=r"isn't live \(no new worker\)"):
        program.reload_and_prove({"/generation": "g"})


def test_an_nginx_that_is_stopped_is_started(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(PROGRAMS[0])
    nginx.run.failing = {"is-active": ""}
    monkeypatch.setattr(program, "run", nginx.run)
    monkeypatch.setattr(program, "workers", lambda: {9})
    monkeypatch.setattr(program, "ask", lambda path: "g")
    program.reload_and_prove({"/generation": "g"})
    assert nginx.run.calls[-1] == "systemctl start nginx"
    nginx.run.failing |= {"systemctl start": ""}
    nginx.run.printing = {"journalctl": "bind() failed"}
    with pytest.raises(program.Refused, match=r"^nginx doesn't start:\nbind\(\) failed$"):
        program.reload_and_prove({"/generation": "g"})


def test_nginx_minus_t_sees_the_candidate_in_its_place(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(PROGRAMS[0])
    monkeypatch.setattr(program, "run", nginx.run)
    program.validate([(Path("/a"), Path("/b")), (Path("/c d"), Path("/e"))])
    (line,) = nginx.run.calls
    assert line.startswith("unshare --mount --propagation private sh -c ") and line.endswith(" sh /a /b /c d /e")
    assert "nginx -t" in line
    nginx.run.failing = {"unshare": "nginx: [emerg] x in /etc/nginx/conf.d/own.conf:1"}
    with pytest.raises(
        program.Refused, match=r"^nginx refuses the configuration; nothing was changed.\nnginx: .*\n.*own"
    ):
        program.validate([])


# ── slipway-release ──────────────────────────────────────────────────────────────────────────────────────────────────

IDS = [f"2026010{day}T000000Z-aaaaaa{day}" for day in range(1, 10)]
"""Releases, the oldest first."""


@dataclass
class Release:
    """slipway-release on a host that is a folder, for the app ``notes``."""

    program: Any
    app: Any
    root: Path
    run: Recorder
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    """File → the owner and group that it was given."""

    def add(self, release: str, state: str = "good", *, units: bool = False, current: bool = False) -> None:
        """A release with its environment and its record."""
        gunicorn = self.app.releases / release / ".venv/bin/gunicorn"
        gunicorn.parent.mkdir(parents=True)
        gunicorn.touch(0o755)
        (self.app.etc / "releases").mkdir(exist_ok=True)
        self.app.env(release).write_text("A=1\n")
        self.app.write_record(release, state=state, inputs={"source": release})
        if units:
            for kind in ("socket", "service"):
                (self.program.UNITS / self.app.unit(release, kind)).write_text(f"# {kind}\n")
        if current:
            self.app.current.unlink(missing_ok=True)
            self.app.current.symlink_to(f"releases/{release}")

    @property
    def releases(self) -> list[str]:
        """Ids that have a folder."""
        return sorted(path.name for path in self.app.releases.iterdir())


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A host with the app's folders, and no release."""
    program = load(PROGRAMS[1])
    units = tmp_path / "systemd"
    for folder in ("systemd", "etc/notes", "srv/notes/releases", "run", "cache/sources"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(program, "UNITS", units)
    monkeypatch.setattr(program, "CACHE", tmp_path / "cache")
    app = program.App("notes")
    app.etc, app.root = tmp_path / "etc/notes", tmp_path / "srv/notes"
    app.releases, app.current = app.root / "releases", app.root / "current"
    app.records, app.lock = tmp_path / "records", tmp_path / "lock/notes.lock"
    app.socket = lambda release: tmp_path / "run" / f"{release}.sock"
    app.wanted = {
        "app": "notes.main:app",
        "keep": 3,
        "source": {"kind": "archive", "commit": "c" * 40, "subdir": ""},
        "inputs": {"source": "c" * 40},
        "readiness": {"path": "/readyz", "timeout": 5, "host": "notes.example.com", "scheme": "https"},
        "migrate": None,
        "migrate_timeout": 60,
        "drain_timeout": 0,
        "sandbox": ["User=notes", "ProtectSystem=strict"],
        "static": None,
        "units": {"socket": "# @RELEASE@ socket\n", "service": "# @RELEASE@ service\n"},
    }
    made = Release(program, app, tmp_path, Recorder(program.Failed))
    monkeypatch.setattr(program, "run", made.run)

    def chown(path: Path, user: str, group: str) -> None:
        made.owners[Path(path).name] = (user, group)

    monkeypatch.setattr(program.shutil, "chown", chown)
    return made


def proxy(release: Release, monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    """Let nginx's upstream name a release."""
    monkeypatch.setattr(type(release.app), "proxied", lambda self: named)


def test_the_paths_of_an_app() -> None:
    app = load(PROGRAMS[1]).App("wiki-next")
    assert str(app.env("r1")) == "/etc/wiki-next/releases/r1.env"
    assert str(app.socket("r1")) == "/run/wiki-next/r1.sock"
    assert app.unit("r1", "service") == "wiki-next@r1.service"
    assert (str(app.releases), str(app.current)) == ("/srv/wiki-next/releases", "/srv/wiki-next/current")
    assert str(app.records) == "/var/lib/slipway/wiki-next"


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


def test_a_file_whose_writing_fails_stays_as_it_was(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = release.root / "file"
    path.write_text("before")
    monkeypatch.setattr(release.program.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        release.program.replace(path, "after", 0o644)
    assert path.read_text() == "before"


def test_the_units_that_are_installed(release: Release) -> None:
    for name in (
        "notes@r1.service",
        "notes@r1.socket",
        "notes@r2.socket",
        "notes@.service",
        "notes-two@r3.service",
        "other@r4.service",
        ".notes@r5.service.partial",
    ):
        (release.program.UNITS / name).write_text("")
    (release.program.UNITS / "notes@.service.d").mkdir()
    (release.program.UNITS / "notes@r6.service").symlink_to("/dev/null")  # masked by the operator
    (release.program.UNITS / "notes@r7.service").symlink_to("notes@r1.service")
    assert release.app.installed_units() == {"r1", "r2"}


@pytest.mark.parametrize(("named", "found"), [("r1", "r1"), (None, None)])
def test_the_release_that_nginx_names(
    release: Release, monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None
) -> None:
    """Read from just what slipway-nginx writes."""
    text = load(PROGRAMS[0]).upstream("notes", named)
    read: list[str] = []

    def read_text(path: Path) -> str:
        read.append(str(path))
        return str(text)

    monkeypatch.setattr(release.program.Path, "read_text", read_text)
    assert release.app.proxied() == found
    assert read == ["/etc/nginx/upstreams/notes.conf"]


def test_no_release_is_named_before_nginx_is_there() -> None:
    assert load(PROGRAMS[1]).App("no-such-app").proxied() is None


def test_the_release_that_serves(release: Release) -> None:
    assert release.app.serving() is None
    release.add(IDS[0], current=True)
    assert release.app.serving() == IDS[0]


def test_records(release: Release) -> None:
    assert release.app.record("r1") is None
    release.app.write_record("r1", state="started", steps={})
    release.app.write_record("r1", state="good")
    assert release.app.record("r1") == {"id": "r1", "state": "good", "steps": {}}
    path = release.app.records / "r1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_tidying_keeps_what_serves_what_did_and_the_newest(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in IDS:
        release.add(each)
    release.add("20260110T000000Z-failed0", "failed")
    release.add("20260111T000000Z-killed0", "started")
    release.add("20260112T000000Z-serving", units=True, current=True)
    proxy(release, monkeypatch, "20260112T000000Z-serving")
    release.program.tidy(release.app, previous=IDS[1])
    # Three of the good ones, as keep says, and the one that has just served, however old it is.
    assert release.releases == [IDS[1], IDS[7], IDS[8], "20260112T000000Z-serving"]
    assert sorted(path.stem for path in (release.app.etc / "releases").iterdir()) == release.releases
    left = {path.stem for path in release.app.records.iterdir()}
    assert left == {*release.releases, "20260110T000000Z-failed0", "20260111T000000Z-killed0"}, "what failed is told"
    assert not [call for call in release.run.calls if call.startswith("/opt/slipway/bin/slipway-nginx")]


def test_tidying_keeps_what_serves_however_old_it_is(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in IDS[1:]:
        release.add(each)
    release.add(IDS[0], units=True, current=True)
    proxy(release, monkeypatch, IDS[0])
    release.program.tidy(release.app)
    assert release.releases == [IDS[0], *IDS[-3:]]
    assert release.app.installed_units() == {IDS[0]}


def test_tidying_takes_every_trace_of_an_unfinished_release_away(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.app.socket(IDS[1]).write_text("")
    (release.app.releases / "20260109T000000Z-norecor").mkdir()  # killed before its record was written
    for path in (
        release.app.root / ".current.partial",
        release.app.etc / f"releases/.{IDS[1]}.env.partial",
        release.app.records / f".{IDS[1]}.json.partial",
        release.program.UNITS / f".notes@{IDS[1]}.service.partial",
    ):
        path.write_text("half")
    proxy(release, monkeypatch, IDS[0])
    release.program.tidy(release.app)
    left = [name for name in tree(release.root) if IDS[1] in name or "partial" in name or "norecor" in name]
    assert left == [f"records/{IDS[1]}.json"]
    assert release.app.installed_units() == {IDS[0]}
    for verb in ("disable --quiet", "stop"):
        assert [call for call in release.run.calls if f"{verb} notes@{IDS[1]}.service" in call], verb
    assert not [call for call in release.run.calls if IDS[0] in call], "what serves must not be touched"


def test_tidying_stops_a_migration_that_outlived_its_run(release: Release) -> None:
    release.program.tidy(release.app)
    assert "systemctl stop notes-migrate.service" in release.run.calls
    assert "systemctl stop notes-check.service" in release.run.calls


@pytest.mark.parametrize("named", [None, IDS[1]])
def test_tidying_brings_nginx_back_to_what_current_says(
    release: Release, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """The upstream was lost, or names a release that doesn't run."""
    release.add(IDS[0], units=True, current=True)
    release.add(IDS[1], "started", units=True)
    proxy(release, monkeypatch, named)
    release.program.tidy(release.app)
    calls = release.run.calls
    switched = calls.index(f"/opt/slipway/bin/slipway-nginx switch notes {IDS[0]}")
    started = calls.index(f"systemctl start notes@{IDS[0]}.service")
    stopped = next(at for at, call in enumerate(calls) if call.startswith(f"systemctl stop notes@{IDS[1]}"))
    assert started < switched < stopped, "one that serves at every instant"
    assert release.app.serving() == IDS[0] and release.releases == [IDS[0]]


@pytest.mark.parametrize("before", [None, IDS[0]])
def test_tidying_ends_what_was_killed_between_switch_and_commit(
    release: Release, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """nginx names a release only once it was proven: if it still answers, it is the one that serves."""
    if before:
        release.add(before, units=True, current=True)
    release.add(IDS[1], "started", units=True)
    release.app.socket(IDS[1]).touch()
    proxy(release, monkeypatch, IDS[1])
    monkeypatch.setattr(release.program, "probe", lambda app, release: (True, "200"))
    release.program.tidy(release.app)
    assert release.app.serving() == IDS[1] and release.app.installed_units() == {IDS[1]}
    assert release.app.record(IDS[1])["state"] == "good"
    assert release.releases == [*([before] if before else []), IDS[1]]
    assert not [call for call in release.run.calls if "slipway-nginx" in call or f"stop notes@{IDS[1]}" in call]


@pytest.mark.parametrize("missing", ["socket", "folder", "answer"])
def test_a_release_that_nginx_names_but_that_does_not_answer_is_not_believed(
    release: Release, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    release.add(IDS[0], units=True, current=True)
    if missing != "folder":
        release.add(IDS[1], "started", units=True)
    if missing != "socket":
        release.app.socket(IDS[1]).touch()
    proxy(release, monkeypatch, IDS[1])
    monkeypatch.setattr(release.program, "probe", lambda app, release: (missing != "answer", "503"))
    release.program.tidy(release.app)
    assert release.app.serving() == IDS[0]


def test_tidying_writes_down_what_a_killed_run_could_not(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.add(IDS[0], "started", units=True, current=True)
    proxy(release, monkeypatch, IDS[0])
    release.program.tidy(release.app)
    assert release.app.record(IDS[0])["state"] == "good" and release.releases == [IDS[0]]


def test_tidying_leaves_a_number_of_records(release: Release) -> None:
    for number in range(60):
        release.app.write_record(f"20250101T0000{number:02}Z-aaaaaaa", state="failed")
    release.program.tidy(release.app)
    left = sorted(path.stem for path in release.app.records.iterdir())
    assert len(left) == release.program.KEEP_RECORDS
    assert left[0] == "20250101T000010Z-aaaaaaa", "the oldest go"


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


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("nothing", None),
        ("is-active --quiet notes@r1.socket", "notes@r1.socket isn't running"),
        ("is-active --quiet notes@r1.service", "notes@r1.service isn't running"),
        ("is-enabled --quiet notes@r1.service", "notes@r1.service isn't enabled"),
        ("proxied", "nginx's upstream names r0"),
        ("unproxied", "nginx's upstream names no release"),
        ("units", "units of other releases are there: r2, r3"),
        ("folder", "unfinished releases are there: r2"),
        ("gunicorn", "{releases}/r1 is damaged"),
    ],
)
def test_what_is_wrong_with_the_release_that_serves(
    release: Release, monkeypatch: pytest.MonkeyPatch, spoil: str, fault: str | None
) -> None:
    release.add("r1", units=True, current=True)
    release.run.failing = {spoil: ""} if spoil.startswith("is-") else {}
    proxy(release, monkeypatch, {"proxied": "r0", "unproxied": None}.get(spoil, "r1"))
    if spoil == "units":
        for name in ("notes@r3.service", "notes@r2.socket"):
            (release.program.UNITS / name).write_text("")
    if spoil == "folder":
        release.add("r2", "started")
    if spoil == "gunicorn":
        (release.app.releases / "r1/.venv/bin/gunicorn").chmod(0o644)
    expected = fault.format(releases=release.app.releases) if fault else None
    assert release.app.healthy("r1") == ([expected] if expected else [])


def test_the_status_of_an_app(
    release: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release.program.status(release.app)
    assert json.loads(capsys.readouterr().out) == {
        "release": None,
        "commit": None,
        "inputs": {},
        "faults": ["no release serves yet"],
        "steps": {},
    }
    release.add(IDS[0], units=True, current=True)
    proxy(release, monkeypatch, IDS[0])
    release.program.status(release.app)
    found = json.loads(capsys.readouterr().out)
    assert (found["release"], found["inputs"], found["faults"]) == (IDS[0], {"source": IDS[0]}, [])


def test_only_one_release_of_an_app_at_a_time(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.program, "now", lambda: "2026-01-01T00:00:00Z")
    monkeypatch.setattr(release.program.os, "getpid", lambda: 4711)
    with release.program.locked(release.app):
        message = (
            r"^Another release of notes is under way \(process 4711 since 2026-01-01T00:00:00Z\)\. "
            r"Wait for it, then run again\.$"
        )
        with pytest.raises(release.program.Failed, match=message), release.program.locked(release.app):
            pass
    with release.program.locked(release.app):
        assert release.app.lock.read_text() == "process 4711 since 2026-01-01T00:00:00Z"


def test_a_lock_ends_with_its_holder_whatever_it_left_written(release: Release) -> None:
    release.app.lock.parent.mkdir()
    release.app.lock.write_text("process 1 since 1970, which was killed and had a long name")
    with release.program.locked(release.app):
        assert release.app.lock.read_text().startswith("process ") and "1970" not in release.app.lock.read_text()
    with release.app.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ── slipway-release: a whole release ─────────────────────────────────────────────────────────────────────────────────


@dataclass
class Story:
    """The steps of a release, each noted; one may fail."""

    steps: list[str] = field(default_factory=list)
    fails: str | None = None


@pytest.fixture
def story(release: Release, monkeypatch: pytest.MonkeyPatch) -> Story:
    """`deploy`, with steps that do no more than make a folder and units."""
    told = Story()
    program = release.program
    real = {step.__name__: step for step in program.STEPS}

    def step(name: str) -> Callable[[Any, str, Path], None]:
        def made(app: Any, each: str, folder: Path) -> None:
            told.steps.append(name)
            if name == told.fails:
                raise program.Failed(f"{name} is broken")
            if name == "fetch":
                folder.mkdir()
            elif name == "check":
                for kind in ("socket", "service"):
                    (program.UNITS / app.unit(each, kind)).write_text("")
            elif name == "commit":
                real["commit"](app, each, folder)

        made.__name__ = name
        return made

    monkeypatch.setattr(program, "STEPS", tuple(step(name) for name in real))
    monkeypatch.setattr(program, "prove", step("prove"))
    monkeypatch.setattr(type(release.app), "proxied", lambda self: self.serving())
    (release.app.etc / "release.json").write_text(json.dumps(release.app.wanted))
    return told


ALL = ["fetch", "build", "check", "migrate", "start", "prove", "switch", "commit"]


def test_the_steps_of_a_release(release: Release) -> None:
    assert [step.__name__ for step in release.program.STEPS] == ALL


def test_a_release(release: Release, story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    release.program.deploy(release.app)
    (made,) = release.releases
    assert story.steps == ALL
    assert made.endswith("Z-ccccccc") and release.app.serving() == made
    record = release.app.record(made)
    assert (record["state"], record["commit"], record["inputs"]) == ("good", "c" * 40, {"source": "c" * 40})
    assert list(record["steps"]) == ALL
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("notes: 1/8 fetch ") and lines[-1].startswith(f"notes: {made} serves (")
    assert not list(release.app.root.glob(".*"))


@pytest.mark.parametrize("step", ALL)
def test_a_release_that_fails_leaves_the_old_one_serving(release: Release, story: Story, step: str) -> None:
    release.add(IDS[0], units=True, current=True)
    before = {path: text for path, text in tree(release.root).items() if not path.startswith("records/")}
    story.fails = step
    with pytest.raises(release.program.Failed) as told:
        release.program.deploy(release.app)
    number = ALL.index(step) + 1
    assert story.steps == ALL[:number]
    first, reason, end = str(told.value).splitlines()
    assert first.startswith("release 2") and first.endswith(f"-ccccccc failed at {step} ({number} of 8).")
    assert reason == f"{step} is broken"
    assert end == f"{IDS[0]} goes on serving. Correct the cause and run again."
    assert release.app.serving() == IDS[0]
    after = {path: text for path, text in tree(release.root).items() if not path.startswith("records/")}
    assert after == before
    (failed,) = [json.loads(path.read_text()) for path in release.app.records.iterdir() if "ccccccc" in path.name]
    assert (failed["state"], failed["step"], failed["error"]) == ("failed", step, f"{step} is broken")


def test_a_first_release_that_fails(release: Release, story: Story) -> None:
    story.fails = "build"
    with pytest.raises(release.program.Failed, match=r"\nNo release serves yet\. Correct the cause and run again\.$"):
        release.program.deploy(release.app)
    assert release.releases == []


def test_the_release_before_is_kept_and_its_units_are_not(release: Release, story: Story) -> None:
    release.add(IDS[0], units=True, current=True)
    release.program.deploy(release.app)
    made = release.app.serving()
    assert release.releases == [IDS[0], made]
    assert release.app.installed_units() == {made}


def test_a_release_that_is_what_is_wanted_is_not_made_again(
    release: Release, story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    release.add(IDS[0], units=True, current=True)
    release.app.write_record(IDS[0], inputs=release.app.wanted["inputs"])
    release.program.deploy(release.app)
    assert story.steps == ["prove"] and release.releases == [IDS[0]]
    assert f"systemctl start notes@{IDS[0]}.service" in release.run.calls
    assert release.run.calls[-1] == f"/opt/slipway/bin/slipway-nginx switch notes {IDS[0]}"
    assert capsys.readouterr().out == f"notes: {IDS[0]} already is what is wanted; it serves\n"


@pytest.mark.parametrize("spoil", ["damaged", "start", "prove", "switch"])
def test_a_release_that_cannot_be_brought_back_is_made_anew(
    release: Release,
    story: Story,
    spoil: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release.add(IDS[0], units=True, current=True)
    release.app.write_record(IDS[0], inputs=release.app.wanted["inputs"])
    if spoil == "damaged":
        (release.app.releases / IDS[0] / ".venv/bin/gunicorn").unlink()
    elif spoil == "prove":

        def prove(app: Any, each: str, folder: Path) -> None:
            raise release.program.Failed("it doesn't answer")

        monkeypatch.setattr(release.program, "prove", prove)
    else:
        release.run.failing = {f"{spoil} notes": "no"}
    with contextlib.suppress(release.program.Failed):
        release.program.deploy(release.app)
    assert story.steps[-8:] == ALL
    assert len(release.releases) == 2 and release.app.serving() != IDS[0]
    told = f"notes: {IDS[0]} can't be brought back, so a new release is made.\n"
    assert (told in capsys.readouterr().out) is (spoil != "damaged")


# ── slipway-release: single steps ────────────────────────────────────────────────────────────────────────────────────


def test_a_check_writes_the_environment_and_the_units(release: Release) -> None:
    (release.app.etc / "env").write_text('A="1"\n')
    release.app.wanted["inputs"]["environment"] = "2c7ae9bd3d6b0e9c0e2d8b0b0a3d1a5c"
    folder = release.app.releases / "r1"
    folder.mkdir()
    with pytest.raises(release.program.Failed, match="somebody changed it meanwhile"):
        release.program.check(release.app, "r1", folder)
    assert not release.app.env("r1").exists()
    digest = release.program.hashlib.sha256(b'A="1"\n').hexdigest()
    release.app.wanted["inputs"]["environment"] = digest
    release.program.check(release.app, "r1", folder)
    assert release.app.env("r1").read_text() == 'A="1"\nRELEASE_ID="r1"\n'
    assert stat.S_IMODE(release.app.env("r1").stat().st_mode) == 0o640
    assert release.owners[".r1.env.partial"] == ("root", "notes")
    assert (release.program.UNITS / "notes@r1.service").read_text() == "# r1 service\n"
    assert (release.program.UNITS / "notes@r1.socket").read_text() == "# r1 socket\n"
    imported = next(call for call in release.run.calls if call.startswith("systemd-run"))
    assert "--unit notes-check " in imported and imported.endswith(" notes.main app")
    for line in (*release.app.wanted["sandbox"], f"EnvironmentFile={release.app.env('r1')}"):
        assert f"--property {line} " in imported


@pytest.mark.parametrize(
    ("failing", "printing", "message"),
    [
        (
            {"systemd-run": "ModuleNotFoundError: No module named 'notes'"},
            {},
            "notes.main:app can't be imported:\nModule",
        ),
        (
            {},
            {"systemd-analyze": "/etc/x: notes@r1.service:3: Unknown key\nother.service: y"},
            "systemd refuses the unit:\n/etc/x",
        ),
    ],
)
def test_a_check_that_fails(release: Release, failing: dict[str, str], printing: dict[str, str], message: str) -> None:
    (release.app.etc / "env").write_text("")
    release.app.wanted["inputs"]["environment"] = release.program.hashlib.sha256(b"").hexdigest()
    release.run.failing, release.run.printing = failing, printing
    with pytest.raises(release.program.Failed) as told:
        release.program.check(release.app, "r1", release.app.releases / "r1")
    assert str(told.value).startswith(message) and "other.service" not in str(told.value)


def test_the_import_is_gunicorns(release: Release, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class make:\n    app = 1\n")
    argv = [sys.executable, "-c", release.program.IMPORT]
    assert subprocess.run([*argv, "one", "make.app"], cwd=tmp_path, check=False).returncode == 0
    done = subprocess.run([*argv, "one", "make.none"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "has no attribute 'none'" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "file", "argv"),
    [
        ("auto", "alembic.ini", ["alembic", "upgrade", "head"]),
        ("auto", "pyproject.toml", ["alembic", "upgrade", "head"]),
        ("auto", None, None),
        (None, "alembic.ini", None),
        (["python", "-m", "notes.migrate"], None, ["python", "-m", "notes.migrate"]),
    ],
)
def test_a_migration(release: Release, wanted: Any, file: str | None, argv: list[str] | None) -> None:
    release.app.wanted["migrate"] = wanted
    folder = release.app.releases / "r1"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n" + ("[tool.alembic]\n" if file == "pyproject.toml" else ""))
    if file == "alembic.ini":
        (folder / file).write_text("")
    note = release.program.migrate(release.app, "r1", folder)
    ran = [call for call in release.run.calls if call.startswith("systemd-run")]
    if argv is None:
        assert (note, ran) == ("no migration", [])
    else:
        assert note is None and len(ran) == 1
        assert ran[0].endswith(f" -- {' '.join(argv)}") and "--property RuntimeMaxSec=60 " in ran[0]
        assert f"--property WorkingDirectory={folder}" in ran[0] and "--property User=notes " in ran[0]


def test_a_migration_that_fails(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.app.wanted["migrate"] = ["migrate", "now"]
    release.run.failing = {"systemd-run": "\n".join(f"line {number}" for number in range(40))}
    with pytest.raises(release.program.Failed) as told:
        release.program.migrate(release.app, "r1", release.app.releases / "r1")
    lines = str(told.value).splitlines()
    assert lines[0] == "The migration `migrate now` failed:" and lines[1:] == [f"line {n}" for n in range(10, 40)]
    clock = iter([0.0, 60.0])
    monkeypatch.setattr(release.program.time, "monotonic", lambda: next(clock))
    with pytest.raises(
        release.program.Failed, match=r"^The migration `migrate now` was ended after migrate_timeout \(60 s\):"
    ):
        release.program.migrate(release.app, "r1", release.app.releases / "r1")


def test_a_failed_build_hides_its_secrets(release: Release) -> None:
    folder = release.app.releases / "r1"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    (release.app.etc / "build.env").write_text(
        json.dumps({"PASSWORD": "s3cr3t", "LONGER": "s3cr3t-and-more", "EMPTY": ""})
    )
    release.app.wanted |= {"uv_env": {}, "python": "3.13"}
    release.run.failing = {"uv sync": "401 for https://u:s3cr3t-and-more@x and s3cr3t"}
    with pytest.raises(release.program.Failed) as told:
        release.program.build(release.app, "r1", folder)
    assert str(told.value) == "`uv sync --locked --no-dev` failed:\n401 for https://u:***@x and ***"
    (call,) = release.run.calls
    assert call.startswith("setpriv --reuid=slipway-build ") and call.endswith("--python 3.13")
    assert "s3cr3t" not in call


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("pyproject", "There is no pyproject.toml in the root of the source: set source.subdir to the app's folder."),
        (
            "gunicorn",
            (
                "The lock file has no gunicorn: `uv add gunicorn uvicorn-worker uvloop httptools` in the project, "
                "commit, and run again."
            ),
        ),
    ],
)
def test_a_build_that_cannot_be(release: Release, spoil: str, message: str) -> None:
    folder = release.app.releases / "r1"
    folder.mkdir()
    release.app.wanted |= {"uv_env": {}, "python": "3.13"}
    if spoil != "pyproject":
        (folder / "pyproject.toml").write_text("")
    with pytest.raises(release.program.Failed) as told:
        release.program.build(release.app, "r1", folder)
    assert str(told.value) == message


def test_nginx_may_read_the_static_files_and_nothing_else(release: Release) -> None:
    folder = release.app.releases / "r1"
    (folder / "web/static").mkdir(parents=True)
    for path in (folder, folder / "web"):
        path.chmod(0o750)
    release.app.wanted |= {"static": "web/static"}
    release.program.own(release.app, folder)
    assert release.run.calls == [
        f"chown -hR root:notes {folder}",
        f"chmod -R u=rwX,g=rX,o= {folder}",
        f"chmod -R o=rX {folder}/web/static",
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "web")] == [0o751, 0o751]
    assert stat.S_IMODE(release.app.releases.stat().st_mode) & 0o777 == stat.S_IMODE(
        (release.root / "srv").stat().st_mode
    )


@pytest.mark.parametrize("static", ["none", "file", "outside", "../../../.."])
def test_static_files_are_a_folder_of_the_release(release: Release, static: str) -> None:
    folder = release.app.releases / "r1"
    folder.mkdir()
    (folder / "file").write_text("")
    (folder / "outside").symlink_to(release.root / "etc")
    release.app.wanted |= {"static": static}
    with pytest.raises(release.program.Failed, match=r"^static\.path: .* is no folder inside the app's source\.$"):
        release.program.own(release.app, folder)
    assert len(release.run.calls) == 2


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


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([(False, "503 starting"), (False, "503 starting"), (True, "200 ok")], None),
        (
            [(False, "503 starting")] * 99,
            "/readyz wasn't ready within 5 s; it last answered 503 starting. The journal's",
        ),
    ],
)
def test_a_proof(
    release: Release, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[bool, str]], error: str | None
) -> None:
    clock, given = iter(range(100)), iter(answers)
    monkeypatch.setattr(release.program, "probe", lambda app, release: next(given))
    monkeypatch.setattr(release.program.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(release.program.time, "sleep", lambda seconds: None)
    release.run.printing = {"systemctl show": "ActiveState=active\nNRestarts=0\n", "journalctl": "the last line"}
    if error is None:
        release.program.prove(release.app, "r1", release.app.releases / "r1")
    else:
        with pytest.raises(release.program.Failed) as told:
            release.program.prove(release.app, "r1", release.app.releases / "r1")
        assert str(told.value).startswith(error) and str(told.value).endswith("the last line")


@pytest.mark.parametrize("state", ["ActiveState=failed\nNRestarts=0", "ActiveState=activating\nNRestarts=2"])
def test_a_crash_on_boot_is_not_waited_for(release: Release, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(release.program, "probe", lambda app, release: (False, "no answer"))
    release.run.printing = {"systemctl show": state, "journalctl": "ValueError: no database"}
    with pytest.raises(release.program.Failed, match=r"^The app crashes on boot:\nValueError: no database$"):
        release.program.prove(release.app, "r1", release.app.releases / "r1")


def test_an_app_that_is_not_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(PROGRAMS[1])
    monkeypatch.setattr(sys, "argv", ["slipway-release", "status", "no-such-app"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == (
        "slipway-release: there is no app no-such-app on this host (/etc/no-such-app is missing)"
    )


# ── slipway-acme ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """slipway-acme with certbot's folder and the challenges in a temporary one."""
    program = load(PROGRAMS[2])
    monkeypatch.setattr(program, "LETSENCRYPT", tmp_path / "letsencrypt")
    monkeypatch.setattr(program, "LEFTOVERS", tmp_path / "letsencrypt/set-aside")
    monkeypatch.setattr(program, "CHALLENGES", tmp_path / "acme")
    monkeypatch.setattr(program, "own_addresses", lambda: ["192.0.2.1", "2001:db8::1"])
    return program


SERVER = "https://ca.example.com/dir"


def issue(acme: Any, names: list[str], *, days: int = 30, server: str | None = SERVER) -> None:
    """What certbot leaves after an order."""
    live, renewal = acme.LETSENCRYPT / "live/notes", acme.LETSENCRYPT / "renewal"
    live.mkdir(parents=True, exist_ok=True)
    renewal.mkdir(exist_ok=True)
    (live / "fullchain.pem").write_bytes(certificate(new_key(), names, days))
    lines = ["version = 5.1.0", "[renewalparams]", *([f"server = {server}"] if server else []), "account = a"]
    (renewal / "notes.conf").write_text("\n".join(lines) + "\n")


def given(*domains: str, server: str = SERVER, check: bool = True, ca_file: str | None = None) -> argparse.Namespace:
    """A command line."""
    return argparse.Namespace(name="notes", server=server, domain=list(domains), check=check, ca_file=ca_file)


def test_no_lineage(acme: Any) -> None:
    assert acme.lineage("notes") is None
    assert not acme.has(given("notes.example.com"))


def test_a_lineage(acme: Any) -> None:
    issue(acme, ["notes.example.com", "www.notes.example.com"])
    assert acme.lineage("notes") == (SERVER, {"notes.example.com", "www.notes.example.com"}, True)


def test_a_lineage_without_its_certificate_or_configuration(acme: Any) -> None:
    issue(acme, ["notes.example.com"])
    (acme.LETSENCRYPT / "renewal/notes.conf").unlink()
    assert acme.lineage("notes") is None
    issue(acme, ["notes.example.com"])
    (acme.LETSENCRYPT / "live/notes/fullchain.pem").unlink()
    assert acme.lineage("notes") is None


def test_a_lineage_that_is_broken_is_no_certificate(acme: Any) -> None:
    issue(acme, ["notes.example.com"], server=None)
    assert acme.lineage("notes") == (None, {"notes.example.com"}, True)
    (acme.LETSENCRYPT / "live/notes/fullchain.pem").write_text("half")
    assert acme.lineage("notes") == (None, set(), False)


@pytest.mark.parametrize(
    ("names", "days", "server", "asked", "answer"),
    [
        (["a.example.com", "b.example.com"], 30, SERVER, ["b.example.com", "a.example.com"], True),
        (["a.example.com"], 30, SERVER, ["a.example.com", "b.example.com"], False),
        (["a.example.com", "b.example.com"], 30, SERVER, ["a.example.com"], False),
        (["a.example.com"], -1, SERVER, ["a.example.com"], False),
        (["a.example.com"], 30, "https://staging.example.com/dir", ["a.example.com"], False),
    ],
)
def test_whether_there_is_such_a_certificate(
    acme: Any, names: list[str], days: int, server: str, asked: list[str], answer: bool
) -> None:
    issue(acme, names, days=days, server=server)
    assert acme.has(given(*asked)) is answer


class Connection:
    """In place of http.client.HTTPConnection: what answers at an address."""

    answers: ClassVar[dict[str, tuple[int, str] | OSError]] = {}
    asked: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, address: str, port: int, timeout: float) -> None:
        assert port == 80 and timeout > 0
        self.address = address
        self.status = 0

    def request(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Note it."""
        self.asked.append((self.address, path, headers["Host"]))
        answer = self.answers[self.address]
        if isinstance(answer, OSError):
            raise answer
        self.status, self.text = answer

    def getresponse(self) -> Connection:
        """Itself."""
        return self

    def read(self, size: int) -> bytes:
        """The body."""
        return self.text[:size].encode()

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def internet(acme: Any, monkeypatch: pytest.MonkeyPatch) -> type[Connection]:
    """Names have the addresses of `answers`, and they answer so."""

    class Fresh(Connection):
        answers: ClassVar = {}
        asked: ClassVar = []

    def getaddrinfo(domain: str, port: int, **_: Any) -> list[Any]:
        if not Fresh.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in Fresh.answers]

    monkeypatch.setattr(acme.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(acme.http.client, "HTTPConnection", Fresh)
    return Fresh


def test_a_domain_that_leads_here(acme: Any, internet: type[Connection]) -> None:
    internet.answers |= {"192.0.2.1": (200, "token\n"), "2001:db8::1": (200, "token")}
    assert acme.problem("a.example.com", "token") is None
    path = "/.well-known/acme-challenge/token"
    assert internet.asked == [("192.0.2.1", path, "a.example.com"), ("2001:db8::1", path, "a.example.com")]


def test_a_domain_without_a_record(acme: Any, internet: type[Connection]) -> None:
    assert acme.problem("a.example.com", "token") == (
        "a.example.com has no A or AAAA record: add one for 192.0.2.1 or 2001:db8::1, wait until it is known, and run "
        "again"
    )


WRONG = (
    "a.example.com has the {kind} record {address}, where this host's challenge file can't be fetched: {seen}. Point "
    "it at 192.0.2.1 or 2001:db8::1, or open port 80 there"
)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((404, "nginx"), "it answers 404"),
        ((301, ""), "it answers 301"),
        ((200, "welcome"), "another machine answers there"),
        (TimeoutError("timed out"), "no answer (timed out)"),
        (ConnectionRefusedError(111, "Connection refused"), "no answer ([Errno 111] Connection refused)"),
    ],
)
def test_a_domain_that_leads_elsewhere(
    acme: Any, internet: type[Connection], answer: tuple[int, str] | OSError, seen: str
) -> None:
    internet.answers |= {"192.0.2.9": answer}
    expected = WRONG.format(kind="A", address="192.0.2.9", seen=seen)
    assert acme.problem("a.example.com", "token") == expected


def test_every_address_of_a_domain_must_lead_here(acme: Any, internet: type[Connection]) -> None:
    """An ACME server prefers IPv6: a forgotten AAAA record is the classic reason for a failed order."""
    internet.answers |= {"192.0.2.1": (200, "token"), "2001:db8::9": (404, "")}
    expected = WRONG.format(kind="AAAA", address="2001:db8::9", seen="it answers 404")
    assert acme.problem("a.example.com", "token") == expected


def test_the_check_tells_of_every_domain_at_once(acme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = []

    def problem(domain: str, token: str) -> str | None:
        assert (acme.CHALLENGES / token).read_text() == token
        tokens.append(token)
        return None if domain == "good" else f"{domain} is wrong"

    monkeypatch.setattr(acme, "problem", problem)
    acme.check(["good"])
    with pytest.raises(SystemExit) as ended:
        acme.check(["bad", "good", "worse"])
    assert ended.value.code == (
        "slipway-acme: no certificate was ordered, since it could not be issued:\n"
        "  - bad is wrong\n  - worse is wrong\n"
        "(If this host can't reach itself by its public name, set acme.check to False in the inventory.)"
    )
    assert list(acme.CHALLENGES.iterdir()) == [], "the challenge file must not stay"
    assert len(set(tokens)) == 2 and all(len(token) > 32 for token in tokens), "nobody may guess it"


@dataclass
class Certbot:
    """In place of `subprocess.run` where certbot is called; openssl runs for real."""

    acme: Any
    argv: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    outputs: list[tuple[int, str]] = field(default_factory=lambda: [(0, "")])
    issues: list[str] | None = None
    calls: int = 0
    real: Callable[..., Any] = subprocess.run

    def __call__(self, argv: list[str], **options: Any) -> Any:
        if argv[0] != self.acme.CERTBOT:
            return self.real(argv, **options)
        self.argv, self.environment = argv, options["env"]
        code, output = self.outputs[min(self.calls, len(self.outputs) - 1)]
        self.calls += 1
        if self.issues and code == 0:
            issue(self.acme, self.issues)
        return subprocess.CompletedProcess(argv, code, output)


@pytest.fixture
def certbot(acme: Any, monkeypatch: pytest.MonkeyPatch) -> Certbot:
    """A certbot that issues what it is told to."""
    made = Certbot(acme)
    monkeypatch.setattr(acme.subprocess, "run", made)
    monkeypatch.setattr(acme, "check", lambda domains: None)
    monkeypatch.setattr(acme.time, "sleep", lambda seconds: None)
    return made


def test_an_order(acme: Any, certbot: Certbot) -> None:
    certbot.issues = ["a.example.com", "b.example.com"]
    acme.order(given("a.example.com", "b.example.com", ca_file="/ca.pem"))
    assert certbot.argv == [
        *(acme.CERTBOT, "certonly", "--config", acme.CONFIG),
        *("--cert-name", "notes", "--renew-with-new-domains"),
        *("--domain", "a.example.com", "--domain", "b.example.com"),
    ]
    assert certbot.environment["REQUESTS_CA_BUNDLE"] == "/ca.pem"


def test_an_order_from_another_server_is_a_new_one(acme: Any, certbot: Certbot) -> None:
    issue(acme, ["a.example.com"], server="https://staging.example.com/dir")
    certbot.issues = ["a.example.com"]
    acme.order(given("a.example.com"))
    assert "--force-renewal" in certbot.argv


def test_an_order_for_other_domains_is_no_forced_one(acme: Any, certbot: Certbot) -> None:
    issue(acme, ["a.example.com"])
    certbot.issues = ["b.example.com"]
    acme.order(given("b.example.com"))
    assert "--force-renewal" not in certbot.argv


@pytest.mark.parametrize("before", [False, True])
def test_an_order_that_fails(acme: Any, certbot: Certbot, before: bool) -> None:
    if before:
        issue(acme, ["a.example.com"])
    certbot.outputs = [(1, "\nurn:ietf:params:acme:error:rateLimited\n")]
    with pytest.raises(SystemExit) as ended:
        acme.order(given("a.example.com", "b.example.com"))
    kept = " The certificate from before stays in use." if before else ""
    assert ended.value.code == (
        f"slipway-acme: certbot could not get the certificate for a.example.com, b.example.com.{kept} It says:\n"
        "urn:ietf:params:acme:error:rateLimited\nMore in /var/log/letsencrypt/letsencrypt.log."
    )


def test_an_order_is_believed_only_when_the_certificate_is_there(acme: Any, certbot: Certbot) -> None:
    certbot.issues = ["other.example.com"]
    with pytest.raises(SystemExit, match=r"could not get the certificate for a\.example\.com"):
        acme.order(given("a.example.com"))


@pytest.mark.parametrize(
    "output", ["Another instance of Certbot is already running.", "JWS has an invalid anti-replay nonce"]
)
def test_an_order_that_has_to_wait(acme: Any, certbot: Certbot, output: str) -> None:
    certbot.issues = ["a.example.com"]
    certbot.outputs = [(1, output), (1, output), (0, "")]
    acme.order(given("a.example.com"))
    assert certbot.calls == 3


def test_an_order_sweeps_a_killed_runs_challenges(acme: Any, certbot: Certbot) -> None:
    acme.CHALLENGES.mkdir()
    (acme.CHALLENGES / "slipway-old").write_text("")
    (acme.CHALLENGES / "certbots-own").write_text("")
    certbot.issues = ["a.example.com"]
    acme.order(given("a.example.com"))
    assert [path.name for path in acme.CHALLENGES.iterdir()] == ["certbots-own"]


@pytest.mark.parametrize("check", [False, True])
def test_the_check_can_be_switched_off(
    acme: Any, certbot: Certbot, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    checked: list[list[str]] = []
    monkeypatch.setattr(acme, "check", checked.append)
    certbot.issues = ["a.example.com"]
    acme.order(given("a.example.com", check=check))
    assert checked == ([["a.example.com"]] if check else [])


def test_what_is_left_of_a_half_made_certificate_is_set_aside(acme: Any, certbot: Certbot) -> None:
    """certbot refuses a name of which any part is there."""
    issue(acme, ["a.example.com"])
    (acme.LETSENCRYPT / "archive/notes").mkdir(parents=True)
    (acme.LETSENCRYPT / "archive/notes/privkey1.pem").write_text("key")
    (acme.LETSENCRYPT / "archive/other").mkdir()
    (acme.LETSENCRYPT / "renewal/notes.conf").unlink()
    certbot.issues = ["a.example.com"]
    acme.order(given("a.example.com"))
    (aside,) = acme.LEFTOVERS.iterdir()
    assert sorted(tree(aside)) == ["archive/notes/privkey1.pem", "live/notes/fullchain.pem"], "nothing is thrown away"
    assert stat.S_IMODE(acme.LEFTOVERS.stat().st_mode) == 0o700
    assert (acme.LETSENCRYPT / "archive/other").is_dir()
    assert acme.has(given("a.example.com"))


def test_a_certificate_that_is_whole_stays_where_it_is(acme: Any, certbot: Certbot) -> None:
    issue(acme, ["a.example.com"])
    certbot.issues = ["a.example.com", "b.example.com"]
    acme.order(given("a.example.com", "b.example.com"))
    assert not acme.LEFTOVERS.exists()
