"""Hardened by default: what a sandbox keeps from an app, what visitors get without one, and what is too much."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from contextlib import suppress

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import copy_example, facts, make_tiny, set_hooks
from tests.e2e.conftest import MakeHost
from tests.host._hosts import EXPOSURE

pytestmark = pytest.mark.story

TINY = "tiny-with-a-name-as-long-as-it"
"""A name of 30 characters: the longest there can be, in nginx's variables too."""
DROP_IN = "/etc/systemd/system/nginx.service.d/50-slipway.conf"
TRIES = r"""
try() { printf '%s\n' "$1" | runuser -u nobody -- su anna -c 'echo in' 2>/dev/null | tail -n 1; }
change() { printf '%s\n' "$@" "$2" | runuser -u anna -- passwd >/dev/null 2>&1 && echo changed || echo refused; }
first=Nzg7-rFw2-Kettle second=Pqx4-mBd8-Violin
useradd --create-home --shell /bin/bash anna && echo "anna:$first" | chpasswd >/dev/null && chage -m 0 anna
echo "hash $(getent shadow anna | cut -d '$' -f 2)"
echo "home $(stat -c %a /home/anna)"
echo "right $(try $first)"
for number in 1 2 3; do echo "wrong $(try x$number)"; done
echo "locked $(try $first)"
install -D --mode 600 --owner anna /root/key.pub /home/anna/.ssh/authorized_keys && chown anna /home/anna/.ssh
echo "key $(ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no anna@127.0.0.1 echo in 2>/dev/null)"
echo "after $(try $first)"
echo "new $(change $first $second)"
echo "old $(change $second $first)"
"""


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A host with PostgreSQL and a small app."""
    host = make_host("hardening", "debian12", ())
    source = make_tiny(host.folder / "tiny", version="first")
    host.slipway["packages"] = ["postgresql"]
    host.slipway["apps"] = {
        TINY: {
            "domains": ["extra.test"],
            "source": {"path": str(source)},
            "app": "tiny.main:app",
            "liveness_path": "/healthz",
            "readiness_path": "/readyz",
            "tls": {"mode": "off"},
            "port": 8123,
            "workers": 1,
            "watch": 0,
            "keep_warm": 0,
        }
    }
    return host


def exposure(host: Host, unit: str) -> float:
    """As `systemd-analyze security` rates a unit."""
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", host.ssh(f"systemd-analyze security {unit}"))
    assert found
    return float(found[1])


def main_pid(host: Host, app: str) -> str:
    """Process of the app's Gunicorn."""
    return host.ssh(f"systemctl show -p MainPID --value {app}@{host.release(app)}.service")


