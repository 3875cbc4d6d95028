"""What the requests of strangers can do: to the host's memory and disk, at its own doors, and in an app's files."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import copy_example, make_tiny
from tests.e2e.conftest import MakeHost, systems, variants
from tests.host._http2 import Http2

TINY = "tiny-with-a-name-as-long-as-it"
"""A name of 30 characters: the longest there can be, in nginx's variables too."""
ATTACKER, VISITOR = "203.0.113.7", "198.51.100.1"
MB = 1_000_000
MOST = 64 * MB
"""Bytes that one source may hold of the disk, and of the memory."""


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with two apps. What comes from this machine is believed: so we are whom we want to be."""
    host = make_host("strangers", request.param)
    host.settings(apps__notes__source__path=str(copy_example("notes", host.folder)))
    gateway = host.target["ip"].rsplit(".", 1)[0] + ".1"  # Docker's, by which published ports are entered
    host.app().update(watch=0, keep_warm=0, trusted_proxies=[gateway], workers=1)
    tiny = make_tiny(host.folder / "tiny")
    for folder in (SHORT_FOLDER, LONG_FOLDER):
        (tiny / folder).mkdir(parents=True)
        (tiny / folder / "file.txt").write_text("static\n")
    host.slipway["apps"][TINY] = {
        "domains": ["extra.test"],
        "source": {"path": str(tiny)},
        "app": "tiny.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "tls": {"mode": "off"},
        "workers": 1,
        "watch": 0,
        "keep_warm": 0,
    }
    host.deploy()
    return host


def http2(host: Host, *, window: int = 65_535) -> Http2:
    """A connection that the proxy has made."""
    return Http2(host.connect(alpn="h2"), window=window)


def client(address: str) -> dict[str, str]:
    """The header by which the proxy says whom it passes on."""
    return {"x-forwarded-for": address}


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LONG = "a" * 63
NAMES = [f"{number:02}{'a' * 59}.{LONG}.{LONG}.{LONG}" for number in range(99)]
SHORT_FOLDER, LONG_FOLDER = "a", f"._+-/{'a' * 101}"
VALUE = "default-src 'self' " + "x" * 3981
HEADERS = ("content_security_policy", "content_security_policy_report_only", "x_frame_options",
           "x_content_type_options", "referrer_policy", "x_permitted_cross_domain_policies", "permissions_policy",
           "cross_origin_opener_policy", "cross_origin_resource_policy")  # fmt: skip
SMALLEST = {
    "nginx": {"worker_connections": 64, "header_timeout": 1, "body_timeout": 1, "sandbox": False},
    "apps": {
        TINY: {
            "port": 1024,
            "static": {"path": SHORT_FOLDER, "url": "/a/", "max_age": 0},
            "max_body_size": "1",
            "proxy_timeout": 1,
            "trusted_proxies": ["203.0.113.1/32"],
            "real_ip_header": "A",
            "headers": {"strict_transport_security": None} | dict.fromkeys(HEADERS),
            "rate_limits": {"/": {"rate": "1r/m", "burst": 0}},
            "connections_per_client": 1,
            "uploads_per_client": 1,
            "maintenance": True,
            "compress": True,
        }
    },
}
LARGEST = {
    "nginx": {"worker_connections": 65_536, "header_timeout": 3600, "body_timeout": 3600},
    "apps": {
        TINY: {
            "domains": ["extra.test", *NAMES],
            "port": 65_535,
            "static": {"path": LONG_FOLDER, "url": f"/.~_-/{'.' * 194}/", "max_age": 31_536_000},
            "max_body_size": "999999g",
            "proxy_timeout": 3600,
            "trusted_proxies": ["0.0.0.0/1", "::/1", "::ffff:10.0.0.0/104", "2001:db8::1"],
            "real_ip_header": "A" * 64,
            "headers": {"strict_transport_security": "max-age=999999999; includeSubDomains; preload"}
            | dict.fromkeys(HEADERS, VALUE),
            "rate_limits": {
                "/" + "." * 200: {"rate": "999999r/s", "burst": 10_000},
                "/~_-": {"rate": "999999r/m", "burst": 1},
            },
            "connections_per_client": 65_535,
            "uploads_per_client": 65_535,
        },
        "notes": {"headers": dict.fromkeys(HEADERS, VALUE)},
    },
}
NO_LIMITS = {"apps": {TINY: {"max_body_size": "0", "connections_per_client": None, "static": None}}}
MANY_BYTES = {"apps": {TINY: {"max_body_size": "999999999999", "rate_limits": {}}}}


@pytest.mark.parametrize("extreme", [SMALLEST, LARGEST, NO_LIMITS, MANY_BYTES],
                         ids=["smallest", "largest", "no limits", "many bytes"])  # fmt: skip
def test_nginx_takes_what_the_settings_take(host: Host, extreme: dict[str, Any]) -> None:
    """The host's own nginx judges, and doesn't even warn."""
    with host.changed(extreme):
        assert "Nginx | Configure the sites" in host.deploy().changed
        assert host.ssh("nginx -t -q 2>&1") == ""
    host.deploy()
    assert host.get("/healthz").status_code == 200


def test_whom_a_limit_counts(host: Host) -> None:
    """An address, or the /64 network of one of IPv6, whatever of it is zero."""
    limits = {"/api/whoami": {"rate": "1r/m", "burst": 0}}
    rows = {
        "2001:db8::a:b:c:d": 200,
        "2001:db8::1:2:3:4": 429,
        "2001:db8::1": 429,
        "2001:db8:0:1::1": 200,
        "192.0.2.1": 200,
        "192.0.2.2": 200,
        "::ffff:192.0.2.2": 429,
        "::ffff:192.0.2.3": 200,
    }
    with host.changed({"apps": {"notes": {"rate_limits": limits, "real_ip_header": "CF-Connecting-IP"}}}):
        host.deploy()
        found = {}
        for address in rows:  # whatever the other header claims
            answer = host.get("/api/whoami", headers=client(VISITOR) | {"CF-Connecting-IP": address})
            found[address] = answer.status_code
            assert answer.status_code != 200 or answer.json()["client"] == address
    host.deploy()
    assert found == rows
    assert host.get("/api/whoami", headers=client(VISITOR) | {"CF-Connecting-IP": ATTACKER}).json()["client"] == VISITOR


# ── doors for the host itself ────────────────────────────────────────────────────────────────────────────────────────

ASK = """
import http.client, json, socket, ssl, sys
address, port, name, forwarded = json.load(sys.stdin)
told = {}
for each in forwarded:
    plain = socket.create_connection((address, port), 10)
    context = ssl._create_unverified_context()
    connection = http.client.HTTPConnection(name)
    connection.sock = context.wrap_socket(plain, server_hostname=name) if port == 443 else plain
    try:
        connection.request("GET", "/generation", headers={"X-Forwarded-For": each} if each else {})
        answer = connection.getresponse()
        told[each] = [answer.status, answer.getheader("X-Slipway-Release")]
    except ConnectionResetError:
        told[each] = [0, None]
