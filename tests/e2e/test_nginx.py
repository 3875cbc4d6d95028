"""What the public gets from nginx, and what it never gets; and what the app learns of the public."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from tests.audit import bystander
from tests.audit.bystander import Connect
from tests.e2e._driver import ROOT, Host
from tests.e2e.conftest import MakeHost

FORGED = {
    "X-Forwarded-For": "198.51.100.66",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Port": "6666",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "198.51.100.66",
    "X-Request-ID": "forged",
    "X_Forwarded_For": "198.51.100.66",
    "Forwarded": "for=198.51.100.66;proto=http;host=evil.test",
}
LIMIT = 20_000_000


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A host with the notes app, from a copy of its source that tests may change, and a limit of 20 MB."""
    host = make_host("nginx", "debian13")
    shutil.copytree(
        ROOT / "examples/notes", host.folder / "source", ignore=shutil.ignore_patterns(".venv", "*.db*", ".*")
    )
    host.settings(apps__notes__source__path="source", apps__notes__port=8100, apps__notes__max_body_size="20m")
    host.app().update(watch=0, keep_warm=0)
    if "notes" not in host.ssh("ls /srv"):
        host.deploy()
    return host


def raw(host: Host, request: str) -> bytes:
    """All that port 80 answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", host.target["http_port"]), timeout=5) as connection:
        connection.sendall(request.encode())
        received = b""
        while part := connection.recv(4096):
            received += part
    return received


def websocket(host: Host) -> ClientConnection:
    """A WebSocket to the app's echo, through nginx and TLS."""
    plain = socket.create_connection(("127.0.0.1", host.target["https_port"]), timeout=20)
    context = host.trust()
    context.set_alpn_protocols(["http/1.1"])
    # This client reads and writes in two threads. With TLS 1.3 the server's session tickets come after the handshake:
    # OpenSSL takes them while the request is written, and of some hundred connections one hangs.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return connect_websocket("wss://notes.test/ws", sock=plain, ssl=context, server_hostname="notes.test")


def from_the_host(host: Host, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What the app sees of a request that the host itself sends; https goes to its public address."""
    script = f"""
import http.client, json, ssl, urllib.parse
url = urllib.parse.urlsplit({url!r})
connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=10)
if url.scheme == "https":
    connection.port = 443
    connection.host = {host.target["ip"]!r}
    connection.connect()
    context = ssl._create_unverified_context()
    connection.sock = context.wrap_socket(connection.sock, server_hostname=url.hostname)
