"""nginx's files: rules that hold for every site and every version; texts are in tests/unit/golden."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from slipway_host.names import ITSELF

from roles.nginx import configuration
from roles.nginx.facts import Versions
from slipway.settings import Settings
from tests.unit.roles.nginx_texts import NGINX, directives, nginx, server, servers

MakeSettings = Callable[[Mapping[str, Any]], Settings]


@pytest.fixture(params=["minimal", "maximal"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings with every default, and with none."""
    made: Settings = request.getfixturevalue(request.param)
    return made


# ── HTTP/2, IPv6, versions ───────────────────────────────────────────────────────────────────────────────────────────


def test_http2_as_nginx_1_22_writes_it(settings: Settings) -> None:
    for path, text in nginx(settings, "1.22").items():
        assert "http2 on" not in text, path
        for line in directives(text):
            if line.startswith("listen ") and ":443 " in line.replace("listen 443", "listen :443"):
                assert " ssl http2" in line, f"{path}: {line}"


def test_http2_as_nginx_1_26_writes_it(settings: Settings) -> None:
    for path, text in nginx(settings, "1.26").items():
        for block in servers(text) if path != "nginx.conf" else []:
            has_tls = any(line.startswith("listen 443 ssl") for line in block)
            assert ("http2 on;" in block) is has_tls, f"{path}: {block}"
        assert not re.search(r"listen .*http2", text), path  # deprecated: a warning at every reload


@pytest.mark.parametrize("version", NGINX)
def test_ipv6_where_the_host_has_it(settings: Settings, version: str) -> None:
    for path, text in nginx(settings, version, ipv6=False).items():
        assert "[::]" not in text, path
    for path, text in nginx(settings, version, ipv6=True).items():
        for block in servers(text) if path != "nginx.conf" else []:
            listens = [line for line in block if line.startswith("listen ")]
            public = [line for line in listens if "[::]" not in line and "127.0.0.1" not in line]
            twins = [line.replace("[::]:", "") for line in listens if "[::]" in line]
            if "server_name slipway.internal;" not in block:
                assert twins == public, f"{path}: {listens}"


@pytest.mark.parametrize(
    ("openssl", "curves"),
    [
        ((3, 0), "X25519:prime256v1:secp384r1"),
        ((3, 4), "X25519:prime256v1:secp384r1"),
        ((3, 5), "?X25519MLKEM768:X25519:prime256v1:secp384r1"),
        ((4, 0), "?X25519MLKEM768:X25519:prime256v1:secp384r1"),
        ((0, 0), "X25519:prime256v1:secp384r1"),
    ],
)
def test_curves_are_those_that_the_hosts_openssl_knows(
    minimal: Settings, openssl: tuple[int, int], curves: str
) -> None:
    made = configuration(minimal, Versions((1, 26, 3), openssl), lambda path: True)["nginx.conf"]
    assert f"ssl_ecdh_curve {curves};" in directives(made)
    assert "stapling" not in made


def test_types_that_browsers_ask_for(minimal: Settings) -> None:
    lines = directives(nginx(minimal)["nginx.conf"])
    at = lines.index("types {")
    assert lines[at + 1 : at + 8] == [
        "application/json map;",
        "application/manifest+json webmanifest;",
        "text/csv csv;",
        "text/javascript mjs;",
        "text/markdown md;",
        "text/vtt vtt;",
        "}",
    ]


def test_headers_that_are_long(maximal: Settings) -> None:
    made = nginx(maximal)
    assert "large_client_header_buffers 2 64k;" in directives(made["nginx.conf"])
    assert "send_timeout 13s;" in directives(made["nginx.conf"])
    assert "proxy_buffer_size 32k;" in directives(made["proxy/lab.conf"])
    assert "error_page 494 =431 @slipway_large;" in directives(made["errors/lab.conf"])


# ── certificates and names ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["notes", "wiki-next", "lab"])
def test_a_site_without_certificate_has_no_tls_part(maximal: Settings, name: str) -> None:
    text = nginx(maximal, certificates=False)[f"sites/{name}.conf"]
    assert "listen 443" not in text and "ssl_certificate" not in text and "301" not in text
    assert "return 503;" in server(text, "80")


