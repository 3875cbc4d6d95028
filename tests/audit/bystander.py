"""Requests that ask for an upgrade, each with a body that ends in whole requests, beside a visitor who just visits.

Some servers end such a request at its headers, and take its body for the next one of a connection that all clients
share: then a visitor gets another's answer. The example apps' /api/whoami tells a request's address, /api/upload the
length of its body.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial

from tests.audit.finding import Finding, Verdict, judged, looked
from tests.audit.subject import Subject
from tests.host._http2 import Http2

Connect = Callable[[str], ssl.SSLSocket]
"""Opens a TLS connection that speaks this protocol: "http/1.1" or "h2"."""

ASKED = ("h2c", "websocket", "websocket, h2c", "h2c, websocket", "WebSocket", "H2C", "TLS/1.0")
"""What an upgrade is asked to."""
STARTS = ("POST /api/upload HTTP/1.1", "POST /api/upload HTTP/1.0", "GET /api/whoami HTTP/1.1", "GET /ws HTTP/1.1")
HANDSHAKE = "Connection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
BEFORE = (0, 24_576)
"""Bytes before the requests in a body: what goes with a header may be dropped with it, and only the rest be taken."""
ROUNDS = 6
"""How often each form is sent; its bodies take turns."""
VISITS = 100
"""Visits below which nothing was shown."""
ENOUGH = 5
"""Wrong answers after which no more are needed."""
SECONDS = 5
"""Time for an answer; an attacker has no patience."""


@dataclass
class Seen:
    """What happened."""

    forms: int = 0
    """Kinds of requests that were sent, and at least once answered."""
    visits: int = 0
    strange: list[str] = field(default_factory=list)
    """What the visitor got in place of the own answer."""
    cut: list[str] = field(default_factory=list)
    """Forms whose body didn't arrive whole."""


def hiding(site: str, before: int) -> bytes:
    """A body with a request wherever one could be taken for the next: after `before` bytes, and up to its end."""
    hidden = f"GET /api/whoami?hidden HTTP/1.1\r\nHost: {site}\r\nX-Forwarded-For: 198.51.100.66\r\n\r\n".encode()
    return b"x" * before + hidden * ((40_960 - before) // len(hidden))


def asking(connect: Connect, site: str, start: str, asked: str, body: bytes = b"", seconds: float = SECONDS) -> bytes:
    """What is answered over HTTP/1 to a request that asks for an upgrade; its body follows in a second part.

    + start: method, path and version, such as "POST /api/upload HTTP/1.1"
    """
    length = f"\nContent-Length: {len(body)}" if body else ""
    with connect("http/1.1") as connection:
        connection.settimeout(seconds)
        lines = f"{start}\nHost: {site}\n{HANDSHAKE}\nUpgrade: {asked}{length}"
        connection.sendall(lines.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        if body:
            time.sleep(0.02)
            connection.sendall(body)
        received = b""
        while not (received.startswith(b"HTTP/1.1 101 ") or received.partition(b"\r\n\r\n")[2]):
            part = connection.recv(65_536)
            if not part:
                break
            received += part
        return received


def asking_http2(connect: Connect, site: str, asked: str, body: bytes) -> bytes:
    """The same over HTTP/2, where no upgrade may be asked for (RFC 9113, 8.2.2); empty where it is refused."""
    with Http2(connect("h2"), site) as connection:
        headers = {"upgrade": asked, "connection": "upgrade", "content-length": str(len(body))}
        stream = connection.request("POST", "/api/upload", headers, end=False)
        connection.body({stream: body}, end=True)
        connection.answers([stream])
        return connection.bodies.get(stream, b"")


def attacks(connect: Connect, site: str, body: bytes) -> Iterator[tuple[str, Callable[[], bytes], bool]]:
    """Each form: what it is, what sends it and returns its answer, and whether that tells the body's length."""
    for asked in ASKED:
        for start in STARTS:
            what = f"{start}, Upgrade: {asked}"
            yield what, partial(asking, connect, site, start, asked, body, 1), "upload" in start
        yield f"HTTP/2, Upgrade: {asked}", partial(asking_http2, connect, site, asked, body), True


def beside(connect: Connect, site: str, rounds: int = ROUNDS) -> Seen:
    """Send every form, `rounds` times, while a visitor makes ordinary requests over kept connections."""
    seen, done = Seen(), threading.Event()

    def attack() -> None:
        answered: set[str] = set()
        for number in range(rounds):
            body = hiding(site, BEFORE[number % len(BEFORE)])
            whole = json.dumps({"bytes": len(body)}, separators=(",", ":")).encode()
            for what, send, tells in attacks(connect, site, body):
                if len(seen.strange) >= ENOUGH:
                    break
                with suppress(OSError, AssertionError):  # refused, and hung up on
                    answer = send()
                    answered.add(what)
                    if tells and b'"bytes"' in answer and whole not in answer and what not in seen.cut:
                        seen.cut.append(what)
        seen.forms = len(answered)
        done.set()

    attacker = threading.Thread(target=attack)
    attacker.start()
    while not done.is_set():
        _visit(connect, site, seen, done)
    attacker.join()
    return seen


def _visit(connect: Connect, site: str, seen: Seen, done: threading.Event) -> None:
    """Visits over one connection, as long as it is kept."""
    with connect("http/1.1") as connected, closing(http.client.HTTPConnection(site)) as connection:
        connected.settimeout(SECONDS)
        connection.sock = connected
        while not done.is_set():
            seen.visits += 1
            path = f"/api/whoami?visit={seen.visits}"
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                seen.strange.append(f"visit {seen.visits}: {type(error).__name__}")
                return
            if answer.status != 200 or f'{path}"' not in body.replace(" ", ""):
                seen.strange.append(f"visit {seen.visits}: {answer.status} {body[:120]}")
            if answer.will_close:
                return


def bystander(subject: Subject) -> Finding:
    """What a visitor of the public name gets meanwhile."""
    if not subject.local:
        return Finding(Verdict.LEFT_OUT, "an attack: made on this machine's own containers only")

    def connect(protocol: str) -> ssl.SSLSocket:
        trust = subject.trust
        trust.set_alpn_protocols([protocol])
        return subject.client.open(subject.site, trust)

    own = subject.client.request(subject.site, "/api/whoami", trust=subject.trust)
    looked(own.status == 200, f"the site answers {own.status} before the attack")
    return bystander_finding(beside(connect, subject.site))


def bystander_finding(seen: Seen) -> Finding:
    """What was seen: every answer must be the visitor's own, and every body whole."""
    found = seen.strange or seen.cut
    looked(found or seen.visits >= VISITS, f"only {seen.visits} visits were made")
    looked(found or seen.forms >= len(ASKED) * len(STARTS), f"only {seen.forms} kinds of requests were answered")
    measured = f"{len(seen.strange)} of {seen.visits:,} visits, {len(seen.cut)} bodies wrong; {seen.forms} forms"
    return judged(not seen.strange and not seen.cut, measured, [*seen.strange, *(f"cut: {each}" for each in seen.cut)])
