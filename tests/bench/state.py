"""What Slipway manages on a host, read from the host itself: the one description that every other tool is given.

It is read where Slipway has just found nothing to change, so it can't drift from what Slipway does. What a command
makes (uv, a Python, certbot, a certificate, a release) is there as a path that exists.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.e2e._driver import Host

READER = Path(__file__).parent / "onhost/managed.py"
OPT, CACHE = "/opt/slipway", "/var/cache/slipway"
PIP = 'python3 "$(ls /usr/share/python-wheels/pip-*.whl)/pip"'
"""As the package python3-pip-whl brings it."""
CHANGED = "/etc/slipway/tls/certbot.ini"
"""The file whose content differs in the case of one changed file: made from a template, with nothing to restart."""

AFTERWARDS: Mapping[str, str] = {
    "/etc/nginx/": "nginx -t -q && systemctl reload nginx.service",
    "/etc/systemd/system/": "systemctl daemon-reload",
    "/etc/systemd/journald.conf.d/": "systemctl restart systemd-journald.service",
}
"""Beginning of a path → what is to be done when something there changed."""


WATCHED = ("/etc", "/opt", "/srv", "/usr/local")
"""Where whatever comes with a provisioning is described, unless it is known as a by-product."""
BY_PRODUCTS = (
    "/etc/letsencrypt/", "/etc/nginx/slipway.d/", "/etc/nginx/nginx.conf.before-slipway",
    "/etc/nginx/sites-enabled/", "/etc/nginx/modules-enabled/", "/etc/systemd/system/*.wants/",
    f"{OPT}/uv/", f"{OPT}/python/", f"{OPT}/certbot/", "/srv/*/releases/", "/etc/*/releases/",
    "/etc/alternatives/", "/etc/ssl/", "/etc/rc*.d/", "/etc/inputrc", "/etc/python3/",
    "/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-",
    "/usr/local/lib/python3*/", "/usr/local/lib/systemd/", "/srv/plain/",
)  # fmt: skip
"""Beginnings of what a command that is described (`Made`), a package or systemd makes besides, and of the other tools'
releases; `*` is any text."""


@dataclass(frozen=True)
class Folder:
    """A folder with its owner and mode."""

    path: str
    user: str
    group: str
    mode: str


@dataclass(frozen=True)
class File:
    """A file with its owner, mode and content."""

    path: str
    user: str
    group: str
    mode: str
    content: bytes

    @property
    def is_template(self) -> bool:
        """Whether people would write it as a template: not a program, a list of hashes or a certificate."""
        return self.path.startswith("/etc/") and not self.path.endswith((".pem", ".json"))


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True)
class User:
    """A system user, with a group of the same name."""

    name: str
    uid: int
    home: str
    shell: str


@dataclass(frozen=True)
class Made:
    """What a command makes."""

    what: str
    creates: str
    """A regular file that is there once it is made."""
    command: str
    """Shell command that makes it."""


@dataclass(frozen=True)
class State:
    """The description; in each tuple what depends on another comes after it."""

    packages: tuple[str, ...]
    users: tuple[User, ...]
    folders: tuple[Folder, ...]
    files: tuple[File, ...]
    links: tuple[Link, ...]
    absent: tuple[str, ...]
    units: tuple[str, ...]
    """Enabled and active."""
    made: tuple[Made, ...]

    @property
    def count(self) -> int:
        """Number of resources, with all packages as one."""
        parts = (self.users, self.folders, self.files, self.links, self.absent, self.units, self.made)
        return 1 + sum(len(part) for part in parts)

    def afterwards(self, paths: Iterable[str]) -> dict[str, str]:
        """Of `AFTERWARDS`, what a change of one of these paths asks for."""
        changed = list(paths)
        return {begin: each for begin, each in AFTERWARDS.items() if any(path.startswith(begin) for path in changed)}


@dataclass(frozen=True)
class Present:
    """What there is on a host, in the rough: what is there now and wasn't before has come with the provisioning."""

    paths: Set[str]
    """Below `WATCHED`, without what packages bring."""
    packages: Set[str]
    """Those that somebody asked for: not those that came since another needs them."""


def present(host: Host) -> Present:
    """What there is now."""
    packaged = "cat /var/lib/dpkg/info/*.list | sort -u >/root/packaged"
    found = f"find {' '.join(WATCHED)} -xdev -not -name '*.pyc' | sort | comm -23 - /root/packaged"
    paths = host.ssh(f"export LC_ALL=C; {packaged}; {found}").splitlines()
    return Present(frozenset(paths), frozenset(host.ssh("apt-mark showmanual").splitlines()))


def came(before: Set[str], after: Set[str]) -> list[str]:
    """The paths that came with a provisioning, but for by-products."""
    return sorted(path for path in after - before if not any(fnmatch(f"{path}/", f"{each}*") for each in BY_PRODUCTS))


