"""What apps and visitors need of the web side: health without paths, long headers, proxies in front, redirects."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from tests.e2e._driver import ROOT, Host, wait_until
from tests.e2e.conftest import MakeHost

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF/AASCBKcw\nAb12Cd34Ef\n-----END PRIVATE KEY-----\n"
TYPES = {
    "mjs": "text/javascript; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "map": "application/json",
    "txt": "text/plain; charset=utf-8",
}


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A host with an app that has no path for its health, and whose `/` redirects to a login."""
    host = make_host("web", "debian13")
    source = host.folder / "plain"
    if not source.exists():
        shutil.copytree(ROOT / "tests/apps/plain", source)
    env = host.folder / "web.env"
    env.write_text(f'SIGNING_KEY="{PEM}"\nLD_SDK_KEY=sdk-1\n')
    env.chmod(0o600)
    host.slipway["apps"] = {
        "notes": {
            "domains": ["notes.test"],
            "source": {"path": str(source)},
            "app": "echo.main:app",
            "env_file": str(env),
            "static": {"path": "static"},
            "port": 8100,
            "workers": 1,
            "keep_warm": 0,
        }
    }
    host.deploy()
    return host


def test_an_app_without_health_is_ready_when_it_answers(host: Host) -> None:
    assert host.get("/", follow_redirects=False).status_code == 302
    with host.changed({"apps": {"notes": {"env": {"ANY": "other"}}}}):
        host.task("tasks/release.py", app="notes", prove=True)
    host.deploy()


def test_a_path_that_the_app_lacks_ends_the_release_at_once(host: Host) -> None:
    before, began = host.release(), time.monotonic()
    with host.changed({"apps": {"notes": {"readiness_path": "/readyz"}}}):
        told = host.deploy(check=False).output
    assert "/readyz answers 404: the app has no such path. Set readiness_path" in told
    assert host.release() == before and time.monotonic() - began < 55


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_long_headers_pass(host: Host, http2: bool) -> None:
    for query in ("cookie=4000", "cookie=3000&cookie=3000", "cookie=4000&cookie=4000&cookie=4000&cookie=4000"):
        assert host.get(f"/echo?{query}", http2=http2).status_code == 200, query
    for size in (9_000, 16_000, 32_000):
        answer = host.get("/echo", http2=http2, headers={"X-Long": "y" * size})
        assert answer.status_code == 200, size


ON_PORT = """import http.client
host = http.client.HTTPConnection("127.0.0.1", 8100, timeout=10)
host.request("GET", "PATH")
answer = host.getresponse()
print(answer.status, answer.read().decode())
"""


def on_port(host: Host, path: str) -> str:
    """Status and body of an answer at the app's own port, asked on the host itself, which has no curl."""
    return host.ssh("python3 -", stdin=ON_PORT.replace("PATH", path))


def test_a_header_that_is_too_long_gets_a_status(host: Host) -> None:
    assert host.get("/echo", headers={"X-Long": "y" * 90_000}).status_code == 431
    assert on_port(host, "/echo?" + "y" * 90_000).startswith("414 ")


def test_what_a_trusted_proxy_says(host: Host) -> None:
    gateway = host.target["ip"].rsplit(".", 1)[0] + ".1"
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443", "X-Request-ID": "of-the-proxy"}
    with host.changed({"apps": {"notes": {"trusted_proxies": [f"{gateway}/32"]}}}):
        host.deploy()
        answer = host.get("/echo", scheme="http", headers=said)
        seen = answer.json()
        assert (answer.status_code, seen["scheme"]) == (200, "https"), "no redirect without end"
        assert (seen["headers"]["x-forwarded-port"], seen["headers"]["x-request-id"]) == ("8443", "of-the-proxy")
        assert answer.headers["x-request-id"] == "of-the-proxy"
        for scheme in ("http", "https"):
            answer = host.get("/echo", scheme=scheme, headers={"X-Forwarded-Proto": "http"}, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (301, "https://notes.test/echo")
        with host.changed({"apps": {"notes": {"tls": {"mode": "off"}}}}):
            host.deploy()
            answer = host.get("/echo", scheme="http", headers=said)
            assert answer.json()["scheme"] == "https" and "strict-transport-security" in answer.headers
            answer = host.get("/echo", scheme="http")
            assert answer.json()["scheme"] == "http" and "strict-transport-security" not in answer.headers
    host.deploy()
    seen = host.get("/echo", headers=said | {"X-Forwarded-Proto": "http"}).json()
    assert seen["scheme"] == "https" and seen["headers"]["x-request-id"] != "of-the-proxy", "it is trusted no longer"


def test_types_of_static_files(host: Host) -> None:
    found = {ending: host.get(f"/static/a.{ending}").headers["content-type"] for ending in TYPES}
    assert found == TYPES


def test_a_post_by_http_stays_a_post(host: Host) -> None:
    for method, status in (("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308)):
        answer = host.request(method, "/echo?a=1", scheme="http", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (status, "https://notes.test/echo?a=1"), method


def test_the_port_belongs_to_the_name(host: Host) -> None:
    seen = json.loads(on_port(host, "/echo").partition(" ")[2])["headers"]
    assert (seen["host"], seen["x-forwarded-host"]) == ("127.0.0.1:8100", "127.0.0.1:8100")


def test_what_is_printed_is_in_the_journal_at_once(host: Host) -> None:
    assert host.get("/print").status_code == 200
    journal = "journalctl --namespace=notes -o cat --no-pager -n 50"
    wait_until(lambda: "printed by the app" in host.ssh(journal), 5, "what the app printed")


def test_the_hosts_interfaces_are_told(host: Host) -> None:
    assert "lo" in host.get("/interfaces").json()["interfaces"]


def test_no_line_of_a_key_is_shown(host: Host) -> None:
    """Printed as it is and as JSON, by a hook that fails."""
    code = (
        "import json, os; k = os.environ['SIGNING_KEY']; print(k); print(json.dumps({'key': k})); print(repr(k)); 1 / 0"
    )
    (host.folder / "plain/tell.py").write_text(code + "\n")
    with host.changed({"apps": {"notes": {"hooks": {"before_migrate": "python tell.py"}}}}):
        told = host.deploy(check=False).output
    (host.folder / "plain/tell.py").unlink()
    told += host.ssh("/opt/slipway/bin/slipway log notes")
    assert "ZeroDivisionError" in told and "***" in told
    for line in PEM.splitlines()[1:-1]:
        assert line not in told
    host.deploy()


def test_429_is_an_answer_while_a_release_is_watched(host: Host) -> None:
    """The app counts; from the third question on it refuses."""
    main = host.folder / "plain/echo/main.py"
    before = main.read_text()
    counting = before.replace("async def app(", "asked = []\n\n\nasync def app(", 1).replace(
        '    elif path == "/busy":\n        status = 429',
        '    elif path == "/busy":\n        asked.append(1)\n        status = 429 if len(asked) > 2 else 200',
    )
    assert counting.count("asked") == 4
    main.write_text(counting)
    with host.changed({"apps": {"notes": {"readiness_path": "/busy", "watch": 8}}}):
        host.deploy()
    main.write_text(before)
    host.deploy()
