"""slipway_host.http, over a pair of sockets: an answer comes whole and in time, or there is none."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from slipway_host import http

GIVEN = {"Host": "notes.example.com"}


def answering(first: bytes, then: bytes = b"") -> socket.socket:
    """A connection on which this is answered, and then this again and again for as long as somebody listens."""
    here, there = socket.socketpair()
    here.settimeout(5)

    def answer() -> None:
        with there, contextlib.suppress(OSError):
            there.recv(4096)
            there.sendall(first)
            while then:
                there.sendall(then)
                time.sleep(0.05)

    threading.Thread(target=answer, daemon=True).start()
    return here


def test_an_answer() -> None:
    head = b"HTTP/1.1 503 x\r\nX-Slipway-Release: r1\r\nContent-Length: 600\r\n\r\n"
    answer = http.ask(lambda: answering(head + b" no " + b"x" * 596), "/readyz", GIVEN, 5)
    assert (answer.status, answer.headers["X-Slipway-Release"]) == (503, "r1")
    assert answer.body.startswith("no x") and len(answer.body) == 399, "its beginning, without white space"


def test_what_is_asked() -> None:
    here, there = socket.socketpair()
    with there:
        there.sendall(b"HTTP/1.1 204 x\r\n\r\n")
        http.ask(lambda: here, "/a", GIVEN | {"User-Agent": "slipway"}, 5)
        lines = there.recv(4096).decode().split("\r\n")
    assert lines[0] == "GET /a HTTP/1.1"
    assert {"Host: notes.example.com", "Connection: close", "User-Agent: slipway"} <= {*lines}


@pytest.mark.parametrize(
    "first",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 90\r\n\r\nready",
    ],
)
def test_an_answer_that_trickles_is_none(first: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(http.NoAnswer, match=r"^no whole answer within 0\.3 s$"):
        http.ask(lambda: answering(first, b"x"), "/", GIVEN, 0.3)
    assert time.monotonic() - began < 3


def test_no_answer() -> None:
    def refused() -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(http.NoAnswer, match=r"^no answer \(\[Errno 111\] Connection refused\)$"):
        http.ask(refused, "/", GIVEN, 5)
    with pytest.raises(http.NoAnswer, match=r"^no answer \(nonsense"):
        http.ask(lambda: answering(b"nonsense\r\n\r\n"), "/", GIVEN, 5)
