"""The running nginx, which tests stand in for: asked, given a configuration to read, reloaded and proven."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_host.layout import Layout
from slipway_host.proxy import live
from slipway_host.proxy.live import Refused
from slipway_host.system import System

from tests.unit.host.fakes import FakeSystem


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    """A host."""
    return FakeSystem(tmp_path)


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
    advice = f"\n{path} isn't Slipway's. Correct its line 7 (`nginx -t` checks it), then run again."
    assert live.explain(System(Layout()), said) == said.strip() + (advice if told else "")


def test_what_names_no_file_is_told_as_it_is(system: FakeSystem) -> None:
    assert live.explain(system, "  nginx: [emerg] bind() failed\n") == "nginx: [emerg] bind() failed"


def test_nginx_workers_are_its_own_children(system: FakeSystem) -> None:
    """Any process can take a worker's title."""
    layout = system.layout
    processes = {
        10: (b"nginx: master process /usr/sbin/nginx\0", 1),
        11: (b"nginx: worker process\0\0", 10),
        12: (b"nginx: worker process is shutting down\0", 10),
        13: (b"nginx: worker process\0", 999),
        14: (b"nginx: cache manager process\0", 10),
        15: (b"", 2),
    }
    for number, (title, parent) in processes.items():
        (layout.proc / str(number)).mkdir(parents=True)
        (layout.proc / str(number) / "cmdline").write_bytes(title)
        (layout.proc / str(number) / "stat").write_text(f"{number} (a ) b S 10) S {parent} {number} 0 0\n")
    (layout.proc / "16").mkdir()  # it ended while we looked
    # A stranger's title may have no end: to open this one is to wait for ever.
    (layout.proc / "13/cmdline").unlink()
    os.mkfifo(layout.proc / "13/cmdline")
    (layout.proc / "12/cmdline").write_bytes(processes[12][0] + bytes(1 << 20))
    assert live.workers(system) == {}, "nginx doesn't run"
    layout.nginx_pid.parent.mkdir()
    layout.nginx_pid.write_text("10\n")
    assert live.workers(system) == {11: "nginx: worker process", 12: "nginx: worker process is shutting down"}
    assert live.accepting(system) == {11}


