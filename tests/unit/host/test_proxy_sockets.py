"""Connections of sockets of this machine are counted, whatever their names are."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from slipway_host.proxy import sockets

Connect = Callable[[bytes | str, int, int], list[socket.socket]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One whose paths are short enough for a socket's."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Listens at a name, with so many connections, of which so many are accepted."""
    with ExitStack() as stack:

        def make(name: bytes | str, number: int, accepted: int) -> list[socket.socket]:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(name)
            listener.listen()
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(number)]
            for client in clients:
                client.connect(name)
            return [*clients, *(stack.enter_context(listener.accept()[0]) for _ in range(accepted))]

        yield make


def failing(number: int) -> Callable[[], list[Any]]:
    """In place of the kernel's list."""

    def listed() -> list[Any]:
        raise OSError(number, os.strerror(number))

    return listed


@pytest.fixture(params=["sock_diag", "names"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernel is asked: on a host whose kernel has no list of sockets, by their names."""
    if request.param == "names":
        monkeypatch.setattr(sockets, "_listed", failing(errno.ENOENT))
    return str(request.param)


@pytest.mark.usefixtures("asked")
def test_connections_are_counted(folder: Path, connect: Connect) -> None:
    """Those that wait to be accepted, too; and of this socket alone."""
    path = folder / "one.sock"
    assert sockets.connections(path) == 0, "it isn't there"
    connect(str(folder / "none.sock"), 0, 0)
    assert sockets.connections(folder / "none.sock") == 0, "it listens, and that is all"
    connect(str(folder / "other.sock"), 2, 2)
    opened = connect(str(path), 3, 1)
    assert sockets.connections(path) == 3
    for each in opened:
        each.close()
    assert sockets.connections(path) == 2, "those that wait may hold a request"


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", [b"\0\xff\xfe", b"\0%s", b"\0 %s", b"\0x\n0: %s"])
def test_a_name_is_no_path(folder: Path, connect: Connect, name: bytes) -> None:
    path = os.fsencode(folder / "one.sock")
    connect(path, 1, 1)
    connect(name.replace(b"%s", path), 3, 3)
    assert sockets.connections(Path(os.fsdecode(path))) == 1


def test_a_name_that_forges_a_line(folder: Path, connect: Connect) -> None:
    path = os.fsencode(folder / "one.sock")
    connect(path, 1, 1)
    forged = b"0000000000000000: 00000002 00000000 00000000 0001 03 4711 "
    connect((b"\0\n" + forged + path)[:107], 1, 1)
    assert sockets.connections(Path(os.fsdecode(path))) == 1


def test_a_socket_of_the_same_path_elsewhere(asked: str, folder: Path, connect: Connect) -> None:
    """One that was there before, say: the path leads to another one now."""
    path = folder / "one.sock"
    connect(str(path), 2, 2)
    path.unlink()
    connect(str(path), 1, 1)
    assert sockets.connections(path) == (1 if asked == "sock_diag" else 3)


def test_another_error_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "one.sock").touch()
    monkeypatch.setattr(sockets, "_listed", failing(errno.EPERM))
    with pytest.raises(PermissionError):
        sockets.connections(folder / "one.sock")