print(json.dumps(told))
"""
CLAIMS = ["", "8.8.8.8", "127.0.0.1", "127.83.76.87", "8.8.8.8, 127.83.76.87", "127.83.76.87, 8.8.8.8", "::1",
          "::ffff:127.83.76.87", "unix:", "nonsense"]  # fmt: skip


def asked(host: Host, address: str, port: int, name: str) -> list[Any]:
    """What a proxy on the host is told for visitors who claim these: statuses and releases, each once."""
    given = json.dumps([address, port, name, CLAIMS])
    told = host.ssh(f"python3 -c '{ASK}'", stdin=given)
    return [list(each) for each in {tuple(each) for each in json.loads(told).values()}]


TRUSTED = {"unknown": [], "one": ["127.0.0.1"], "networks": ["127.0.0.0/8", "::1"]}
"""Proxies that an app may trust."""


@pytest.mark.parametrize("trusted", variants(TRUSTED, ("one",)))
def test_a_proxy_on_the_host_opens_no_door(host: Host, trusted: str) -> None:
    """Its visitors come from 127.0.0.1: they see the page of maintenance, no release, and nothing of nginx's."""
    own = {"maintenance": True, "trusted_proxies": TRUSTED[trusted]}
    with host.changed({"apps": {"notes": own, TINY: own}}):
        host.deploy()
        for address in [
            "127.0.0.1",
            host.target["ip"],
            *(["::1"] if host.run("test -e /proc/net/if_inet6").returncode == 0 else []),
        ]:
            assert asked(host, address, 443, "notes.test") == [[503, None]]
            assert asked(host, address, 80, "extra.test") == [[503, None]]
            assert asked(host, address, 80, "slipway.internal") == [[0, None]]
        # What the host's own programs know all the same: a release is proven meanwhile.
        (host.folder / "notes/static/style.css").write_text(f"/* {trusted} */\n")
        assert "Release | Release notes" in host.deploy().changed
        assert json.loads(host.ssh("/opt/slipway/bin/slipway nginx status --json"))["live"] is True
    host.deploy()