def test_since_when_the_workers_serve(system: FakeSystem) -> None:
    """What they have read is what was there then: the first of those that accept connections."""
    layout = system.layout
    layout.nginx_pid.parent.mkdir(parents=True)
    layout.nginx_pid.write_text("10\n")
    assert live.since(system) is None
    for number, title, ticks in ((11, "nginx: worker process", 90_000), (12, "nginx: worker process", 80_050),
                                 (13, "nginx: worker process is shutting down", 5)):  # fmt: skip
        (layout.proc / str(number)).mkdir(parents=True)
        (layout.proc / str(number) / "cmdline").write_text(f"{title}\0")
        fields = ["S", "10", *["0"] * 17, str(ticks * live.TICKS // 100), "0"]
        (layout.proc / str(number) / "stat").write_text(f"{number} (nginx) {' '.join(fields)}\n")
    assert live.since(system) == system.time() - system.uptime() + 800.5


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The other end of what `ask` connects to."""
    here, there = socket.socketpair()

    def connected(where: tuple[str, int], seconds: float, source: tuple[str, int]) -> socket.socket:
        assert (where, source) == (("127.0.0.1", 80), ("127.83.76.87", 0)) and seconds == 2
        return here

    monkeypatch.setattr(socket, "create_connection", connected)
    return there


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nabc\n", "abc"),
        (b"HTTP/1.0 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\nabc\n", None),
        (b"abc", None),
        (b"", None),
    ],
)
def test_an_answer(system: FakeSystem, served: socket.socket, answer: bytes, told: str | None) -> None:
    served.sendall(answer)
    served.shutdown(socket.SHUT_WR)
    assert live.ask(system, "/generation") == told
    assert served.recv(1000) == b"GET /generation HTTP/1.0\r\nHost: slipway.internal\r\n\r\n"
    served.close()


@pytest.mark.parametrize(
    ("own", "source"), [("127.83.76.87", "127.83.76.87"), ("127.0.0.1", ""), (None, "127.83.76.87")]
)
def test_who_asks(system: FakeSystem, monkeypatch: pytest.MonkeyPatch, own: str | None, source: str) -> None:
    """A configuration of Slipway 0.1 doesn't know the address that this one asks from."""
    if own:
        system.layout.nginx_internal.parent.mkdir(parents=True)
        system.layout.nginx_internal.write_text(f"geo $realip_remote_addr $slipway_itself {{\n    {own} 1;\n}}\n")
    seen: list[tuple[str, int]] = []

    def refused(where: tuple[str, int], seconds: float, source: tuple[str, int]) -> socket.socket:
        seen.append(source)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refused)
    live.ask(system, "/generation")
    assert seen == [(source, 0)]


def test_nobody_answers(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refused)
    assert live.ask(system, "/generation") is None


def test_an_answer_that_trickles_ends(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have the port."""
    given: list[float] = []

    class Slow:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def sendall(self, data: bytes) -> None: ...

        def settimeout(self, seconds: float) -> None:
            given.append(seconds)

        def recv(self, size: int) -> bytes:
            if given and given[-1] < 0.01:
                raise TimeoutError
            system.at += 0.5
            return b"H"

    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: Slow())
    assert live.ask(system, "/generation") is None
    assert given == [1.5, 1.0, 0.5, 0.001]


def running(monkeypatch: pytest.MonkeyPatch, accepting: Callable[[], set[int]]) -> None:
    """An nginx that answers "g" to whatever it is asked, and has these workers."""
    monkeypatch.setattr(live, "ask", lambda system, path: "g")
    monkeypatch.setattr(live, "accepting", lambda system: accepting())


def test_a_proof_needs_the_right_answer_from_new_workers(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = iter([{1, 2}, {1, 2}, {2, 3}, {3, 4}])
    running(monkeypatch, lambda: next(workers, {4, 5}))
    live.reload_and_prove(system, {"/generation": "g"})
    assert not list(workers), "while an old one accepts connections, somebody is served the old configuration"
    asked = "systemctl kill --kill-whom=main --signal=HUP nginx"
    assert system.calls == ["systemctl is-active --quiet nginx", asked]
    system.printing["tail -n 5"] = "[emerg] bind() failed"
    with pytest.raises(Refused, match=r"isn't live \(/generation is g, not h\)\.\n\[emerg\] bind\(\) failed$"):
        live.reload_and_prove(system, {"/generation": "h"})
    assert 15 < sum(system.slept) < 16, "as long as a proof may take"
    running(monkeypatch, lambda: {2, 3})
    with pytest.raises(Refused, match=r"isn't live \(old workers go on\)"):
        live.reload_and_prove(system, {"/generation": "g"})


def test_a_proof_needs_a_new_worker_but_not_new_ones_alone(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: Iterator[set[int]] = iter([{1, 2}, {1, 2}, set(), {2, 3}])
    running(monkeypatch, lambda: next(workers))
    live.reload_and_prove(system, {"/generation": "g"}, alone=False)
    assert not list(workers)


@pytest.mark.parametrize("unmask", [False, True])
def test_an_nginx_that_is_stopped_is_started(system: FakeSystem, monkeypatch: pytest.MonkeyPatch, unmask: bool) -> None:
    system.failing = {"is-active": ""}
    running(monkeypatch, lambda: {9})
    live.reload_and_prove(system, {"/generation": "g"}, unmask)
    assert system.calls[-1] == "systemctl start nginx"
    assert bool(system.matching("unmask")) is unmask
    system.failing |= {"systemctl start": ""}
    system.printing = {"journalctl": "bind() failed"}
    with pytest.raises(Refused, match=r"^nginx doesn't start:\nbind\(\) failed$"):
        live.reload_and_prove(system, {"/generation": "g"})


def test_nginx_minus_t_sees_the_candidate_in_its_place(system: FakeSystem) -> None:
    live.validate(system, [(Path("/a"), Path("/b")), (Path("/c d"), Path("/e"))])
    (line,) = system.calls
    assert line.startswith("unshare --mount --propagation private sh -c ") and line.endswith(" sh /a /b /c d /e")
    assert "nginx -t" in line
    system.failing = {"unshare": "nginx: [emerg] x in /etc/nginx/conf.d/own.conf:1"}
    with pytest.raises(Refused, match=r"^nginx refuses the configuration; nothing was changed.\nnginx: .*\n.*own"):
        live.validate(system, [])


def test_what_nginx_says_is_shown_without_secrets(system: FakeSystem) -> None:
    system.hidden.hide(["hunter2hunter2"])
    system.failing = {"unshare": 'nginx: [emerg] unknown "hunter2hunter2" in /etc/x:1\x1b[2J'}
    with pytest.raises(Refused) as told:
        live.validate(system, [])
    assert "hunter2" not in str(told.value) and "\x1b" not in str(told.value)
