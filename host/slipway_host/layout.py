"""Every path and unit name that Slipway uses on a host. Both sides take them from here.

A path is a `Path` below a root, which is ``/`` except in tests.
"""

from __future__ import annotations

from pathlib import Path

from slipway_host.names import (
    BUILD,
    BUILDS,
    CERTIFICATE,
    CLAIMED,
    DEBSUMS,
    ENDS,
    FIREWALL,
    HELPERS,
    JOURNAL,
    NGINX,
    OWN,
    RENEWAL,
    REVERT,
    REVERT_AT_BOOT,
    SSHD,
    TIMED,
    VENV,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Layout:
    """The paths of a host."""

    def __init__(self, root: str | Path = "/") -> None:
        """`root`: of the host; a test gives a folder."""
        self.root = root = Path(root)
        # Programs and what they run with: root's, readable by all.
        self.opt = root / "opt/slipway"
        self.bin = self.opt / "bin"
        self.versions = self.opt / "host"
        """A folder for each version of this package."""
        self.lib = self.versions / "current"
        """Link to the version that starts from now on; it has the package."""
        self.program = self.bin / "slipway"
        self.schema_program = self.lib / "slipway_host/schema/__main__.py"
        """The program by which a release's own Python reads and changes a database's schema."""
        self.pins_program = self.lib / "slipway_host/pins.py"
        """The program by which a release's own Python reads the lock files of Poetry and PDM."""
        self.former_lib = self.opt / "lib"
        self.former_schema = self.bin / "slipway-schema"
        """What runs of Slipway 0.1 loaded, and started with a release's own Python."""
        self.build_keys = root / "run/slipway-build"
        """Where a build sees its SSH key, in its own /run; nothing is there on the host."""
        self.uv = self.bin / "uv"
        self.uv_versions = self.opt / "uv"
        self.pythons = self.opt / "python"
        self.certbot = self.opt / "certbot"
        self.certbot_program = self.certbot / "bin/certbot"
        self.certbot_installed = self.certbot / "requirements.txt"
        """What it was made of, once it is whole."""
        self.certbot_requirements = self.opt / "certbot-requirements.txt"
        self.gunicorn = self.opt / "gunicorn.conf.py"
        self.servers = self.opt / "servers"
        """What apps' servers share."""
        self.look_program = self.servers / "slipway_look.py"
        """The program by which a release's own Python finds its application, and tells what kind it is."""
        self.look_modules = (self.servers / "slipway_hints.py", self.servers / "slipway_search.py")
        """What it is made of besides."""
        # State: records, and what isn't confirmed yet.
        self.data = root / "var/lib"
        """A folder for each app, and for many others."""
        self.state = self.data / "slipway"
        self.format = self.state / "format.json"
        self.access = self.state / "access"
        self.pending = self.access / "pending.json"
        self.pam_left = self.state / "pam-left"
        """Digest of PAM's configuration that pam-auth-update left as it was, since it was changed by hand."""
        self.webroot = self.state / "acme"
        self.challenges = self.webroot / ".well-known/acme-challenge"
        # Caches, which may be emptied.
        self.cache = root / "var/cache/slipway"
        self.mirrors = self.cache / "git"
        self.sources = self.cache / "sources"
        self.seen = self.cache / ".seen"
        """How releases' files looked when they were last found whole: as many paths as they have files."""
        self.former_cache = self.cache / "uv"
        """Of Slipway 0.1: uv's, of all apps' builds."""
        self.python_cache = self.cache / "python"
        """uv's, of what root installs: Pythons and certbot."""
        # Locks, and runs under way: root's alone.
        self.run = root / "run/slipway"
        self.ended = self.run / ".ended"
        self.certificates = self.run / ".certificates"
        """What was read of certbot's."""
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
        self.acme_ca = self.tls / "acme-ca.pem"
        # What others have their place for.
        self.apps = root / "srv"
        self.homes = root / "home"
        self.plans = root / "var/tmp"
        self.temporary = (root / "tmp", self.plans)
        """Where any program may leave files."""
        self.proc = root / "proc"
        # systemd
        self.units = root / "etc/systemd/system"
        self.warm_units = root / "run/systemd/system"
        self.transient_units = root / "run/systemd/transient"
        self.packaged_units = root / "usr/lib/systemd/system"
        self.early = self.units / "sysinit.target.wants"
        self.revert, self.revert_at_boot = self.units / f"{REVERT}.service", self.units / REVERT_AT_BOOT
        self.firewall, self.builds = self.units / FIREWALL, self.units / BUILDS
        self.renewal_units = {kind: self.units / f"{RENEWAL}.{kind}" for kind in TIMED}
        self.debsums = {kind: self.units / f"{DEBSUMS}.{kind}" for kind in TIMED}
        self.journal = root / "etc/systemd/journald.conf.d" / OWN
        self.journal_starts, self.journal_syncs = (
            self.units / f"{JOURNAL}{what}@.service.d" / OWN for what in ("", "-sync")
        )
        """Of all apps' own journals."""
        self.core_dumps = root / "etc/systemd/coredump.conf.d" / OWN
        # The system
        self.resolver = root / "etc/resolv.conf"
        self.hosts, self.zone_name, self.zone = root / "etc/hosts", root / "etc/timezone", root / "etc/localtime"
        self.zones = root / "usr/share/zoneinfo"
        self.sysctl = root / "etc/sysctl.d/60-slipway.conf"
        self.protected_links = root / "etc/sysctl.d/99-protect-links.conf"
        self.modules = root / "etc/modprobe.d/slipway.conf"
        self.limits = root / "etc/security/limits.d/90-slipway.conf"
        self.profile = root / "etc/profile.d/slipway.sh"
        self.logins = root / "etc/login.defs"
        self.banners = (root / "etc/issue", root / "etc/issue.net")
        self.users = root / "etc/passwd"
        self.sudoers = root / "etc/sudoers.d"
        self.operator_sudoers = self.sudoers / "slipway-operator"
        self.pam, self.pam_profiles = root / "etc/pam.d", root / "usr/share/pam-configs"
        self.pam_history = self.pam_profiles / "slipway-history"
        self.pam_tries, self.pam_tries_end = (self.pam_profiles / f"slipway-{what}" for what in ("tries", "tries-end"))
        self.swap = root / "swapfile"
        self.swap_unit = self.units / f"{self.swap.name}.swap"
        """systemd.swap(5): a unit is called after its file."""
        self.swap_lock = root / "run/swapfile.lock"
        # Packages
        self.dpkg, self.apt = self.data / "dpkg", self.data / "apt"
        self.apt_settings = root / "etc/apt/apt.conf.d"
        self.periodic, self.unattended = self.apt_settings / "20auto-upgrades", self.apt_settings / "52slipway"
        self.restarts = root / "etc/needrestart/conf.d/slipway.conf"
        self.nginx_restart = root / "etc/needrestart/restart.d/nginx.service"
        self.policy = root / "usr/sbin/policy-rc.d"
        # nginx
        self.nginx = root / "etc/nginx"
        self.nginx_main = self.nginx / "nginx.conf"
        self.nginx_before = self.nginx / "nginx.conf.before-slipway"
        self.nginx_live = self.nginx / "slipway"
        self.sites = self.nginx_live / "sites"
        self.nginx_extra = self.nginx_live / "extra/http.conf"
        self.nginx_upload_types = self.nginx_live / "upload-types.conf"
        self.nginx_internal = self.nginx_live / "internal.conf"
        self.nginx_generations = self.nginx / "slipway.d"
        self.nginx_target = f"{self.nginx_live.name}/{self.nginx_main.name}"
        """Where nginx's main file points once it is ours."""
        self.upstreams = self.nginx / "upstreams"
        self.nginx_sites = self.nginx / "sites-enabled"
        """Others'."""
        self.nginx_unit = f"{NGINX}.service"
        self.nginx_sandbox = self.units / f"{self.nginx_unit}.d" / OWN
        self.nginx_pid = root / "run/nginx.pid"
        self.nginx_logs = root / "var/log/nginx"
        self.nginx_errors = self.nginx_logs / "error.log"
        # certbot
        self.letsencrypt = root / "etc/letsencrypt"
        self.renewals = self.letsencrypt / "renewal"
        self.renewal_hook = self.letsencrypt / "renewal-hooks/deploy/50-slipway-nginx"
        self.set_aside = self.letsencrypt / "set-aside"
        self.certbot_log = root / "var/log/letsencrypt/letsencrypt.log"
        # sshd
        self.ssh = root / "etc/ssh"
        self.sshd_config = self.ssh / "sshd_config"
        self.sshd_drop_in = self.ssh / "sshd_config.d/00-slipway.conf"
        self.sshd_included = self.ssh / "slipway.conf"
        self.sshd_restart = self.units / f"{SSHD}.d" / OWN
        self.moduli, self.long_moduli = self.ssh / "moduli", self.ssh / "slipway.moduli"
        self.sshd_private = root / "run/sshd"

    def app(self, name: str) -> AppLayout:
        """The paths and units of an app."""
        return AppLayout(self, name)

    def wanted_apps(self) -> list[str]:
        """Names of the apps for which something is wanted."""
        return sorted(path.parent.name for path in (self.root / "etc").glob("*/release.json"))

    def former(self, name: str) -> Path:
        """A program of Slipway 0.1."""
        return self.bin / f"slipway-{name}"

    def uv_program(self, version: str) -> Path:
        """uv's own file, to which there is a link."""
        return self.uv_versions / version / "bin/uv"

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
        return self.letsencrypt / "live" / name / CERTIFICATE

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
        self.build_environment = self.etc / BUILD
        self.wanted = self.etc / "release.json"
        self.environments = self.etc / "releases"
        self.deploy_key = self.etc / "deploy_key"
        self.known_hosts = self.etc / "known_hosts"
        self.seen_hosts = self.etc / "known_hosts.seen"
        self.dependencies_key = self.etc / "dependencies_key"
        self.dependencies_hosts = self.etc / "dependencies_known_hosts"
        self.srv = host.apps / name
        self.releases = self.srv / "releases"
        self.current = self.srv / "current"
        """Link to the release that serves. It alone decides."""
        self.shared, self.secret_files = self.srv / "shared", self.etc / "files"
        """What outlives releases, in folders of the app's own; what each release gets a copy of, root's alone."""
        self.home = host.data / name
        self.records = host.state / name
        self.cache = host.cache / name
        self.uv_cache = self.cache / "uv"
        self.builder_home = self.cache / "home"
        self.uv_config = self.cache / "config"
        """Folder of settings for uv's builds: root's, and they set nothing."""
        self.mirror = host.mirrors / f"{name}.git"
        self.jobs = self.records / "jobs"
        """What its jobs run with, and how they ended; root's alone."""
        self.started = host.run / f"{name}.started"
        """Has a file for each release whose processes may run since this boot, though nginx doesn't name it."""
        self.lock = host.run / f"{name}.lock"
        self.mirror_lock = host.run / f"{name}.mirror.lock"
        self.runs = host.run / name
        self.seen = host.seen / name
        self.sockets = host.root / "run" / name
        self.tls = host.tls / name
        """A certificate that isn't certbot's."""
        self.rules = host.app_rules / f"{name}.nft"
        # Of nginx's configuration, and its logs.
        self.proxying = host.nginx_live / f"proxy/{name}.conf"
        self.headers = host.nginx_live / f"headers/{name}.conf"
        self.static_headers, self.upload_headers = (
            host.nginx_live / f"headers/{kind}/{name}.conf" for kind in ("static", "uploads")
        )
        self.errors = host.nginx_live / f"errors/{name}.conf"
        self.extra = host.nginx_live / f"extra/{name}.conf"
        self.access_log, self.error_log = (host.nginx_logs / f"{name}.{kind}.log" for kind in ("access", "error"))
        # Units.
        self.slice = f"app-{name.replace('-', '_')}.slice"
        """Slice of all units of the app. A hyphen in it would make it part of another app's."""
        self.journal_unit, self.journal_sync = (f"{JOURNAL}{what}@{name}.service" for what in ("", "-sync"))
        self.journal = host.root / f"etc/systemd/journald@{name}.conf"
        self.run_unit = f"{name}-release.service"
        self.helpers = [f"{name}-{what}.service" for what in HELPERS]
        self.claimed = [f"{name}{kind}" for kind in CLAIMED]
        self.plan_unit = f"{name}-planning"
        """How the names of the units begin that plan its releases."""
        self.plan = f"slipway-plan-{name}-"
        """How the names of the folders begin to which a plan unpacks a source."""

    def folder(self, release: str) -> Path:
        """Code and environment of a release."""
        return self.releases / release

    def venv(self, release: str) -> Path:
        """A release's own Python environment."""
        return self.folder(release) / VENV

    def programs(self, release: str) -> Path:
        """Programs of its environment."""
        return self.venv(release) / "bin"

    def partial(self, release: str) -> Path:
        """An environment that is to become a release's."""
        return self.releases / f".{release}.partial"

    def env(self, release: str) -> Path:
        """The file with a release's environment variables."""
        return self.environments / f"{release}.env"

    def secret_file(self, path: str) -> Path:
        """A secret file, by its path in the app's folder."""
        return self.secret_files / path.replace("/", "@")  # which no such path has

    def socket(self, release: str) -> Path:
        """The socket of a release, which is nginx's alone."""
        return self.sockets / f"{release}.sock"

    def unit(self, release: str, kind: str) -> str:
        """Name of a unit of a release.

        + kind: one of KINDS; of another process, that one's name before it, as in ``worker.service``
        """
        process, dot, kind = kind.rpartition(".")
        return f"{self.name}{dot}{process}@{release}.{kind}"  # no app has a dot in its name

    def job(self, name: str, kind: str) -> str:
        """Name of a unit of a job: it is of the release that serves, whichever that is."""
        return f"{self.name}.job-{name}.{kind}"

    def released(self, paths: Iterable[Path]) -> set[str]:
        """Ids of the releases that these unit files are of."""
        return {path.name.partition("@")[2].rpartition(".")[0] for path in paths}

    def helper(self, what: str) -> str:
        """Name, without its kind, of a unit in which a step runs the app's code."""
        return f"{self.name}-{what}"

    def later(self, what: str, release: str) -> str:
        """Name, without its kind, of the unit that ends a release later on; `what` is ``drain`` or ``retire``."""
        return f"{self.name}-{what}-{release}"

    def record(self, record_id: str) -> Path:
        """The record of a release or a rollback."""
        return self.records / f"{record_id}.json"

    def log(self, record_id: str) -> Path:
        """The log of a release or a rollback."""
        return self.records / f"{record_id}.log"

    def manifest(self, release: str) -> Path:
        """The files of a release, each with its size and digest."""
        return self.records / f"{release}.manifest"

    def ends(self, release: str) -> list[str]:
        """Names of the units that end a release later: the timer, and the two services that do it."""
        return [f"{self.later('retire', release)}.timer", *(f"{self.later(what, release)}.service" for what in ENDS)]

    def archive(self, commit: str) -> Path:
        """A source that came with a request."""
        return self.host.sources / f"{self.name}.{commit}.tar.gz"


LAYOUT = Layout()
"""The paths of any host, as it sees them itself."""