def test_nginx_is_shut_off(host: Host) -> None:
    """From its first start; that a fresh host's is as well, the story of one shows."""
    host.deploy()
    assert exposure(host, "nginx.service") <= 2.5
    status = host.ssh("cat /proc/$(cat /run/nginx.pid)/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert facts(host)["version"] == "first"


@pytest.mark.slow
def test_wrong_passwords_are_few_and_old_ones_are_refused(host: Host) -> None:
    """A login with a key is never refused for that, and forgets the wrong ones."""
    host.ssh("ssh-keygen -q -t ed25519 -N '' -f /root/key")
    with host.afterwards("pkill -u anna; userdel --force --remove anna; rm -f /root/key*; true"):
        told = host.ssh(TRIES)
    assert [line.split() for line in told.splitlines()] == [
        ["hash", "y"],
        ["home", "700"],
        ["right", "in"],
        *[["wrong"]] * 3,
        ["locked"],
        ["key", "in"],
        ["after", "in"],
        ["new", "changed"],
        ["old", "refused"],
    ]
    host.converged()


def test_app_that_talks_to_unix_sockets_alone(host: Host) -> None:
    """Its migrations and requests reach PostgreSQL by its socket, without a password; nothing reaches the network."""
    host.ssh("runuser -u postgres -- createuser notes && runuser -u postgres -- createdb -O notes notes")
    host.slipway["apps"]["notes"] = {
        "domains": ["notes.test"],
        "source": {"path": str(copy_example("notes", host.folder))},
        "app": "notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "env": {"DATABASE_URL": "postgresql:///notes?host=/run/postgresql"},
        "database_driver": "asyncpg",
        "sandbox": {"network": "unix"},
        "static": {"path": "static"},
        "workers": 1,
        "watch": 0,
        "keep_warm": 0,
    }
    host.deploy()
    assert host.request("POST", "/api/notes", json={"text": "by a socket"}).status_code == 201
    stored = host.ssh("runuser -u postgres -- psql -qtA notes -c 'SELECT text FROM notes'")
    assert stored == "by a socket"
    assert exposure(host, f"notes@{host.release()}.service") <= EXPOSURE["unix"]
    assert exposure(host, f"{TINY}@{host.release(TINY)}.service") <= EXPOSURE["internet"]
    # The database listens there, and the host itself reaches it.
    connect = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 5432), 3)'"
    host.ssh(connect)
    inside = host.run(f"nsenter --target {main_pid(host, 'notes')} --net -- {connect}")
    assert inside.returncode == 1 and "Connection refused" in inside.stderr, inside.stderr
    abroad = host.run(
        f"nsenter --target {main_pid(host, 'notes')} --net -- {connect.replace('127.0.0.1', '192.0.2.1')}"
    )
    assert abroad.returncode == 1 and "unreachable" in abroad.stderr, abroad.stderr


def test_one_app_cannot_look_into_another(host: Host) -> None:
    """Neither at its environment, on disk and in memory, nor at what it keeps; it doesn't even see its processes."""
    pid = main_pid(host, "notes")
    secret = [f"/etc/notes/releases/{host.release()}.env", "/etc/notes/env", f"/proc/{pid}/environ", "/var/lib/notes/."]
    for path in secret:
        read = "ls" if path.endswith(".") else "cat"
        assert host.run(f"setpriv --reuid={TINY} --regid={TINY} --init-groups {read} {path}").returncode != 0, path
    enter = f"nsenter --target {main_pid(host, TINY)} --user --mount -- "
    seen = host.ssh(f"{enter} setpriv --reuid={TINY} --regid={TINY} --keep-groups find /proc -maxdepth 1").split()
    assert f"/proc/{main_pid(host, TINY)}" in seen
    assert f"/proc/{pid}" not in seen and "/proc/1" not in seen and "/proc/meminfo" not in seen


SAFE = {
    "strict-transport-security": "max-age=63072000",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "x-permitted-cross-domain-policies": "none",
    "content-security-policy": "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
}


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (200, "GET", "/healthz", {}),
        (404, "GET", "/no-such-path", {}),
        (405, "DELETE", "/api/notes", {}),
        (422, "POST", "/api/notes", {}),
        (200, "GET", "/static/style.css", {}),
        (304, "GET", "/static/style.css", {"If-None-Match": "*"}),
        (404, "GET", "/static/none.css", {}),
        (413, "POST", "/api/notes", {"Content-Length": "99999999"}),
        (400, "POST", "/", {"Content-Length": "nonsense"}),
    ],
)
@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_headers(host: Host, status: int, method: str, path: str, headers: dict[str, str], http2: bool) -> None:
    """Each once, on every kind of answer."""
    if http2 and "Content-Length" in headers:
        pytest.skip("a client of HTTP/2 says no length that isn't so")
    if "Content-Length" in headers:
        with host.connect() as connection:
            fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: notes.test\r\n{fields}\r\n".encode())
            lines = connection.recv(8192).decode().split("\r\n\r\n")[0].split("\r\n")
        found, pairs = int(lines[0].split()[1]), [line.lower().partition(": ")[::2] for line in lines[1:]]
    else:
        answer = host.request(method, path, http2=http2, headers=headers)
        found = answer.status_code
        pairs = [(name.lower(), value.lower()) for name, value in answer.headers.multi_items()]
    assert found == status
    assert {name: [value for key, value in pairs if key == name] for name in SAFE} == {
        name: [value.lower()] for name, value in SAFE.items()
    }


