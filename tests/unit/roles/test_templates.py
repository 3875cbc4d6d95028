"""Every template renders strictly, and says what it must and nothing it must not."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from jinja2 import UndefinedError
from slipway_host.layout import ITSELF

from roles import app as app_role
from roles import firewall, limits, ssh, system, tls, updates
from roles.nginx import OPEN_FILES, PACKAGED, WEBROOT, configuration
from roles.nginx.facts import Versions
from roles.ssh.facts import Sshd
from slipway.engine.overview import HostOverview
from slipway.engine.templates import ROOT, render
from slipway.settings import AppSettings, Settings
from slipway.settings.environment import names_host
from tests.unit.plans import KEX

NGINX = {"1.22": PACKAGED["debian 12"], "1.26": PACKAGED["debian 13"]}
"""nginx and OpenSSL of Debian 12 and 13."""

MakeSettings = Callable[[Mapping[str, Any]], Settings]


def nginx(settings: Settings, version: str = "1.22", *, certificates: bool = True, ipv6: bool = True) -> dict[str, str]:
    """nginx's files on a host with or without IPv6 and certificates."""
    return configuration(settings, NGINX[version], lambda path: ipv6 if path == "/proc/net/if_inet6" else certificates)


def tls_files(settings: Settings) -> dict[str, str]:
    """What the TLS role writes from templates."""
    values = {"settings": settings, "webroot": WEBROOT, "ca_file": tls.CA_FILE}
    values |= {"certbot": tls.CERTBOT, "config": tls.CONFIG}
    names = ("certbot.ini", "renewal-hook", "certbot-renew.service", "certbot-renew.timer")
    return {name: render(f"tls/{name}.j2", **values) for name in names}


def sshd(settings: Settings) -> str:
    """sshd's drop-in, on a host that listens on 22."""
    made = ssh.files(settings, Sshd(kex=KEX, used=frozenset({22})))[ssh.DROP_IN]
    assert made
    return made.content


OVERVIEW = HostOverview("debian", "12", "x86_64", True, True, 2, 2000, 9000, 0, {}, {})


def system_files(settings: Settings) -> dict[str, str]:
    """What the roles System and Updates write from templates; these begin with the name of theirs."""
    templates = {
        system.SYSCTL: "sysctl.conf",
        system.MODULES: "modprobe.conf",
        system.LIMITS: "limits.conf",
        system.COREDUMP: "coredump.conf",
        system.PROFILE: "profile.sh",
        updates.PERIODIC: "20auto-upgrades",
        updates.UNATTENDED: "52slipway",
        updates.NEEDRESTART: "needrestart.conf",
        **{path: f"debsums.{kind}" for kind, path in system.DEBSUMS.items()},
    }
    made = system.files(settings, OVERVIEW) | updates.files(settings, OVERVIEW)
    return {name: file.content for path, name in templates.items() if (file := made[path])}


def every(settings: Settings, version: str, *, certificates: bool) -> dict[str, str]:
    """Every file that is made from a template, but for the user's own includes."""
    made = {f"nginx/{path}": text for path, text in nginx(settings, version, certificates=certificates).items()}
    made |= {f"tls/{name}": text for name, text in tls_files(settings).items()}
    made["base/journald.conf"] = render("base/journald.conf.j2", settings=settings)
    made["ssh/sshd.conf"] = sshd(settings)
    home = "/srv/people/alice" if settings.operator.user else None
    made["firewall/table.nft"] = firewall.ruleset(settings, [22])
    made |= {f"access/{name}.service": render(f"access/{name}.service.j2", home=home) for name in ("boot", "revert")}
    [builds] = firewall.of_builds(settings).values()
    made["firewall/builds.nft"] = builds.content
    made["firewall/app.nft"] = "".join(file.content for file in firewall.of_apps(settings).values())
    made["ssh/ssh.service"] = render("ssh/ssh.service.j2")
    bounds = limits.files(settings, OVERVIEW, [22, 2222])
    made |= {f"limits/{path.rpartition('/')[2]}": file.content for path, file in bounds.items()}
    made["firewall/firewall.service"] = render("firewall/firewall.service.j2", table=firewall.TABLE, apps=firewall.APPS)
    made["operator/sudoers"] = render("operator/sudoers.j2", user="alice")
    made |= {f"system/{name}": text for name, text in system_files(settings).items()}
    made |= {f"system/{name.replace('slipway', 'pam')}": file.content for name, file in system.profiles().items()}
    for app in settings.apps.values():
        made |= {f"app/{app.name}.{kind}": text for kind, text in app_role.units(app, 2).items()}
    return {path: text for path, text in made.items() if "/extra/" not in path}