def test_a_site_with_a_certificate_redirects_and_still_answers_challenges(minimal: Settings) -> None:
    text = nginx(minimal)["sites/notes.conf"]
    block = server(text, "80")
    assert block[block.index("location / {") :] == [
        "location / {",
        'if ($request_method !~ "^(?:GET|HEAD)$") {',
        "return 308 https://$host$request_uri;",
        "}",
        "return 301 https://$host$request_uri;",
        "}",
    ]
    assert "location ^~ /.well-known/acme-challenge/ {" in block
    assert not [line for line in block if "proxy" in line], "plain HTTP must not reach the app"
    secure = server(text, "443")
    assert "ssl_certificate /etc/letsencrypt/live/notes/fullchain.pem;" in secure
    assert "ssl_certificate_key /etc/letsencrypt/live/notes/privkey.pem;" in secure
    assert "include /etc/nginx/slipway/proxy/notes.conf;" in secure


@pytest.mark.parametrize("name", ["wiki-next", "lab", "plain"])
def test_only_acme_answers_challenges(maximal: Settings, name: str) -> None:
    assert "acme-challenge" not in nginx(maximal)[f"sites/{name}.conf"]


@pytest.mark.parametrize("certificates", [False, True])
def test_mode_off_has_neither_redirect_nor_tls(maximal: Settings, certificates: bool) -> None:
    text = nginx(maximal, certificates=certificates)["sites/plain.conf"]
    assert "443" not in text and "ssl" not in text and "301" not in text and "503" not in text
    assert "include /etc/nginx/slipway/proxy/plain.conf;" in server(text, "80")


def test_no_tls_at_all_where_every_app_is_without(make_settings: MakeSettings, minimal_data: dict[str, Any]) -> None:
    minimal_data["apps"]["notes"]["tls"] = {"mode": "off"}
    for path, text in nginx(make_settings(minimal_data)).items():
        assert path == "nginx.conf" or "443" not in text, path


def test_one_app_that_waits_for_its_certificate_does_not_hold_up_another(maximal: Settings) -> None:
    lab = maximal.apps["lab"]
    made = configuration(maximal, NGINX["1.22"], lambda path: path in (lab.certificate_path, lab.key_path))
    assert server(made["sites/lab.conf"], "443")
    assert "listen 443" not in made["sites/notes.conf"]


def test_a_site_keeps_the_certificate_it_has_until_another_is_there(maximal: Settings) -> None:
    old = ("/etc/slipway/tls/notes/fullchain.pem", "/etc/slipway/tls/notes/privkey.pem")
    serving = {"sites/notes.conf": f"    ssl_certificate {old[0]};\n    ssl_certificate_key {old[1]};\n"}
    notes = maximal.apps["notes"]
    kept = configuration(maximal, NGINX["1.22"], lambda path: path in old, serving)["sites/notes.conf"]
    assert f"ssl_certificate {old[0]};" in kept and f"ssl_certificate_key {old[1]};" in kept
    there = (*old, notes.certificate_path, notes.key_path)
    new = configuration(maximal, NGINX["1.22"], lambda path: path in there, serving)["sites/notes.conf"]
    assert f"ssl_certificate {notes.certificate_path};" in new and old[0] not in new
    lost = configuration(maximal, NGINX["1.22"], lambda path: path == old[0], serving)["sites/notes.conf"]
    assert "listen 443" not in lost


def test_a_site_keeps_the_names_it_has_until_there_is_a_certificate_for_others(
    make_settings: Callable[[Mapping[str, Any]], Settings], minimal_data: dict[str, Any]
) -> None:
    """Or a typing error in `domains` would end it."""

    def made(domains: list[str], serving: Mapping[str, str], *, certified: bool) -> dict[str, str]:
        minimal_data["apps"]["notes"]["domains"] = domains
        settings = make_settings(minimal_data)
        return configuration(settings, NGINX["1.22"], lambda path: True, serving, lambda app: certified)

    def names(files: Mapping[str, str]) -> list[str]:
        [of_both] = set(re.findall(r"server_name ([^;]+);", files["sites/notes.conf"]))
        return str(of_both).split()

    wanted = ["c.example.com", "b.example.com"]
    first = made(["a.example.com", "b.example.com"], {}, certified=True)
    assert names(first) == ["a.example.com", "b.example.com"]
    ordering = made(wanted, first, certified=False)
    assert names(ordering) == [*wanted, "a.example.com"]
    assert made(wanted, ordering, certified=False) == ordering, "as long as it takes"
    assert names(made(wanted, ordering, certified=True)) == wanted