def test_an_app_s_own_header_stays(host: Host) -> None:
    """The page knows what it loads; nginx's policy isn't put beside it."""
    answer = host.get("/")
    policies = answer.headers.get_list("content-security-policy")
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'; script-src 'self';")
    # Without TLS no browser is told to come by HTTPS alone.
    plain = host.get("/", domain="extra.test", scheme="http")
    assert plain.headers["x-frame-options"] == "DENY" and "strict-transport-security" not in plain.headers


RAW = {
    "length and chunks": "POST /api/whoami HTTP/1.1\nHost: {0}\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n",
    "two lengths": "POST /api/whoami HTTP/1.1\nHost: {0}\nContent-Length: 3\nContent-Length: 4\n\nabcd",
    "unknown coding": "POST /api/whoami HTTP/1.1\nHost: {0}\nTransfer-Encoding: xchunked\n\n0\n\n",
    "two hosts": "GET /api/whoami HTTP/1.1\nHost: {0}\nHost: evil.test\n\n",
    "no host": "GET /api/whoami HTTP/1.1\n\n",
    "folded header": "GET /api/whoami HTTP/1.1\nHost: {0}\n folded\n\n",
    "NUL in the path": "GET /api/who\0ami HTTP/1.1\nHost: {0}\n\n",
    "NUL in a header": "GET /api/whoami HTTP/1.1\nHost: {0}\nX-A: a\0b\n\n",
    "space before the colon": "GET /api/whoami HTTP/1.1\nHost: {0}\nContent-Length : 3\n\nabc",
    "header of 90 kB": "GET /api/whoami HTTP/1.1\nHost: {0}\nX-A: " + "a" * 90_000 + "\n\n",
    "another version": "GET /api/whoami HTTP/3.0\nHost: {0}\n\n",
    "no HTTP": "\x16\x03\x01\x02\n\n",
    "TRACE": "TRACE / HTTP/1.1\nHost: {0}\n\n",
    "CONNECT": "CONNECT evil.test:443 HTTP/1.1\nHost: {0}\n\n",
    "absolute address of another": "GET http://evil.test/api/whoami HTTP/1.1\nHost: {0}\n\n",
}  # fmt: skip


@pytest.mark.parametrize("request_", RAW.values(), ids=RAW)
def test_what_is_no_proper_request_is_not_answered(host: Host, request_: str) -> None:
    """Refused by nginx, or hung up on: the app, which would have to read it the same way, never sees it."""
    with host.connect() as connection, suppress(ConnectionResetError, BrokenPipeError, socket.timeout):
        connection.settimeout(5)
        connection.sendall(request_.format("notes.test").replace("\n", "\r\n").encode("latin-1"))
        answer = connection.recv(65536).decode("latin-1")
        status = int(answer.split(" ")[1]) if answer.startswith("HTTP/") else 0
        assert status in (0, 400, 405, 414, 421, 431, 494, 501, 505), answer
        assert "x-forwarded" not in answer.lower(), "the app answered"


def test_an_app_that_is_away(host: Host) -> None:
    """A page for people and JSON for programs, neither to be kept, with the headers that every answer has."""
    unit = f"{TINY}@{host.release(TINY)}"
    with host.afterwards(f"systemctl start {unit}.socket"):
        host.ssh(f"systemctl stop {unit}.socket {unit}.service")
        page = host.get("/style.css", domain="extra.test", scheme="http", headers={"Accept": "text/html,*/*"})
        told = host.get("/", domain="extra.test", scheme="http", headers={"Accept": "application/json"})
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert "Temporarily unavailable" in page.text and "nginx" not in page.text
    assert (told.status_code, told.headers["content-type"]) == (502, "application/problem+json")
    assert told.json() == {"title": "Temporarily unavailable", "status": 502}
    for answer in (page, told):
        assert answer.headers["cache-control"] == "no-store" and answer.headers["retry-after"] == "30"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"]
    wait_until(lambda: facts(host)["version"] == "first", 10, "the app is back")


