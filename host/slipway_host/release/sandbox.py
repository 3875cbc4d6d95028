"""Run code of an app: as its user in its own sandbox, or from a source that isn't trusted yet in an empty one."""

from __future__ import annotations

import os

from slipway_host.layout import LAYOUT
from slipway_host.names import PATH, SHARED_MEMORY
from slipway_host.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slipway_host.release.app import App
    from slipway_host.system import Done
    from slipway_host.systemd import Ran

IMPORT_SECONDS = 120  # for an app to be imported: a large one with a cold disk takes a few
JOURNAL_SECONDS = 10  # an app's journal ends within a few hundredths of one
LOOK_EVERY = 0.05  # seconds
PLAN_SECONDS = 60  # for reading or running a source's migrations offline, which takes one or two
PLAN_BYTES = 8_000_000  # of what that prints
# The sandbox in which a plan runs code of a source that isn't trusted yet; `sandboxed` adds the rest.
SANDBOX = (
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "MountAPIVFS=yes",
    "PrivateNetwork=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    f"ReadOnlyPaths={' '.join(f'+{path}' for path in LAYOUT.temporary)} +/run",
    f"InaccessiblePaths=-+{SHARED_MEMORY} -+/dev/mqueue -+/run/systemd/journal",  # which systemd lets in from the host
    "RestrictAddressFamilies=AF_UNIX",  # for an event loop's own pair; nobody else's are seen
    "ProtectProc=invisible",
    "ProcSubset=pid",
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
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "MemoryMax=512M",
    "MemorySwapMax=0",
    "OOMScoreAdjust=1000",
    "CPUQuota=100%",
    "TasksMax=32",
    "LimitFSIZE=0",
    "LimitCORE=0",
    f"RuntimeMaxSec={PLAN_SECONDS}",
    "TimeoutStopSec=2",
)


def as_app(
    app: App,
    release: str,
    what: str,
    argv: Sequence[str],
    seconds: float,
    told: Mapping[str, str] | None = None,
    said: str = "",
) -> Ran:
    """Run a command as the app's user, with the release's environment and folder, in the app's own sandbox.

    The unit's name is fixed: two can't run at once, and heal.py finds one that was left. If a time-out or a signal
    ended it, the output says so.

    + what: one of layout's HELPERS, or a name for a plan
    + seconds: that it may take
    + told: more environment variables, without secrets
    + said: its standard input
    """
    unit, venv = app.at.helper(what), app.at.venv(release)
    properties = [
        *app.wanted["sandbox"],
        f"EnvironmentFile={app.at.env(release)}",
        f"WorkingDirectory={app.work(release)}",
    ]
    environment = {"PATH": f"{app.at.programs(release)}:{PATH}", "VIRTUAL_ENV": str(venv), **(told or {})}
    # Nothing was started: the app's own journal, which the last of these needed alone, is just about to end.
    again = f"Failed to start transient service unit: Transaction for {unit}.service/start is destructive"
    until = app.system.clock() + JOURNAL_SECONDS
    while True:
        done = app.systemd.run(unit, properties, environment, argv, seconds, said=said, heard=app.progress.heard)
        if not done.output.startswith(again) or app.system.clock() > until:
            break
        app.system.sleep(LOOK_EVERY)
    if done.ended and done.ended.result == "timeout":
        done.output += f"\nIt was ended after {seconds:g} s."
    elif done.ended and done.ended.signal:
        done.output += f"\n{killed_by(done.ended.signal, app.at.user)}"
    return done


def killed_by(signal: str, user: str) -> str:
    """The message for a program of an app that a signal ended.

    + signal: its name
    """
    return (
        f"It was killed by {signal}, which Slipway didn't send: another process of the user {user} may have "
        f"(`ps -u {user}`), or the kernel for want of memory (`journalctl -k`). If what serves was taken over, "
        f"--stop-first ends every process of {user} before the new release is tried; requests are lost until it serves."
    )


def sandboxed(
    app: App, release: str, folder: Path, argv: Sequence[str], environment: Mapping[str, str], said: str = ""
) -> Done:
    """Run a command on a source that isn't trusted yet, with a release's packages, in an empty sandbox.

    It sees only the system's programs, those packages, and the source. It can't write, reaches no network and no
    socket, and runs as a user of its own. It is in the app's group to read those files, and sees no other file of that
    group.

    + folder: has the source, as ``source``
    + environment: all its variables, without secrets
    + said: its standard input
    """
    root, venv = folder / "root", app.at.venv(release)
    for name in ("usr", "proc", "sys", "dev", "run", "tmp", "var/tmp", "etc", "source"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    shown = ["-/etc/ld.so.cache", f"-{LAYOUT.zone}"]
    shown += ["/usr", str(app.system.layout.opt), f"{venv.resolve()}:{venv}", f"{folder / 'source'}:/source"]
    properties = [
        f"RootDirectory={root}",
        f"BindReadOnlyPaths={' '.join(shown)}",
        f"WorkingDirectory=/source/{app.wanted['source']['subdir']}",
        f"SupplementaryGroups={app.at.group}",
        *SANDBOX,
    ]
    given = {"LC_ALL": "C.UTF-8", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    given |= {"PATH": f"{app.at.programs(release)}:/usr/bin:/bin", "VIRTUAL_ENV": str(venv)}
    unit = app.at.helper(f"plan-{os.getpid()}")
    command = transient(unit, properties, given, argv)
    try:
        return app.system.run(*command, check=False, seconds=2 * PLAN_SECONDS, most=PLAN_BYTES, said=said)
    finally:
        app.systemd.ctl("stop", f"{unit}.service", check=False)  # one whose reader has gone