def test_every_site_names_its_domains_alone(maximal: Settings) -> None:
    made = nginx(maximal)
    for app in maximal.apps.values():
        names = {line for block in servers(made[f"sites/{app.name}.conf"]) for line in block if "server_name" in line}
        own = {f"server_name {' '.join(app.domains)};"}
        assert names == own | ({"server_name _;"} if app.port else set()), app.name


def test_every_include_of_ours_is_there(maximal: Settings) -> None:
    made = nginx(maximal)
    for path, text in made.items():
        for target in re.findall(r"include /etc/nginx/slipway/([^;*]+);", text):
            assert target in made, f"{path} includes {target}"


def test_every_server_of_a_site_has_logs_of_its_own(maximal: Settings) -> None:
    for name in maximal.apps:
        for block in servers(nginx(maximal)[f"sites/{name}.conf"]):
            assert f"access_log /var/log/nginx/{name}.access.log combined buffer=32k flush=2s;" in block
            assert f"error_log /var/log/nginx/{name}.error.log;" in block


# ── unknown hosts, and the host itself ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", NGINX)
def test_unknown_hosts_get_nothing(settings: Settings, version: str) -> None:
    made = nginx(settings, version)["internal.conf"]
    plain, secure = servers(made)[:2]
    headers = [line for line in plain if line.startswith("add_header ")]
    assert plain == ["listen 80 default_server;", "listen [::]:80 default_server;", "return 444;", *headers]
    assert headers == [line for line in secure if line.startswith("add_header ")]
    assert {line.split()[1] for line in headers} > {"X-Content-Type-Options", "Content-Security-Policy"}
    assert "ssl_reject_handshake on;" in secure and "return 421;" in secure
    assert all("default_server" in line for line in secure if line.startswith("listen "))
    assert not [line for line in secure if "ssl_certificate" in line]


def test_only_the_internal_file_has_default_servers(settings: Settings) -> None:
    for path, text in nginx(settings).items():
        assert path == "internal.conf" or "default_server" not in text, path


def test_the_internal_server_answers_this_host_alone(maximal: Settings) -> None:
    made = nginx(maximal)["internal.conf"]
    block = next(block for block in servers(made) if "server_name slipway.internal;" in block)
    assert block.index("if ($slipway_itself = 0) {") + 1 == block.index("return 444;")
    assert block.index("return 444;") < block.index("location = /generation {")
    assert 'return 200 "@GENERATION@\\n";' in block
    # The connection's own address: a header that a trusted proxy may set must not open it.
    at = directives(made).index("geo $realip_remote_addr $slipway_itself {")
    assert directives(made)[at + 1 : at + 4] == ["default 0;", "127.83.76.87 1;", "}"]
    # Where the programs on the host come from.
    assert ITSELF == "127.83.76.87"
    for app in maximal.apps:
        at = block.index(f"location = /release/{app} {{")
        assert block[at + 1] == f'return 200 "$release_{app.replace("-", "_")}\\n";'


def test_the_release_that_answered_is_told_to_this_host_alone(maximal: Settings) -> None:
    """By a variable of each app's, empty for everybody else: nginx sends no header that is empty."""
    made = nginx(maximal)
    lines = directives(made["internal.conf"])
    for name, variable in (("notes", "notes"), ("wiki-next", "wiki_next"), ("lab", "lab"), ("plain", "plain")):
        at = lines.index(f"map $slipway_itself $shown_{variable} {{")
        assert lines[at + 1 : at + 4] == ['default "";', f"1 $release_{variable};", "}"]
        header = f"add_header X-Slipway-Release $shown_{variable} always;"
        told = {
            path: [line for line in directives(made[path]) if "X-Slipway-Release" in line]
            for path in made
            if path.endswith(f"/{name}.conf")
        }
        files = {f"headers/{kind}{name}.conf" for kind in ("", "static/", "uploads/")} & made.keys()
        assert {path: lines for path, lines in told.items() if lines} == {key: [header] for key in files}


def test_only_the_main_and_the_internal_file_tell_the_generation(settings: Settings) -> None:
    """It stands for a hash of all files: in one that rarely changes it must not hide what did."""
    assert {path for path, text in nginx(settings).items() if "@GENERATION@" in text} == {"nginx.conf", "internal.conf"}
