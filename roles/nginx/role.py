"""nginx: sites, default servers and the reverse proxy, changed only by what it has validated and proven live."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from slipway_host.layout import LAYOUT
from slipway_host.names import INTERNAL, ITSELF, PROC

from roles.nginx.certificates import ordered
from roles.nginx.facts import Versions
from roles.nginx.operations import nginx_configuration
from slipway.engine import operations, plan
from slipway.engine.host import HostFacts
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.role import role
from slipway.engine.templates import render
from slipway.settings import AppSettings, Settings

COMPRESSED = 96
"""Static files that one client may be sent compressed at a time, twice what nginx lets a connection of HTTP/2 ask for:
each that is read slowly holds 430 kB of memory."""
OPEN_FILES = 1000
"""Static files that a site keeps open, at most: more than most apps have."""
YEAR = 31_536_000
"""Seconds that a browser may keep what never changes."""
WEBROOT = str(LAYOUT.webroot)
"""Where certbot puts the files that an ACME server asks for."""
IPV6 = str(PROC / "net/if_inet6")
"""There where the kernel has IPv6."""
PACKAGED = {
    "debian 12": Versions((1, 22, 1), (3, 0)),
    "debian 13": Versions((1, 26, 3), (3, 5)),
    "ubuntu 24.04": Versions((1, 24, 0), (3, 0)),
}
"""Versions in a distribution's packages, for a plan made before nginx is installed."""
DROP_IN = str(LAYOUT.nginx_sandbox)
"""nginx's sandbox."""


class Static(NamedTuple):
    """A folder that nginx serves, as a site's template takes it."""

    url: str
    folder: str
    """It, with a variable for the release that serves."""
    top: str
    """The folder below which no link is followed."""
    shared: bool
    """Whether it has what visitors sent, rather than files of a release."""
    max_age: int
    immutable: str
    variable: str
    """Name of the variable with how long a browser may keep a file."""

    @classmethod
    def of(cls, app: AppSettings, number: int) -> Static:
        """The app's folder of this number."""
        static, own = app.statics[number], app.name.replace("-", "_")
        shared = app.shared_with(static.path) is not None
        # Without a variable: nginx's module for Brotli passes over a file where the top has one.
        top = str(app.at.shared) if shared else str(app.at.releases)
        folder = top if shared else str(app.at.folder(f"$release_{own}"))
        inner = static.path if shared else "/".join(part for part in (app.source.subdir, static.path) if part)
        immutable = "none" if shared else static.immutable
        return cls(static.url, f"{folder}/{inner}", top, shared, static.max_age, immutable, f"kept_{number + 1}__{own}")


def configuration(
    settings: Settings,
    versions: Versions,
    exists: Callable[[str], bool],
    serving: Mapping[str, str] = MappingProxyType({}),
    certified: Callable[[AppSettings], bool] = lambda app: True,
) -> dict[str, str]:
    """Relative path → content of /etc/nginx/slipway.

    + versions: nginx's: HTTP/2 is written as ``http2 on`` since 1.25.1, session tickets rotate since 1.23.2; and
      OpenSSL's: X25519MLKEM768, which a quantum computer doesn't break, since 3.5
    + exists: whether a path is on the host: a site whose certificate is yet to come has no TLS part
    + serving: the configuration that serves: until another certificate is there, a site keeps the one it has
    + certified: whether there is a certificate for just an app's domains: until then, its site keeps the names it had
    """
    apps = list(settings.apps.values())
    common = {
        "http2_directive": versions.nginx >= (1, 25, 1),
        "rotates_tickets": versions.nginx >= (1, 23, 2),
        "post_quantum": versions.openssl >= (3, 5),
        "ipv6": exists(IPV6),
        "internal": INTERNAL,
        "own_address": ITSELF,
        "own_address_pattern": "".join(f"\\x{int(each):02x}" for each in ITSELF.split(".")),
    }
    made = {
        LAYOUT.nginx_main.name: render(
            "nginx/nginx.conf.j2",
            nginx=settings.nginx,
            extra=bool(settings.nginx.extra),
            # Each app's sites, the one on its port included, keep so many static files open.
            all_open_files=OPEN_FILES * sum((2 if app.port else 1) * len(app.statics) for app in apps),
            worker_shutdown_timeout=max(app.drain_timeout + app.graceful_timeout for app in apps) + 10,
            **common,
        ),
        _within(LAYOUT.nginx_internal): render(
            "nginx/internal.conf.j2", apps=apps, tls=any(app.tls.mode != "off" for app in apps), **common
        ),
    }
    if settings.nginx_extra_local:
        made[_within(LAYOUT.nginx_extra)] = settings.nginx_extra_local.read_text(encoding="utf-8")
    for app in apps:
        values: dict[str, Any] = {
            "app": app,
            "names": app.domains if certified(app) else [*app.domains, *former_names(settings, app, serving)],
            "open_files": OPEN_FILES,
            "compressed": COMPRESSED,
            "extra": bool(app.nginx_extra),
            "certificate": certificate(app, exists, serving.get(_site(app), "")),
            "statics": [Static.of(app, number) for number in range(len(app.statics))],
            "year": YEAR,
        }
        made[_site(app)] = render("nginx/site.conf.j2", nginx=settings.nginx, **values, **common)
        made[_within(app.at.proxying)] = render("nginx/proxy.conf.j2", app=app)
        made[_within(app.at.headers)] = render("nginx/headers.conf.j2", app=app, static=False, uploads=False)
        shared = {bool(each.shared) for each in values["statics"]}
        if False in shared and not app.nginx_extra:  # an add_header there is for static files, too
            made[_within(app.at.static_headers)] = render("nginx/headers.conf.j2", app=app, static=True, uploads=False)
        if True in shared:
            made[_within(app.at.upload_headers)] = render("nginx/headers.conf.j2", app=app, static=True, uploads=True)
            made[_within(LAYOUT.nginx_upload_types)] = render("nginx/upload-types.conf.j2")
        made[_within(app.at.errors)] = render("nginx/errors.conf.j2", app=app)
        if app.nginx_extra_local:
            made[_within(app.at.extra)] = app.nginx_extra_local.read_text(encoding="utf-8")
    return made


