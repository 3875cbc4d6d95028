"""A client that reaches a site as its visitors do, and can misbehave where a library wouldn't let it.

Every connection goes to one address and port, whatever the domain: SNI and Host are told apart from where to connect,
so that a host behind published ports, or behind a CDN, is asked itself.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import Event
from websockets.uri import parse_uri

TIMEOUT = 10
"""Seconds for one connection or answer; a working site takes well under one."""

Headers = Sequence[tuple[str, str]]
"""Header fields as they are sent, repeated ones included."""


@dataclass(frozen=True)
class Answer:
    """A response, its body undone of gzip."""

    status: int
    headers: http.client.HTTPMessage = field(repr=False)
    body: bytes

    def header(self, name: str) -> str | None:
        """All values of a header, joined by ", "; None without it."""
        values = self.headers.get_all(name)
        return None if values is None else ", ".join(values)

    def json(self) -> Any:
        """The body as JSON; ValueError where it is something else."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Handshake:
    """What a TLS handshake agreed on, and the certificate as served."""

    version: str | None
    certificate: x509.Certificate


@dataclass(frozen=True)
class Client:
    """Asks one host for its sites."""

    address: str | None
    """Where to connect, whatever the domain; None: the domain itself."""
    http_port: int = 80
    https_port: int = 443

    def _socket(self, domain: str, *, tls: bool) -> socket.socket:
        port = self.https_port if tls else self.http_port
        return socket.create_connection((self.address or domain, port), timeout=TIMEOUT)

    def open(self, domain: str, trust: ssl.SSLContext) -> ssl.SSLSocket:
        """A TLS connection for `domain`, for the caller to close."""
        return trust.wrap_socket(self._socket(domain, tls=True), server_hostname=domain)

    @contextlib.contextmanager
    def connect(self, domain: str, trust: ssl.SSLContext | None) -> Iterator[socket.socket]:
        """A connection for `domain`: with TLS and its SNI where `trust` is given."""
        with self._socket(domain, tls=trust is not None) as plain:
            if trust is None:
                yield plain
                return
            with trust.wrap_socket(plain, server_hostname=domain) as encrypted:
                yield encrypted

    def request(
        self,
        domain: str,
        path: str = "/",
        *,
        trust: ssl.SSLContext | None,
        method: str = "GET",
        headers: Headers = (),
        host: str | None = None,
    ) -> Answer:
        """One request over HTTP/1.1, https where `trust` is given, and its answer; redirects are not followed.

        + domain: name to connect to (SNI)
        + host: value of the Host header where it isn't the domain
        """
        with self.connect(domain, trust) as connected, contextlib.closing(_open(connected, domain)) as connection:
            _send(connection, method, path, host or domain, headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.getheader("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return Answer(answer.status, answer.headers, body)

    def raw(self, domain: str, sent: bytes) -> bytes:
        """All that comes back for these bytes, without TLS, until the server closes; empty for a reset connection."""
        received = b""
        with self._socket(domain, tls=False) as connected, contextlib.suppress(ConnectionResetError):
            connected.sendall(sent)
            while chunk := connected.recv(65536):
                received += chunk
        return received

    def arrivals(
        self, domain: str, path: str, *, trust: ssl.SSLContext | None
    ) -> tuple[int, list[tuple[float, bytes]]]:
        """Status, and each line of a stream's body with the seconds since the request when it arrived."""
        with self.connect(domain, trust) as connected, contextlib.closing(_open(connected, domain)) as connection:
            _send(connection, "GET", path, domain, [("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")])
            began = time.monotonic()
            answer = connection.getresponse()
            lines = []
            while line := answer.readline():
                lines.append((time.monotonic() - began, line.rstrip(b"\r\n")))
            return answer.status, lines

    def echo(self, domain: str, path: str, message: str, *, trust: ssl.SSLContext | None) -> str:
        """The first message that comes back over a WebSocket, over TLS where `trust` is given.

        Raises websockets.exceptions.InvalidStatus where the upgrade is refused. Without threads: websockets' own client
        reads and writes a TLS connection in two, which loses an answer once in a hundred times before Python 3.13.
        """
        scheme = "ws" if trust is None else "wss"
        protocol = ClientProtocol(parse_uri(f"{scheme}://{domain}{path}"))
        with self.connect(domain, trust) as connected:

            def next_event() -> Event:
                connected.sendall(b"".join(protocol.data_to_send()))
                while True:
                    if events := protocol.events_received():
                        return events[0]
                    received = connected.recv(65536)
                    assert received, f"the connection ended in state {protocol.state.name}"
                    protocol.receive_data(received)

            protocol.send_request(protocol.connect())
            next_event()
            if protocol.handshake_exc is not None:
                raise protocol.handshake_exc
            protocol.send_text(message.encode())
            answer = next_event()
            assert isinstance(answer, Frame), answer
            protocol.send_close(CloseCode.NORMAL_CLOSURE)
            connected.sendall(b"".join(protocol.data_to_send()))
            return bytes(answer.data).decode()

    def http2(self, domain: str, path: str, *, trust: ssl.SSLContext) -> httpx.Response:
        """One request by a client that offers HTTP/2 and HTTP/1.1; `http_version` of the answer tells the choice.

        `trust` is used up: what it offers (ALPN) is changed.
        """
        address = self.address or domain
        url = f"https://{f'[{address}]' if ':' in address else address}:{self.https_port}{path}"
        with httpx.Client(http2=True, verify=trust, trust_env=False, timeout=TIMEOUT) as client:
            return client.get(url, headers={"Host": domain}, extensions={"sni_hostname": domain})

    def handshake(
        self,
        sni: str | None,
        *,
        to: str,
        trust: ssl.SSLContext | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> Handshake:
        """A TLS handshake and no request; ssl.SSLError says why it failed.

        + sni: name that is asked for; None: none is sent
        + to: domain to connect to
        + trust: verify certificate and name with it; None: whatever is served is accepted
        + version: the only version offered; None: all that this machine's OpenSSL offers
        """
        context = trust or untrusting(version)
        with self._socket(to, tls=True) as plain, context.wrap_socket(plain, server_hostname=sni) as encrypted:
            certificate = encrypted.getpeercert(binary_form=True)
            assert certificate is not None, "the server sent no certificate"
            return Handshake(encrypted.version(), x509.load_der_x509_certificate(certificate))


def untrusting(version: ssl.TLSVersion | None) -> ssl.SSLContext:
    """A context that accepts every certificate, and offers even versions that this machine's OpenSSL would not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        # OpenSSL refuses TLS 1.0 and 1.1 by itself at any other level: the server's answer is what counts here.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
    return context


def _open(connected: socket.socket, domain: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(domain, timeout=TIMEOUT)
    connection.sock = connected
    return connection


def _send(connection: http.client.HTTPConnection, method: str, path: str, host: str, headers: Headers) -> None:
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in [("Host", host), *headers, ("Connection", "close")]:
        connection.putheader(name, value)
    connection.endheaders()
