"""An app on the host: its users, its folders, and the environment and units of its releases."""

from __future__ import annotations

from typing import Any

from slipway_host.layout import LAYOUT

from roles import firewall, limits, ssh
from roles.processes import PROCESSES
from roles.processes.jobs import job_units
from roles.ssh.facts import SshdState
from slipway.engine import operations, plan
from slipway.engine.overview import HostOverview
from slipway.engine.place import Account, Folder, place
from slipway.engine.role import role
from slipway.settings import AppSettings, Settings, placeholder

MEMORY_PER_WORKER_MB = 150
"""A FastAPI app with SQLAlchemy takes 70 to 120 MB a worker."""

LOCKED = (
    LAYOUT.apt,
    LAYOUT.dpkg,
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/log/lastlog",
    "/var/log/wtmp",
)
"""What root's programs and logins lock: whoever can read it can do that as well, and hold them up."""
SHUT_OFF = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "PrivateUsers=yes",
    "PrivateIPC=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    # Of terminals the kernel has a number for all.
    f"InaccessiblePaths={' '.join(f'-{path}' for path in LOCKED)} -/dev/ptmx -/dev/pts",
)
"""Lines of the sandbox of every app and every build."""
RUN = (
    # Not a /run of its own: databases remake their folders there when they restart, and what was bound would be the
    # old one.
    "ReadOnlyPaths=/run",
    # The bus and sshd have a number of places for those who are yet to say who they are, whoever that is.
    "InaccessiblePaths=-/run/dbus -/run/ssh-unix-local -/run/utmp",
    # Here, the journals of other apps and what systemd hears from all services. LogNamespace brings the app's own.
    "TemporaryFileSystem=/run/systemd:ro,mode=755",
    "BindReadOnlyPaths=-/run/systemd/resolve",
)
"""The host's services that an app can reach: sockets of databases and the like. A build reaches none."""
SYSTEM_CALLS = (
    "SystemCallFilter=@system-service",
    # io_uring makes sockets of every family, past what this unit is allowed.
    "SystemCallFilter=~@privileged @resources io_uring_setup io_uring_enter io_uring_register",
    # A call that is refused fails, as it would for lack of a privilege, rather than killing the worker.
    "SystemCallErrorNumber=EPERM",
)
"""The system calls of a service; a server needs no others, because systemd has made its socket."""
NETWORK = {
    # By netlink, programs ask for the host's addresses and interfaces.
    "internet": ("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",),
    "unix": ("RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"),
}
"""sandbox.network → the unit's lines. nginx reaches the app by a Unix socket in any case."""


def worker_count(app: AppSettings, overview: HostOverview, apps: int) -> int:
    """Workers of one of `apps` apps: as set, else one a core, bounded by memory.

    An async worker keeps a core busy by itself, so more of them than cores gain nothing; two at least, so that one
    that hangs doesn't stop the site. Half of the memory, shared by the apps, is theirs, and is needed twice while
    two releases overlap.
    """
    if app.scheduler_in_web:
        return 1
    if app.workers is not None:
        return app.workers
    by_memory = overview.memory_mb // 2 // apps // (2 * MEMORY_PER_WORKER_MB)
    return max(1, min(max(2, overview.cores), by_memory))


def sandbox(app: AppSettings) -> list[str]:
    """The unit's lines for the user and the sandbox of a release and its migration."""
    return [
        f"User={app.user}",
        f"Group={app.group}",
        f"UMask={app.umask}",
        f"StateDirectory={app.name}",
        "StateDirectoryMode=0750",
        *SHUT_OFF,
        *RUN,
        f"Slice={app.slice}",
        # What it writes can't push out others' entries, nor pass for theirs.
        f"LogNamespace={app.name}",
        limits.shared_memory(app.limits.shm_mb),
        *limits.temporary(app),
        *(["ProcSubset=pid"] if app.sandbox.hide_system else []),
        *(["MemoryDenyWriteExecute=yes"] if app.sandbox.memory_deny_write_execute else []),
        *(SYSTEM_CALLS if app.sandbox.filter_system_calls else []),
        *NETWORK[app.sandbox.network],
        *([f"ReadWritePaths=-{app.at.shared}"] if app.shared or app.writable_files else []),
    ]


