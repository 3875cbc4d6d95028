"""An app's place on the host: its user, its folders, and the environment and the units that its releases get."""

from __future__ import annotations

from roles._facts import HostOverview
from roles._place import Account, Folder, place
from roles._role import role
from roles._templates import render
from roles.settings import AppSettings, Settings, placeholder

MEMORY_PER_WORKER_MB = 150
"""A FastAPI app with SQLAlchemy takes 70 to 120 MB a worker."""

SYSTEM_CALLS = (
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    # A call that is refused fails, as it would for lack of a privilege, rather than killing the worker.
    "SystemCallErrorNumber=EPERM",
)
"""The system calls of a service; Gunicorn, uvloop and httptools need no others once systemd made the socket."""
NETWORK = {
    "internet": ("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",),
    "unix": ("RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"),
}
"""What an app may talk to: sandbox.network → the unit's lines. nginx reaches it by a Unix socket either way."""


def worker_count(app: AppSettings, overview: HostOverview, apps: int) -> int:
    """Gunicorn's workers for one of `apps` apps: as set, else one a core, bounded by memory.

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
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
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
        *(["ProcSubset=pid"] if app.sandbox.hide_system else []),
        *(["MemoryDenyWriteExecute=yes"] if app.sandbox.memory_deny_write_execute else []),
        *(SYSTEM_CALLS if app.sandbox.filter_system_calls else []),
        *NETWORK[app.sandbox.network],
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
    values = {"app": app, "workers": workers, "subdir": app.source.subdir, "sandbox": sandbox(app)}
    return {kind: render(f"app/app.{kind}.j2", **values) for kind in ("socket", "service")}


@role("App")
def app(settings: Settings) -> None:
    """User and folders of each app; its environment and its releases are made by roles/release.py."""
    for each in settings.apps.values():
        place(
            name=f"Give {each.name} its user and folders",
            accounts=[Account(each.user, each.home)],
            folders={
                each.config_dir: Folder("750", "root", each.group),
                f"{each.config_dir}/releases": Folder("750", "root", each.group),
                each.root: Folder(),
                each.releases_dir: Folder(),
                each.home: Folder("750", each.user, each.group),
            },
        )
