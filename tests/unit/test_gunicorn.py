"""What all Gunicorns share (files/app/gunicorn.conf.py), with stand-ins for uvicorn, which only apps have.

That a real client hears the goodbye is told on a host: tests/e2e/test_nginx.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from slipway import project

SERVERS = project.root() / "files/app/servers"


class Transport:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def is_closing(self) -> bool:
        return "close" in self.done

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def __getattr__(self, name: str) -> Any:
        return lambda: self.done.append(name)


class WebSocket:
    """As uvicorn's implementations are: one says goodbye and closes when a worker stops."""

    def __init__(self, transport: Transport, *, handshake_complete: bool = True) -> None:
        self.transport, self.handshake_complete = transport, handshake_complete
        self.received = b""

    def shutdown(self) -> None:
        self.transport.write(b"goodbye" if self.handshake_complete else b"500")
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.received += data


class OldWebSocket(WebSocket):
    """As the one on the older API of the websockets library: an event tells of the handshake."""

    def __init__(self, transport: Transport, *, handshake_complete: bool = True) -> None:
        super().__init__(transport)
        self.handshake_completed_event = asyncio.Event()
        if handshake_complete:
            self.handshake_completed_event.set()
        del self.handshake_complete

    def shutdown(self) -> None:
        self.transport.write(b"goodbye" if self.handshake_completed_event.is_set() else b"500")
        self.transport.close()


class UvicornWorker:
    """As uvicorn-worker's: it has a configuration of uvicorn."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"http": "auto"}

    def __init__(self, connections: int) -> None:
        self.cfg = SimpleNamespace(worker_connections=connections, graceful_timeout=7)
        self.config = SimpleNamespace(limit_concurrency=-1, limit_max_requests=60, timeout_notify=15)
        self.max_requests, self.signs = 60, 0

    def notify(self) -> None:
        self.signs += 1


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(SERVERS)])
    monkeypatch.setitem(sys.modules, "uvicorn", SimpleNamespace(Server=object))
    monkeypatch.setitem(sys.modules, "uvicorn_worker", SimpleNamespace(UvicornWorker=UvicornWorker))
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", SimpleNamespace(Arbiter=object))
    settings = [SimpleNamespace(name=name) for name in ("bind", "workers", "loglevel", "post_fork", "child_exit")]
    monkeypatch.setitem(sys.modules, "gunicorn.config", SimpleNamespace(KNOWN_SETTINGS=settings))
    monkeypatch.setitem(sys.modules, "gunicorn.workers.gthread", SimpleNamespace(ThreadWorker=object))
    for name in ("slipway_served", "slipway_uvicorn", "slipway_gunicorn", "slipway_journal"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("SLIPWAY_APP", "SLIPWAY_INTERFACE", "SLIPWAY_SERVER_CONFIG", "WEBSOCKETS_MAX_LINE_LENGTH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def shared(monkeypatch: pytest.MonkeyPatch, implementation: type | None) -> dict[str, Any]:
    """The file's values, where uvicorn would take this implementation of WebSockets."""
    auto = SimpleNamespace(AutoWebSocketsProtocol=implementation)
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.websockets.auto", auto)
    file = project.root() / "files/app/gunicorn.conf.py"
    values: dict[str, Any] = {"__file__": str(file)}
    exec(file.read_text(), values)
    return values


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = shared(monkeypatch, None)
    assert issubclass(values["worker_class"], UvicornWorker)
    assert values["worker_class"].CONFIG_KWARGS == {
        "http": "auto",
        "interface": "asgi3",
        "h11_max_incomplete_event_size": 262144,
    }, "no WebSockets, nothing to change about them"
    assert values["forwarded_allow_ips"] == "*"
    assert values["worker_tmp_dir"] == "/dev/shm"
    assert (values["limit_request_line"], values["limit_request_field_size"]) == (0, 262144)
    assert os.environ["WEBSOCKETS_MAX_LINE_LENGTH"] == "262144"
    assert values["worker_connections"] == 0
    assert values["worker_class"](0).config.limit_concurrency is None
    config = values["worker_class"](7).config
    assert config.limit_concurrency == 7
    assert config.timeout_graceful_shutdown == 7, "what is a stream ends after that"
    assert (config.limit_max_requests, config.timeout_notify) == (None, 1), "it leaves when it is told"


