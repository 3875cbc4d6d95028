"""What nginx does with requests: what a client can't forge, which headers come back, whom a limit counts."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from roles.nginx.operations import to_shared
from slipway.settings import Settings
from tests.unit.roles.nginx_texts import directives, nginx, server, servers

MakeSettings = Callable[[Mapping[str, Any]], Settings]


@pytest.fixture(params=["minimal", "maximal"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings with every default, and with none."""
    made: Settings = request.getfixturevalue(request.param)
    return made


# ── what a client can't forge ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["notes", "wiki-next", "lab", "plain"])
def test_forwarded_headers_are_set_and_never_appended(maximal: Settings, name: str) -> None:
    made = nginx(maximal)[f"proxy/{name}.conf"]
    headers = {
        header: value
        for line in directives(made)
        if (parts := line.removesuffix(";").split(maxsplit=2))[0] == "proxy_set_header"
        for header, value in [(parts[1], parts[2])]
    }
    host = {"notes": "$host_notes", "plain": "$host_plain"}.get(name, "$host")
    notes = name == "notes"  # which trusts proxies
    assert headers == {
        "Host": host,
        "Upgrade": "$slipway_upgrade",
        "Connection": "$connection_upgrade",
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme_notes" if notes else "$scheme",
        "X-Forwarded-Host": host,
        "X-Forwarded-Port": "$port_notes" if notes else "$server_port",
        "X-Forwarded-Prefix": '""',
        "X-Real-IP": "$remote_addr",
        "X-Request-ID": "$id_notes" if notes else "$request_id",
        "Forwarded": '""',
    }
    assert len([line for line in directives(made) if line.startswith("proxy_set_header")]) == len(headers)


UPGRADES = '"$server_protocol $request_method $http_transfer_encoding$http_content_length $http_upgrade"'
"""What tells the handshake of a WebSocket from all other requests that ask for an upgrade."""

BODIES = '"$http_transfer_encoding,$http_content_length,$server_protocol,$request_method"'
"""What tells how large a body may become."""


def test_no_variable_that_a_client_fills(settings: Settings) -> None:
    for path, text in nginx(settings).items():
        others = text.replace(UPGRADES, "").replace(BODIES, "").replace("map $http_accept_encoding ", "")
        # Each of these begins with who says it: a trusted proxy, or who comes by a port of this host.
        others = re.sub(
            r'map "\$(trusted_\w+ \$http_x_(forwarded_proto|forwarded_port|request_id)|server_port \$http_host)"',
            "",
            others,
        )
        found = re.findall(r"\$(proxy_add_x_forwarded_for|http_(?!accept\b)\w+|hostname)", others)
        assert found == [], f"{path}: {found}"
        assert text.count(UPGRADES) == text.count(f"map {UPGRADES} $slipway_upgrade {{"), path
        # What a client accepts chooses between two answers of nginx's own.
        assert others.count("$http_accept") == text.count("map $http_accept $slipway_unavailable {"), path


def said(text: str, variable: str, given: str) -> str:
    """What a map of a site makes of what nginx looks up; the value of a group is put in its place."""
    rows = text.partition(f" ${variable} {{\n")[2].partition("\n}")[0].splitlines()
    for row in rows[1:]:
        pattern, _, value = row.strip().removesuffix(";").rpartition(" ")
        pattern = pattern.strip('"')
        if not pattern.startswith("~") and pattern != given:
            continue
        flags = re.IGNORECASE if pattern.startswith("~*") else 0
        if found := re.search(pattern.lstrip("~*").replace("(?<", "(?P<"), given, flags):
            return found[value[1:]] if value.startswith("$") else value.strip('"')
    return rows[0].strip().removesuffix(";").removeprefix("default ").strip('"')