connection.request("GET", url.path, headers={{"Host": url.hostname}} | {headers or {}!r})
answer = connection.getresponse()
assert answer.status == 200, (answer.status, answer.read())
print(answer.read().decode())
"""
    seen: dict[str, Any] = json.loads(host.ssh("python3 -", stdin=script))
    return seen


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["other.test", "slipway.internal", "127.0.0.1", "_", "www.notes.test"])
def test_an_unknown_host_gets_not_one_byte_over_http(host: Host, name: str) -> None:
    assert raw(host, f"GET /generation HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n") == b""


@pytest.mark.parametrize("name", ["other.test", None], ids=["unknown name", "no name"])
def test_an_unknown_host_gets_no_certificate(host: Host, name: str | None) -> None:
    context = host.trust()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", host.target["https_port"]), timeout=5) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
    ):
        context.wrap_socket(plain, server_hostname=name)


@pytest.mark.parametrize("http2", [False, True])
def test_another_host_within_a_sites_connection_is_misdirected(host: Host, http2: bool) -> None:
    with host.client(http2=http2) as client:
        assert client.get("https://notes.test/healthz").status_code == 200
        answer = client.get("https://notes.test/healthz", headers={"Host": "other.test"})
    assert answer.status_code == 421
    assert "release" not in answer.text


def test_http_leads_to_https_with_path_and_query(host: Host) -> None:
    answer = host.get("/api/notes?limit=1&x=%2F", scheme="http")
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://notes.test/api/notes?limit=1&x=%2F"
    assert "server" not in answer.headers or "/" not in answer.headers["server"], "nginx tells its version"


def test_http_answers_acme_challenges_itself(host: Host) -> None:
    folder = "/var/lib/slipway/acme/.well-known/acme-challenge"
    host.ssh(f"mkdir -p {folder} && echo proof >{folder}/test-token && chmod 644 {folder}/test-token")
    try:
        assert host.get("/.well-known/acme-challenge/test-token", scheme="http").text == "proof\n"
        assert host.get("/.well-known/acme-challenge/none", scheme="http").status_code == 404
        assert host.get("/.well-known/acme-challenge/", scheme="http").status_code in (403, 404)
    finally:
        host.ssh(f"rm {folder}/test-token")


def test_slow_clients_are_let_go(host: Host) -> None:
    with host.changed({"nginx": {"header_timeout": 1, "body_timeout": 3}}):
        host.deploy()
        began = time.monotonic()
        assert raw(host, "GET / HTTP/1.1\r\nHost: notes.test\r\n") == b""
        assert 0.9 < time.monotonic() - began < 2.5
        with host.connect() as connection:
            connection.sendall(b"POST /api/upload HTTP/1.1\r\nHost: notes.test\r\nContent-Length: 9\r\n\r\nhalf")
            began = time.monotonic()
            assert connection.recv(1000) == b"", "nginx answers nobody who is too slow"
            assert 2.9 < time.monotonic() - began < 4.5
    host.deploy()


# ── what the app learns ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_the_clients_address_is_never_forged(host: Host, http2: bool) -> None:
    plain = host.get("/api/whoami", http2=http2).json()
    answer = host.get("/api/whoami", http2=http2, headers=FORGED)
    seen = answer.json()
    gateway = host.target["ip"].rsplit(".", 1)[0] + ".1"  # Docker's, by which published ports are entered
    assert seen["client"] == plain["client"] == gateway
    assert (seen["scheme"], seen["host"]) == ("https", "notes.test")
    assert seen["url"] == "https://notes.test/api/whoami"
    headers = seen["headers"]
    assert headers.pop("x-request-id") == answer.headers["x-request-id"] != "forged"
    assert headers == {
        "x-forwarded-for": gateway,
        "x-forwarded-host": "notes.test",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
        "x-real-ip": gateway,
    }


def test_request_ids_are_new_for_each_request(host: Host) -> None:
    answers = [host.get("/healthz") for _ in range(3)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


def test_the_port_serves_the_host_itself_and_nobody_else(host: Host) -> None:
    seen = from_the_host(host, "http://127.0.0.1:8100/api/whoami", FORGED)
    assert (seen["client"], seen["scheme"]) == ("127.0.0.1", "http")
    assert seen["headers"]["x-real-ip"] == "127.0.0.1"
    assert host.ssh("ss -Hltn 'sport = :8100' | awk '{print $4}'").split() == ["127.0.0.1:8100"]
    main = host.ssh(f"systemctl show --property=MainPID --value notes@{host.release()}.service")
    assert "PORT=8100" in host.ssh(f"tr '\\0' '\\n' </proc/{main}/environ").splitlines()


def test_a_trusted_proxy_is_believed_and_nobody_else(host: Host) -> None:
    gateway = host.target["ip"].rsplit(".", 1)[0] + ".1"
    client = "203.0.113.7"
    before = host.release()
    with host.changed({"apps": {"notes": {"trusted_proxies": [f"{gateway}/32"], "proxy_timeout": 1}}}):
        access = "Access | Change access, proven by a new connection"  # the firewall lets proxies have more
        assert host.deploy().changed == [access, "Nginx | Configure the sites"]
        assert host.release() == before
        assert host.get("/api/whoami").json()["client"] == gateway
        for value in (client, f"198.51.100.66, {client}", f"198.51.100.66, {client}, {gateway}"):
            seen = host.get(
                "/api/whoami", headers=FORGED | {"X-Forwarded-For": value, "X-Forwarded-Proto": "https"}
            ).json()
            assert seen["client"] == seen["headers"]["x-forwarded-for"] == seen["headers"]["x-real-ip"] == client
            assert seen["scheme"] == "https"
        # Not the proxy: the host itself, by its public address.
        seen = from_the_host(host, "https://notes.test/api/whoami", {"X-Forwarded-For": client})
        assert seen["client"] == host.target["ip"]
        # An answer that takes longer than proxy_timeout is nginx's to give.
        assert host.get("/api/slow", params={"seconds": 3}).status_code == 504
    host.deploy()
    assert host.get("/api/whoami", headers={"X-Forwarded-For": client}).json()["client"] == gateway
    assert host.get("/api/slow", params={"seconds": 3}).status_code == 200


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_large_upload_within_the_limit_arrives_whole(host: Host, http2: bool) -> None:
    answer = host.request("POST", "/api/upload", content=b"x" * LIMIT, http2=http2)
    assert (answer.status_code, answer.json()["bytes"]) == (200, LIMIT)


def test_an_upload_beyond_the_limit_is_refused_by_nginx(host: Host) -> None:
    too_much = 20 * 1024 * 1024 + 1
    with host.connect() as connection:  # only the header: it is refused before it is sent
        connection.sendall(
            f"POST /api/upload HTTP/1.1\r\nHost: notes.test\r\nContent-Length: {too_much}\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_upload_beyond_the_limit_is_refused_too(host: Host) -> None:
    parts = (b"x" * 1_000_000 for _ in range(25))
    with suppress(httpx.WriteError):  # closed while we still wrote: refused all the same
        assert host.request("POST", "/api/upload", content=parts).status_code == 413


def test_files_are_compressed_and_the_apps_answers_are_not(host: Host) -> None:
    large = host.get("/static/style.css", headers={"Accept-Encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip" and "Accept-Encoding" in large.headers["vary"]
    assert len(large.content) > 1024
    assert "content-encoding" not in host.get("/openapi.json", headers={"Accept-Encoding": "gzip"}).headers
    assert "content-encoding" not in host.get("/static/style.css", headers={"Accept-Encoding": "identity"}).headers


def test_http2_is_offered_and_http1_still_spoken(host: Host) -> None:
    assert host.get("/", http2=True).http_version == "HTTP/2"
    assert host.get("/", http2=False).http_version == "HTTP/1.1"


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_server_sent_events_arrive_as_they_are_sent(host: Host, http2: bool) -> None:
    with (
        host.client(http2=http2) as client,
        client.stream("GET", "https://notes.test/api/events?n=5", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        arrived = [time.monotonic() for line in answer.iter_lines() if line.startswith("data:")]
    # The app sends one every half second; a buffer would hand over all of them in the end.
    gaps = [later - earlier for earlier, later in pairwise(arrived)]
    assert len(gaps) == 4 and min(gaps) > 0.3, gaps


def test_a_websocket_stays_open_through_quiet_times_and_a_change_of_nginx(host: Host) -> None:
    with websocket(host) as connection:
        connection.send("first")
        assert json.loads(connection.recv(timeout=5)) == {"echo": "first", "release": host.release()}
        before = host.ssh("readlink /etc/nginx/slipway")
        with host.changed({"apps": {"notes": {"max_body_size": "21m"}}}):
            assert host.deploy().changed == ["Nginx | Configure the sites"]
        assert host.ssh("readlink /etc/nginx/slipway") != before
        began = time.monotonic()
        time.sleep(6)
        connection.send("after the reload")
        assert json.loads(connection.recv(timeout=5))["echo"] == "after the reload"
        assert time.monotonic() - began > 5
    with websocket(host) as connection:
        connection.send("anew")
        assert json.loads(connection.recv(timeout=5))["echo"] == "anew"
    host.deploy()


def connecting(host: Host) -> Connect:
    """Opens connections, as `bystander` wants it."""
    return lambda protocol: host.connect(alpn=protocol)


@pytest.mark.parametrize("asked", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_is_asked_for_in_any_case_and_in_a_list(host: Host, asked: str) -> None:
    answer = bystander.asking(connecting(host), "notes.test", "GET /ws HTTP/1.1", asked)
    assert answer.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("asked", ["h2c", "websocket", "h2c, WebSocket", "TLS/1.0"])
def test_a_body_arrives_whole_whatever_upgrade_is_asked_for(host: Host, asked: str) -> None:
    answer = bystander.asking(connecting(host), "notes.test", "POST /api/upload HTTP/1.1", asked, b"x" * 40_000)
    assert answer.endswith(b'{"bytes":40000}')


def test_nobody_gets_the_answer_to_a_request_that_hides_in_a_body(host: Host) -> None:
    seen = bystander.beside(connecting(host), "notes.test")
    assert seen.visits > 100 and seen.forms >= 28, "too few to show anything"
    assert (seen.strange, seen.cut) == ([], [])


CHATTY = """
import socket, subprocess, sys, time
path, unit = sys.argv[1:]
app = socket.socket(socket.AF_UNIX)
app.settimeout(10)
app.connect(path)
app.sendall(b"GET /ws HTTP/1.1\\r\\nHost: notes.test\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n")
while not (received := app.recv(4096)).endswith(b"\\r\\n\\r\\n"):
    pass
