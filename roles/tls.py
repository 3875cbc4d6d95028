"""Certificates: by certbot from an ACME server, self-signed, or brought along; never one in place of another."""

from __future__ import annotations

import shlex

from pyinfra.api.operation import OperationMeta
from pyinfra.operations import files

from roles import _operations as operations
from roles._role import role
from roles._templates import host_file, render
from roles.nginx import WEBROOT
from roles.python import UV, UV_CACHE
from roles.settings import AppSettings, Settings

CERTBOT = "/opt/slipway/certbot"
FOLDER = "/etc/slipway/tls"
CONFIG = f"{FOLDER}/certbot.ini"
CA_FILE = f"{FOLDER}/acme-ca.pem"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx"
SELF_SIGNED_DAYS = 365
"""Browsers refuse more than 398 days even of a private CA."""


@role("TLS")
def tls(settings: Settings) -> dict[str, OperationMeta]:
    """A certificate for every app whose tls.mode isn't "off".

    An order that fails doesn't keep the other apps from theirs: the caller gets the steps to judge.
    """
    apps = list(settings.apps.values())
    files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="700")
    acme = [app for app in apps if app.tls.mode == "acme"]
    if acme:
        certbot(settings)
    orders = {f"the certificate of {app.name}": order(settings, app) for app in acme}
    for app in apps:
        if app.tls.mode in ("self-signed", "files"):
            files.directory(
                name=f"Create {FOLDER}/{app.name}", path=f"{FOLDER}/{app.name}", user="root", group="root", mode="700"
            )
        if app.tls.mode == "self-signed":
            self_signed(app)
        elif app.tls.mode == "files":
            brought(app)
    for app in apps:
        if app.tls.mode != "off":
            reload_if_not_served(app)
    return orders


def certbot(settings: Settings) -> None:
    """certbot in an environment of its own, pinned by hash, its configuration, hook and timer.

    Not Debian's: 2.1 (Debian 12) hides what the ACME server answers, and neither it nor 4.0 (Debian 13) asks the
    server when to renew (ARI, RFC 9773).
    """
    requirements = host_file("tls/certbot-requirements.txt")
    pinned = f"{CERTBOT}-requirements.txt"
    operations.file(name="Write certbot's locked requirements", path=pinned, content=requirements)
    index = f"--default-index {shlex.quote(settings.python.index_url)} " if settings.python.index_url else ""
    trust = "UV_SYSTEM_CERTS=1 " if settings.python.system_certs else ""
    uv = f"env UV_NO_CONFIG=1 UV_CACHE_DIR={UV_CACHE} {trust}{UV}"
    operations.command_unless(
        name="Install certbot",
        satisfied=f"cmp -s {pinned} {CERTBOT}/requirements.txt && {CERTBOT}/bin/certbot --version 2>&1 || true",
        commands=[
            f"{uv} venv --quiet --clear --python /usr/bin/python3 {CERTBOT}",
            f"{uv} pip sync --quiet --require-hashes --compile-bytecode --python {CERTBOT} {index}{pinned}",
            f"cp {pinned} {CERTBOT}/requirements.txt",
        ],
        why="certbot is installed as locked",
    )
    if settings.acme_ca_local:
        text = settings.acme_ca_local.read_text(encoding="utf-8")
        operations.file(name="Write the ACME server's CA", path=CA_FILE, content=text)
    for path in ("/etc/letsencrypt", "/etc/letsencrypt/renewal-hooks", "/etc/letsencrypt/renewal-hooks/deploy"):
        files.directory(name=f"Create {path}", path=path, user="root", group="root", mode="755")
    values = {"settings": settings, "webroot": WEBROOT, "ca_file": CA_FILE, "certbot": CERTBOT, "config": CONFIG}
    operations.file(
        name="Write certbot's configuration",
        path=CONFIG,
        content=render("tls/certbot.ini.j2", **values),
        mode="600",
        secret=True,
    )
    operations.file(
        name="Write the renewal hook", path=HOOK, content=render("tls/renewal-hook.j2", **values), mode="755"
    )
    operations.file(
        name="Write slipway-acme",
        path="/opt/slipway/bin/slipway-acme",
        content=host_file("tls/slipway-acme"),
        mode="755",
    )
    for kind in ("service", "timer"):
        path = f"/etc/systemd/system/certbot-renew.{kind}"
        operations.file(
            name=f"Write certbot-renew.{kind}", path=path, content=render(f"tls/certbot-renew.{kind}.j2", **values)
        )
    operations.unit_enabled(name="Enable the renewal timer", unit="certbot-renew.timer")