@pytest.mark.parametrize(
    ("variable", "given", "seen"),
    [
        ("scheme_notes", "0 https", "$scheme"),
        ("scheme_notes", "1 https", "https"),
        ("scheme_notes", "1 HTTPS", "https"),
        ("scheme_notes", "1 http", "http"),
        ("scheme_notes", "1 http, https", "https"),
        ("scheme_notes", "1 https,http ", "http"),
        ("scheme_notes", "1 ftp", "$scheme"),
        ("scheme_notes", "1 httpsx", "$scheme"),
        ("scheme_notes", "1 ", "$scheme"),
        ("port_of_scheme_notes", "http https", "443"),
        ("port_of_scheme_notes", "https http", "80"),
        ("port_of_scheme_notes", "https https", "$server_port"),
        ("port_notes", "0 8443", "$port_of_scheme_notes"),
        ("port_notes", "1 8443", "8443"),
        ("port_notes", "1 80, 443", "443"),
        ("port_notes", "1 0443", "$port_of_scheme_notes"),
        ("port_notes", "1 123456", "$port_of_scheme_notes"),
        ("id_notes", "0 abc", "$request_id"),
        ("id_notes", "1 Root=1-67891233-abcdef012345678912345678", "Root=1-67891233-abcdef012345678912345678"),
        ("id_notes", "1 two words", "$request_id"),
        ("id_notes", '1 "quoted"', "$request_id"),
        ("id_notes", f"1 {'a' * 129}", "$request_id"),
        ("redirect_notes", "https GET /", ""),
        ("redirect_notes", "http GET /", "301"),
        ("redirect_notes", "http HEAD /x", "301"),
        ("redirect_notes", "http POST /x", "308"),
        ("redirect_notes", "http GETTER /x", "308"),
        ("redirect_notes", "http GET /.well-known/acme-challenge/token", ""),
        ("redirect_notes", "http GET /xwell-known/acme-challenge/token", "301"),
        ("host_notes", "8001 127.0.0.1:8001", "127.0.0.1:8001"),
        ("host_notes", "8001 [::1]:8001", "[::1]:8001"),
        ("host_notes", "443 evil.example.com:1", "$host"),
        ("host_notes", "8001 a b", "$host"),
    ],
)
def test_what_a_trusted_proxy_and_the_port_say(maximal: Settings, variable: str, given: str, seen: str) -> None:
    text = nginx(maximal)["sites/notes.conf"]
    assert f" ${variable} {{" in text
    assert said(text, variable, given) == seen


def test_who_is_trusted_is_told_by_the_connection(maximal: Settings, make_settings: MakeSettings) -> None:
    """Not by an address in a header."""
    lines = directives(nginx(maximal)["sites/notes.conf"])
    at = lines.index("geo $realip_remote_addr $trusted_notes {")
    assert lines[at + 1 : at + 5] == ["default 0;", "192.0.2.0/24 1;", "2001:db8::/32 1;", "}"]
    for name in ("wiki-next", "lab", "plain"):
        assert "trusted_" not in nginx(maximal)[f"sites/{name}.conf"]


@pytest.mark.parametrize("mode", ["off", "self-signed", "acme"])
def test_a_trusted_proxy_without_tls_reaches_the_app(
    make_settings: MakeSettings, minimal_data: dict[str, Any], mode: str
) -> None:
    """What it got by https is answered, also where it comes by http; the rest is redirected where there is TLS."""
    minimal_data["apps"]["notes"] |= {"tls": {"mode": mode}, "trusted_proxies": ["192.0.2.7/32"]}
    made = nginx(make_settings(minimal_data))
    text = made["sites/notes.conf"]
    redirect = ["if ($redirect_notes = 301) {", "return 301 https://$host$request_uri;", "}"]
    redirect += ["if ($redirect_notes = 308) {", "return 308 https://$host$request_uri;", "}"]
    for listen in ["80"] if mode == "off" else ["80", "443"]:
        block = server(text, listen)
        assert "include /etc/nginx/slipway/proxy/notes.conf;" in block
        assert ("return 301" in " ".join(block)) is (mode != "off")
        if mode != "off":
            at = block.index(redirect[0])
            assert block[at : at + 6] == redirect
    trusted = "map $scheme_notes$upstream_http_strict_transport_security $add_strict_transport_security__notes {"
    assert (trusted in text) is (mode != "self-signed")


def test_no_block_below_the_proxy_file_sets_a_header(settings: Settings) -> None:
    """One proxy_set_header in a site's block would switch off all those of the file that it includes."""
    for path, text in nginx(settings).items():
        if not path.startswith("proxy/"):
            assert "proxy_set_header" not in text, path