assert b" 101 " in received, received
restart = subprocess.Popen(["systemctl", "restart", unit])
received = b""
while part := app.recv(4096):
    received += part
app.sendall(b"\\x81\\x81\\0\\0\\0\\0x")  # a message that nobody waits for any more: EPIPE where all is closed
app.close()
assert restart.wait() == 0
print(received.hex())
"""


def test_a_websocket_that_speaks_while_its_worker_stops_still_hears_the_goodbye(host: Host) -> None:
    """What nginx needs for that: the app goes on reading until nginx itself ends the connection."""
    release = host.release()
    told = host.ssh(f"python3 - /run/notes/{release}.sock notes@{release}.service", stdin=CHATTY)
    assert told.split() == ["880203f4"]  # a close frame (RFC 6455, 5.5.1) with code 1012: service restart


# ── static files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_static_files_come_from_nginx_with_a_time_to_keep_them(host: Host) -> None:
    answer = host.get("/static/style.css")
    assert answer.status_code == 200
    assert answer.text == (host.folder / "source/static/style.css").read_text()
    assert answer.headers["cache-control"] == "max-age=3600"
    assert answer.headers["content-type"].startswith("text/css")
    assert host.get("/static/style.css", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    # The app has a folder of the same name and would answer a method that nginx refuses with its own words.
    assert "nginx" in host.request("POST", "/static/style.css").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/none.css",
        "/static/%2e%2e/pyproject.toml",
        "/static../pyproject.toml",
        "/static/..%2fuv.lock",
    ],
)
def test_nothing_but_static_files_is_given_away(host: Host, path: str) -> None:
    answer = host.get(path)
    assert answer.status_code in (400, 403, 404)
    assert "dependencies" not in answer.text


def test_static_files_change_with_the_release(host: Host) -> None:
    style = host.folder / "source/static/style.css"
    before, old = host.get("/static/style.css"), host.release()
    # As long as before: neither size nor the archive's time tells the versions apart.
    changed = before.text.replace("{", "{ ", 1).replace("  ", " ", 1)
    assert len(changed) == len(before.text) and changed != before.text
    style.write_text(changed)
    with host.traffic(path="/static/style.css") as static, host.traffic() as app:
        assert host.deploy().changed == ["Release | Release notes"]
    static.unbroken()
    app.unbroken()
    assert host.release() != old
    after = host.get("/static/style.css", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.text) == (200, changed)