# ── what one source can hold ─────────────────────────────────────────────────────────────────────────────────────────


def on_the_disk(host: Host) -> int:
    """Bytes of nginx's temporary files; most have no name any more."""
    find = "find /proc/[0-9]*/fd -lname '/var/lib/nginx/*' -exec stat -Lc %s {} + 2>/dev/null"
    return sum(map(int, host.ssh(f"{find} || true").split()))


def in_memory(host: Host) -> int:
    """Bytes of memory that nginx's workers have."""
    workers = "for pid in $(pgrep -f '^nginx: worker process$'); do grep ^Pss: /proc/$pid/smaps_rollup; done"
    return sum(int(each) * 1024 for each in re.findall(r"Pss: +(\d+)", host.ssh(workers)))


@pytest.mark.parametrize(
    ("method", "size", "told", "taken"),
    [
        ("POST", 9_000_000, True, 4),
        ("POST", 9_000_000, False, 4),
        ("GET", 9_000_000, True, 4),
        ("PUT", 4_900_000, True, 6),
        ("POST", 990_000, True, 16),
        ("POST", 9_900, True, 48),
    ],
)
def test_uploads_without_an_end(host: Host, method: str, size: int, told: bool, taken: int) -> None:
    """A hundred at once, each with a byte that doesn't come: most are refused, and other visitors are served."""
    header = client(ATTACKER) | ({"content-length": str(size)} if told else {})
    counted = size > 10_000
    with ExitStack() as stack:
        for number in range(3):
            connection = stack.enter_context(http2(host))
            streams = [connection.request(method, "/api/upload", header, end=False) for _ in range(48)]
            connection.body(dict.fromkeys(streams, b"x" * (size - 1)))
            free = taken if number == 0 or not counted else 0
            while len(connection.ended) < 48 - free:
                connection.receive()
            connection.until_quiet()
            assert Counter(connection.statuses.values()) == Counter({429: 48 - free})
            assert on_the_disk(host) <= MOST
        # Meanwhile another visitor's uploads arrive, and the attacker's other requests.
        for visitor, length in ((VISITOR, 9_000_000), (ATTACKER, 5_000)):
            answer = host.request("POST", "/api/upload", content=b"x" * length, headers=client(visitor))
            assert (answer.status_code, answer.json()) == (200, {"bytes": length})
    wait_until(lambda: on_the_disk(host) == 0, 10, "nothing is left on the disk")


