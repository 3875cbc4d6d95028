"""roles/nginx: what visitors get, what others don't get, and what reaches the app."""

from __future__ import annotations

import functools
import ipaddress
import re
import ssl
from typing import NamedTuple

import pytest
from websockets.exceptions import InvalidStatus

from slipway.settings import StaticSettings
from tests.host._client import Answer
from tests.host._hosts import FORGED, FORGED_ADDRESS, FORGED_HOST, FORGED_ID, App, Site, Target

UNKNOWN = "unknown.example"
"""A name that no site has: .example is reserved (RFC 2606)."""
SIZES = {"k": 2**10, "m": 2**20, "g": 2**30}
"""nginx's suffixes (nginx.org/en/docs/syntax.html)."""
GZIP_FROM = 1024
"""Bytes from which nginx compresses (gzip_min_length)."""
LONG_JSON = ("/openapi.json", "/schema/openapi.json", "/api/notes")
"""Where FastAPI and Litestar describe an app, in some thousand bytes, and what the examples may have stored."""


# The release that nginx names to the host itself, asked for a site by its name; certificates are other tests' affair.
_NAMED = """
import http.client, socket, ssl, sys
name, path, scheme, source = sys.argv[1:]
connection = http.client.HTTPConnection(name, timeout=10)
connection.sock = socket.create_connection(("127.0.0.1", 443 if scheme == "https" else 80), 10, (source, 0))
if scheme == "https":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
connection.request("GET", path)
print(connection.getresponse().getheader("X-Slipway-Release"))
"""


def known(target: Target) -> Site:
    """A site of the host that answers, so that silence elsewhere means something."""
    site = next(iter(target.apps.values())).site
    answer = site.client.request(site.domain, "/", trust=None)
    assert answer.status < 500, f"{site.domain} doesn't answer on port 80: {answer}"
    return site


# --- From inside -----------------------------------------------------------------------------------------------------


def test_configuration_is_valid_without_a_warning(target: Target) -> None:
    """All of it, what others put into conf.d included."""
    done = target.host.run("nginx -t -q 2>&1")
    assert (done.rc, done.stdout) == (0, "")


def test_running_configuration_is_the_one_on_disk(target: Target) -> None:
    """A reload may end with 0 and change nothing, so the running nginx itself was asked."""
    found = {key: target.nginx_status[key] for key in ("managed", "live")}
    assert found == {"managed": True, "live": True}


def test_nginx_is_active_and_comes_back_after_a_reboot(target: Target) -> None:
    """The unit of Debian's package."""
    found = target.show("nginx.service", "ActiveState", "UnitFileState")
    assert found == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_nginx_is_shut_off_from_what_it_does_not_need(target: Target) -> None:
    """The unit, and the nginx that runs: one that ran before its sandbox was written isn't restarted for it."""
    if not target.settings.nginx.sandbox:
        pytest.skip("nginx.sandbox is False")
    assert target.exposure("nginx.service") <= 2.5
    status = target.run("cat /proc/$(cat /run/nginx.pid)/status")
    if "NoNewPrivs:\t0" in status:
        pytest.skip("nginx runs without its sandbox until it is next started: restart it when you can bear that")
    assert re.search(r"Seccomp:\t2", status)


# --- Names -----------------------------------------------------------------------------------------------------------


def test_http_redirects_to_https(site: Site) -> None:
    """To the same name and path, with its query."""
    if site.app.trust is None:
        pytest.skip('tls.mode is "off": the site is served by http')
    answer = site.client.request(site.domain, "/a/path?with=query", trust=None)
    assert (answer.status, answer.header("Location")) == (301, f"https://{site.domain}/a/path?with=query")


def test_acme_challenges_are_not_redirected(site: Site) -> None:
    """An ACME server gets nginx's answer for its file, before any redirect."""
    if site.app.settings.tls.mode != "acme":
        pytest.skip(f'tls.mode is "{site.app.settings.tls.mode}": nobody asks for a challenge')
    answer = site.client.request(site.domain, "/.well-known/acme-challenge/no-such-file", trust=None)
    assert answer.status == 404


@pytest.mark.parametrize("name", [UNKNOWN, "slipway.internal"])
def test_unknown_name_gets_no_answer(target: Target, name: str) -> None:
    """Nor does the name by which the host asks its own nginx."""
    site = known(target)
    request = f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    assert target.client.raw(site.domain, request.encode()) == b""