@pytest.mark.parametrize(
    ("asked", "upgraded"),
    [
        ("HTTP/1.1 GET  websocket", True),
        ("HTTP/1.1 GET  WebSocket", True),
        ("HTTP/1.1 GET 0 websocket", True),
        ("HTTP/1.1 GET  h2c, websocket", True),
        ("HTTP/1.1 GET  websocket,h2c", True),
        ("HTTP/1.1 GET  ", False),
        ("HTTP/1.1 GET  h2c", False),
        ("HTTP/1.1 GET  TLS/1.0, HTTP/2.0", False),
        ("HTTP/1.1 GET  websocket2", False),
        ("HTTP/1.1 GET  notwebsocket", False),
        ("HTTP/1.1 GET  websocket h2c", False),
        ("HTTP/1.1 POST  websocket", False),
        ("HTTP/1.1 GET 5 websocket", False),
        ("HTTP/1.1 GET 00 websocket", False),
        ("HTTP/1.1 GET chunked websocket", False),
        ("HTTP/1.1 GET chunked0 websocket", False),
        ("HTTP/1.0 GET  websocket", False),
        ("HTTP/2.0 GET  websocket", False),
    ],
)
def test_nothing_but_the_handshake_of_a_websocket_is_upgraded(minimal: Settings, asked: str, upgraded: bool) -> None:
    """The rows are what nginx looks up: protocol, method, how long the body is, and what is asked for."""
    lines = directives(nginx(minimal)["nginx.conf"])
    at = lines.index(f"map {UPGRADES} $slipway_upgrade {{")
    default, row, end = lines[at + 1 : at + 4]
    assert (default, end) == ('default "";', "}")
    pattern = row.removeprefix('"~*').removesuffix('" websocket;')
    assert bool(re.search(pattern, asked, re.IGNORECASE)) == upgraded


# ── headers of an answer ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["lab", "plain"])
def test_no_hsts_without_a_certificate_that_browsers_trust(maximal: Settings, name: str) -> None:
    for path, text in nginx(maximal).items():
        if path.endswith(f"/{name}.conf"):
            assert "strict_transport_security" not in text.lower().replace("-", "_"), path


def test_every_server_of_a_site_has_the_headers(maximal: Settings) -> None:
    """A location with an add_header of its own inherits none, so it has all of them, or there is no such location."""
    made = nginx(maximal)
    for name in maximal.apps:
        include = f"include /etc/nginx/slipway/headers/{name}.conf;"
        for block in servers(made[f"sites/{name}.conf"]):
            assert include in block, block
            own = [(before, line) for before, line in itertools.pairwise(block) if line.startswith("add_header")]
            static = f"include /etc/nginx/slipway/headers/static/{name}.conf;"
            assert all(before == static and "Cache-Control" in line for before, line in own), block
        errors = " ".join(directives(made[f"errors/{name}.conf"]))
        for location in errors.split("location ")[1:]:
            assert include in location or "add_header" not in location


def test_static_files_have_the_same_headers_with_nothing_to_look_up(maximal: Settings) -> None:
    made = nginx(maximal)
    include = "include /etc/nginx/slipway/headers/static/plain.conf;"
    for block in servers(made["sites/plain.conf"]):
        assert block.count(include) == 2 and block.index(include) > block.index("open_file_cache_valid 30s;")
    everywhere, fixed = (directives(made[f"headers/{kind}plain.conf"]) for kind in ("", "static/"))
    assert [line.split()[1] for line in fixed] == [line.split()[1] for line in everywhere]
    for name, value in maximal.apps["plain"].answer_headers.items():
        assert f'add_header {name} "{value}" always;' in fixed


def test_files_that_were_compressed_before(
    maximal: Settings, minimal_data: dict[str, Any], make_settings: MakeSettings
) -> None:
    """nginx's module for Brotli passes over every file where the top of what may be no link has a variable."""
    site = directives(nginx(maximal)["sites/plain.conf"])
    assert {"gzip_static on;", "brotli_static on;", "disable_symlinks on from=/srv/plain/releases;"} <= set(site)
    assert not [line for line in site if line.startswith("disable_symlinks") and "$" in line]
    minimal_data["apps"]["notes"]["static"] = {"path": "static"}
    site = directives(nginx(make_settings(minimal_data))["sites/notes.conf"])
    assert "gzip_static on;" in site and "brotli_static on;" not in site, "the module may not be there"


def test_a_redirect_to_a_folder_names_no_host(maximal: Settings) -> None:
    """A proxy that ends TLS would send the client to http."""
    site = directives(nginx(maximal)["sites/plain.conf"])
    assert site.count("absolute_redirect off;") == len([line for line in site if line.startswith("alias ")])


