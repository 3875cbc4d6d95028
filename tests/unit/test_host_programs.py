"""The programs that run on the host, loaded as modules, with their paths in a temporary folder."""

from __future__ import annotations

import argparse
import ast
import contextlib
import http.client
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.inventories import certificate, new_key
from tests.unit.programs import (
    ACCESS,
    ACME,
    GUEST,
    MANIFEST,
    MODULES,
    NGINX,
    PROGRAMS,
    RELEASE,
    ROOT,
    SOURCES,
    SSHD,
    STARTED,
    TEXT,
    TREES,
    Recorder,
    load,
    tree,
)

# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [*PROGRAMS, *MODULES])
def test_a_program_runs_with_python_3_10_and_nothing_else(path: str) -> None:
    text = (ROOT / "files" / path).read_text()
    begins = (ROOT / "files" / STARTED.get(path, path)).read_text()
    if path not in MODULES:  # they aren't started
        assert begins.startswith("#!/usr/bin/python3 -IS\n"), "nothing of the environment's, no time for site-packages"
    parsed = ast.parse(text, feature_version=(3, 10))
    imported = {
        name.split(".")[0]
        for node in ast.walk(parsed)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    texts = {Path(TEXT).stem}
    ours = {RELEASE: {Path(each).stem for each in (NGINX, *MODULES)}, ACCESS: texts | {Path(SSHD).stem}, ACME: texts}
    ours |= {each: {Path(TREES).stem} for each in (GUEST, MANIFEST, SOURCES)}
    assert imported <= sys.stdlib_module_names | ours.get(path, set()), imported
    assert "tomllib" not in imported, "since Python 3.11"
    attributes = {node.attr for node in ast.walk(parsed) if isinstance(node, ast.Attribute)}
    assert not attributes & {"UTC", "StrEnum", "file_digest", "batched", "walk", "chdir"}, "newer than Python 3.10"


@pytest.mark.parametrize("path", STARTED)
def test_a_program_that_is_a_module_and_what_starts_it(path: str) -> None:
    """Where the roles put them; only what changes the host anyway keeps it compiled."""
    parsed = ast.parse((ROOT / "files" / STARTED[path]).read_text(), feature_version=(3, 10))
    assert "/opt/slipway/lib" in [node.value for node in ast.walk(parsed) if isinstance(node, ast.Constant)]
    [(module, [imported]), shown] = [
        (node.module, [one.name for one in node.names]) for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom)
    ]
    assert module == Path(path).stem and callable(getattr(load(path), imported))
    assert shown == ("slipway_text", ["outlet"]), "whatever it prints passes there"
    assert [ast.unparse(node) for node in parsed.body[-2:]] == ["outlet()", "main()"]


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_says_who_manages_it(path: str) -> None:
    documentation = " ".join(load(path).__doc__.split())
    assert "Managed by Slipway (roles/" in documentation


@pytest.mark.parametrize("path", PROGRAMS)
def test_a_program_explains_itself_and_refuses_what_it_does_not_know(path: str) -> None:
    program = ROOT / "files" / path
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {program.stem.replace('_', '-')} "), done.stderr
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

    def prove(self, expected: dict[str, str | None], unmask: bool = False, alone: bool = True) -> None:
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
    program = load(NGINX)
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
    text: str = load(NGINX).explain(said)
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


def test_a_check_changes_nothing(nginx: Nginx) -> None:
    """A release is about to switch: is what is on disk, whoever wrote it, what nginx would take?"""
    nginx.program.apply(configuration())
    before = tree(nginx.etc)
    nginx.program.check()
    assert nginx.validated[-1] == [] and len(nginx.proven) == 1 and nginx.run.calls == []
    nginx.refuses = "nginx refuses the configuration"
    with pytest.raises(nginx.program.Refused, match=r"^nginx refuses the configuration$"):
        nginx.program.check()
    assert tree(nginx.etc) == before


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["check"], "check"),
        (["reload"], "reload"),
        (["switch", "notes", "r1"], "switch notes r1"),
        (["switch", "notes", "none"], "switch notes none"),
    ],
)
def test_a_command_of_the_command_line(
    nginx: Nginx, monkeypatch: pytest.MonkeyPatch, argv: list[str], called: str
) -> None:
    made: list[str] = []
    for name in ("check", "reload", "switch", "apply"):
        monkeypatch.setattr(nginx.program, name, lambda *given, name=name: made.append(" ".join((name, *given))))
    monkeypatch.setattr(sys, "argv", ["slipway-nginx", *argv])
    nginx.program.main()
    assert made == [called]


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


