"""An app's place on the host: its users, its folders, and the environment and the units that its releases get."""

from __future__ import annotations

from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT

from roles import firewall, limits, ssh
from roles.ssh.facts import SshdState
from slipway.engine import operations, plan
from slipway.engine.overview import HostOverview
from slipway.engine.place import Account, Folder, place
from slipway.engine.plan import Change
from slipway.engine.role import role
from slipway.engine.templates import render
from slipway.servers import SERVER, Process
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
"""What every app and every build is shut off from."""
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
"""What an app sees of the host's services: the sockets of databases and their like. A build sees nothing there."""
SYSTEM_CALLS = (
    "SystemCallFilter=@system-service",
    # io_uring makes sockets of every family, past what this unit is allowed.
    "SystemCallFilter=~@privileged @resources io_uring_setup io_uring_enter io_uring_register",
    # A call that is refused fails, as it would for lack of a privilege, rather than killing the worker.
    "SystemCallErrorNumber=EPERM",
)
"""The system calls of a service; a server needs no others once systemd made its socket."""
NETWORK = {
    "internet": ("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",),
    "unix": ("RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"),
}
"""What an app may talk to: sandbox.network → the unit's lines. nginx reaches it by a Unix socket either way."""


def worker_count(app: AppSettings, overview: HostOverview, apps: int) -> int:
    """Workers of one of `apps` apps: as set, else one a core, bounded by memory.

    An async worker keeps a core busy by itself, so more of them than cores gain nothing; two at least, so that one
    that hangs doesn't stop the site. Half of the memory, shared by the apps, is theirs, and is needed twice while
    two releases overlap.
    """
    if app.workers is not None:
        return app.workers
    by_memory = overview.memory_mb // 2 // apps // (2 * MEMORY_PER_WORKER_MB)
    return max(1, min(max(2, overview.cores), by_memory))


def sandbox(app: AppSettings) -> list[str]:
    """The unit's lines that decide as whom, and shut off from what, a release (and its migration) runs."""
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
    ]


def build_sandbox(overview: HostOverview) -> list[str]:
    """The unit's lines that shut off a build, whatever app's: it runs code of the app's dependencies.

    It has the app's sandbox, but for what compilers need, and less of everything that others need as well: where apps
    and the host's services want the processors, a tenth of them.
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
    """What the app's process gets; RELEASE_ID is added for each release."""
    return app.environment | {"WEB_CONCURRENCY": str(workers)} | ({"PORT": str(app.port)} if app.port else {})


def placeholders(app: AppSettings, workers: int) -> dict[str, str]:
    """The same for what a plan runs of a new source: a secret has something of its kind in its place."""
    given = environment(app, workers)
    return {name: placeholder(value) if name in app.secret_names else value for name, value in given.items()}


def units(app: AppSettings, workers: int) -> dict[str, str]:
    """The socket and the service of a release, where ``@RELEASE@`` stands for its id."""
    process = Process(
        app=app.app,
        programs=str(app.at.programs("@RELEASE@")),
        workers=workers,
        timeout=app.timeout,
        graceful_timeout=app.graceful_timeout,
        keep_alive=app.keep_alive,
        max_requests=app.max_requests,
        max_requests_jitter=app.max_requests_jitter,
    )
    values = {
        "app": app,
        "server": SERVER.service(process),
        "subdir": app.source.subdir,
        "sandbox": sandbox(app),
    }
    return {kind: render(f"app/app.{kind}.j2", **values) for kind in ("socket", "service")}


@role("App")
def app(settings: Settings, overview: HostOverview) -> None:
    """Users and folders of each app; its environment and its releases are made by roles/release."""
    for each in settings.apps.values():
        place(
            name=f"Give {each.name} its users and folders",
            # In this order: once its builder is there, what has the app's names is the app's.
            accounts=[Account(each.builder, each.builder_home), Account(each.user, each.home)],
            folders={
                each.config_dir: Folder("750", "root", each.group),
                str(each.at.environments): Folder("750", "root", each.group),
                each.root: Folder(),
                each.releases_dir: Folder(),
                each.home: Folder("750", each.user, each.group),
                each.cache: Folder(),
                each.builder_home: Folder("700", each.builder, each.builder),
                str(each.at.uv_cache): Folder("700", each.builder, each.builder),
            },
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
    units += [unit for each in settings.apps.values() for unit in (each.at.journal_unit, each.at.journal_sync)]
    operations.units_reread(name="Let systemd go by that", units=units, files=tuple(bounds))
    for each in settings.apps.values():
        operations.restart_if_stale(
            name=f"Restart the journal of {each.name} with its limit",
            unit=each.at.journal_unit,
            paths=(limits.journal(each),),
        )
        if filtered:
            operations.command_unless(
                name=f"Let the firewall know {each.name}",
                satisfied=firewall.knows(each),
                command=StringCommand("nft", "-f", str(each.at.rules)),
                change=Change("firewall", each.name, "load", note="what it may have open to this host is bounded"),
                why="it knows its user",
            )