def build_sandbox(overview: HostOverview) -> list[str]:
    """The unit's lines for the sandbox of any build: it runs code of the app's dependencies.

    It is the app's sandbox, with what compilers need in addition, and with less of shared resources: when apps and the
    host's services need the processors, a build gets a tenth.
    """
    return [
        "UMask=0077",
        *SHUT_OFF,
        "PrivateTmp=yes",
        *SYSTEM_CALLS,
        "RestrictAddressFamilies=AF_INET AF_INET6",
        *limits.of_build(overview),
        # What is left when its program ends is ended at once.
        "KillSignal=SIGKILL",
        "LimitCORE=0",
    ]


def environment(app: AppSettings, workers: int) -> dict[str, str]:
    """Environment of the app's process; RELEASE_ID is added for each release."""
    # What the app prints is in its journal at once.
    return (
        {"PYTHONUNBUFFERED": "1"}
        | app.environment
        | {"WEB_CONCURRENCY": str(workers)}
        | ({"PORT": str(app.port)} if app.port else {})
    )


def placeholders(app: AppSettings, workers: int) -> dict[str, str]:
    """The same for code of a new source that a plan runs: secrets are replaced by placeholders."""
    given = environment(app, workers)
    return {name: placeholder(value) if name in app.secret_names else value for name, value in given.items()}


def units(app: AppSettings, workers: int) -> dict[str, str]:
    """The units of a release: kind → text, where ``@RELEASE@`` stands for its id."""
    lines = sandbox(app)
    return {kind: text for process in PROCESSES for kind, text in process(app, workers, lines).items()}


def jobs(app: AppSettings) -> dict[str, dict[str, Any]]:
    """The app's jobs (wanted.Job), with their units."""
    lines = sandbox(app)
    return {
        name: {"command": job.argv, "calendar": job.calendars, "units": job_units(app, name, job, lines)}
        for name, job in app.jobs.items()
    }


def accounts(app: AppSettings) -> list[Account]:
    """The app's users, in this order: once its builder is there, what has the app's names is the app's."""
    return [Account(app.builder, app.builder_home), Account(app.user, app.home)]


def folders(app: AppSettings) -> dict[str, Folder]:
    """Path → folder of the app's, each after the one above it."""
    return {
        app.config_dir: Folder("750", "root", app.group),
        str(app.at.environments): Folder("750", "root", app.group),
        app.root: Folder(),
        app.releases_dir: Folder(),
        app.home: Folder("750", app.user, app.group),
        app.cache: Folder(),
        app.builder_home: Folder("700", app.builder, app.builder),
        str(app.at.uv_cache): Folder("700", app.builder, app.builder),
    }


@role("App")
def app(settings: Settings, overview: HostOverview) -> None:
    """Users and folders of each app. roles/release makes its environment and its releases."""
    apps = settings.apps.values()
    place(
        name="Give each app its users and folders",
        accounts=[account for each in apps for account in accounts(each)],
        folders={path: folder for each in apps for path, folder in folders(each).items()},
    )
    bounds = limits.files(settings, overview, ssh.ports(settings, plan.known(SshdState)))
    filtered = firewall.of_apps(settings) if settings.firewall.enabled else {}
    place(
        name="Write down what apps may take, and builds reach",
        folders={path.rpartition("/")[0]: Folder() for path in limits.JOURNALS}
        | ({firewall.APPS: Folder()} if filtered else {}),
        files={**bounds, **firewall.of_builds(settings), **filtered},
    )
    units = [path.rpartition("/")[2] for path in bounds if path.endswith(".slice")]
    units += [unit for each in apps for unit in (each.at.journal_unit, each.at.journal_sync)]
    operations.units_reread(name="Let systemd go by that", units=units, files=tuple(bounds))
    journals = {each.at.journal_unit: limits.journal(each) for each in apps}
    operations.restart_if_stale(name="Restart the apps' journals with their limits", files=journals)
    if filtered:
        known = {each.name: (each.user, each.port) for each in apps}
        firewall.knows_apps(name="Let the firewall know the apps", apps=known)
