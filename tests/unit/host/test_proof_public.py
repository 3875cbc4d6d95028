"""The site's own answers: by its public name, from this host's nginx."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release.processes import web

from tests.unit.host.running import Host, failure, host_at
from tests.unit.inventories import certificate, new_key, pem_key


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def site(host: Host, text: str | None) -> None:
    """The site's file of nginx's."""
    path = host.layout.site("notes")
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_text(text)


@pytest.mark.parametrize("text", [None, "server { listen 80; }"])
def test_a_site_without_a_certificate_cannot_be_asked(host: Host, text: str | None) -> None:
    site(host, text)
    assert web.public(host.app, "r1") == "the public name has no certificate yet"


@pytest.mark.parametrize(
    "trickle", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nready"]
)
def test_an_answer_that_trickles_is_none(host: Host, trickle: bytes) -> None:
    """However much has come, and though each byte comes in time."""
    here, there = socket.socketpair()
    ended = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            there.sendall(trickle)
            while not ended.wait(0.02):
                there.sendall(b"x")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        asked = web.ask(lambda: here, host.app.wanted["readiness"], seconds=0.3)
    finally:
        ended.set()
        sender.join(9)
        there.close()
    assert asked == (0, "no whole answer within 0.3 s", None)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([(200, "ok", "r1")], None),
        ([(503, "no db", "r1")], None),  # it is the app that answers; `watch` judges it
        ([(200, "ok", "r0"), (200, "ok", "r1")], None),  # by one of nginx's workers that are leaving
        ([(200, "ok", "r0")], "200 ok from r0"),
        ([(200, "ok", None)], "200 ok from no release"),
        ([(502, "Bad Gateway", "r1")], "502 Bad Gateway from r1"),
        ([(504, "", "r1")], "504  from r1"),
        ([(0, "no answer (timed out)", None)], "0 no answer (timed out) from no release"),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_public_name_is_answered_by_the_new_release(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[tuple[int, str, str | None]],
    wrong: str | None,
    scheme: str,
) -> None:
    reached: set[tuple[str, bool]] = set()
    asked = [0]
    monkeypatch.setattr(web, "site_socket", lambda name, tls: reached.add((name, tls)))

    def ask(connect: Callable[[], Any], readiness: dict[str, Any]) -> tuple[int, str, str | None]:
        connect()
        asked[0] += 1
        return answers[min(asked[0], len(answers)) - 1]

    monkeypatch.setattr(web, "PUBLIC_SECONDS", 0.1)
    site(host, "server { ssl_certificate /x; }" if scheme == "https" else "server { listen 80; }")
    host.app.wanted["readiness"]["scheme"] = "https" if scheme == "https" else "http"
    monkeypatch.setattr(web, "ask", ask)
    if wrong is None:
        assert web.public(host.app, "r1") is None and asked[0] == len(answers)
    else:
        message = failure(web.public, host.app, "r1")
        assert message == f"{scheme}://notes.example.com/readyz should be answered by r1, but got {wrong}"
    assert reached == {("notes.example.com", scheme == "https")}


def test_the_public_name_is_asked_of_this_hosts_nginx(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name in the handshake, and whatever certificate it has."""
    key, names, asked = new_key(), [], []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, content in (("chain.pem", certificate(key, ["other.example.com"])), ("key.pem", pem_key(key))):
        (host.root / name).write_bytes(content)
    context.load_cert_chain(host.root / "chain.pem", host.root / "key.pem")
    context.sni_callback = lambda connection, name, _: names.append(name)
    create = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as server:

        def redirected(address: tuple[str, int], timeout: float, source: tuple[str, int]) -> socket.socket:
            assert (address, source) == (("127.0.0.1", 443), ("127.83.76.87", 0))
            return create(server.getsockname(), timeout)

        def serve() -> None:
            plain, _ = server.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slipway-Release: r1\r\nContent-Length: 2\r\n\r\nok")

        monkeypatch.setattr(socket, "create_connection", redirected)
        serving = threading.Thread(target=serve)
        serving.start()
        connect = functools.partial(web.site_socket, "notes.example.com", True)
        assert web.ask(connect, host.app.wanted["readiness"]) == (200, "ok", "r1")
        serving.join()
    assert names == ["notes.example.com"] and "\r\nHost: notes.example.com\r\n" in asked[0]