@pytest.fixture(params=["minimal", "maximal"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings with every default, and with none."""
    made: Settings = request.getfixturevalue(request.param)
    return made


def directives(text: str) -> list[str]:
    """Lines of an nginx file without comments and indentation."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def servers(text: str) -> list[list[str]]:
    """The directives of each server block."""
    blocks, depth, current = [], 0, list[str]()
    for line in directives(text):
        if depth == 0 and line == "server {":
            current, depth = [], 1
        elif depth:
            depth += line.endswith("{") - (line == "}")
            current.append(line)
            if depth == 0:
                blocks.append(current[:-1])
        else:
            assert not line.startswith("listen"), f"outside of a server: {line}"
    return blocks


def server(text: str, listen: str) -> list[str]:
    """The one server block that listens there."""
    found = [block for block in servers(text) if any(line.startswith(f"listen {listen}") for line in block)]
    assert len(found) == 1, f"{len(found)} servers listen on {listen}:\n{text}"
    return found[0]


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", NGINX)
@pytest.mark.parametrize("certificates", [False, True])
def test_every_file_is_tidy(settings: Settings, version: str, certificates: bool) -> None:
    for path, text in every(settings, version, certificates=certificates).items():
        assert text.endswith("\n") and not text.endswith("\n\n"), f"{path} must end with one line break"
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), f"{path} has whitespace at a line's end:\n{text}"
        assert "\t" not in text, f"{path} has a tab"
        assert not re.search(r"\n\n\n|\{\n\n|\n\n *\}", text), f"{path} has stray blank lines:\n{text}"
        assert "{{" not in text and "{%" not in text and "None" not in text, f"{path} isn't rendered:\n{text}"


@pytest.mark.parametrize("certificates", [False, True])
def test_every_file_says_who_manages_it(settings: Settings, certificates: bool) -> None:
    managing = "access|base|firewall|limits|nginx|operator|ssh|system|tls|updates"
    managers = rf"(?:#|//|Origin:) Managed by Slipway \((roles/({managing})\.py|slipway release)\)"
    for path, text in every(settings, "1.22", certificates=certificates).items():
        first = text.removeprefix("#!/bin/sh\n").splitlines()[0]
        found = re.match(managers, first)
        assert found, f"{path} begins with {first!r}"
        role = path.split("/")[0]
        roles = ("system", "updates") if role == "system" else (role,)
        assert found[1] in (["slipway release"] if role == "app" else [f"roles/{each}.py" for each in roles]), path


def test_every_template_is_rendered_here(maximal: Settings) -> None:
    there = {str(path.relative_to(ROOT / "templates")) for path in (ROOT / "templates").rglob("*.j2")}
    made = set()
    for path in every(maximal, "1.22", certificates=True):
        role, _, rest = path.partition("/")
        if role == "limits":
            rest = re.sub(r"^app-.*\.", "app.", rest.replace("journald@", "journald/"))
        kinds = {
            "journald": "journald.conf",
            "sites": "site.conf",
            "proxy": "proxy.conf",
            "headers": "headers.conf",
            "errors": "errors.conf",
        }
        kind = kinds.get(rest.split("/")[0], rest.split("/")[-1])
        made.add(f"{role}/{'app.' + rest.rpartition('.')[2] if role == 'app' else kind}.j2")
    named = {path.partition("/")[2] for path in made}
    there.remove("access/sandbox.conf.j2")  # a part of both units
    assert {path for path in there if not path.startswith("updates/")} <= made
    assert {path.partition("/")[2] for path in there} == named


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("app/app.socket.j2", {}),
        ("app/app.service.j2", {"workers": 1, "sandbox": [], "subdir": ""}),
        ("nginx/errors.conf.j2", {}),
        ("nginx/headers.conf.j2", {}),
        ("nginx/nginx.conf.j2", {"worker_shutdown_timeout": 1}),
        ("nginx/internal.conf.j2", {"apps": []}),
        ("nginx/proxy.conf.j2", {}),
        ("nginx/site.conf.j2", {}),
        ("base/journald.conf.j2", {}),
        ("tls/certbot.ini.j2", {}),
        ("tls/certbot-renew.service.j2", {}),
    ],
)
def test_an_undefined_name_is_an_error(template: str, values: dict[str, Any]) -> None:
    with pytest.raises(UndefinedError):
        render(template, **values)


def test_no_template_repeats_a_secret(maximal: Settings) -> None:
    for path, text in every(maximal, "1.26", certificates=True).items():
        if path != "tls/certbot.ini":  # 0600 root: certbot takes the key of the account binding from nowhere else
            assert not [value for value in maximal.secret_values if value in text], path


# ── nginx: HTTP/2, IPv6, tickets ─────────────────────────────────────────────────────────────────────────────────────


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