def test_maintenance(host: Host) -> None:
    """The public gets a page, the host itself the app, and a release goes out meanwhile."""
    source = host.folder / "tiny"
    with host.changed({"apps": {TINY: {"maintenance": True}}}):
        assert host.deploy().changed == ["Nginx | Configure the sites"]
        assert host.get("/", domain="extra.test", scheme="http").status_code == 503
        set_hooks(source, version="second", headers={"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "no-referrer"})
        host.deploy()
        answer = host.get("/", domain="extra.test", scheme="http")
        assert answer.status_code == 503 and "Temporarily unavailable" in answer.text
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8123/').read().decode())"
        assert json.loads(host.ssh(f'python3 -c "{ask}"'))["version"] == "second"
        assert host.get("/healthz").status_code == 200, "another app's site isn't touched"
    with host.traffic(path="/healthz") as other:
        assert host.deploy().changed == ["Nginx | Configure the sites"]
    other.unbroken()
    assert facts(host)["version"] == "second"


def test_headers_that_an_app_sends(host: Host) -> None:
    """They count, and nginx adds nothing that would overrule them."""
    headers = host.get("/", domain="extra.test", scheme="http").headers
    assert headers.get_list("x-frame-options") == ["SAMEORIGIN"] and "content-security-policy" not in headers
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    assert headers["x-content-type-options"] == "nosniff"


def test_limits(host: Host) -> None:
    """What is below a path, by how often; how much at once; and the rest of the site as ever."""
    limits = {"/login": {"rate": "1r/m", "burst": 4}}
    with host.changed({"apps": {TINY: {"rate_limits": limits, "connections_per_client": 3}}}):
        assert host.deploy().changed == ["Nginx | Configure the sites"]
        with host.client() as client:
            answers = [client.get("http://extra.test/login/form") for _ in range(12)]
            # However the path is written: it is nginx's view of it that counts.
            answers += [client.get("http://extra.test//./x/../%6cogin") for _ in range(3)]
            assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 10}
            assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in answers)
            assert {client.get("http://extra.test/other").status_code for _ in range(12)} == {200}
        statuses = _at_once(host, 8)
        assert statuses[429] == 5 and statuses[200] == 3, statuses
        wait_until(lambda: facts(host)["version"] == "second", 10, "one at a time is welcome")
    host.deploy()


def _at_once(host: Host, count: int) -> Counter[int]:
    """Statuses of so many slow requests that are under way together."""
    request = b"GET /api/slow?seconds=2 HTTP/1.0\r\nHost: extra.test\r\n\r\n"
    address = ("127.0.0.1", host.target["http_port"])
    opened = [socket.create_connection(address, timeout=10) for _ in range(count)]
    for each in opened:
        each.sendall(request)
    statuses = Counter(int(each.recv(64).split(b" ")[1]) for each in opened)
    for each in opened:
        each.close()
    return statuses


def test_nginx_s_sandbox_goes_and_comes_without_a_request_lost(host: Host) -> None:
    """A restart would lose some: it counts from nginx's next start, which the plan says."""
    step = ["Nginx | Write the sandbox of nginx", "Nginx | Enable nginx"]
    started = host.ssh("systemctl show -p ExecMainStartTimestampMonotonic nginx")
    with host.traffic(path="/healthz") as public:
        with host.changed({"nginx": {"sandbox": False}}):
            assert host.deploy().changed == step
            host.ssh(f"test ! -e {DROP_IN}")
        run = host.deploy()
        assert run.changed == step
    public.unbroken()
    run.says("from nginx's next start on")
    assert host.ssh("systemctl show -p ExecMainStartTimestampMonotonic nginx") == started
    assert exposure(host, "nginx.service") <= 2.5
    host.converged()