def test_request_without_a_name_gets_no_answer(target: Target) -> None:
    """HTTP/1.0, as scanners of addresses send it."""
    assert target.client.raw(known(target).domain, b"GET / HTTP/1.0\r\n\r\n") == b""


@pytest.mark.parametrize("name", [UNKNOWN, None])
def test_unknown_name_gets_no_handshake(app: App, name: str | None) -> None:
    """No certificate to look at either, for an unknown SNI and for none."""
    assert app.site.client.handshake(app.site.domain, to=app.site.domain, trust=app.site.tls).version
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        app.site.client.handshake(name, to=app.site.domain)


def test_known_handshake_opens_no_other_site(site: Site) -> None:
    """The handshake names a site, the request then a host that there isn't."""
    answer = site.client.request(site.domain, "/", trust=site.tls, host=UNKNOWN)
    assert answer.status == 421


# --- Headers ---------------------------------------------------------------------------------------------------------


def headers_of(site: Site, answer: Answer) -> None:
    """Fail unless an answer has each header of the settings once, with nginx's value or with one of the app's own."""
    wanted = site.app.settings.answer_headers
    for name, value in wanted.items():
        found = answer.headers.get_all(name) or []
        plain = name == "Strict-Transport-Security" and site.app.trust is None
        if name == "Content-Security-Policy" and answer.header("X-Frame-Options") != wanted.get("X-Frame-Options"):
            continue  # the app says itself who may frame it
        assert len(found) == (0 if plain else 1), f"{name}: {found}"
        if answer.header("Server") == "nginx" and answer.body.startswith(b"<html>\r\n<head><title>"):
            assert found == [value], name  # a page of nginx's own


@pytest.mark.parametrize("path", ["/", "/no-such-path", "liveness"])
def test_headers_of_an_answer(site: Site, path: str) -> None:
    """The app's own, whatever its status."""
    headers_of(site, site.get(site.app.settings.liveness if path == "liveness" else path))


def test_headers_of_an_answer_of_nginx_s(site: Site) -> None:
    """A request that it refuses: a body without an end that it knows."""
    answer = site.get("/", method="POST", headers=[("Content-Length", "nonsense")])
    assert answer.status == 400
    headers_of(site, answer)


def test_headers_of_a_static_file(app: App) -> None:
    """Which nginx serves itself."""
    headers_of(app.site, app.site.get(static_file(app, "*").url))


def test_headers_of_a_redirect(site: Site) -> None:
    """From http to https: all but HSTS, which counts over TLS alone."""
    if site.app.trust is None:
        pytest.skip('tls.mode is "off": there is no redirect')
    answer = site.client.request(site.domain, "/", trust=None)
    wanted = dict(site.app.settings.answer_headers)
    wanted.pop("Strict-Transport-Security", None)
    assert {name: answer.header(name) for name in wanted} == wanted
    assert answer.header("Strict-Transport-Security") is None


def test_headers_of_a_misdirected_request(site: Site) -> None:
    """Of a name that there isn't: nothing but what keeps it from being anything."""
    answer = site.client.request(site.domain, "/", trust=site.tls, host=UNKNOWN)
    assert (answer.header("X-Content-Type-Options"), answer.header("X-Frame-Options")) == ("nosniff", "DENY")
    assert answer.header("Content-Security-Policy") == "default-src 'none'; frame-ancestors 'none'"


def test_maintenance(site: Site) -> None:
    """A page for people, JSON for programs, and a time to come back after."""
    if not site.app.settings.maintenance:
        pytest.skip("maintenance is False")
    ask = functools.partial(site.client.request, site.domain, "/", trust=site.app.trust)
    page, told = ask(), ask(headers=[("Accept", "application/json")])
    assert (page.status, page.header("Content-Type")) == (503, "text/html; charset=utf-8")
    assert (told.status, told.header("Content-Type"), told.json()["status"]) == (503, "application/problem+json", 503)
    assert page.header("Retry-After") == "30" and page.header("Cache-Control") == "no-store"
    headers_of(site, page)


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_liveness_through_the_public_name(site: Site) -> None:
    """The path of the settings."""
    answer = site.get(site.app.settings.liveness)
    assert site.app.settings.is_good(answer.status), answer


def test_readiness_through_the_public_name(site: Site) -> None:
    """The path of the settings."""
    answer = site.get(site.app.settings.readiness)
    assert site.app.settings.is_good(answer.status), answer


def test_http2(site: Site) -> None:
    """Chosen by ALPN, and answered over."""
    answer = site.get_http2(site.app.settings.liveness)
    assert answer.http_version == "HTTP/2" and site.app.settings.is_good(answer.status_code)


