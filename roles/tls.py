"""Certificates: by certbot from an ACME server, self-signed, or brought along; never one in place of another."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT
from slipway_host.names import PYTHON

from roles.nginx.certificates import ordered
from roles.nginx.operations import serve_certificates
from roles.python import UV_CACHE, uv_program, with_own_lock
from slipway.engine import operations, plan
from slipway.engine.facts import Answer
from slipway.engine.host import PROGRAM, HostFacts
from slipway.engine.place import File, Folder, place
from slipway.engine.plan import Ask, Change, Commands
from slipway.engine.program import Program, install
from slipway.engine.pyinfra_api import OperationMeta
from slipway.engine.role import role
from slipway.engine.templates import host_file, render
from slipway.settings import AppSettings, Settings

CERTBOT = str(LAYOUT.certbot)
FOLDER = str(LAYOUT.tls)
REQUIREMENTS = str(LAYOUT.certbot_requirements)
CONFIG = str(LAYOUT.certbot_ini)
CA_FILE = str(LAYOUT.acme_ca)
HOOK = str(LAYOUT.renewal_hook)
TIMER = {kind: str(path) for kind, path in LAYOUT.renewal_units.items()}
SELF_SIGNED_DAYS = 365
"""Browsers refuse more than 398 days even of a private CA."""


@role("TLS")
def tls(settings: Settings) -> dict[str, OperationMeta]:
    """A certificate for every app whose tls.mode isn't "off".

    An order that fails doesn't keep the other apps from theirs: the caller gets the steps to judge.
    """
    apps = list(settings.apps.values())
    acme = [app for app in apps if app.tls.mode == "acme"]
    own = [app for app in apps if app.tls.mode in ("self-signed", "files")]
    private = Folder("700")
    files = {path: file for app in own if app.tls.mode == "files" for path, file in brought(app).items()}
    hooks = LAYOUT.renewal_hook.parent
    letsencrypt = [str(each) for each in (LAYOUT.letsencrypt, hooks.parent, hooks)]
    place(
        name="Write what certificates need",
        folders={FOLDER: private}
        | {str(app.at.tls): private for app in own}
        | (dict.fromkeys(letsencrypt, Folder()) if acme else {}),
        files=files | (certbot_files(settings) if acme else {}),
    )
    for program in certbot(settings):
        install(f"Install {program.title}", program)
    if acme:
        timer = LAYOUT.renewal_units["timer"].name
        operations.unit_enabled(name="Enable the renewal timer", unit=timer, files=(*TIMER.values(),))
    names, given = tuple(settings.apps), {app.name: order_of(settings, app) for app in acme}
    facts = plan.known(HostFacts, apps=names) if acme else {}
    there = {name: each for name, each in given.items() if each.satisfied(facts)}
    orders = {
        f"the certificate of {name}": certificates_ordered(
            name=f"Order the certificate of {name}", apps=names, orders=[each], _ignore_errors=True
        )
        for name, each in given.items()
        if name not in there
    }
    if there:
        keep = "Keep the certificates that are there"  # in one operation, since each takes some ms of a run
        orders[f"the certificate of {' or '.join(there)}"] = certificates_ordered(
            name=keep, apps=names, orders=[*there.values()], _ignore_errors=True
        )
    if signed := [app for app in own if app.tls.mode == "self-signed"]:
        self_signed(name="Sign certificates", certificates={app.name: _certificate(app) for app in signed})
    served = {app.name: str(app.certificate_path) for app in apps if app.tls.mode != "off"}
    if served:
        serve_certificates(name="Let nginx serve the certificates", certificates=served, apps=tuple(settings.apps))
    return orders


def certbot_files(settings: Settings) -> dict[str, File]:
    """Path → file: certbot's configuration, hook and timer."""
    made = {
        CONFIG: File(render("tls/certbot.ini.j2", settings=settings), "600", secret=True),
        HOOK: File(render("tls/renewal-hook.j2"), "755"),
    }
    units = LAYOUT.renewal_units.values()
    made |= {str(path): File(render(f"tls/{path.name}.j2", settings=settings)) for path in units}
    if settings.acme_ca_local:
        made[CA_FILE] = File(settings.acme_ca_local.read_text(encoding="utf-8"))
    return made


_WHOLE = LAYOUT.certbot_installed.name
# $1 certbot's environment, $2 SHA-256 of the requirements; what Python it has goes with the system's
_INSTALLED = f"""
[ "$(sha256sum 2>/dev/null <"$1/{_WHOLE}")" = "$2  -" ] && "$1/bin/python" -c 'import certbot' 2>/dev/null \\
    && [ -x "$1/{LAYOUT.certbot_program.relative_to(LAYOUT.certbot)}" ] && echo installed || true
"""
# $1 certbot's environment, $2 its requirements, $3 uv, then options of uv
_INSTALL = f"""
set -eu
umask 022
folder=$1 requirements=$2 uv=$3; shift 3
"$uv" venv --quiet --clear --python {PYTHON} "$folder"
# --no-build: as wheels, since to build one would run its code as root.
"$uv" pip sync --quiet --no-cache --no-build --require-hashes --compile-bytecode --python "$folder" "$@" "$requirements"
chmod 600 "$folder"/.lock*  # uv lets everybody write to its lock
sync --file-system "$folder"
cp "$requirements" "$folder/{_WHOLE}"
"""