def test_bodies_that_nothing_announces(host: Host) -> None:
    """HTTP/2 needs neither length nor coding: with a method that has none, a body is small or refused."""
    with http2(host) as connection:
        streams = [connection.request("GET", "/api/whoami", client(ATTACKER), end=False) for _ in range(48)]
        connection.body(dict.fromkeys(streams, b"x" * 4000))
        connection.until_quiet()
        assert on_the_disk(host) == 0 and not connection.ended
        connection.body(dict.fromkeys(streams[:2], b""), end=True)
        assert connection.answers(streams[:2]) == [200, 200]
        connection.body({streams[2]: b"x" * 2000})
        assert connection.answers(streams[2:3]) == [413]


@pytest.mark.parametrize(("told", "sent"), [(10, 5000), (5000, 10), (9_999, 9_000_000)])
def test_a_length_that_is_a_lie(host: Host, told: int, sent: int) -> None:
    """By which a large body would count as a small one."""
    with http2(host) as connection:
        stream = connection.request("POST", "/api/upload", client(ATTACKER) | {"content-length": str(told)}, end=False)
        connection.body({stream: b"x" * sent}, end=True)
        assert connection.answers([stream]) == [400]


def test_ordinary_clients(host: Host) -> None:
    """Six photos at once, a page with 60 files, and what has no body over HTTP/2."""
    with http2(host) as connection:
        header = client(VISITOR) | {"content-length": "4000000"}
        streams = [connection.request("POST", "/api/upload", header, end=False) for _ in range(6)]
        connection.body(dict.fromkeys(streams, b"x" * 4_000_000), end=True)
        assert connection.answers(streams) == [200] * 6
        files = {"accept-encoding": "gzip"} | client(VISITOR)
        first = [connection.request("GET", "/static/app.js", files) for _ in range(40)]
        assert connection.answers(first) == [200] * 40
        second = [connection.request("GET", "/static/app.js", files) for _ in range(20)]
        assert connection.answers(second) == [200] * 20
        rows = {"GET": 200, "HEAD": 405, "DELETE": 405, "OPTIONS": 405, "POST": 405}
        streams = [connection.request(method, "/api/whoami?x=%2F%20y", client(VISITOR)) for method in rows]
        assert connection.answers(streams) == list(rows.values())
        assert json.loads(connection.bodies[streams[0]])["url"] == "https://notes.test/api/whoami?x=%2F%20y"
    for path in ("/api/upload", "/api/upload?chunked"):
        content: Any = b"x" * 9_000_000 if path == "/api/upload" else (b"x" * 1_000_000 for _ in range(9))
        assert host.request("POST", path, content=content, headers=client(VISITOR)).json() == {"bytes": 9_000_000}


def test_an_app_that_is_away_over_http2(host: Host) -> None:
    """The page is the same for a request that announces no body."""
    unit = f"notes@{host.release()}"
    with host.afterwards(f"systemctl start {unit}.socket"):
        host.ssh(f"systemctl stop {unit}.socket {unit}.service")
        answer = host.get("/", http2=True, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()) == (502, {"title": "Temporarily unavailable", "status": 502})
    assert answer.headers["retry-after"] == "30"
    wait_until(lambda: host.get("/healthz").status_code == 200, 10, "the app is back")


