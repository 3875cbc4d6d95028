"""What all Gunicorns share (files/app/gunicorn.conf.py), with stand-ins for uvicorn, which only apps have.

That a real client hears the goodbye is told on a host: tests/e2e/test_nginx.py.
"""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from slipway import project


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


def shared(monkeypatch: pytest.MonkeyPatch, implementation: type | None) -> dict[str, Any]:
    """The file's values, where uvicorn would take this implementation of WebSockets."""
    worker = type("UvicornWorker", (), {"CONFIG_KWARGS": {"http": "auto"}})
    monkeypatch.setitem(sys.modules, "uvicorn_worker", SimpleNamespace(UvicornWorker=worker))
    auto = SimpleNamespace(AutoWebSocketsProtocol=implementation)
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.websockets.auto", auto)
    values: dict[str, Any] = {}
    exec((project.root() / "files/app/gunicorn.conf.py").read_text(), values)
    assert issubclass(values["worker_class"], worker)
    return values


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = shared(monkeypatch, None)
    assert values["worker_class"].CONFIG_KWARGS == {"http": "auto"}, "no WebSockets, nothing to change about them"
    assert values["forwarded_allow_ips"] == "*"
    assert values["worker_tmp_dir"] == "/dev/shm"


@pytest.mark.parametrize("implementation", [WebSocket, OldWebSocket])
def test_a_goodbye_arrives(monkeypatch: pytest.MonkeyPatch, implementation: type[WebSocket]) -> None:
    """Only what is sent ends; what comes is read and dropped; who doesn't end the connection then is cut off."""
    values = shared(monkeypatch, implementation)
    options = values["worker_class"].CONFIG_KWARGS
    assert options["http"] == "auto" and issubclass(options["ws"], implementation)
    values["FAREWELL_SECONDS"] = 0.05

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
