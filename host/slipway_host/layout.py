"""Every path and every unit's name that Slipway has on a host; both sides take them from here.

A path is a `Path` below a root, which is ``/`` but in tests.
"""

from __future__ import annotations

from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("socket", "service")
"""The units of a release, in the order in which they are started."""
HELPERS = ("build", "check", "schema", "hook", "migrate")
"""What the steps of a release run in units of their own."""
NGINX = "nginx"
"""nginx's unit."""
INTERNAL = "slipway.internal"
"""Server name under which nginx tells what it serves, to ITSELF alone (templates/nginx/internal.conf.j2)."""
ITSELF = "127.83.76.87"
"""Address from which the host's own programs ask nginx: no proxy on the host comes from there."""
SSHD, SSHD_SOCKET = "ssh.service", "ssh.socket"
SSHD_PROGRAM = "/usr/sbin/sshd"
FIREWALL = "slipway-firewall.service"
TABLE = ("table", "inet", "slipway")
"""The firewall's table, as nft names it."""
REVERT = "slipway-access-revert"
"""Name, without its kind, of the units that take back an unconfirmed change of the ways in."""
SSHD_OUTSIDE = "slipway-access-sshd"
"""Beginning of the name of the units in which sshd is reloaded for a program that is shut off from what that takes."""
BUILDS = "builds.slice"
SHELL = "/bin/bash"
"""The operator's."""
UNIX_SOCKETS = Path("/proc/net/unix")
"""The kernel's own list."""
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs of the system are looked for."""

ENDS = ("drain", "retire")
"""What is left to be done with a release that no longer serves: to wait for its last requests, and to end it."""


class Layout:
    """The paths of a host."""

    def __init__(self, root: str | Path = "/") -> None:
        """`root`: the host's; a test has a folder in its place."""
        self.root = root = Path(root)
        # Programs and what they run with: root's, readable by all.
        self.opt = root / "opt/slipway"
        self.bin = self.opt / "bin"
        self.versions = self.opt / "host"
        """A folder for each version of this package."""
        self.lib = self.versions / "current"
        """Link to the version that is started from now on: has the package."""
        self.program = self.bin / "slipway"
        self.schema_program = self.lib / "slipway_host/schema/__main__.py"
        """What a release's own Python runs to look at a database's schema, and to change it."""
        self.uv = self.bin / "uv"
        self.uv_versions = self.opt / "uv"
        self.pythons = self.opt / "python"
        self.certbot = self.opt / "certbot"
        self.certbot_program = self.certbot / "bin/certbot"
        self.gunicorn = self.opt / "gunicorn.conf.py"
        # State: records, and what isn't confirmed yet.
        self.state = root / "var/lib/slipway"
        self.format = self.state / "format.json"
        self.access = self.state / "access"
        self.pending = self.access / "pending.json"
        self.webroot = self.state / "acme"
        self.challenges = self.webroot / ".well-known/acme-challenge"
        # Caches, which may be emptied.
        self.cache = root / "var/cache/slipway"
        self.mirrors = self.cache / "git"
        self.sources = self.cache / "sources"
        # Locks, and runs under way: root's alone.
        self.run = root / "run/slipway"
        self.ended = self.run / ".ended"
        self.seen = self.run / ".seen"
        self.nginx_lock = self.run / "nginx.lock"
        self.access_lock = self.run / "access.lock"
        self.install_lock = self.run / "install.lock"
        self.format_lock = self.run / "format.lock"
        # Settings of Slipway's own.
        self.etc = root / "etc/slipway"
        self.build_rules = self.etc / "builds.nft"
        self.firewall_rules = self.etc / "firewall.nft"
        self.app_rules = self.etc / "apps"
        self.tls = self.etc / "tls"
        self.certbot_ini = self.tls / "certbot.ini"
        # What others have their place for.
        self.units = root / "etc/systemd/system"
        self.warm_units = root / "run/systemd/system"
        self.plans = root / "var/tmp"
        self.proc = root / "proc"
        self.temporary = (root / "tmp", self.plans)
        """Where any program may leave files."""
        self.resolver = root / "etc/resolv.conf"
        self.apps = root / "srv"
        self.nginx = root / "etc/nginx"
        self.nginx_main = self.nginx / "nginx.conf"
        self.nginx_before = self.nginx / "nginx.conf.before-slipway"
        self.nginx_live = self.nginx / "slipway"
        self.sites = self.nginx_live / "sites"
        self.nginx_generations = self.nginx / "slipway.d"
        self.upstreams = self.nginx / "upstreams"
        self.nginx_unit = "nginx.service"
        self.nginx_pid = root / "run/nginx.pid"
        self.nginx_errors = root / "var/log/nginx/error.log"
        self.letsencrypt = root / "etc/letsencrypt"
        self.renewals = self.letsencrypt / "renewal"
        self.set_aside = self.letsencrypt / "set-aside"
        self.certbot_log = root / "var/log/letsencrypt/letsencrypt.log"
        self.ssh = root / "etc/ssh"
        self.sshd_config = self.ssh / "sshd_config"
        self.moduli = self.ssh / "moduli"
        self.sshd_private = root / "run/sshd"
        self.proc = root / "proc"

    def app(self, name: str) -> AppLayout:
        """The paths and units of an app."""
        return AppLayout(self, name)

    def wanted_apps(self) -> list[str]:
        """Names of the apps for which something is wanted."""
        return sorted(path.parent.name for path in (self.root / "etc").glob("*/release.json"))

    def site(self, app: str) -> Path:
        """nginx's configuration of an app's site, in the generation that serves."""
        return self.sites / f"{app}.conf"

    def upstream(self, app: str) -> Path:
        """nginx's file that names the release of an app which serves."""
        return self.upstreams / f"{app}.conf"

    def renewal(self, name: str) -> Path:
        """What certbot knows of a certificate that it keeps under this name."""
        return self.renewals / f"{name}.conf"

    def certbot_archive(self, name: str) -> Path:
        """certbot's folder of all keys and certificates that it had under this name."""
        return self.letsencrypt / "archive" / name

    def certificate(self, name: str) -> Path:
        """The certificate itself, with those that vouch for it."""
        return self.letsencrypt / "live" / name / "fullchain.pem"

    def host_key(self, kind: str) -> Path:
        """sshd's private key of a kind, ``ed25519`` say; the public one is beside it."""
        return self.ssh / f"ssh_host_{kind}_key"