def test_a_folder_that_becomes_shared_is_told(minimal_data: dict[str, Any], make_settings: MakeSettings) -> None:
    """It is made by the next release, and nginx looks there before."""
    app = minimal_data["apps"]["notes"]
    app["static"] = [{"path": "static"}, {"path": "media", "url": "/media/"}]
    before = nginx(make_settings(minimal_data))["sites/notes.conf"]
    app["shared"] = ["media"]
    after = nginx(make_settings(minimal_data))["sites/notes.conf"]
    assert to_shared(before, after) == ["/media/"]
    assert to_shared(after, after) == to_shared("", after) == to_shared(after, before) == []


def test_what_visitors_sent_is_never_code(maximal: Settings) -> None:
    """Neither by a type, nor by a policy of the app's that allows it, nor by a link out of the folder."""
    made = nginx(maximal)
    for block in servers(made["sites/notes.conf"])[1:]:
        at = block.index("location /media/ {")
        assert block[at + 1 : at + 4] == [
            "alias /srv/notes/shared/media/public/;",
            "disable_symlinks on from=/srv/notes/shared;",
            "include /etc/nginx/slipway/upload-types.conf;",
        ]
        assert "include /etc/nginx/slipway/headers/uploads/notes.conf;" in block[at:]
    types = set(re.findall(r"[a-z0-9]+/[a-z0-9.+-]+", made["upload-types.conf"].partition("types {")[2]))
    assert not {"text/html", "text/css", "text/xml", "application/xml", "application/xhtml+xml"} & types
    assert not [each for each in types if "script" in each or "wasm" in each]
    headers = directives(made["headers/uploads/notes.conf"])
    [policy] = [line for line in headers if "Content-Security-Policy " in line]
    assert policy.startswith("add_header Content-Security-Policy \"default-src 'none'; ") and "script" not in policy
    assert headers.count("add_header X-Content-Type-Options nosniff always;") == 1
    assert "upload-types" not in made["sites/plain.conf"]


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("/static/css/base.5e0040571e1a.css", True),
        ("/static/assets/index-BfQ9xYz1.js", True),
        ("/static/assets/index-BfQ9xYz1.js.map", True),
        ("/static/main.3f2a1b4c5d6e7f8a9b0c.chunk.js", True),
        ("/static/chunk-5Y7XQ3ZA.js", True),
        ("/static/app.js", False),
        ("/static/my-carousel.js", False),
        ("/static/jquery-3.7.1.min.js", False),
        ("/static/photo-20241130.jpg", False),
        ("/static/report-deadbeef.css", False),
        ("/static/5e0040571e1a/base.css", False),
    ],
)
def test_names_with_a_hash_are_told_from_others(maximal: Settings, uri: str, kept: bool) -> None:
    lines = directives(nginx(maximal)["sites/plain.conf"])
    at = lines.index("map $uri $kept_1__plain {")
    rules = [re.fullmatch(r'"~(.+)" 31536000;', line) for line in lines[at + 2 : at + 4]]
    assert lines[at + 1] == "default 3600;"
    assert any(re.search(rule[1], uri) for rule in rules if rule) == kept


def test_headers_of_the_inventory_are_for_static_files_as_well(maximal: Settings) -> None:
    """A location with headers of its own would have none of those that nginx_extra adds."""
    made = nginx(maximal)
    assert maximal.apps["notes"].static and maximal.apps["notes"].nginx_extra
    assert "headers/static/notes.conf" not in made and "headers/static" not in made["sites/notes.conf"]


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:a:b:c:d", "2001:db8:1:2::"),
        ("2001:db8:1:2::d", "2001:db8:1:2::"),
        ("2001:db8::a:b:c:d", "2001:db8::"),
        ("2001:db8::d", "2001:db8::"),
        ("::1", "::"),
    ],
)
def test_whom_a_limit_counts(minimal: Settings, address: str, counted: str) -> None:
    """An address, or the first half of one of IPv6, however it is written."""
    binary = ipaddress.ip_address(address).packed
    patterns = re.findall(r'"~(\S+)" \$slipway_(?:address|network);', nginx(minimal)["nginx.conf"])
    assert len(patterns) == 2
    found = (re.search(pattern.replace("?<", "?P<").replace(r"\z", r"\Z").encode("latin-1"), binary)
             for pattern in patterns)  # fmt: skip
    key = next((match[1] for match in found if match), binary)
    assert key == ipaddress.ip_address(counted).packed[: len(key)] and len(key) in (4, 8)