def test_readers_who_take_nothing(host: Host) -> None:
    """Of a file that nginx compresses, and of the app's answers: beyond what memory bears, they are refused."""
    file = f"/srv/notes/releases/{host.release()}/static/large.css"
    host.ssh(
        f"python3 -c 'import random; print(random.Random(1).choices(range(10**6), k=300000))' >{file}; chmod 644 {file}"
    )
    before = in_memory(host)
    with host.afterwards(f"rm -f {file}"), ExitStack() as stack:
        header = {"accept-encoding": "gzip"} | client(ATTACKER)

        def asked_for(path: str, connections: int) -> Counter[int]:
            statuses = Counter[int]()
            for _ in range(connections):
                connection = stack.enter_context(http2(host, window=1))
                statuses.update(connection.begun([connection.request("GET", path, header) for _ in range(48)]))
            return statuses

        assert asked_for("/static/large.css", 4) == {200: 96, 429: 96}
        assert asked_for("/api/events", 9) == {200: 404, 429: 28}, "500 in all"
        assert in_memory(host) - before < MOST and on_the_disk(host) == 0
        assert host.get("/static/large.css", headers=client(VISITOR)).status_code == 200
        assert host.get("/api/whoami", headers=client(VISITOR)).status_code == 200


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_left_among_static_files(host: Host) -> None:
    """Neither a dot file is given away nor what a link leads to."""
    static = f"/srv/notes/releases/{host.release()}/static"
    made = f"""
set -e; cd {static}; umask 022
mkdir -p .git img/.svn .well-known "new
line/.git"
echo hidden | tee .htpasswd .env .git/config img/.svn/entries img/.DS_Store "new
line/.git/config" >/dev/null
echo shown | tee .well-known/security.txt img/a..b.css img/x.env >/dev/null
ln -s /var/log/nginx/access.log log.txt
ln -s /var/log/nginx logs
ln -s ../pyproject.toml project.txt
ln -s .. up
ln -s /proc/self/environ environ.txt
chmod 755 ../static
"""
    undo = f"cd {static} && rm -rf .git .well-known .htpasswd .env img new* log.txt logs project.txt up environ.txt"
    with host.afterwards(undo):
        host.ssh(made)
        for path in (".htpasswd", ".env", ".git/config", ".git/", "img/.svn/entries", "%2ehtpasswd", "img//.DS_Store",
                     "img/%2e%2e/.env", "new%0Aline/.git/config", ".well-known/../.env"):  # fmt: skip
            assert host.get(f"/static/{path}").status_code == 404, path
        for path in (
            "log.txt",
            "logs/access.log",
            "logs/notes.access.log",
            "project.txt",
            "up/pyproject.toml",
            "environ.txt",
        ):
            answer = host.get(f"/static/{path}")
            assert answer.status_code in (403, 404) and "nginx" in answer.text, path
        for path in (".well-known/security.txt", "img/a..b.css", "img/x.env"):
            assert host.get(f"/static/{path}").text == "shown\n", path
        assert host.get("/static/style.css").status_code == 200
    host.deploy()


def test_each_app_has_logs_that_no_other_reads(host: Host) -> None:
    """And that logrotate rotates, as Debian set it up for nginx's."""
    host.get("/healthz?of-notes")
    host.get("/?of-tiny", domain="extra.test", scheme="http")
    logs = {app: f"/var/log/nginx/{app}.access.log" for app in ("notes", TINY)}

    def lines(app: str, ending: str = "") -> str:
        return host.ssh(f"cat {logs[app]}{ending}")

    wait_until(lambda: "of-notes" in lines("notes") and "of-tiny" in lines(TINY), 10, "both are logged")
    assert "of-tiny" not in lines("notes") and "of-notes" not in lines(TINY)
    assert "/?of-tiny" not in host.ssh("cat /var/log/nginx/access.log")

    def closed() -> None:
        assert host.ssh("find /var/log/nginx -name '*.log*' -perm /o=rwx") == ""
        for user in ("notes", TINY, "nobody"):
            for file in (*logs.values(), "/var/log/nginx/notes.error.log"):
                read = f"setpriv --reuid={user} --regid=$(id -g {user}) --init-groups cat {file}"
                assert host.run(read).returncode != 0, (user, file)

    closed()
    host.ssh("logrotate --force /etc/logrotate.d/nginx")
    wait_until(
        lambda: host.get("/healthz?rotated").status_code == 200 and "rotated" in lines("notes"), 10, "it goes on"
    )
    assert "of-notes" in lines("notes", ".1") and "of-notes" not in lines("notes")
    closed()
    # One that isn't there yet is made by the next change.
    host.ssh(f"rm {logs['notes']}")
    with host.changed({"apps": {"notes": {"max_body_size": "11m"}}}):
        host.deploy()
    host.deploy()
    closed()