class AppLayout:
    """The paths and units of one app."""

    def __init__(self, host: Layout, name: str) -> None:
        """`host`: that of the host; `name`: of the app."""
        self.host, self.name = host, name
        self.user = self.group = name
        self.builder = f"_{name}"
        """Who builds: it runs code of the app and of its dependencies."""
        self.etc = host.root / "etc" / name
        self.environment = self.etc / "env"
        self.build_environment = self.etc / "build.env"
        self.wanted = self.etc / "release.json"
        self.environments = self.etc / "releases"
        self.srv = host.apps / name
        self.releases = self.srv / "releases"
        self.current = self.srv / "current"
        """Link to the release that serves: the one truth."""
        self.home = host.root / "var/lib" / name
        self.records = host.state / name
        self.cache = host.cache / name
        self.uv_cache = self.cache / "uv"
        self.builder_home = self.cache / "home"
        self.mirror = host.mirrors / f"{name}.git"
        self.lock = host.run / f"{name}.lock"
        self.runs = host.run / name
        self.seen = host.seen / name
        self.sockets = host.root / "run" / name
        self.run_unit = f"{name}-release.service"
        self.helpers = [f"{name}-{what}.service" for what in HELPERS]
        self.plan_unit = f"{name}-planning"
        """How the names of the units begin, without their kind, in which it is planned."""
        self.plan = f"slipway-plan-{name}-"
        """How the names of the folders begin that its plans unpack a source to."""

    def folder(self, release: str) -> Path:
        """Code and environment of a release."""
        return self.releases / release

    def venv(self, release: str) -> Path:
        """A release's own Python environment."""
        return self.folder(release) / ".venv"

    def partial(self, release: str) -> Path:
        """An environment that is to become a release's."""
        return self.releases / f".{release}.partial"

    def env(self, release: str) -> Path:
        """The file with a release's environment variables."""
        return self.environments / f"{release}.env"

    def socket(self, release: str) -> Path:
        """The socket of a release, which is nginx's alone."""
        return self.sockets / f"{release}.sock"

    def unit(self, release: str, kind: str) -> str:
        """Name of a unit of a release; `kind` is one of KINDS."""
        return f"{self.name}@{release}.{kind}"

    def units(self, release: str) -> list[str]:
        """Names of the units of a release."""
        return [self.unit(release, kind) for kind in KINDS]

    def released(self, paths: Iterable[Path]) -> set[str]:
        """Ids of the releases that these unit files are of."""
        return {path.name[len(self.name) + 1 : path.name.rindex(".")] for path in paths}

    def helper(self, what: str) -> str:
        """Name, without its kind, of the unit in which a step runs something of the app's."""
        return f"{self.name}-{what}"

    def later(self, what: str, release: str) -> str:
        """Name, without its kind, of the unit that ends a release later on; `what` is ``drain`` or ``retire``."""
        return f"{self.name}-{what}-{release}"

    def record(self, attempt: str) -> Path:
        """What became of a release or a rollback."""
        return self.records / f"{attempt}.json"

    def log(self, attempt: str) -> Path:
        """What a release or a rollback said."""
        return self.records / f"{attempt}.log"

    def manifest(self, release: str) -> Path:
        """The files of a release, each with its size and digest."""
        return self.records / f"{release}.manifest"

    def ends(self, release: str) -> list[str]:
        """Names of the units that end a release later on: one that waits, and two that are at it."""
        return [f"{self.later('retire', release)}.timer", *(f"{self.later(what, release)}.service" for what in ENDS)]

    def archive(self, commit: str) -> Path:
        """A source that came with a request."""
        return self.host.sources / f"{self.name}.{commit}.tar.gz"