def _within(path: Path) -> str:
    """Its path below the folder of the configuration that serves."""
    return str(path.relative_to(LAYOUT.nginx_live))


def _site(app: AppSettings) -> str:
    return _within(LAYOUT.site(app.name))


def former_names(settings: Settings, app: AppSettings, serving: Mapping[str, str]) -> list[str]:
    """Names that a site is known by over TLS, and that no app is to have any more."""
    text = serving.get(_site(app), "")
    found = re.search(r"server_name ([^;]+);\s+ssl_certificate ", text)
    wanted = {domain for each in settings.apps.values() for domain in each.domains}
    return [name for name in found[1].split() if name not in wanted] if found else []


def certificate(app: AppSettings, exists: Callable[[str], bool], serving: str) -> tuple[str, str] | None:
    """The certificate and the key of a site that are on the host: the wanted ones, or else those that it serves now."""
    if app.certificate_path is None or app.key_path is None:
        return None
    found = re.search(r"ssl_certificate (\S+);\s+ssl_certificate_key (\S+);", serving)
    candidates = [(app.certificate_path, app.key_path), *([(found[1], found[2])] if found else [])]
    return next((pair for pair in candidates if all(exists(path) for path in pair)), None)


@role("Nginx")
def nginx_sandbox(settings: Settings) -> None:
    """nginx's sandbox, written before the package is installed, because that starts nginx at once.

    A running nginx gets it with its next start, by a reboot or by hand. A restart would cut off visitors, and an
    upgrade of the binary in place keeps the old sandbox.
    """
    drop_in = File(render("nginx/sandbox.conf.j2"), note="from nginx's next start on")
    place(
        name="Write the sandbox of nginx",
        folders={DROP_IN.rpartition("/")[0]: Folder()} if settings.nginx.sandbox else {},
        files={DROP_IN: drop_in if settings.nginx.sandbox else None},
    )


@role("Nginx")
def nginx(settings: Settings, overview: HostOverview) -> None:
    """nginx with a site for every app; one that has no certificate yet answers ACME challenges only."""
    place(
        name="Make room for challenges, and remove Debian's example site",
        folders={WEBROOT: Folder()},
        # It would be the default server, which ours must be; a site of the user's stays.
        absent={str(LAYOUT.nginx_sites / "default"): "nginx"},
    )
    configure("Configure the sites", settings, overview)
    operations.unit_enabled(name="Enable nginx", unit=LAYOUT.nginx_unit, files=(DROP_IN,))


@role("Nginx")
def nginx_with_certificates(settings: Settings, overview: HostOverview) -> None:
    """The TLS part of every site whose certificate has come since."""
    configure("Configure the sites with TLS", settings, overview)


_last: list[Any] = []
"""Settings, what their configuration was made from, and its files: a run asks up to four times for the same ones, and
a hundred sites take a second."""


def configure(title: str, settings: Settings, overview: HostOverview) -> None:
    """Make `configuration` the one that serves."""
    packaged, names = PACKAGED[overview.name], tuple(settings.apps)

    def certified(app: AppSettings) -> bool:
        if app.tls.mode != "acme" or plan.made(str(app.certificate_path)):
            return True
        facts = plan.known(HostFacts, apps=names)
        return ordered(settings, app, facts)

    certificates = [
        str(path) for app in settings.apps.values() for path in (app.certificate_path, app.key_path) if path
    ]

    def made(versions: Versions | None, exists: Callable[[str], bool], serving: Mapping[str, str]) -> dict[str, str]:
        made_from = [
            *map(exists, [IPV6, *certificates]),
            *map(certified, settings.apps.values()),
            versions or packaged,
            serving,
        ]
        if not (_last and _last[0] is settings and _last[1] == made_from):
            texts = configuration(settings, versions or packaged, exists, serving, certified)
            _last[:] = [settings, made_from, texts]
        return dict(_last[2])

    nginx_configuration(name=title, files=made, paths=[IPV6, *certificates], apps=names)