def certbot(settings: Settings) -> list[Program]:
    """certbot in an environment of its own, pinned by hash, where an app's certificate is ordered by it.

    Not Debian's: 2.1 (Debian 12) hides what the ACME server answers, and neither it nor 4.0 (Debian 13) asks the
    server when to renew (ARI, RFC 9773).
    """
    if all(app.tls.mode != "acme" for app in settings.apps.values()):
        return []
    requirements = File(host_file("tls/certbot-requirements.txt"), program=True)
    index = ["--default-index", settings.python.index_url] if settings.python.index_url else []
    trust = ["UV_SYSTEM_CERTS=1"] if settings.python.system_certs else []
    environment = shlex.join(["env", "UV_NO_CONFIG=1", f"UV_CACHE_DIR={UV_CACHE}", *trust])
    install = operations.shell_line(_INSTALL, CERTBOT, REQUIREMENTS, uv_program(settings), *index)
    satisfied = operations.shell_line(_INSTALLED, CERTBOT, requirements.digest)
    return [Program("certbot", satisfied, with_own_lock(f"{environment} {install}"), {REQUIREMENTS: requirements})]


@dataclass(frozen=True)
class Order:
    """An order of a certificate."""

    satisfied: Callable[[Mapping[str, Any]], bool]
    """Called with what is known of the host (`HostFacts`): whether the certificate is there."""
    wanted: tuple[str, ...]
    """What `slipway acme order` is told."""
    change: Change
    """What that is."""
    makes: tuple[str, ...]
    """Paths that it writes."""


def order_of(settings: Settings, app: AppSettings) -> Order:
    """The order of an app's certificate: for just its domains, from this ACME server."""
    server = settings.acme_directory_url
    wanted = ["--server", server, "--name", app.name]
    wanted += [part for domain in app.domains for part in ("--domain", domain)]
    if settings.acme.ca_file:
        wanted += ["--ca-file", CA_FILE]
    if not settings.acme.check:
        wanted += ["--no-check"]
    return Order(
        satisfied=partial(ordered, settings, app),
        wanted=tuple(wanted),
        change=Change("certificate", app.name, "order", note=f"for {', '.join(app.domains)} from {server}"),
        makes=(str(app.certificate_path), str(app.key_path)),
    )


@plan.operation(lambda apps, **_: [plan.asking(HostFacts, apps=apps)])
def certificates_ordered(apps: tuple[str, ...], orders: Sequence[Order]) -> Commands:
    """Order those certificates that aren't there.

    + apps: names of all apps of the host
    """
    facts = plan.known(HostFacts, apps=apps)
    for each in orders:
        if each.satisfied(facts):
            host.noop(f"the certificate of {each.change.target} is for these domains and from this ACME server")
            continue
        plan.announce(each.change, makes=each.makes)
        yield StringCommand(shlex.join([PROGRAM, "acme", "order", *each.wanted]))


# $@ certificate and key of each: a line for one that is whole, with all that openssl says of it
_SIGNED = """
set -f
while [ $# -gt 0 ]; do
    told=$(openssl x509 -in "$1" -noout -checkend 2592000 -ext subjectAltName -pubkey 2>/dev/null) || told=  # 30 days
    public=$(openssl pkey -in "$2" -pubout 2>/dev/null) || { shift 2; continue; }
    case $told in *"$public"*) echo "$1" $told ;; esac
    shift 2
done
"""
# $1 certificate, $2 key, $3 "DNS:name" of each domain, joined by commas, $4 common name (the domains may be longer than
# its 64 characters), $5 days
_SIGN = """
set -eu
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$5" -subj "/CN=$4" \\
    -addext "subjectAltName=$3" -keyout "$2.partial" -out "$1.partial" 2>&1
sync "$1.partial" "$2.partial"
mv "$2.partial" "$2"
mv "$1.partial" "$1"
"""


@dataclass(frozen=True)
class SelfSigned:
    """A certificate that is signed by itself."""

    path: str
    key: str
    domains: tuple[str, ...]


def _certificate(app: AppSettings) -> SelfSigned:
    return SelfSigned(str(app.certificate_path), str(app.key_path), tuple(app.domains))


def whole(told: str) -> dict[str, set[str]]:
    """Path → domains, of those certificates that have their key and don't end soon, by what `_SIGNED` tells."""
    lines = (line.partition(" ") for line in told.splitlines())
    return {path: {*re.findall(r"DNS:([^,\s]+)", rest)} for path, _, rest in lines}


def _signed(certificates: Mapping[str, SelfSigned]) -> Iterator[Ask]:
    paths = (path for each in certificates.values() for path in (each.path, each.key))
    yield plan.asking(Answer, question=operations.shell_line(_SIGNED, *paths))


@plan.operation(_signed)
def self_signed(certificates: Mapping[str, SelfSigned]) -> Commands:
    """Make certificates for apps' domains, and their keys; anew a month before one ends.

    + certificates: name of an app → its certificate
    """
    ((fact, arguments),) = _signed(certificates)
    there = whole(plan.known(fact, **dict(arguments)))
    due = {name: each for name, each in certificates.items() if there.get(each.path) != {*each.domains}}
    if not due:
        host.noop("the certificates are for these domains")
        return
    changes = (
        Change("certificate", name, "sign", note=f"for {', '.join(each.domains)}, by itself")
        for name, each in due.items()
    )
    plan.announce(*changes, makes=[path for each in due.values() for path in (each.path, each.key)])
    for name, each in due.items():
        names = ",".join(f"DNS:{domain}" for domain in each.domains)
        yield operations.shell(_SIGN, each.path, each.key, names, name, str(SELF_SIGNED_DAYS))


def brought(app: AppSettings) -> dict[str, File]:
    """Path → file: the key and the certificate that the inventory names."""
    made = {}
    for local, path, mode in (
        (app.key_local, app.key_path, "600"),
        (app.certificate_local, app.certificate_path, "644"),
    ):
        assert local is not None and path is not None  # mode "files" needs both: the settings refuse it otherwise
        made[path] = File(local.read_text(encoding="utf-8"), mode, secret=mode == "600")
    return made
