"""Changes of what nginx serves: each validated and proven live by the host's `slipway-nginx`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from pyinfra import host
from pyinfra.api import StringCommand

from roles.nginx.facts import SLIPWAY_NGINX, NginxStatus, NginxVersion, Versions
from slipway.engine import plan
from slipway.engine.facts import Answer, Existing
from slipway.engine.operations import shell_line
from slipway.engine.place import text_diff
from slipway.engine.plan import Ask, Change, Commands

NGINX = "/etc/nginx/slipway"
"""Where nginx's configuration of ours is."""

MAIN = "/etc/nginx/nginx.conf"

Files = Callable[[Versions | None, Callable[[str], bool], Mapping[str, str]], dict[str, str]]
"""Makes the files of a configuration: called with the versions of nginx and its OpenSSL, a function that tells whether
a path is on the host, and the files that serve."""

_TLS = "ssl_certificate "


def _nginx(files: Files, paths: Sequence[str]) -> Iterator[Ask]:
    yield plan.asking(NginxStatus)
    yield plan.asking(NginxVersion)
    yield plan.asking(Existing, paths=tuple(paths))


@plan.operation(_nginx)
def nginx_configuration(files: Files, paths: Sequence[str]) -> Commands:
    """Make these files nginx's configuration: validated, switched in one step, reloaded and proven to be live.

    + files: returns relative path → content of ``/etc/nginx/slipway/``, where ``@GENERATION@`` stands for the
      generation's name
    + paths: what it will ask for, if it is there
    """

    def exists(path: str) -> bool:
        return plan.made(path) or path in plan.known(Existing, paths=tuple(paths) if path in paths else (path,))

    status = plan.known(NginxStatus)
    version = plan.known(NginxVersion)
    if plan.changed("package", "nginx") and not plan.planning():
        version = host.get_fact(NginxVersion)  # a plan can but guess what will come
    generation = status.get("generation")
    current: dict[str, str] = status.get("files", {})
    desired = files(version, exists, current)
    expected = {path: text.replace("@GENERATION@", str(generation)) for path, text in desired.items()}
    if status.get("managed") and status.get("live") and current == expected:
        host.noop(f"nginx serves generation {generation}")
        return
    changes = [] if status.get("managed") else [Change("link", MAIN, "create", note="to slipway/nginx.conf")]
    for path in sorted(desired.keys() | current.keys()):
        before, after = current.get(path, ""), expected.get(path, "")
        if path not in current or before != after:
            action = "modify" if path in current and path in desired else "create" if path in desired else "remove"
            whole = f"{NGINX}/{path}"
            changes.append(Change("file", whole, action, text_diff(whole, before, after)))
    note = "no request is lost" if status.get("live") else "it doesn't serve its configuration yet"
    closed = [path for path in desired if _TLS in current.get(path, "") and _TLS not in desired[path]]
    if closed:
        sites = " and ".join(path.removeprefix("sites/").removesuffix(".conf") for path in closed)
        note = f"not lossless: HTTPS of {sites} ends, until there is a certificate"
    plan.announce(*changes, Change("nginx", "nginx", "reload", note=note))
    plan.becomes(NginxStatus, {"generation": "@GENERATION@", "managed": True, "live": True, "files": desired})
    yield StringCommand(SLIPWAY_NGINX, "apply", _stdin=json.dumps(desired))


def _served(certificates: Mapping[str, tuple[str, str]]) -> Iterator[Ask]:
    yield plan.asking(NginxStatus)
    for name in certificates:
        yield plan.asking(Answer, question=_question(name, *certificates[name]))


# $1 certificate, $2 nginx's configuration of the site, $3 a domain
_SERVED = """
grep -qsF "$1" "$2" || { echo later; exit 0; }  # the site has no TLS yet: nginx reads the file when it gets it
first() { sed -n '/-BEGIN CERT/,/-END CERT/p;/-END CERT/q' | tr -d '[:space:]'; }
served=$(openssl s_client -connect 127.0.0.1:443 -servername "$3" </dev/null 2>/dev/null | first)
[ "$served" != "$(first <"$1")" ] || echo same
"""


def _question(name: str, certificate: str, domain: str) -> str:
    return shell_line(_SERVED, certificate, f"{NGINX}/sites/{name}.conf", domain)


@plan.operation(_served)
def serve_certificates(certificates: Mapping[str, tuple[str, str]]) -> Commands:
    """Reload nginx if it serves another certificate than the one on disk.

    + certificates: name of a site → its certificate's file, and a domain that it is for
    """
    files = plan.known(NginxStatus).get("files", {})
    due = []
    for name, (certificate, domain) in certificates.items():
        if plan.made(certificate):  # since nginx was last configured
            if certificate in files.get(f"sites/{name}.conf", ""):
                due.append(name)
        elif not plan.changed("nginx", "nginx") and not plan.known(
            Answer, question=_question(name, certificate, domain)
        ):
            due.append(name)
    if not due:
        host.noop("nginx serves the certificates that are there")
        return
    what = "the certificate" if len(due) == 1 else "the certificates"
    plan.announce(Change("nginx", "nginx", "reload", note=f"for {what} of {', '.join(due)}; no request is lost"))
    yield StringCommand(SLIPWAY_NGINX, "reload")
