"""The traffic's target, its kinds and its result: plain values, sent between two processes as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MOST_FAULTS = 50
"""Faults that are kept with their reasons; `Result.failed` counts them all."""


class ProberError(Exception):
    """There is no traffic, or no result of it; the message says why and what to do."""


@dataclass(frozen=True)
class Site:
    """Where the public finds a site. Raises ValueError for a URL that is none, or has a path."""

    url: str
    """https:// or http:// and the host, without a path; with a port where it isn't the scheme's own."""
    address: str | None = None
    """Connect here instead of what DNS says; SNI, Host and the check of the certificate stay those of `url`."""
    port: int | None = None
    """And to this port; None: the URL's."""
    ca_file: str | None = None
    """PEM file with the roots to trust; None: this machine's own store."""
    verify: bool = True
    """False believes any certificate: for sites with a self-signed one."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{self.url!r} is no site; write it without a path, as in https://notes.example.com")

    def shown(self, path: str = "") -> str:
        """The public address of a path, for messages."""
        return self.url.rstrip("/") + path


@dataclass(frozen=True)
class Load:
    """What is sent to a site. Raises ValueError where it asks for less than nothing."""

    short: tuple[str, ...] = ("/healthz",)
    """Paths of GET requests that are answered at once; taken in turn."""
    slow: str | None = None
    """Path of a GET request that takes a second or so: what is at work while the site changes. None: none is sent."""
    upload: str | None = None
    """Path that takes a POST request with a body, which is sent in pieces over about a second. None: no upload."""
    websocket: str | None = None
    """Path of a WebSocket where each text message is answered by some message. None: none is opened."""
    stream: str | None = None
    """Path of a GET request whose body never ends, such as server-sent events. None: none is read."""
    connections: int = 10
    """Connections for short requests; every other one is kept alive, the others are new for each request."""
    rate: float = 50.0
    """Short requests a second, all connections together."""
    upload_bytes: int = 65_536
    """Size of an upload's body: 64 KiB, more than nginx holds in memory by default (client_body_buffer_size, 16k)."""
    timeout: float = 20.0
    """Seconds for one request, from sending to the end of its answer, and for the silence of a WebSocket that was
    written to, or of a stream."""
    slow_connections: int = 2
    """Slow requests at once, each over a new connection."""
    upload_connections: int = 1
    """Uploads at once, each over a new connection."""
    websockets: int = 1
    """WebSockets open at once."""
    streams: int = 1
    """Streams read at once."""
    lenient: bool = False
    """Whether of the short requests any answer below 500 is good."""

    def __post_init__(self) -> None:
        if not self.short:
            raise ValueError("short: name one path at least; gaps are seen by short requests")
        for name in ("connections", "rate", "timeout", "slow_connections", "upload_connections", "websockets"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} isn't more than 0")
        if self.streams <= 0 or self.upload_bytes < 0:
            raise ValueError("streams must be more than 0, upload_bytes 0 at least")
        for path in (*self.short, self.slow, self.upload, self.websocket, self.stream):
            if path is not None and not path.startswith("/"):
                raise ValueError(f"{path!r} is no path of a site; it begins with /")


@dataclass
class Fault:
    """One request that was lost."""

    at: float
    """Seconds since the beginning, when it showed."""
    kind: str
    """What was lost: "short", "slow", "upload", "websocket" or "stream"."""
    what: str
    """The request, and the reason in words."""


@dataclass
class Result:
    """The traffic's result, from the end of the warm-up to the last answer. Times are in seconds."""

    requests: int
    """All that was asked and judged: short and slow requests, uploads, messages over WebSockets, reopened WebSockets
    and streams; good or failed."""
    failed: int
    """How many of them were lost: no answer, a torn one, none in time, or a status outside 200 to 399; for WebSockets
    and streams, also an end that wasn't announced."""
    resent: int
    """Short requests that were sent twice, because the server closed a kept connection before a byte of the answer
    came: any client may do so (RFC 9110, 9.2.2), every browser does, so these are not `failed`."""
    p50: float
    """Median of the good short requests' latencies. Each is counted from when the request was due by the timetable,
    not from when its connection was free for it: a stall costs every request that it delays what a visitor waits."""
    p99: float
    """99 of 100 good short requests took no longer."""
    longest_gap: float
    """Longest time without a good answer to a short request, beginning and end of the traffic included: what the
    public notices. It can't be less than the time between two requests, 1 / rate."""
    slowest: float
    """Longest latency of a good short request."""
    seconds: float
    """How long traffic was sent."""
    faults: list[Fault] = field(default_factory=list)
    """The first 50 that failed."""
    counts: dict[str, int] = field(default_factory=dict)
    """Good answers by kind of traffic, only kinds that were sent: requests, messages over WebSockets, pieces of
    streams (which are no requests) as they arrived."""
    releases: list[str] = field(default_factory=list)
    """Values of "release" in short answers that are JSON objects, in the order of their first answer."""
    closed: int = 0
    """WebSockets and streams that the server closed cleanly, and that were opened again."""

    @property
    def line(self) -> str:
        """The result in one line for people, with what failed first when something did."""
        names = {"slow": ("slow", "slow"), "upload": ("upload", "uploads"), "websocket": ("message", "messages")}
        also = [_count(self.counts[kind], *names[kind]) for kind in names if kind in self.counts]
        said = _count(self.requests, "request", "requests") + (f" ({', '.join(also)})" if also else "")
        said += f", {self.failed:,} failed"
        if self.faults:
            first = self.faults[0]
            said += f" (first after {first.at:.1f} s: {first.what})"
        said += f", {self.resent:,} sent again"
        if self.closed:
            said += f", {self.closed:,} reopened"
        if not self.counts.get("short"):
            return f"{said}; no short request was answered in {_time(self.seconds)}"
        return f"{said}; p50 {_time(self.p50)}, p99 {_time(self.p99)}, longest gap {_time(self.longest_gap)}"

    def to_json(self) -> str:
        """The result as one line of JSON, for `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The result that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"faults": [Fault(**each) for each in values["faults"]]})


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"