def test_tickets_are_off_where_nginx_does_not_rotate_their_keys(minimal: Settings) -> None:
    assert "ssl_session_tickets off;" in nginx(minimal, "1.22")["nginx.conf"]
    assert "ssl_session_tickets" not in nginx(minimal, "1.26")["nginx.conf"]


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


# ── nginx: sites ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["notes", "wiki-next", "lab"])
def test_a_site_without_certificate_has_no_tls_part(maximal: Settings, name: str) -> None:
    text = nginx(maximal, certificates=False)[f"sites/{name}.conf"]
    assert "443" not in text and "ssl_certificate" not in text and "301" not in text
    assert "return 503;" in server(text, "80")


def test_a_site_without_certificate_answers_challenges(minimal: Settings) -> None:
    block = server(nginx(minimal, certificates=False)["sites/notes.conf"], "80")
    at = block.index("location ^~ /.well-known/acme-challenge/ {")
    assert block[at + 1] == f"root {WEBROOT};"
    assert "auth_basic off;" in block[at:]


def test_a_site_with_a_certificate_redirects_and_still_answers_challenges(minimal: Settings) -> None:
    text = nginx(minimal)["sites/notes.conf"]
    block = server(text, "80")
    assert "return 301 https://$host$request_uri;" in block
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


def test_one_app_that_waits_for_its_certificate_does_not_hold_up_another(maximal: Settings) -> None:
    lab = maximal.apps["lab"]
    made = configuration(maximal, NGINX["1.22"], lambda path: path in (lab.certificate_path, lab.key_path))
    assert server(made["sites/lab.conf"], "443")
    assert "443" not in made["sites/notes.conf"]


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
    assert "443" not in lost


def test_every_site_names_its_domains_alone(maximal: Settings) -> None:
    made = nginx(maximal)
    for app in maximal.apps.values():
        names = {line for block in servers(made[f"sites/{app.name}.conf"]) for line in block if "server_name" in line}
        own = {f"server_name {' '.join(app.domains)};"}
        assert names == own | ({"server_name _;"} if app.port else set()), app.name


def test_port_is_offered_to_the_host_alone(maximal: Settings) -> None:
    text = nginx(maximal)["sites/notes.conf"]
    block = server(text, "127.0.0.1:8001")
    assert [line for line in block if line.startswith("listen ")] == ["listen 127.0.0.1:8001;"]
    assert "include /etc/nginx/slipway/proxy/notes.conf;" in block
    assert not [line for line in block if "ssl" in line or "real_ip" in line], block


def test_no_port_unless_set(minimal: Settings) -> None:
    assert "127.0.0.1" not in nginx(minimal)["sites/notes.conf"]


def test_trusted_proxies(maximal: Settings, minimal: Settings) -> None:
    text = nginx(maximal)["sites/notes.conf"]
    for listen in ("80", "443"):
        block = server(text, listen)
        assert [line for line in block if "real_ip" in line] == [
            "set_real_ip_from 192.0.2.0/24;",
            "set_real_ip_from 2001:db8::/32;",
            "real_ip_header CF-Connecting-IP;",
            "real_ip_recursive on;",
        ]
    assert "real_ip" not in "".join(nginx(minimal).values())


def test_static_files(maximal: Settings, minimal: Settings) -> None:
    made = nginx(maximal)
    block = server(made["sites/notes.conf"], "443")
    at = block.index("location /assets/ {")
    assert block[at + 1 : at + 3] == [
        "alias /srv/notes/releases/$release_notes/apps/notes/static/;",
        "disable_symlinks on from=/srv/notes/releases/$release_notes;",
    ]
    assert "expires 60;" in block
    plain = server(made["sites/plain.conf"], "80")
    assert "alias /srv/plain/releases/$release_plain/public/;" in plain and "expires 3600;" in plain
    assert "alias" not in nginx(minimal)["sites/notes.conf"]


def test_body_size_and_timeouts(maximal: Settings, minimal: Settings) -> None:
    made = nginx(maximal)
    assert "client_max_body_size 25m;" in server(made["sites/notes.conf"], "443")
    for line in ("proxy_read_timeout 46s;", "proxy_send_timeout 46s;"):
        assert line in made["proxy/notes.conf"]
    assert "client_max_body_size 10m;" in server(nginx(minimal)["sites/notes.conf"], "443")
    assert "proxy_read_timeout 60s;" in nginx(minimal)["proxy/notes.conf"]