def test_http1_is_still_served(site: Site) -> None:
    """A client that knows nothing newer gets its answer."""
    answer = site.client.request(site.domain, site.app.settings.liveness, trust=site.tls)
    assert site.app.settings.is_good(answer.status), answer


def test_server_tells_no_version(site: Site) -> None:
    """Neither nginx's nor the app server's."""
    assert site.get(site.app.settings.liveness).header("Server") == "nginx"


def named(site: Site, source: str) -> str:
    """The release that nginx names to a program on the host which comes from this address."""
    scheme, path = "http" if site.app.trust is None else "https", site.app.settings.liveness
    return site.app.target.run("python3 -c %s %s %s %s %s", _NAMED, site.domain, path, scheme, source)


def test_release_is_named_to_the_host_itself(site: Site) -> None:
    """A release is proven by it: asked by Slipway's own programs, nginx says which one answered."""
    assert named(site, "127.83.76.87") == site.app.release


def test_release_is_named_to_nobody_else(site: Site) -> None:
    """Neither in an answer of the app's nor in one of nginx's, nor to a proxy on the host."""
    assert named(site, "127.0.0.1") == "None"
    for path in (site.app.settings.liveness, "/no-such-path"):
        assert site.get(path).header("X-Slipway-Release") is None, path


def test_json_is_compressed_where_asked(app: App) -> None:
    """The app's own description, as the longest JSON that an app is likely to have."""
    if not app.settings.compress:
        pytest.skip("compress is False")
    for path in LONG_JSON:
        answer = app.site.get(path, headers=[("Accept-Encoding", "gzip")])
        kind = (answer.header("Content-Type") or "").partition(";")[0]
        if (answer.status, kind) == (200, "application/json") and len(answer.body) >= GZIP_FROM:
            assert (answer.header("Content-Encoding"), answer.header("Vary")) == ("gzip", "Accept-Encoding")
            return
    pytest.skip(f"the app has no application/json of {GZIP_FROM} bytes or more at {', '.join(LONG_JSON)}")


def test_too_large_body_is_refused(app: App) -> None:
    """By its announced length: nothing of it is sent."""
    wanted = app.settings.max_body_size
    if wanted == "0":
        pytest.skip("max_body_size is 0: there is no limit")
    limit = int(wanted[:-1]) * SIZES[wanted[-1]] if wanted[-1] in SIZES else int(wanted)
    answer = app.site.get("/", method="POST", headers=[("Content-Length", str(limit + 1))])
    assert answer.status == 413


def test_logs_are_closed_to_other_apps(app: App) -> None:
    """Those of the app are there, and nobody but root, nginx and the administrators reads them."""
    logs = " ".join(f"/var/log/nginx/{app.settings.name}.{kind}.log" for kind in ("access", "error"))
    modes = app.target.run(f"stat -c '%a %U' {logs}").splitlines()
    assert len(modes) == 2
    assert {*modes} <= {"640 www-data", "640 root"}, modes


# --- What reaches the app --------------------------------------------------------------------------------------------


def test_forged_address_does_not_reach_the_app(site: Site) -> None:
    """The app sees the address that nginx saw, in each of its forms."""
    _, seen = site.whoami
    if any(
        ipaddress.ip_address(seen["client"]) in ipaddress.ip_network(each) for each in site.app.settings.trusted_proxies
    ):
        pytest.skip(f"the tests come from {seen['client']}, one of trusted_proxies, whose word counts")
    headers = seen["headers"]
    assert FORGED_ADDRESS not in str(seen)
    assert headers.get("x-forwarded-for") == headers.get("x-real-ip") == str(ipaddress.ip_address(seen["client"]))


def test_forged_scheme_does_not_reach_the_app(site: Site) -> None:
    """The scheme is the one that was really used."""
    _, seen = site.whoami
    scheme = "http" if site.app.trust is None else "https"
    assert (seen["scheme"], seen["headers"].get("x-forwarded-proto")) == (scheme, scheme)
    assert seen["url"].startswith(f"{scheme}://")
    assert seen["headers"].get("x-forwarded-port") in (None, "80" if site.app.trust is None else "443")


def test_forged_host_does_not_reach_the_app(site: Site) -> None:
    """The host is the site's name."""
    _, seen = site.whoami
    assert FORGED_HOST not in str(seen)
    assert (seen["host"], seen["headers"].get("x-forwarded-host")) == (site.domain, site.domain)


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-Prefix"])
def test_header_that_nginx_does_not_set_is_dropped(site: Site, name: str) -> None:
    """An app may believe these too."""
    _, seen = site.whoami
    assert not seen["headers"].get(name.lower()), f"{FORGED[name]} was sent"


