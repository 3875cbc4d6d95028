"""Changes of what nginx serves: each validated and proven live by the host's own program."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT

from roles.nginx.facts import NginxVersion, Versions
from slipway.engine import plan
from slipway.engine.facts import Changed, Existing
from slipway.engine.host import PROGRAM, HostFacts, nginx_of
from slipway.engine.place import text_diff
from slipway.engine.plan import Ask, Change, Commands

Files = Callable[[Versions | None, Callable[[str], bool], Mapping[str, str]], dict[str, str]]
"""Makes the files of a configuration: called with the versions of nginx and its OpenSSL, a function that tells whether
a path is on the host, and the files that serve."""

_TLS = "ssl_certificate "


def _nginx(files: Files, paths: Sequence[str], apps: tuple[str, ...]) -> Iterator[Ask]:
    yield plan.asking(HostFacts, apps=apps)
    yield plan.asking(NginxVersion)
    yield plan.asking(Existing, paths=tuple(paths))


@plan.operation(_nginx)
def nginx_configuration(files: Files, paths: Sequence[str], apps: tuple[str, ...]) -> Commands:
    """Make these files nginx's configuration: validated, switched in one step, reloaded and proven to be live.

    + files: returns relative path → content of ``/etc/nginx/slipway/``, where ``@GENERATION@`` stands for the
      generation's name
    + paths: what it will ask for, if it is there
    + apps: names of all apps of the host
    """

    def exists(path: str) -> bool:
        return plan.made(path) or path in plan.known(Existing, paths=tuple(paths) if path in paths else (path,))

    facts = plan.known(HostFacts, apps=apps)
    status = nginx_of(facts)
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
    changes = (
        []
        if status.get("managed")
        else [Change("link", str(LAYOUT.nginx_main), "create", note=f"to {LAYOUT.nginx_target}")]
    )
    for path in sorted(desired.keys() | current.keys()):
        before, after = current.get(path, ""), expected.get(path, "")
        if path not in current or before != after:
            action = "modify" if path in current and path in desired else "create" if path in desired else "remove"
            whole = f"{LAYOUT.nginx_live}/{path}"
            changes.append(Change("file", whole, action, text_diff(whole, before, after)))
    note = "no request is lost" if status.get("live") else "it doesn't serve its configuration yet"
    closed = [path for path in desired if _TLS in current.get(path, "") and _TLS not in desired[path]]
    if closed:
        sites = " and ".join(PurePosixPath(path).stem for path in closed)
        note = f"not lossless: HTTPS of {sites} ends, until there is a certificate"
    elif emptied := [
        url for path in desired for url in to_shared(current.get(path, ""), desired[path]) if status.get("live")
    ]:
        note = f"not lossless: 404 at {' and '.join(emptied)}, until a release has made the shared folder"
    plan.announce(*changes, Change("nginx", "nginx", "reload", note=note))
    then = {"generation": "@GENERATION@", "managed": True, "live": True, "files": desired}
    plan.becomes(HostFacts, {**facts, "nginx": then}, apps=apps)
    yield StringCommand(PROGRAM, "nginx", "apply", _stdin=json.dumps(desired))


_FOLDER = re.compile(r"^    location (/\S*) \{\n(?:        .*\n)*?        alias (\S+);$", re.MULTILINE)


def to_shared(before: str, after: str) -> list[str]:
    """The URLs of a site whose files were those of a release, and will be in a shared folder, which is made later.

    + before, after: the site's file
    """
    old, new = (dict(_FOLDER.findall(text)) for text in (before, after))
    return [url for url in new if "/releases/" in old.get(url, "") and "/shared/" in new[url]]


def _served(certificates: Mapping[str, str], apps: tuple[str, ...]) -> Iterator[Ask]:
    yield plan.asking(HostFacts, apps=apps)
    yield plan.asking(Changed, paths=tuple(certificates.values()))


@plan.operation(_served)
def serve_certificates(certificates: Mapping[str, str], apps: tuple[str, ...]) -> Commands:
    """Reload nginx if a certificate has come since its workers began.

    + certificates: name of a site → its certificate's file
    + apps: names of all apps of the host
    """
    facts = plan.known(HostFacts, apps=apps)
    status = nginx_of(facts)
    files, since = status.get("files", {}), status.get("since") or 0
    changed = plan.known(Changed, paths=tuple(certificates.values()))
    due = []
    for name, certificate in certificates.items():
        if certificate not in files.get(str(LAYOUT.site(name).relative_to(LAYOUT.nginx_live)), ""):
            continue  # the site has no TLS yet: nginx reads the file when it gets it
        # One that this run makes came after the last change of the configuration.
        late = not plan.changed("nginx", "nginx") and changed.get(certificate, 0) > since
        if plan.made(certificate) or late:
            due.append(name)
    if not due:
        host.noop("nginx serves the certificates that are there")
        return
    what = "the certificate" if len(due) == 1 else "the certificates"
    plan.announce(Change("nginx", "nginx", "reload", note=f"for {what} of {', '.join(due)}; no request is lost"))
    yield StringCommand(PROGRAM, "nginx", "reload")