def test_includes_of_the_users_own(maximal: Settings, minimal: Settings) -> None:
    made = nginx(maximal)
    assert made["extra/notes.conf"] == "add_header X-Extra notes;\n"
    assert made["extra/http.conf"] == "client_header_buffer_size 2k;\n"
    assert "include /etc/nginx/slipway/extra/notes.conf;" in server(made["sites/notes.conf"], "443")
    assert "include /etc/nginx/slipway/extra/http.conf;" in directives(made["nginx.conf"])
    assert not [path for path, text in nginx(minimal).items() if "extra/" in path or "slipway/extra" in text]
    assert "extra" not in "".join(directives(made["sites/lab.conf"]))


def test_every_include_of_ours_is_there(maximal: Settings) -> None:
    made = nginx(maximal)
    for path, text in made.items():
        for target in re.findall(r"include /etc/nginx/slipway/([^;*]+);", text):
            assert target in made, f"{path} includes {target}"


# ── nginx: what a client can't forge ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["notes", "wiki-next", "lab", "plain"])
def test_forwarded_headers_are_set_and_never_appended(maximal: Settings, name: str) -> None:
    made = nginx(maximal)[f"proxy/{name}.conf"]
    headers = {
        header: value
        for line in directives(made)
        if (parts := line.removesuffix(";").split(maxsplit=2))[0] == "proxy_set_header"
        for header, value in [(parts[1], parts[2])]
    }
    assert headers == {
        "Host": "$host",
        "Upgrade": "$slipway_upgrade",
        "Connection": "$connection_upgrade",
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": "$host",
        "X-Forwarded-Port": "$server_port",
        "X-Forwarded-Prefix": '""',
        "X-Real-IP": "$remote_addr",
        "X-Request-ID": "$request_id",
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
        found = re.findall(r"\$(proxy_add_x_forwarded_for|http_(?!accept\b)\w+|host\w+)", others)
        assert found == [], f"{path}: {found}"
        assert text.count(UPGRADES) == text.count(f"map {UPGRADES} $slipway_upgrade {{"), path
        # What a client accepts chooses between two answers of nginx's own.
        assert others.count("$http_accept") == text.count("map $http_accept $slipway_unavailable {"), path


def test_no_block_below_the_proxy_file_sets_a_header(settings: Settings) -> None:
    """One proxy_set_header in a site's block would switch off all those of the file that it includes."""
    for path, text in nginx(settings).items():
        if not path.startswith("proxy/"):
            assert "proxy_set_header" not in text, path


def test_streams_and_websockets_pass_unbuffered(minimal: Settings) -> None:
    made = nginx(minimal)
    lines = directives(made["proxy/notes.conf"])
    assert "proxy_pass http://notes;" in lines
    assert "proxy_http_version 1.1;" in lines and "proxy_buffering off;" in lines
    assert "proxy_max_temp_file_size 0;" in lines, "where the app turns it on"
    # Empty and not "close": connections to the app are kept.
    at = directives(made["nginx.conf"]).index("map $slipway_upgrade $connection_upgrade {")
    assert directives(made["nginx.conf"])[at + 1 : at + 4] == ['default "";', "websocket upgrade;", "}"]


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


# ── nginx: headers, errors, limits ───────────────────────────────────────────────────────────────────────────────────


def added(settings: Settings, name: str) -> dict[str, str]:
    """Header → value that nginx adds where the app sends none of that name."""
    made = nginx(settings)
    own, found = name.replace("-", "_"), {}
    text = " ".join(directives(made[f"sites/{name}.conf"]))
    for line in directives(made[f"headers/{name}.conf"]):
        _, header, variable, always = line.split()
        assert always == "always;"
        if variable.startswith("$add_"):
            sent = f"upstream_http_{header.lower().replace('-', '_')}"
            match = re.search(rf'map (\S+) {re.escape(variable)} {{ (\S+) "([^"]*)"; default ""; }}', text)
            assert match, header
            # HSTS over TLS alone, a policy where the app says nothing of frames; others where the app's own is empty.
            expected = {
                "Strict-Transport-Security": (f"$https${sent}", "on"),
                "Content-Security-Policy": (f"${sent}$upstream_http_x_frame_options", '""'),
            }
            assert (match[1], match[2]) == expected.get(header, (f"${sent}", '""')), header
            assert variable.endswith(f"_{own}")
            found[header] = match[3]
    return found


def test_headers_by_default(minimal: Settings) -> None:
    assert added(minimal, "notes") == {
        "Strict-Transport-Security": "max-age=63072000",
        "Content-Security-Policy": "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "X-Permitted-Cross-Domain-Policies": "none",
    }


def test_headers_as_set(maximal: Settings) -> None:
    found = added(maximal, "notes")
    assert found["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert found["Content-Security-Policy-Report-Only"] == "default-src 'none'; report-uri /csp"
    assert found["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "X-Permitted-Cross-Domain-Policies" not in found, "None: nginx adds none"


@pytest.mark.parametrize("name", ["lab", "plain"])
def test_no_hsts_without_a_certificate_that_browsers_trust(maximal: Settings, name: str) -> None:
    assert "Strict-Transport-Security" not in added(maximal, name)


def test_every_server_of_a_site_has_the_headers(maximal: Settings) -> None:
    """A location with an add_header of its own inherits none, so it has all of them, or there is no such location."""
    made = nginx(maximal)
    for name in maximal.apps:
        include = f"include /etc/nginx/slipway/headers/{name}.conf;"
        for block in servers(made[f"sites/{name}.conf"]):
            assert include in block, block
            assert not [line for line in block if line.startswith("add_header")], block
        errors = " ".join(directives(made[f"errors/{name}.conf"]))
        for location in errors.split("location ")[1:]:
            assert include in location or "add_header" not in location


def test_static_files_have_the_same_headers_with_nothing_to_look_up(maximal: Settings) -> None:
    made = nginx(maximal)
    include = "include /etc/nginx/slipway/headers/static/plain.conf;"
    for block in servers(made["sites/plain.conf"]):
        assert block.count(include) == 1 and block.index(include) > block.index("open_file_cache_valid 30s;")
    everywhere, fixed = (directives(made[f"headers/{kind}plain.conf"]) for kind in ("", "static/"))
    assert [line.split()[1] for line in fixed] == [line.split()[1] for line in everywhere]
    for name, value in maximal.apps["plain"].answer_headers.items():
        assert f'add_header {name} "{value}" always;' in fixed


def test_a_static_file_has_hsts_over_tls_alone(maximal: Settings) -> None:
    """The same file is there on an app's own port, without TLS."""
    notes = maximal.apps["notes"].model_copy(update={"nginx_extra": None})
    fixed = directives(nginx(maximal.model_copy(update={"apps": {"notes": notes}}))["headers/static/notes.conf"])
    assert "add_header Strict-Transport-Security $add_strict_transport_security__notes always;" in fixed


def test_headers_of_the_inventory_are_for_static_files_as_well(maximal: Settings) -> None:
    """A location with headers of its own would have none of those that nginx_extra adds."""
    made = nginx(maximal)
    assert maximal.apps["notes"].static and maximal.apps["notes"].nginx_extra
    assert "headers/static/notes.conf" not in made and "headers/static" not in made["sites/notes.conf"]


def test_an_app_that_is_away_is_told_as_people_and_programs_read_it(minimal: Settings) -> None:
    made = nginx(minimal)
    lines = directives(made["errors/notes.conf"])
    assert lines[0] == "error_page 502 503 504 $slipway_unavailable;"
    assert "default_type application/problem+json;" in lines and 'default_type "text/html; charset=utf-8";' in lines
    at = directives(made["nginx.conf"]).index("map $http_accept $slipway_unavailable {")
    assert directives(made["nginx.conf"])[at + 1] == "default @slipway_page;"
    block = server(made["sites/notes.conf"], "443")
    assert "include /etc/nginx/slipway/errors/notes.conf;" in block


def test_limits(maximal: Settings, minimal: Settings) -> None:
    text = nginx(maximal)["sites/notes.conf"]
    flat = " ".join(directives(text))
    for number, (path, rate) in enumerate([("/login", "10r/m"), (r"/api/v1\.0/", "20r/s")], 1):
        assert f'map $uri $limited_notes_{number} {{ default ""; ~^{path} $slipway_client; }}' in flat
        assert f"limit_req_zone $limited_notes_{number} zone=notes_{number}:10m rate={rate};" in flat
    block = server(text, "443")
    assert "limit_req zone=notes_1 burst=5 nodelay;" in block and "limit_req zone=notes_2 burst=40 nodelay;" in block
    assert "limit_conn notes_connections 50;" in block
    made = nginx(minimal)
    assert not [path for path, text in made.items() if re.search("limit_req |limit_req_zone", text)]
    assert "limit_req_status 429;" in made["nginx.conf"] and "limit_conn_status 429;" in made["nginx.conf"]


def test_a_limit_without_a_burst(make_settings: MakeSettings, minimal_data: dict[str, Any]) -> None:
    """nginx 1.22 refuses a burst of 0, which is what is there without one."""
    minimal_data["apps"]["notes"]["rate_limits"] = {"/login": {"rate": "1r/s", "burst": 0}}
    assert "limit_req zone=notes_1;" in server(nginx(make_settings(minimal_data))["sites/notes.conf"], "443")


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


def test_every_server_of_a_site_has_logs_of_its_own(maximal: Settings) -> None:
    for name in maximal.apps:
        for block in servers(nginx(maximal)[f"sites/{name}.conf"]):
            assert f"access_log /var/log/nginx/{name}.access.log combined buffer=32k flush=2s;" in block
            assert f"error_log /var/log/nginx/{name}.error.log;" in block


def test_maintenance(maximal: Settings, minimal: Settings) -> None:
    text = nginx(maximal)["sites/notes.conf"]
    block = server(text, "443")
    at = block.index("if ($maintenance_notes) {")
    assert block[at + 1] == "return 503;"
    assert 'map $slipway_itself $maintenance_notes { default 1; 1 ""; }' in " ".join(directives(text))
    assert not [line for line in server(text, "127.0.0.1:8001") if "maintenance" in line], "the way round it"
    assert "maintenance" not in nginx(minimal)["sites/notes.conf"]


@pytest.mark.parametrize("compress", [False, True])
def test_what_the_app_answers_is_compressed_only_where_asked(
    make_settings: MakeSettings, minimal_data: dict[str, Any], compress: bool
) -> None:
    minimal_data["apps"]["notes"]["compress"] = compress
    made = nginx(make_settings(minimal_data))["proxy/notes.conf"]
    assert ("gzip off;" in directives(made)) is not compress


def test_time_outs_of_clients(maximal: Settings, minimal: Settings) -> None:
    lines = directives(nginx(maximal)["nginx.conf"])
    assert {"client_header_timeout 11s;", "client_body_timeout 12s;", "send_timeout 12s;"} <= {*lines}
    lines = directives(nginx(minimal)["nginx.conf"])
    assert {"client_header_timeout 10s;", "client_body_timeout 30s;", "send_timeout 30s;"} <= {*lines}


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


# ── nginx: unknown hosts, the internal server, the main file ─────────────────────────────────────────────────────────


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


def test_no_tls_at_all_where_every_app_is_without(make_settings: MakeSettings, minimal_data: dict[str, Any]) -> None:
    minimal_data["apps"]["notes"]["tls"] = {"mode": "off"}
    for path, text in nginx(make_settings(minimal_data)).items():
        assert path == "nginx.conf" or "443" not in text, path


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


def test_the_main_file(maximal: Settings) -> None:
    lines = directives(nginx(maximal)["nginx.conf"])
    assert "worker_connections 1000;" in lines
    # Two descriptors a connection, the client's and the app's; and the static files that sites keep open.
    kept = sum(OPEN_FILES * (2 if app.port else 1) for app in maximal.apps.values() if app.static)
    assert kept and f"worker_rlimit_nofile {3024 + kept};" in lines
    # The longest drain_timeout and graceful_timeout of an app, and 10: the app ends what is open, not nginx.
    assert "worker_shutdown_timeout 72s;" in lines
    assert "server_tokens off;" in lines and "gzip on;" in lines
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in lines
    includes = [line for line in lines if line.startswith("include /etc/nginx/")]
    order = ["extra/http.conf", "internal.conf", "upstreams/", "sites/", "conf.d/", "sites-enabled/"]
    assert [
        next(part for part in order if part in line)
        for line in includes
        if "mime" not in line and "modules" not in line
    ] == order


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
        files = {f"headers/{name}.conf", f"headers/static/{name}.conf"} & made.keys()
        assert {path: lines for path, lines in told.items() if lines} == {key: [header] for key in files}


def test_the_release_that_answered_where_there_is_one_app(minimal: Settings) -> None:
    lines = directives(nginx(minimal)["internal.conf"])
    assert [line for line in lines if "$shown_" in line] == ["map $slipway_itself $shown_notes {"]
    assert "add_header X-Slipway-Release $shown_notes always;" in nginx(minimal)["headers/notes.conf"]


def test_only_the_main_and_the_internal_file_tell_the_generation(settings: Settings) -> None:
    """It stands for a hash of all files: in one that rarely changes it must not hide what did."""
    assert {path for path, text in nginx(settings).items() if "@GENERATION@" in text} == {"nginx.conf", "internal.conf"}


# ── units ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def unit(app: AppSettings, kind: str, workers: int = 2) -> dict[str, dict[str, list[str]]]:
    """Section → key → values of a rendered unit; continued lines are joined."""
    sections: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in app_role.units(app, workers)[kind].replace("\\\n", " ").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            assert separator, f"no key: {line!r}"
            current.setdefault(key, []).append(value)
    return sections


def test_gunicorns_flags_come_from_the_settings(maximal: Settings) -> None:
    (line,) = unit(maximal.apps["notes"], "service", 3)["Service"]["ExecStart"]
    assert line.split() == [
        "/srv/notes/releases/@RELEASE@/.venv/bin/gunicorn",
        *("--config", "/opt/slipway/gunicorn.conf.py"),
        *("--workers", "3"),
        *("--timeout", "41"),
        *("--graceful-timeout", "42"),
        *("--keep-alive", "83"),
        *("--max-requests", "1000"),
        *("--max-requests-jitter", "100"),
        "notes.main:create.app",
    ]


def test_gunicorns_flags_by_default(minimal: Settings) -> None:
    (line,) = unit(minimal.apps["notes"], "service")["Service"]["ExecStart"]
    for pair in ("--timeout 30", "--graceful-timeout 30", "--keep-alive 75", "--max-requests 0"):
        assert f" {pair} " in f" {line} ".replace("  ", " ").replace("     ", " "), line


def test_systemd_waits_longer_than_gunicorn(settings: Settings) -> None:
    for app in settings.apps.values():
        service = unit(app, "service")["Service"]
        assert int(service["TimeoutStopSec"][0]) > app.graceful_timeout
        assert service["KillMode"] == ["mixed"]


def test_the_service(maximal: Settings) -> None:
    sections = unit(maximal.apps["notes"], "service")
    service = sections["Service"]
    assert service["WorkingDirectory"] == ["/srv/notes/releases/@RELEASE@/apps/notes"]
    assert service["EnvironmentFile"] == ["/etc/notes/releases/@RELEASE@.env"]
    assert service["LimitNOFILE"] == ["4096"] and service["UMask"] == ["0077"]
    assert service["User"] == service["Group"] == ["notes"]
    assert service["Restart"] == ["always"]
    assert sections["Unit"]["StartLimitBurst"] == ["10"], "a crash loop must end"
    assert sections["Unit"]["Requires"] == ["notes@@RELEASE@.socket"]
    assert sections["Install"] == {"WantedBy": ["multi-user.target"]}


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


def test_apps_reach_no_sshd_and_few_places_of_nginx(settings: Settings) -> None:
    rules = firewall.ruleset(settings, [22, 2222])
    chain = rules.partition("chain apps {")[2].partition("}\n    }")[0]
    assert "tcp dport { 22, 2222 } counter reject with tcp reset" in chain
    assert "meta skuid ct count over 200" in chain
    assert "meta skuid != 0 tcp dport { 22, 2222 } goto local_ssh" in rules
    assert rules.index('oifname != "lo" accept') < rules.index("meta skuid @apps goto apps")
    for path, file in firewall.of_apps(settings).items():
        name = path.rpartition("/")[2].removesuffix(".nft")
        assert f'add element inet slipway apps {{ "{name}" }}' in file.content
        port = settings.apps[name].port
        assert (f"add element inet slipway sites {{ {port} }}" in file.content) == bool(port)


def test_an_app_cannot_take_sshd_s_port_where_the_kernel_can_keep_it(minimal: Settings) -> None:
    def slices(ports: list[int]) -> str:
        return limits.files(minimal, OVERVIEW, ports)["/etc/systemd/system/app-notes.slice"].content

    assert "SocketBindDeny=tcp:2222\nSocketBindDeny=tcp:2200\n" in slices([22, 2222, 2200])
    assert "SocketBind" not in slices([22]), "it may not have that one anyway"


def test_the_service_is_shut_off(settings: Settings) -> None:
    for app in settings.apps.values():
        service = unit(app, "service")["Service"]
        for key in ("NoNewPrivileges", "ProtectHome", "PrivateDevices", "ProtectKernelModules"):
            assert service[key] == ["yes"], key
        assert service["ProtectSystem"] == ["strict"]
        assert service["CapabilityBoundingSet"] == [""]
        assert service["StateDirectory"] == [app.name] and service["StateDirectoryMode"] == ["0750"]


def test_the_sandbox_by_default(minimal: Settings) -> None:
    lines = app_role.sandbox(minimal.apps["notes"])
    for line in (
        "MemoryDenyWriteExecute=yes",
        "ProcSubset=pid",
        "PrivateUsers=yes",
        "SystemCallErrorNumber=EPERM",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    ):
        assert line in lines
    # What is allowed first, then what isn't of that.
    at = lines.index("SystemCallFilter=@system-service")
    assert lines[at + 1] == "SystemCallFilter=~@privileged @resources io_uring_setup io_uring_enter io_uring_register"
    for path in ("/tmp", "/var/tmp"):
        assert f"TemporaryFileSystem={path}:nosuid,nodev,mode=1777,size=25%,nr_inodes=65536" in lines
    assert not [line for line in lines if line.startswith(("PrivateNetwork", "IPAddressDeny"))]


def test_what_breaks_packages_can_be_switched_off(maximal: Settings) -> None:
    text = "\n".join(app_role.sandbox(maximal.apps["notes"]))
    for name in ("MemoryDenyWriteExecute", "ProcSubset", "SystemCallFilter", "SystemCallErrorNumber"):
        assert name not in text
    assert "SystemCallArchitectures=native" in text and "PrivateUsers=yes" in text


def test_an_app_that_talks_to_sockets_alone(make_settings: MakeSettings, minimal_data: dict[str, Any]) -> None:
    notes = minimal_data["apps"]["notes"]
    notes["sandbox"] = {"network": "unix"}
    notes["env"] = {"DATABASE_URL": "postgresql:///notes?host=/run/postgresql"}
    lines = app_role.sandbox(make_settings(minimal_data).apps["notes"])
    assert {"RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"} <= {*lines}
    assert not [line for line in lines if "AF_INET" in line]


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://notes:x@db.example.com/notes", True),
        ("postgresql://localhost/notes", True),
        ("postgresql:///notes?host=/run/postgresql", False),
        ("postgresql://notes@/notes?host=/run/postgresql", False),
        ("postgresql://notes@%2Frun%2Fpostgresql/notes", False),
        ("sqlite+aiosqlite:////var/lib/notes/notes.db", False),
    ],
)
def test_which_databases_are_on_a_host(url: str, named: bool) -> None:
    assert names_host(url) is named


def test_the_migration_is_shut_off_as_the_service_is(maximal: Settings) -> None:
    for app in maximal.apps.values():
        service = unit(app, "service")["Service"]
        for line in app_role.sandbox(app):
            key, _, value = line.partition("=")
            assert value in service[key], line


def test_no_working_folder_below_the_release_without_subdir(minimal: Settings) -> None:
    service = unit(minimal.apps["notes"], "service")["Service"]
    assert service["WorkingDirectory"] == ["/srv/notes/releases/@RELEASE@"]


def test_only_nginx_may_connect_to_the_socket(settings: Settings) -> None:
    for app in settings.apps.values():
        sections = unit(app, "socket")
        socket = sections["Socket"]
        assert socket["ListenStream"] == [app.socket_path("@RELEASE@")]
        assert (socket["SocketUser"], socket["SocketGroup"], socket["SocketMode"]) == (
            ["www-data"],
            ["www-data"],
            ["0600"],
        )
        assert socket["Service"] == [app.unit("@RELEASE@").service]
        assert sections["Install"] == {"WantedBy": ["sockets.target"]}


def test_the_environment_is_no_part_of_a_unit(maximal: Settings) -> None:
    for app in maximal.apps.values():
        for text in app_role.units(app, 2).values():
            assert "TOKEN" not in text and "LOG_LEVEL" not in text


# ── TLS, journal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_certbots_configuration(maximal: Settings, minimal: Settings) -> None:
    lines = tls_files(maximal)["certbot.ini"].splitlines()
    assert "server = https://ca.example.com/dir" in lines
    assert "email = ops@example.com" in lines and "register-unsafely-without-email = true" not in lines
    assert "eab-kid = kid-1" in lines and f"eab-hmac-key = {maximal.eab_hmac_key}" in lines
    assert f"webroot-path = {WEBROOT}" in lines and "authenticator = webroot" in lines
    lines = tls_files(minimal)["certbot.ini"].splitlines()
    assert "server = https://acme-v02.api.letsencrypt.org/directory" in lines
    assert "register-unsafely-without-email = true" in lines
    assert not [line for line in lines if line.startswith(("email", "eab"))]


def test_staging(make_settings: MakeSettings, minimal_data: dict[str, Any]) -> None:
    minimal_data["acme"] = {"staging": True}
    assert "server = https://acme-staging-v02." in tls_files(make_settings(minimal_data))["certbot.ini"]


def test_renewal(maximal: Settings, minimal: Settings) -> None:
    assert f"Environment=REQUESTS_CA_BUNDLE={tls.CA_FILE}\n" in tls_files(maximal)["certbot-renew.service"]
    made = tls_files(minimal)
    assert "REQUESTS_CA_BUNDLE" not in made["certbot-renew.service"]
    assert "/opt/slipway/certbot/bin/certbot renew" in made["certbot-renew.service"]
    assert "Persistent=yes\n" in made["certbot-renew.timer"]
    assert made["renewal-hook"].startswith("#!/bin/sh\n")
    assert made["renewal-hook"].endswith("exec /opt/slipway/bin/slipway nginx reload\n")
    # The unit is shut off from what the hook does: it only notes that it is due, for what runs outside.
    assert 'exec touch "$RUNTIME_DIRECTORY/renewed"' in made["renewal-hook"]
    assert 'ExecStopPost=+/bin/sh -c \'test ! -e "$RUNTIME_DIRECTORY/renewed" ||' in made["certbot-renew.service"]
    assert "CapabilityBoundingSet=\n" in made["certbot-renew.service"]


def test_the_journals_cap(maximal: Settings) -> None:
    assert "SystemMaxUse=2G\n" in render("base/journald.conf.j2", settings=maximal)