def test_settings_for_wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of uvicorn's has to be there, and the limit of connections is Gunicorn's own."""
    monkeypatch.setenv("SLIPWAY_INTERFACE", "wsgi")
    for name in ("uvicorn", "uvicorn_worker"):
        monkeypatch.setitem(sys.modules, name, None)
    values = shared(monkeypatch, None)
    assert not issubclass(values["worker_class"], UvicornWorker)
    assert "worker_connections" not in values
    seen: list[dict[str, str]] = []
    app = values["worker_class"].served(lambda environ, start: seen.append(environ))
    app({"HTTP_X_FORWARDED_FOR": "192.0.2.7", "HTTP_X_FORWARDED_PROTO": "https", "REMOTE_ADDR": ""}, None)
    assert (seen[0]["REMOTE_ADDR"], seen[0]["wsgi.url_scheme"]) == ("192.0.2.7", "https")


@pytest.mark.parametrize("named", ["", "json:dumps"])
def test_what_is_loaded(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """What the unit says; a release of before names its application on the command line alone."""
    if named:
        monkeypatch.setenv("SLIPWAY_APP", named)
    monkeypatch.setattr(UvicornWorker, "load_wsgi", lambda self: None, raising=False)
    worker = shared(monkeypatch, None)["worker_class"](0)
    worker.app = SimpleNamespace(callable=None)
    worker.load_wsgi()
    assert worker.app.callable is (json.dumps if named else None)


@pytest.mark.parametrize("implementation", [WebSocket, OldWebSocket])
def test_a_goodbye_arrives(monkeypatch: pytest.MonkeyPatch, implementation: type[WebSocket]) -> None:
    """Only what is sent ends; what comes is read and dropped; who doesn't end the connection then is cut off."""
    options = shared(monkeypatch, implementation)["worker_class"].CONFIG_KWARGS
    assert options["http"] == "auto" and issubclass(options["ws"], implementation)
    monkeypatch.setattr(sys.modules["slipway_uvicorn"], "FAREWELL_SECONDS", 0.05)

    async def stop() -> Transport:
        transport = Transport()
        socket = options["ws"](transport)
        socket.data_received(b"before")
        socket.shutdown()
        socket.data_received(b" after")
        assert socket.received == b"before"
        assert transport.done == [b"goodbye", "write_eof", "resume_reading"]
        assert socket.transport.is_closing(), "to the app it is closed"
        socket.transport.write(b"too late")
        socket.transport.close()
        assert len(transport.done) == 3
        await asyncio.sleep(0.1)
        return transport

    assert asyncio.run(stop()).done[3:] == ["close"]


@pytest.mark.parametrize("implementation", [WebSocket, OldWebSocket])
def test_a_handshake_under_way_ends_as_it_did(monkeypatch: pytest.MonkeyPatch, implementation: type[WebSocket]) -> None:
    values = shared(monkeypatch, implementation)

    async def stop() -> list[object]:
        transport = Transport()
        values["worker_class"].CONFIG_KWARGS["ws"](transport, handshake_complete=False).shutdown()
        return transport.done

    assert asyncio.run(stop()) == [b"500", "close"]


# ── workers that are replaced ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the master is told."""
    found: list[str] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append(signal.Signals(number).name))
    return found


def worker_with(monkeypatch: pytest.MonkeyPatch, requests: int, told: bool = False) -> Any:
    """A worker that has answered so many."""
    made = shared(monkeypatch, None)["worker_class"](0)
    made.server = SimpleNamespace(server_state=SimpleNamespace(total_requests=requests), should_exit=told)
    return made