def order(settings: Settings, app: AppSettings) -> OperationMeta:
    """Order the app's certificate if there is none for just these domains from this ACME server."""
    wanted = [
        "--server",
        settings.acme_directory_url,
        "--name",
        app.name,
        *(part for domain in app.domains for part in ("--domain", domain)),
    ]
    if settings.acme.ca_file:
        wanted += ["--ca-file", CA_FILE]
    check = [] if settings.acme.check else ["--no-check"]
    program = "/opt/slipway/bin/slipway-acme"
    return operations.command_unless(
        name=f"Order the certificate of {app.name}",
        satisfied=f"[ ! -x {program} ] || {program} has {shlex.join(wanted)}",
        commands=[shlex.join([program, "order", *wanted, *check])],
        why=f"the certificate of {app.name} is for these domains and from this ACME server",
        _ignore_errors=True,
    )


# $1 certificate, $2 key, $3 "DNS:name" of each domain, sorted, joined by commas
_SIGNED = """
openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null 2>&1 || exit 0  # 30 days
names=$(openssl x509 -in "$1" -noout -ext subjectAltName | tail -n 1 | tr -d ' ' | tr , '\\n' | sort | paste -sd ,)
[ "$names" = "$3" ] || exit 0
[ "$(openssl x509 -in "$1" -noout -pubkey)" = "$(openssl pkey -in "$2" -pubout 2>/dev/null)" ] && echo signed || true
"""
# $4 common name (the domains may be longer than its 64 characters), $5 days
_SIGN = """
set -eu
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$5" -subj "/CN=$4" \\
    -addext "subjectAltName=$3" -keyout "$2.partial" -out "$1.partial" 2>&1
mv "$2.partial" "$2"
mv "$1.partial" "$1"
"""


def self_signed(app: AppSettings) -> None:
    """A key and a certificate for the app's domains, signed by itself; anew a month before it ends."""
    names = ",".join(sorted(f"DNS:{domain}" for domain in app.domains))
    arguments = [str(app.certificate_path), str(app.key_path), names]
    operations.command_unless(
        name=f"Sign a certificate for {app.name}",
        satisfied=operations.script(_SIGNED, *arguments),
        commands=[operations.shell(_SIGN, *arguments, app.name, str(SELF_SIGNED_DAYS))],
        why=f"the certificate of {app.name} is for these domains",
    )


def brought(app: AppSettings) -> None:
    """The certificate and the key that the inventory names."""
    for what, local, path, mode in (
        ("key", app.key_local, app.key_path, "600"),
        ("certificate", app.certificate_local, app.certificate_path, "644"),
    ):
        assert local is not None and path is not None  # mode "files" needs both: the settings refuse it otherwise
        text = local.read_text(encoding="utf-8")
        operations.file(
            name=f"Write the {what} of {app.name}", path=path, content=text, mode=mode, secret=what == "key"
        )


# $1 certificate, $2 nginx's configuration of the site, $3 a domain
_SERVED = """
grep -qsF "$1" "$2" || { echo later; exit 0; }  # the site has no TLS yet: nginx reads the file when it gets it
served=$(openssl s_client -connect 127.0.0.1:443 -servername "$3" </dev/null 2>/dev/null |
    openssl x509 -noout -fingerprint -sha256 2>/dev/null)
[ "$served" != "$(openssl x509 -in "$1" -noout -fingerprint -sha256)" ] || echo same
"""


def reload_if_not_served(app: AppSettings) -> None:
    """Reload nginx if it serves another certificate than the one on disk."""
    site = f"/etc/nginx/slipway/sites/{app.name}.conf"
    operations.command_unless(
        name=f"Let nginx serve the certificate of {app.name}",
        satisfied=operations.script(_SERVED, str(app.certificate_path), site, app.main_domain),
        commands=["/opt/slipway/bin/slipway-nginx reload"],
        why=f"nginx serves the certificate of {app.name}",
    )
