"""One HTTP/1.1 request, with one deadline for all of it, even if the answer comes byte by byte."""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket


class NoAnswer(Exception):
    """There was no answer, or no complete one in time; the message says which."""


class Answer:
    """An answer."""

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        """`body`: its beginning, stripped of white space."""
        self.status, self.body, self.headers = status, body, headers


def ask(
    connect: Callable[[], socket], path: str, headers: Mapping[str, str], seconds: float, most: int = 400
) -> Answer:
    """Ask for a path.

    + connect: opens the connection, which has a timeout of its own
    + headers: Host among them
    + seconds: for all of it, from the connection on
    + most: bytes of the body that are read

    Raises NoAnswer.
    """
    import http.client
    import socket
    import threading

    late = threading.Event()
    opened: list[socket.socket] = []  # the connection lets its own go where an answer says so

    def end() -> None:
        late.set()
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = connect()
        opened.append(connection.sock)
        timer.start()
        connection.request("GET", path, headers={"Connection": "close", **headers})
        response = connection.getresponse()
        body = response.read(most).decode(errors="replace").strip()
        if not late.is_set():
            return Answer(response.status, body, dict(response.getheaders()))
    except (OSError, http.client.HTTPException) as error:
        if not late.is_set() and not (opened and isinstance(error, TimeoutError)):  # two clocks, one meaning
            raise NoAnswer(f"no answer ({error or type(error).__name__})") from error
    finally:
        timer.cancel()
        connection.close()
    raise NoAnswer(f"no whole answer within {seconds:g} s")