def test_another_worker_serves_before_one_leaves(monkeypatch: pytest.MonkeyPatch, signals: list[str]) -> None:
    values = shared(monkeypatch, None)
    turns = sys.modules["slipway_gunicorn"].turns
    first, second = worker_with(monkeypatch, 59), worker_with(monkeypatch, 60)
    assert sys.modules["slipway_gunicorn"].turns is turns
    first.notify()
    assert (signals, first.signs) == ([], 1)
    second.notify()
    assert signals == ["SIGTTIN"]
    first.server.server_state.total_requests = 60
    first.notify()
    second.notify()
    worker_with(monkeypatch, 0).notify()
    assert signals == ["SIGTTIN"], "one after another; what serves now was started before the master heard of it"
    values["nworkers_changed"](None, 3, 2)
    first.notify()
    worker_with(monkeypatch, 0).notify()
    assert signals == ["SIGTTIN", "SIGTTOU"]
    values["nworkers_changed"](None, 2, 3)
    first.notify()
    assert signals == ["SIGTTIN", "SIGTTOU", "SIGTTIN"], "then it is the next one's turn"


def test_a_worker_that_leaves_asks_for_none(monkeypatch: pytest.MonkeyPatch, signals: list[str]) -> None:
    leaving = worker_with(monkeypatch, 100, told=True)
    leaving.notify()
    assert (signals, leaving.signs) == ([], 1)


def test_a_request_to_the_master_that_got_lost_is_made_again(
    monkeypatch: pytest.MonkeyPatch, signals: list[str]
) -> None:
    asking = worker_with(monkeypatch, 60)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    asking.notify()
    now += 29
    asking.notify()
    assert signals == ["SIGTTIN"]
    now += 2
    asking.notify()
    assert signals == ["SIGTTIN", "SIGTTIN"]


class Threads:
    """As Gunicorn's worker of threads: it leaves as soon as it is told."""

    def __init__(self) -> None:
        self.alive, self.nr, self.max_requests = True, 0, 60
        self.kept = SimpleNamespace(timeout=1e9)
        self.keepalived_conns = [self.kept]

    def notify(self) -> None: ...

    def handle_request(self, req: list[str], conn: object) -> None:
        req.append("answered")

    def handle_exit(self, sig: int, frame: object) -> None:
        self.alive = False


def test_threads_answer_what_is_on_its_way_on_kept_connections(
    monkeypatch: pytest.MonkeyPatch, signals: list[str]
) -> None:
    """For half a second each answer is the last of its connection; then those that are idle end."""
    monkeypatch.setenv("SLIPWAY_INTERFACE", "wsgi")
    monkeypatch.setitem(sys.modules, "gunicorn.workers.gthread", SimpleNamespace(ThreadWorker=Threads))
    worker = shared(monkeypatch, None)["worker_class"]()
    asked: list[str] = []
    req = SimpleNamespace(append=asked.append, force_close=lambda: asked.append("the last"))
    worker.handle_request(req, None)
    worker.handle_exit(15, None)
    worker.handle_request(req, None)
    assert worker.alive and asked == ["answered", "the last", "answered"]
    worker.handle_exit(15, None)
    assert worker.alive, "the master says it again each second"
    worker.nr = 100
    worker.notify()
    assert "SIGTTIN" not in signals
    time.sleep(0.7)
    assert signals == ["SIGTERM"], "it reminds itself"
    worker.handle_exit(15, None)
    assert not worker.alive and worker.kept.timeout <= time.monotonic() + 2


# ── an app's own configuration ───────────────────────────────────────────────────────────────────────────────────────

OWN = """
bind, workers, loglevel, helper = "0.0.0.0:80", 40, "debug", 1
def post_fork(server, worker): ...
def child_exit(server, worker): server.append(worker.pid)
"""


def test_of_an_apps_own_configuration_hooks_and_logs_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPWAY_SERVER_CONFIG", "gunicorn.conf.py")
    values = shared(monkeypatch, None)
    assert not {"bind", "workers", "helper"} & values.keys()
    assert values["loglevel"] == "debug" and values["post_fork"].__name__ == "post_fork"
    assert values["forwarded_allow_ips"] == "*"
    assert "gunicorn.conf.py: of bind, workers nothing counts here" in capsys.readouterr().err
    ended: list[int] = []
    monkeypatch.setattr(sys.modules["slipway_served"], "ended", ended.append)
    values["child_exit"](ended, SimpleNamespace(pid=7))
    assert ended == [7, 7], "Slipway's own, then the app's"
    assert values["child_exit"].__code__.co_argcount == 2, "Gunicorn counts them"


def test_without_one_nothing_of_the_apps_folder_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert "loglevel" not in shared(monkeypatch, None)
