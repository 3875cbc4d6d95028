"""A client of HTTP/2 that can do what no proper one does: keep bodies back, and answers unread."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes


class Http2:
    """One connection; what was answered is in `statuses` and `bodies`, by the stream."""

    def __init__(self, connect: ssl.SSLSocket, domain: str = "notes.test", *, window: int = 65_535) -> None:
        """Begin on a connection that chose h2 by ALPN.

        + window: bytes of an answer that the server may send before we take some; with 0, nginx 1.22 keeps even the
          header
        """
        assert connect.selected_alpn_protocol() == "h2"
        self.socket, self.domain = connect, domain
        config = H2Configuration(header_encoding="utf-8", validate_outbound_headers=False,
                                 normalize_outbound_headers=False)  # fmt: skip
        self.h2 = H2Connection(config)
        self.h2.local_settings = type(self.h2.local_settings)(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        """Streams whose answer is whole, or that the server gave up (status 0 without an answer)."""
        self._flush()

    def __enter__(self) -> Http2:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, *, end: bool = True) -> int:
        """Send a request's header; its stream. `end`: no body follows."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", self.domain), (":path", path)]
        self.h2.send_headers(stream, [*fields, *(headers or {}).items()], end_stream=end)
        self._flush()
        return stream

    def body(self, bodies: Mapping[int, bytes], *, end: bool = False) -> None:
        """Send parts of bodies, side by side, as far as the server takes them; `end`: nothing more follows."""
        left = dict(bodies)
        while left := {stream: part for stream, part in left.items() if stream not in self.ended}:
            moved = False
            for stream, part in left.items():
                with suppress(StreamClosedError):
                    size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(part))
                    if size or not part:
                        moved = True
                        left[stream] = part[size:]
                        if not left[stream]:
                            self.h2.send_data(stream, part[:size], end_stream=end)
                            self._flush()
                        else:
                            self.h2.send_data(stream, part[:size])
            left = {stream: part for stream, part in left.items() if part}
            self._flush()
            if left and not moved:
                self.receive()

    def receive(self, seconds: float = 20) -> None:
        """Take in what comes next."""
        self.socket.settimeout(seconds)
        received = self.socket.recv(65_536)
        assert received, "the server closed the connection"
        for event in self.h2.receive_data(received):
            if isinstance(event, ResponseReceived):
                self.statuses[event.stream_id] = next(
                    int(value) for name, value in event.headers if str(name) == ":status"
                )
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded | StreamReset):
                self.statuses.setdefault(event.stream_id, 0)
                self.ended.add(event.stream_id)
        self._flush()

    def begun(self, streams: list[int]) -> list[int]:
        """The statuses of these, as soon as all answers have begun."""
        while not {*streams} <= {*self.statuses}:
            self.receive()
        return [self.statuses[stream] for stream in streams]

    def until_quiet(self) -> None:
        """Take in what comes, until nothing does for a second."""
        with suppress(TimeoutError):
            while True:
                self.receive(1)

    def answers(self, streams: list[int]) -> list[int]:
        """The statuses of these, as soon as all are answered."""
        while not {*streams} <= self.ended:
            self.receive()
        return [self.statuses[stream] for stream in streams]

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())