def read(host: Host, bare: Present) -> State:
    """The description of a host that Slipway has converged; `bare`: what there was before."""
    now = present(host)
    apps: Mapping[str, Mapping[str, Any]] = host.slipway["apps"]
    generation = host.ssh("readlink -f /etc/nginx/slipway")
    asked = {
        "trees": [
            OPT, "/etc/slipway", *(f"/etc/{app}" for app in apps), generation, "/etc/nginx/upstreams",
            "/etc/letsencrypt/renewal-hooks/deploy", "/etc/systemd/journald.conf.d",
        ],
        # What uv and certbot made is one thing each, and an earlier release's environment is history.
        "pruned": [f"{OPT}/{part}" for part in ("uv", "python", "certbot")] + [f"/etc/{app}/releases" for app in apps],
        "places": [
            "/var/lib/slipway", "/var/lib/slipway/acme", CACHE,
            *(f"{CACHE}/{part}" for part in ("sources", "git", "uv", "build")),
            "/etc/letsencrypt", "/etc/letsencrypt/renewal-hooks",
            *(place.format(app) for app in apps for place in (
                "/srv/{}", "/srv/{}/releases", "/srv/{}/current", "/var/lib/{}", "/etc/{}/releases",
            )),
            *(f"/etc/{app}/releases/{host.release(app)}.env" for app in apps),
            "/etc/nginx/slipway.d", "/etc/nginx/slipway", "/etc/nginx/nginx.conf", "/etc/localtime",
            *came(bare.paths, now.paths),
        ],
        "users": [user for app in apps for user in (app, f"_{app}")],
        "units": ["nginx.service"],
    }  # fmt: skip
    host.ssh("cat >/root/managed.py", stdin=READER.read_text())
    found = json.loads(host.ssh("python3 /root/managed.py", stdin=json.dumps(asked)))
    files = [File(**each | {"content": base64.b64decode(each["content"])}) for each in found["files"]]
    return State(
        packages=tuple(sorted(now.packages - bare.packages)),
        users=tuple(User(**each) for each in found["users"]),
        folders=tuple(sorted((Folder(**each) for each in found["folders"]), key=lambda folder: folder.path)),
        files=tuple(files),
        links=tuple(Link(**each) for each in found["links"]),
        absent=("/etc/nginx/sites-enabled/default",),
        units=tuple(sorted(found["units"], key=lambda unit: (not unit.endswith(".socket"), unit))),
        made=tuple(_made(host, found["uv"])),
    )


def _made(host: Host, uv: str) -> Iterable[Made]:
    python, apps = host.slipway["python"], host.slipway["apps"]
    folder, version = str(Path(uv).parents[1]), Path(uv).parents[1].name
    uv_bin, certbot, cache = f"{OPT}/bin/uv", f"{OPT}/certbot", f"{CACHE}/python"
    pip = f"{PIP} install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps"
    yield Made(f"uv {version}", uv, f"{pip} --target {folder} uv=={version} && ln -sfn {uv} {uv_bin}")
    listed = host.ssh(f"ls -1d {OPT}/python/cpython-{python['version']}.*")
    source = python.get("downloads_json_url")
    environment = uv_environment(host) | {"UV_CACHE_DIR": cache}
    yield Made(
        f"Python {python['version']}",
        f"{listed.splitlines()[0]}/bin/python{python['version']}",
        f"env {assignments(environment)} {'UV_PYTHON_DOWNLOADS_JSON_URL=' + shlex.quote(source) if source else ''} "
        f"{uv_bin} python install --quiet {python['version']}",
    )
    requirements = f"{certbot}-requirements.txt"
    sync = f"env UV_CACHE_DIR={cache} UV_SYSTEM_CERTS=1 {uv_bin}"
    yield Made(
        "certbot",
        f"{certbot}/requirements.txt",
        f"{sync} venv --quiet --clear --python /usr/bin/python3 {certbot} && "
        f"{sync} pip sync --quiet --require-hashes --compile-bytecode --python {certbot} {requirements} && "
        f"cp {requirements} {certbot}/requirements.txt",
    )
    for app, settings in apps.items():
        yield Made(f"the certificate of {app}", f"/etc/letsencrypt/renewal/{app}.conf", _order(app, settings))
        release = f"/srv/{app}/releases/{host.release(app)}"
        yield Made(f"the release of {app}", f"{release}/.venv/bin/gunicorn", build(host, app, release))


def uv_environment(host: Host) -> dict[str, str]:
    """Variables by which uv finds the Python that Slipway installed."""
    return {
        "UV_PYTHON_INSTALL_DIR": f"{OPT}/python",
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_MANAGED_PYTHON": "1",
        "UV_PYTHON": str(host.slipway["python"]["version"]),
        "UV_SYSTEM_CERTS": "1",
    }


def assignments(environment: Mapping[str, str]) -> str:
    """Variables as `env` takes them."""
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())


def archive_of(app: str) -> str:
    """Where a script puts an app's source, for `build`."""
    return f"{CACHE}/sources/{app}.tar.gz"


def build(host: Host, app: str, release: str) -> str:
    """The shell command that makes a release's folder from `archive_of` the app."""
    environment = assignments(uv_environment(host) | {"UV_CACHE_DIR": f"{CACHE}/uv"})
    return (
        f"mkdir -p {release} && tar -xzf {archive_of(app)} -C {release} && cd {release} && "
        f"env {environment} {OPT}/bin/uv sync --quiet --locked --no-dev --compile-bytecode && "
        f"runuser -u {app} -- env STATE_DIRECTORY=/var/lib/{app} .venv/bin/alembic upgrade head"
    )


# nginx answers the challenge from a site of its own: the one that is to come needs the certificate already.
_ORDER = """printf 'server {{ listen 80; server_name {names}; root {webroot}; }}' >/etc/nginx/sites-enabled/challenge &&
systemctl reload-or-restart nginx.service &&
env REQUESTS_CA_BUNDLE=/etc/slipway/tls/acme-ca.pem {certbot} certonly --quiet --config {config} --cert-name {app} \
{domains} && rm /etc/nginx/sites-enabled/challenge"""


def _order(app: str, settings: Mapping[str, Any]) -> str:
    domains = settings["domains"]
    return _ORDER.format(
        names=" ".join(domains),
        webroot="/var/lib/slipway/acme",
        certbot=f"{OPT}/certbot/bin/certbot",
        config=CHANGED,
        app=app,
        domains=" ".join(f"--domain {domain}" for domain in domains),
    )