def test_this_host_is_one_client_whatever_its_address(minimal: Settings) -> None:
    text = nginx(minimal)["nginx.conf"]
    found = re.search(r"map \$binary_remote_addr \$slipway_client \{\n(.*?)\n    \}", text, re.DOTALL)
    assert found
    rules = re.findall(r'"~(.+)" (\S+);', found[1])

    def client(address: str) -> str:
        packed = ipaddress.ip_address(address).packed
        for pattern, value in rules:
            if re.search(pattern.replace("(?<", "(?P<").replace(r"\z", r"\Z").encode("latin-1"), packed):
                return str(value)
        return "$binary_remote_addr"

    assert {client(each) for each in ("127.0.0.1", "127.1.2.3", "127.10.13.10", "::1", "::ffff:127.9.9.9")} == {
        "loopback"
    }
    assert client("127.83.76.87") == "$binary_remote_addr", "Slipway's own programs"
    assert client("192.0.2.7") == "$binary_remote_addr" and client("2001:db8::1") == "$slipway_network"
    assert client("::ffff:192.0.2.7") == "$slipway_address"


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (",,HTTP/1.1,GET", ""),
        (",,HTTP/1.1,POST", ""),
        (",0,HTTP/2.0,POST", ""),
        (",9999,HTTP/1.1,POST", ""),
        (",10000,HTTP/1.1,POST", "10k"),
        (",999999,HTTP/2.0,GET", "10k"),
        (",0001000000,HTTP/1.1,PUT", "1M"),
        (",4999999,HTTP/1.1,PUT", "1M"),
        (",5000000,HTTP/1.1,PUT", "5M"),
        (",10485760,HTTP/2.0,PUT", "5M"),
        ("chunked,,HTTP/1.1,GET", "5M"),
        ("chunked,1,HTTP/1.1,POST", "5M"),
        (",,HTTP/2.0,POST", "5M"),
        (",,HTTP/2.0,PATCH", "5M"),
        (",,HTTP/2.0,GET", "unannounced"),
        (",,HTTP/2.0,POSTER", "unannounced"),
        (",nonsense,HTTP/1.1,POST", "5M"),
    ],
)
def test_how_large_a_body_may_become(minimal: Settings, asked: str, size: str) -> None:
    """The rows are what nginx looks up: coding, length, protocol and method."""
    text = nginx(minimal)["nginx.conf"].partition(f"map {BODIES} $slipway_body {{")[2].partition("}\n")[0]
    rows = re.findall(r'"~(\S+)" "?(\w*)"?;', text)
    assert len(rows) == 5 and "default 5M;" in text
    assert next((found for pattern, found in rows if re.search(pattern, asked)), "5M") == size


@pytest.mark.parametrize(
    ("body", "uploads", "limits"),
    [
        ("10m", None, (4, 6, 16)),
        ("1m", None, (40, 40, 40)),
        ("20971520", None, (2, 6, 16)),
        ("1g", None, (2, 6, 16)),
        ("0", None, (2, 6, 16)),
        ("1", None, (65_535, 65_535, 65_535)),
        ("10m", 1, (1, 6, 16)),
        ("1g", 30, (30, 30, 30)),
    ],
)
def test_uploads_of_one_client(
    make_settings: MakeSettings, minimal_data: dict[str, Any], body: str, uploads: int | None, limits: tuple[int, ...]
) -> None:
    minimal_data["apps"]["notes"] |= {"max_body_size": body, "uploads_per_client": uploads, "port": 8001}
    text = nginx(make_settings(minimal_data))["sites/notes.conf"]
    wanted = [
        f"limit_conn slipway_body_{size} {count};" for size, count in zip(("5m", "1m", "10k"), limits, strict=True)
    ]
    assert [line for line in server(text, "443") if "slipway_body_" in line] == wanted
    assert "limit_conn notes_connections 500;" in server(text, "443")
    assert not [line for line in server(text, "127.0.0.1:8001") if "limit_conn" in line], "no stranger comes by that"