def test_request_id_is_nginx_s(site: Site) -> None:
    """Set anew: the same in the app and in the answer."""
    answer, seen = site.whoami
    told = answer.header("X-Request-ID")
    assert told is not None
    assert re.fullmatch("[0-9a-f]{32}", told)
    assert FORGED_ID not in str(seen)
    assert seen["headers"].get("x-request-id") == told


def test_websocket(site: Site) -> None:
    """Upgraded, and messages come back; /ws of the example apps."""
    _, seen = site.whoami  # skips the test for an app that isn't like the examples
    try:
        answer = site.client.echo(site.domain, "/ws", "hello", trust=site.app.trust)
    except InvalidStatus as error:
        pytest.fail(f"/ws was not upgraded: {error}")
    assert "hello" in answer
    assert seen["release"] in answer


def test_events_are_not_buffered(site: Site) -> None:
    """The first of two server-sent events arrives when it is sent, half a second before the second."""
    _, _ = site.whoami  # skips the test for an app that isn't like the examples
    status, lines = site.client.arrivals(site.domain, "/api/events?n=2", trust=site.app.trust)
    arrived = [round(seconds, 2) for seconds, line in lines if line.startswith(b"data:")]
    assert status == 200
    assert len(arrived) == 2, lines
    assert arrived[1] - arrived[0] >= 0.3, f"both arrived together: {arrived} s"


# --- Static files ----------------------------------------------------------------------------------------------------


class StaticFile(NamedTuple):
    """A file that nginx serves."""

    url: str
    etag: str
    """As nginx makes it, of the file's time and size."""
    size: int


def static_folder(app: App) -> StaticSettings:
    """The app's first folder of static files that is part of its releases; skips the test without one."""
    for each in app.settings.statics:
        if not app.settings.shared_with(each.path):
            return each
    pytest.skip("static names no folder of a release: nginx serves no files of the app")


def static_file(app: App, pattern: str) -> StaticFile:
    """The app's largest static file under 1 MB with such a name; skips the test without one."""
    static = static_folder(app)
    find = f"find {app.work}/{static.path}/ -type f -name %s -size -1024k -printf '%%s %%T@ %%P\\n'"
    listed = app.target.run(find + " | grep -v '[^A-Za-z0-9 ._/-]' | sort -n | tail -n 1", pattern)
    if not listed:
        pytest.skip(f"{static.path} has no {pattern} under 1 MB")
    size, changed, name = listed.split(" ", 2)
    etag = f'"{int(changed.partition(".")[0]):x}-{int(size):x}"'
    return StaticFile(static.url + name, etag, int(size))


def test_static_file_is_served_by_nginx(app: App) -> None:
    """Whole, and with nginx's own ETag: the app's would be another."""
    file = static_file(app, "*")
    answer = app.site.get(file.url)
    assert (answer.status, answer.header("ETag"), len(answer.body)) == (200, file.etag, file.size)


def test_static_file_may_be_cached(app: App) -> None:
    """For as long as the settings say."""
    answer, static = app.site.get(static_file(app, "*").url), static_folder(app)
    ages = {"none": [static.max_age], "all": [31_536_000]}.get(static.immutable, [static.max_age, 31_536_000])
    assert (answer.header("Cache-Control") or "").partition(",")[0] in [f"max-age={age}" for age in ages]


def test_style_sheet_is_compressed(app: App) -> None:
    """The largest one among the static files."""
    file = static_file(app, "*.css")
    if file.size < GZIP_FROM:
        pytest.skip(f"{file.url} has only {file.size} bytes: nginx compresses from {GZIP_FROM}")
    answer = app.site.get(file.url, headers=[("Accept-Encoding", "gzip")])
    assert (answer.header("Content-Encoding"), answer.header("Vary")) == ("gzip", "Accept-Encoding")
    assert len(answer.body) == file.size


def test_static_folder_opens_nothing_else(app: App) -> None:
    """No way up from it, and no list of its files."""
    url = static_folder(app).url
    for path in (f"{url.rstrip('/')}../pyproject.toml", f"{url}../pyproject.toml", f"{url}%2e%2e/pyproject.toml"):
        assert b"[project]" not in app.site.get(path).body, path
    for path in (".env", ".git/config", "css/.htpasswd"):
        assert app.site.get(url + path).status == 404, path
    assert app.site.get(url).status in (403, 404)
