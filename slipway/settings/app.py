"""One app: its settings, and everything that follows from them."""

from __future__ import annotations

import posixpath
import shlex
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import PrivateAttr
from slipway_host import lockfiles
from slipway_host.layout import LAYOUT, AppLayout
from slipway_host.names import CERTIFICATE, KEY, KINDS
from slipway_host.wanted import is_good

from slipway import person
from slipway.servers import SERVERS, Server
from slipway.settings import environment
from slipway.settings.app_options import AppOptions
from slipway.settings.nginx import StaticSettings
from slipway.settings.source import FolderSource, GitSource

UPLOADS = 40 * 2**20
"""Bytes of large uploads that one client may have nginx keep at once, unless two of them come to more."""


_at = cache(LAYOUT.app)
"""They are asked for often."""


class Unit(NamedTuple):
    """Names of the systemd units of one release."""

    service: str
    """The app's server, with the release's workers."""
    socket: str
    """The socket it inherits; it stays while the service restarts."""


class AppSettings(AppOptions):
    """One app: its options, and every name, path and value that follows from them."""

    _name: str = PrivateAttr("")
    _environment: dict[str, str] = PrivateAttr(default_factory=dict)
    _host_python: str = PrivateAttr("3.13")
    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def runs_under(self) -> Server:
        """The server that its setting `server` names."""
        return SERVERS[self.server]

    # On the host. Users, units and folders carry the app's name; the layout has each.

    @property
    def name(self) -> str:
        """The app's name: its key in ``apps``."""
        return self._name

    @property
    def at(self) -> AppLayout:
        """Its paths and units."""
        return _at(self._name)

    @property
    def main_domain(self) -> str:
        """The domain that the host itself asks for: the first; a wildcard's ``*`` stands for www."""
        return self.domains[0].replace("*", "www")

    @property
    def public_url(self) -> str:
        """Where the app is reached from outside, without a slash at the end; http:// with tls mode "off"."""
        return f"{'http' if self.tls.mode == 'off' else 'https'}://{self.main_domain}"

    @property
    def user(self) -> str:
        """System user that the app runs as; it can't log in."""
        return self.at.user

    @property
    def builder(self) -> str:
        """System user that builds the app's releases. No app's name begins with an underscore."""
        return self.at.builder

    @property
    def cache(self) -> str:
        """Folder of what builds of the app keep for later ones, the builder's home among it."""
        return str(self.at.cache)

    @property
    def builder_home(self) -> str:
        """The builder's home."""
        return str(self.at.builder_home)

    @property
    def slice(self) -> str:
        """systemd's slice of all that runs for the app."""
        return self.at.slice

    @property
    def group(self) -> str:
        """The user's own group."""
        return self.at.group

    @property
    def home(self) -> str:
        """Home and StateDirectory: the only place where the app can write, /tmp excepted."""
        return str(self.at.home)

    @property
    def config_dir(self) -> str:
        """Folder of the app's configuration, 0750 root:<app>."""
        return str(self.at.etc)

    @property
    def env_path(self) -> str:
        """Environment file of the service, 0640 root:<app>."""
        return str(self.at.environment)

    @property
    def release_config_path(self) -> str:
        """What the host's release program is told about the app."""
        return str(self.at.wanted)

    @property
    def deploy_key_path(self) -> str:
        """The deploy key on the host."""
        return str(self.at.deploy_key)

    @property
    def known_hosts_path(self) -> str:
        """known_hosts file for the app's repository on the host."""
        return str(self.at.known_hosts)

    @property
    def root(self) -> str:
        """Folder of the app's code, root's."""
        return str(self.at.srv)

    @property
    def releases_dir(self) -> str:
        """Folder with one folder a release."""
        return str(self.at.releases)

    @property
    def current_link(self) -> str:
        """Link to the release that serves."""
        return str(self.at.current)

    @property
    def run_dir(self) -> str:
        """Folder of the releases' sockets."""
        return str(self.at.sockets)

    def socket_path(self, release_id: str) -> str:
        """Unix socket of one release."""
        return str(self.at.socket(release_id))

    def unit(self, release_id: str) -> Unit:
        """Names of the units of one release; with an empty id, those of the template units."""
        return Unit(**{kind: self.at.unit(release_id, kind) for kind in KINDS})

    @property
    def upstream_path(self) -> str:
        """nginx's upstream of the app: which socket gets the requests."""
        return str(LAYOUT.upstream(self._name))

    @cached_property
    def certificate_path(self) -> str | None:
        """Certificate chain on the host; None without TLS."""
        return self._tls_path(CERTIFICATE)

    @cached_property
    def key_path(self) -> str | None:
        """Private key of the certificate on the host; None without TLS."""
        return self._tls_path(KEY)

    def _tls_path(self, name: str) -> str | None:
        if self.tls.mode == "off":
            return None
        folder = LAYOUT.certificate(self._name).parent if self.tls.mode == "acme" else self.at.tls
        return str(folder / name)

    @property
    def python_version(self) -> str:
        """The app's own Python version, or the host's."""
        return self.python or self._host_python

    @property
    def migrate_command(self) -> list[str] | None:
        """The words of a migration command of the user's own; None for "auto" and for none."""
        return None if self.migrate in (None, "auto") else shlex.split(self.migrate or "")

    @property
    def drain_seconds(self) -> int:
        """Seconds that requests to the old release may still take: ``drain_timeout``, or none with a scheduler."""
        return 0 if self.scheduler_in_web else self.drain_timeout

    @property
    def warm_seconds(self) -> int:
        """Seconds that the old release's processes stay: ``keep_warm``, or none with a scheduler."""
        return 0 if self.scheduler_in_web else self.keep_warm

    @property
    def statement_timeout(self) -> int:
        """Seconds one statement of a migration may take: ``migrate_statement_timeout``, or ``migrate_timeout``."""
        return self.migrate_timeout if self.migrate_statement_timeout is None else self.migrate_statement_timeout

    @property
    def answer_headers(self) -> dict[str, str]:
        """Name → value of the headers that nginx adds to every answer."""
        found = {field.replace("_", "-").title(): value for field, value in self.headers}
        if self.tls.mode == "self-signed" or (self.tls.mode == "off" and not self.trusted_proxies):
            del found["Strict-Transport-Security"]
        return {name: value for name, value in found.items() if value is not None}

    @property
    def bodies_per_client(self) -> dict[str, int]:
        """Least size of a body, as nginx.conf.j2 names it → how many of it one client may have under way."""
        number, unit = self.max_body_size.rstrip("kmg"), self.max_body_size[-1]
        size = int(number) * {"k": 2**10, "m": 2**20, "g": 2**30}.get(unit, 1)
        fitting = min(UPLOADS // size, 65_535) if size else 0  # the most that nginx takes
        large = self.uploads_per_client or max(fitting, 2)
        return {"5m": large, "1m": max(large, 6), "10k": max(large, 16)}

    @property
    def readiness(self) -> str:
        """The path that tells whether the app can serve."""
        return self.readiness_path or self.liveness_path or "/"

    @property
    def liveness(self) -> str:
        """The path that tells whether the app lives."""
        return self.liveness_path or self.readiness_path or "/"

    @property
    def has_health(self) -> bool:
        """Whether one of these paths is set. Otherwise any answer below 500 is good."""
        return self.readiness_path is not None or self.liveness_path is not None

    def is_good(self, status: int) -> bool:
        """Whether an answer with this status is good on these paths."""
        return is_good(status, strict=self.has_health)

    @property
    def probe_paths(self) -> list[str]:
        """Paths of the probe's quick requests: its ``short``, or the liveness path."""
        return list(self.probe.short) or [self.liveness]

    # Files.

    @property
    def statics(self) -> list[StaticSettings]:
        """Folders that nginx serves itself."""
        return [] if self.static is None else [self.static] if isinstance(self.static, StaticSettings) else self.static

    def shared_with(self, path: str) -> str | None:
        """The folder of ``shared`` that this path is or lies in; None: the path is part of a release."""
        return next((each for each in self.shared if f"{path}/".startswith(f"{each}/")), None)

    @property
    def writable_files(self) -> list[str]:
        """Files of ``shared_files`` that the app writes."""
        return [path for path, file in self.shared_files.items() if isinstance(file, dict)]

    @property
    def given_files(self) -> dict[str, Path]:
        """Path in the app's folder → local file of which each release gets a copy."""
        named = {path: self.local(file) for path, file in self.shared_files.items() if isinstance(file, str)}
        return {path: file for path, file in named.items() if file is not None}

    # Environment.

    @property
    def environment(self) -> dict[str, str]:
        """``env`` and ``env_file`` in one, with DATABASE_URL rewritten for ``database_driver``.

        Without what only the host or a release knows: WEB_CONCURRENCY, PORT, RELEASE_ID, HOME and STATE_DIRECTORY.
        """
        merged = {name: environment.plain_text(value) for name, value in self.env.items()} | self._environment
        if self.database_driver is not None and "DATABASE_URL" in merged:
            merged |= environment.database_urls(merged["DATABASE_URL"], self.database_driver)
        return merged

    @property
    def build_environment(self) -> dict[str, str]:
        """The variables of ``build_env`` from ``env_file``, with their values."""
        return {name: self._environment[name] for name in self.build_env if name in self._environment}

    @property
    def plain_build_environment(self) -> dict[str, str]:
        """The variables of ``build_env`` from ``env``."""
        return {name: environment.plain_text(self.env[name]) for name in self.build_env if name in self.env}

    @property
    def secret_names(self) -> frozenset[str]:
        """Variables whose values no output may show: those of ``env_file``, and DATABASE_URL in both forms."""
        return frozenset({*self._environment, "DATABASE_URL", "DATABASE_URL_SYNC"} & self.environment.keys())

    @property
    def secret_values(self) -> frozenset[str]:
        """Their values, and those that ``env_file`` has of them."""
        return frozenset({*self._environment.values(), *map(self.environment.__getitem__, self.secret_names)} - {""})

    # On the operator's machine; a relative path of the inventory is relative to its folder.

    def local(self, name: str | None) -> Path | None:
        """A file that the inventory names, on this machine; None for none."""
        return None if name is None else (self._folder / person.expanded(name)).resolve()

    @cached_property
    def source_dir(self) -> Path | None:
        """Local folder to upload; None for a git source."""
        return self.local(self.source.path) if isinstance(self.source, FolderSource) else None

    @cached_property
    def app_dir(self) -> Path | None:
        """Local folder of the app itself: ``source_dir`` with ``subdir``; None for a git source."""
        return None if self.source_dir is None else self.source_dir / self.source.subdir

    @property
    def lock_file(self) -> Path | None:
        """Local lock file: the named one, or the one that is found; None if there is none."""
        if self.source_dir is None:
            return None
        if self.dependencies.lock is not None:
            path = posixpath.normpath(posixpath.join(self.source.subdir, self.dependencies.lock))
            return self.source_dir / path if (self.source_dir / path).is_file() else None
        found = lockfiles.found(self.source.subdir, self.content, hashes=self.dependencies.hashes)
        return None if found is None else self.source_dir / found

    def content(self, path: str) -> bytes | None:
        """Content of a file of a local source; None if there is no such file, or it can't be read."""
        try:
            return None if self.source_dir is None else (self.source_dir / path).read_bytes()
        except OSError:
            return None

    @property
    def env_local(self) -> Path | None:
        """Local .env file."""
        return self.local(self.env_file)

    @property
    def deploy_key_local(self) -> Path | None:
        """Local deploy key."""
        return self.local(self.source.deploy_key) if isinstance(self.source, GitSource) else None

    @property
    def known_hosts_local(self) -> Path | None:
        """Local known_hosts file for the repository."""
        return self.local(self.source.known_hosts) if isinstance(self.source, GitSource) else None

    @property
    def dependencies_key_local(self) -> Path | None:
        """Local key that reads repositories of dependencies."""
        return self.local(self.dependencies.deploy_key)

    @property
    def dependencies_hosts_local(self) -> Path | None:
        """Local known_hosts file of those repositories."""
        return self.local(self.dependencies.known_hosts)

    @property
    def certificate_local(self) -> Path | None:
        """Local certificate chain (mode "files")."""
        return self.local(self.tls.certificate)

    @property
    def key_local(self) -> Path | None:
        """Local private key (mode "files")."""
        return self.local(self.tls.key)

    @property
    def nginx_extra_local(self) -> Path | None:
        """Local file with nginx directives for the server block."""
        return self.local(self.nginx_extra)
