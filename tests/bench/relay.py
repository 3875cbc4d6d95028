"""A TCP relay on 127.0.0.1 that makes a host far away, for kernels without netem (tc-netem(8)).

Each direction holds what it reads for half the round trip and passes it on in order, at whatever rate it came: many
chunks are under way at once, as on a long line. The handshake counts too: what the client says first waits for the
round trip that its connect() would have taken.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

CHUNK = 256 * 1024
"""Bytes read at once."""
UNDER_WAY = 64 * 1024 * 1024
"""Bytes that one direction holds at most; a reader that got so far ahead waits."""
CONNECTIONS = 64
"""Connections at once; a further one is closed."""
SECONDS_TO_CONNECT = 10


class _Line:
    """One direction of a connection: what is read from `source` is written to `sink` after `delay` seconds."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float, opens: float) -> None:
        self.source, self.sink, self.delay, self.opens = source, sink, delay, opens
        self.held: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._write)]

    def _read(self) -> None:
        data = b"-"
        while data:
            try:
                data = self.source.recv(CHUNK)
            except OSError:  # the connection was reset, or the relay stops
                data = b""
            due = max(time.monotonic(), self.opens) + self.delay
            with self.changed:
                self.changed.wait_for(lambda: self.size < UNDER_WAY)
                self.held.append((due, data))  # no data: the end, which is held as long
                self.size += len(data)
                self.changed.notify_all()

    def _write(self) -> None:
        broken = False
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.held)
                due, data = self.held.popleft()
            if data and not broken:
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    self.sink.sendall(data)
                except OSError:  # nobody is there any more: the rest is read and dropped
                    broken = True
            with self.changed:
                self.size -= len(data)
                self.changed.notify_all()
            if not data:
                time.sleep(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):  # not connected any more
                    self.sink.shutdown(socket.SHUT_WR)
                return


class Relay:
    """The relay, as a context manager; `port` is where it listens, `delay` the round trip that it adds, in seconds.

    A changed `delay` counts for connections made from then on.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay = 0.0
        self.connections = 0
        """How many were made."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection, and stop."""
        with contextlib.suppress(OSError):  # as accept() does: a listener that is shut down says so
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS_TO_CONNECT)
        with self._lock:
            connections = list(self._open)
        for each in connections:
            with contextlib.suppress(OSError):  # closed by its peer already
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the relay stops
                return
            with self._lock:
                full = len(self._open) >= 2 * CONNECTIONS
            if full:
                client.close()
                continue
            self.connections += 1
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        trip, began = self.delay, time.monotonic()
        # SYN, SYN-ACK, and the ACK by which the server knows: three halves until it says its first word.
        time.sleep(1.5 * trip)
        try:
            server = socket.create_connection(self.target, timeout=SECONDS_TO_CONNECT)
        except OSError:  # as a host that refuses
            client.close()
            return
        server.settimeout(None)
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        lines = (
            _Line(client, server, trip / 2, began + trip),
            _Line(server, client, trip / 2, began),
        )
        threads = [thread for line in lines for thread in line.threads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()
