"""tests/bench: the relay that makes a host far away, the state that every tool holds, and the figures."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.bench.relay import Relay

TRIP = 0.1
SLACK = 0.06
"""What a busy machine adds."""


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server on 127.0.0.1 that sends back what it gets, and ends when its client does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(65536)
    return data


@pytest.fixture
def far(echo: int) -> Iterator[socket.socket]:
    """A connection to that server, `TRIP` away, over which an echo came back already."""
    with Relay("127.0.0.1", echo) as relay:
        relay.delay = TRIP
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as connection:
            connection.sendall(b"-")
            received(connection, 1)
            yield connection


def test_an_echo_takes_the_round_trip(far: socket.socket) -> None:
    began = time.monotonic()
    far.sendall(b"one")
    assert received(far, 3) == b"one"
    assert TRIP <= time.monotonic() - began < TRIP + SLACK


def test_ten_echoes_under_way_at_once_take_one_round_trip_in_order(far: socket.socket) -> None:
    began, sent = time.monotonic(), b""
    for number in range(10):
        far.sendall(b"%d" % number)
        sent += b"%d" % number
        time.sleep(0.002)
    assert received(far, 10) == sent
    assert TRIP <= time.monotonic() - began < TRIP + SLACK + 0.02


def test_much_takes_little_longer_than_little(far: socket.socket) -> None:
    much = b"0123456789abcdef" * 262144  # 4 MiB
    began = time.monotonic()
    sender = threading.Thread(target=far.sendall, args=(much,))
    sender.start()
    assert received(far, len(much)) == much
    sender.join()
    assert time.monotonic() - began < TRIP + 1


def test_the_end_is_passed_on_after_what_came_before_it(far: socket.socket) -> None:
    far.sendall(b"last words")
    far.shutdown(socket.SHUT_WR)
    assert received(far, 10) == b"last words"
    assert far.recv(1) == b""


def test_connecting_counts_as_a_round_trip(echo: int) -> None:
    with Relay("127.0.0.1", echo) as relay:
        relay.delay = TRIP
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as connection:
            connection.sendall(b"-")
            received(connection, 1)
        assert 2 * TRIP <= time.monotonic() - began < 2 * TRIP + SLACK
        assert relay.connections == 1


def test_a_relay_that_stopped_holds_no_connection(echo: int) -> None:
    with Relay("127.0.0.1", echo) as relay:
        connection = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
        connection.sendall(b"-")
        received(connection, 1)
    with connection:
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.port), timeout=10)