def test_nginx_workers_are_its_own_children(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any process can take a worker's title."""
    program, proc = nginx.program, nginx.etc / "proc"
    processes = {
        10: (b"nginx: master process /usr/sbin/nginx\0", 1),
        11: (b"nginx: worker process\0\0", 10),
        12: (b"nginx: worker process is shutting down\0", 10),
        13: (b"nginx: worker process\0", 999),
        14: (b"nginx: cache manager process\0", 10),
        15: (b"", 2),
    }
    for number, (title, parent) in processes.items():
        (proc / str(number)).mkdir(parents=True)
        (proc / str(number) / "cmdline").write_bytes(title)
        (proc / str(number) / "stat").write_text(f"{number} (a ) b S 10) S {parent} {number} 0 0\n")
    (proc / "16").mkdir()  # it ended while we looked
    # A stranger's title may have no end: to open this one is to wait for ever.
    (proc / "13/cmdline").unlink()
    os.mkfifo(proc / "13/cmdline")
    (proc / "12/cmdline").write_bytes(processes[12][0] + bytes(1 << 20))
    monkeypatch.setattr(program, "MASTER", nginx.etc / "nginx.pid")
    monkeypatch.setattr(program, "Path", lambda path: {"/proc": proc}[path])
    assert program.workers() == {}, "nginx doesn't run"
    (nginx.etc / "nginx.pid").write_text("10\n")
    assert program.workers() == {11: "nginx: worker process", 12: "nginx: worker process is shutting down"}
    assert program.accepting() == {11}


def test_an_answer_that_trickles_ends(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have the port."""
    here, there = socket.socketpair()
    clock = iter([0.0, *(number / 2 for number in range(1, 100))])
    monkeypatch.setattr(nginx.program, "time", argparse.Namespace(monotonic=lambda: next(clock)))
    given: list[float] = []

    class Slow:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            here.close()

        def sendall(self, data: bytes) -> None: ...

        def settimeout(self, seconds: float) -> None:
            given.append(seconds)

        def recv(self, size: int) -> bytes:
            if given and given[-1] < 0.01:
                raise TimeoutError
            return b"H"

    monkeypatch.setattr(nginx.program.socket, "create_connection", lambda *_, **__: Slow())
    assert nginx.program.ask("/generation") is None
    assert given == [1.5, 1.0, 0.5, 0.001]
    there.close()


def test_a_proof_needs_the_right_answer_from_new_workers(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(NGINX)
    workers = iter([{1, 2}, {1, 2}, {2, 3}, {3, 4}])
    clock = iter(range(100))
    monkeypatch.setattr(program, "run", nginx.run)
    monkeypatch.setattr(program, "accepting", lambda: next(workers, {4, 5}))
    monkeypatch.setattr(program, "ask", lambda path: "g")
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(program.time, "monotonic", lambda: next(clock))
    program.reload_and_prove({"/generation": "g"})
    assert not list(workers), "while an old one accepts connections, somebody is served the old configuration"
    asked = "systemctl kill --kill-whom=main --signal=HUP nginx"
    assert nginx.run.calls == ["systemctl is-active --quiet nginx", asked]
    with pytest.raises(program.Refused, match=r"isn't live \(/generation is g, not h\)"):
        program.reload_and_prove({"/generation": "h"})
    monkeypatch.setattr(program, "accepting", lambda: {2, 3})
    with pytest.raises(program.Refused, match=r"isn't live \(old workers go on\)"):
        program.reload_and_prove({"/generation": "g"})
    workers = iter([{1, 2}, {2, 3}])
    monkeypatch.setattr(program, "accepting", lambda: next(workers))
    program.reload_and_prove({"/generation": "g"}, alone=False)


def test_an_nginx_that_is_stopped_is_started(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(NGINX)
    nginx.run.failing = {"is-active": ""}
    monkeypatch.setattr(program, "run", nginx.run)
    monkeypatch.setattr(program, "accepting", lambda: {9})
    monkeypatch.setattr(program, "ask", lambda path: "g")
    program.reload_and_prove({"/generation": "g"})
    assert nginx.run.calls[-1] == "systemctl start nginx"
    nginx.run.failing |= {"systemctl start": ""}
    nginx.run.printing = {"journalctl": "bind() failed"}
    with pytest.raises(program.Refused, match=r"^nginx doesn't start:\nbind\(\) failed$"):
        program.reload_and_prove({"/generation": "g"})


def test_nginx_minus_t_sees_the_candidate_in_its_place(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(NGINX)
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


# ── slipway-acme ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """slipway-acme with certbot's folder and the challenges in a temporary one."""
    program = load(ACME)
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

    def connect(self) -> None:
        """Nothing."""
        self.sock = None

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

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(http.client, "HTTPConnection", Fresh)
    return Fresh


def test_a_domain_that_leads_here(acme: Any, internet: type[Connection]) -> None:
    internet.answers |= {"192.0.2.1": (200, "token\n"), "2001:db8::1": (200, "token")}
    assert acme.problem("a.example.com", "token") is None
    path = "/.well-known/acme-challenge/token"
    assert internet.asked == [("192.0.2.1", path, "a.example.com"), ("2001:db8::1", path, "a.example.com")]


def test_a_challenge_that_trickles_ends(acme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the connection lets its socket go, since the answer says so."""
    monkeypatch.setattr(acme, "SECONDS", 0.5)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n"

    def trickle(there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            there.sendall(head)
            while True:
                there.sendall(b"x")
                time.sleep(0.1)

    here, there = socket.socketpair()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: here)
    monkeypatch.setattr(here.__class__, "setsockopt", lambda *_: None)
    with there:
        threading.Thread(target=trickle, args=[there], daemon=True).start()
        began = time.monotonic()
        status, body = acme.challenge("192.0.2.1", "a.example.com", "token")
        assert status == 200 and len(body) < 20
    assert time.monotonic() - began < 4


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
