"""Certificates: by certbot from an ACME server, self-signed, or brought along; never one in place of another."""

from __future__ import annotations

import shlex

from pyinfra.operations import files

from roles import _operations as operations
from roles._role import role
from roles._templates import host_file, render
from roles.nginx import WEBROOT
from roles.settings import AppSettings, Settings

CERTBOT = "/opt/slipway/certbot"
FOLDER = "/etc/slipway/tls"
CONFIG = f"{FOLDER}/certbot.ini"
CA_FILE = f"{FOLDER}/acme-ca.pem"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx"
SELF_SIGNED_DAYS = 365
"""Browsers refuse more than 398 days even of a private CA."""


@role("TLS")
def tls(settings: Settings) -> None:
    """A certificate for every app whose tls.mode isn't "off"."""
    apps = list(settings.apps.values())
    files.directory(name=f"Create {FOLDER}", path=FOLDER, user="root", group="root", mode="700")
    acme = [app for app in apps if app.tls.mode == "acme"]
    if acme:
        certbot(settings)
    for app in acme:
        order(settings, app)
        reload_if_not_served(app)
    for app in apps:
        if app.tls.mode in ("self-signed", "files"):
            files.directory(name=f"Create {FOLDER}/{app.name}", path=f"{FOLDER}/{app.name}", user="root", group="root", mode="700")
        if app.tls.mode == "self-signed":
            self_signed(app)
        elif app.tls.mode == "files":
            brought(app)


def certbot(settings: Settings) -> None:
    """certbot in an environment of its own, pinned by hash, its configuration, hook and timer.

    Not Debian's: 2.1 (Debian 12) hides what the ACME server answers, and neither it nor 4.0 (Debian 13) asks the
    server when to renew (ARI, RFC 9773).
    """
    requirements = host_file("tls/certbot-requirements.txt")
    pinned = f"{CERTBOT}-requirements.txt"
    operations.file(name="Write certbot's locked requirements", path=pinned, content=requirements)
    index = f"--default-index {shlex.quote(settings.python.index_url)} " if settings.python.index_url else ""
    uv = "env UV_NO_CONFIG=1 UV_CACHE_DIR=/var/cache/slipway/python" + (" UV_SYSTEM_CERTS=1" if settings.python.system_certs else "") + " /opt/slipway/bin/uv"
    operations.command_unless(
        name="Install certbot",
        satisfied=f"[ ! -x {CERTBOT}/bin/certbot ] || cmp -s {pinned} {CERTBOT}/requirements.txt && {CERTBOT}/bin/certbot --version 2>/dev/null || true",
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
    operations.file(name="Write certbot's configuration", path=CONFIG, content=render("tls/certbot.ini.j2", **values), mode="600", secret=True)
    operations.file(name="Write the renewal hook", path=HOOK, content=render("tls/renewal-hook.j2", **values), mode="755")
    operations.file(name="Write slipway-acme", path="/opt/slipway/bin/slipway-acme", content=host_file("tls/slipway-acme"), mode="755")
    for kind in ("service", "timer"):
        path = f"/etc/systemd/system/certbot-renew.{kind}"
        operations.file(name=f"Write certbot-renew.{kind}", path=path, content=render(f"tls/certbot-renew.{kind}.j2", **values))
    operations.unit_enabled(name="Enable the renewal timer", unit="certbot-renew.timer")


def order(settings: Settings, app: AppSettings) -> None:
    """Order the app's certificate if there is none for just these domains from this ACME server."""
    wanted = ["--server", settings.acme_directory_url, "--name", app.name, *(part for domain in app.domains for part in ("--domain", domain))]
    if settings.acme.ca_file:
        wanted += ["--ca-file", CA_FILE]
    check = [] if settings.acme.check else ["--no-check"]
    program = "/opt/slipway/bin/slipway-acme"
    operations.command_unless(
        name=f"Order the certificate of {app.name}",
        satisfied=f"[ ! -x {program} ] || {program} has {shlex.join(wanted)}",
        commands=[shlex.join([program, "order", *wanted, *check])],
        why=f"the certificate of {app.name} is for these domains and from this ACME server",
    )


def self_signed(app: AppSettings) -> None:
    """A key and a certificate for the app's domains, signed by itself; anew a month before it ends."""
    names = ",".join(f"DNS:{domain}" for domain in sorted(app.domains))
    certificate, key = str(app.certificate_path), str(app.key_path)
    shown = ",".join(sorted(f"DNS:{domain}" for domain in app.domains))
    operations.command_unless(
        name=f"Sign a certificate for {app.name}",
        satisfied=(
            f"[ ! -e {key} ] || ! openssl x509 -in {certificate} -noout -checkend 2592000 >/dev/null 2>&1 || "
            f"[ \"$(openssl x509 -in {certificate} -noout -ext subjectAltName | tail -n 1 | tr -d ' ' | tr , '\\n' | sort | paste -sd ,)\" != {shlex.quote(shown)} ] || echo good"
        ),
        commands=[
            f"umask 077; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {SELF_SIGNED_DAYS} "
            f"-subj /CN={app.domains[0]} -addext subjectAltName={names} -keyout {key}.partial -out {certificate}.partial 2>&1 "
            f"&& mv {key}.partial {key} && mv {certificate}.partial {certificate}",
        ],
        why=f"the certificate of {app.name} is for these domains",
    )
    reload_if_not_served(app)


def brought(app: AppSettings) -> None:
    """The certificate and the key that the inventory names."""
    for what, local, path, mode in (
        ("key", app.key_local, app.key_path, "600"),
        ("certificate", app.certificate_local, app.certificate_path, "644"),
    ):
        assert local is not None and path is not None  # mode "files" needs both: the settings refuse it otherwise
        text = local.read_text(encoding="utf-8")
        operations.file(name=f"Write the {what} of {app.name}", path=path, content=text, mode=mode, secret=what == "key")
    reload_if_not_served(app)


def reload_if_not_served(app: AppSettings) -> None:
    """Reload nginx if it serves another certificate than the one on disk; nothing before the site has TLS."""
    served = f"echo | openssl s_client -connect 127.0.0.1:443 -servername {app.domains[0]} 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>/dev/null"
    operations.command_unless(
        name=f"Let nginx serve the certificate of {app.name}",
        satisfied=(
            f"[ -e /etc/nginx/slipway/sites/{app.name}.conf ] && grep -q {app.certificate_path} /etc/nginx/slipway/sites/{app.name}.conf || {{ echo later; exit 0; }}; "
            f'[ "$({served})" != "$(openssl x509 -in {app.certificate_path} -noout -fingerprint -sha256)" ] || echo same'
        ),
        commands=["/opt/slipway/bin/slipway-nginx reload"],
        why=f"nginx serves the certificate of {app.name}",
    )
