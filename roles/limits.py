"""Limits of apps and builds, so that none can starve another."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_host.layout import LAYOUT
from slipway_host.names import BUILDS, SHARED_MEMORY

from slipway.engine.overview import HostOverview
from slipway.engine.place import File
from slipway.engine.templates import render
from slipway.settings import AppSettings, Settings

BUILD_MEMORY = 0.75
"""Part of the host's memory that a build may use; the rest is for the kernel and for serving. Swap isn't counted."""
BUILD_TASKS = 1024
"""Processes and threads of a build; a compiler takes a few for each core."""
BUILD_SHM_MB = 64
LOWEST_FREE_PORT = 1024
"""The first port on which every user may listen."""
TMP_FILES = 65_536
"""Files in an app's own /tmp."""
JOURNALS = (str(LAYOUT.journal_starts), str(LAYOUT.journal_syncs))
"""Drop-ins of the units that bring an app its own journal."""
SHM_FILES = 16_384
"""Files in an app's own /dev/shm: each uses memory of the kernel, even an empty one."""


def memory_mb(app: AppSettings, overview: HostOverview, apps: int) -> int:
    """MB that one of `apps` apps may take: as set, else by the host's.

    More than a fair share, since few need theirs at the same time; less than all, so that none can take the others'.
    """
    return app.limits.memory_mb or int(overview.memory_mb * 1.6 / (apps + 1))


def shared_memory(megabytes: int) -> str:
    """The unit's line for a /dev/shm of its own; the host's has no limit that counts files."""
    return f"TemporaryFileSystem={SHARED_MEMORY}:nosuid,nodev,mode=1777,size={megabytes}M,nr_inodes={SHM_FILES}"


def temporary(app: AppSettings) -> list[str]:
    """The unit's lines for a /tmp and a /var/tmp of its own: those of the host are full for all when they are full."""
    size = f"{app.limits.tmp_mb}M" if app.limits.tmp_mb else "25%"
    options = f"nosuid,nodev,mode=1777,size={size},nr_inodes={TMP_FILES}"
    return [f"TemporaryFileSystem={path}:{options}" for path in LAYOUT.temporary]


def of_build(overview: HostOverview) -> list[str]:
    """The lines of a build's unit."""
    return [
        f"Slice={BUILDS}",
        f"MemoryMax={int(overview.memory_mb * BUILD_MEMORY)}M",
        f"MemorySwapMax={int(overview.memory_mb * BUILD_MEMORY)}M",
        f"TasksMax={BUILD_TASKS}",
        shared_memory(BUILD_SHM_MB),
        "OOMScoreAdjust=500",
        "OOMPolicy=kill",
    ]


def journal(app: AppSettings) -> str:
    """Configuration of the app's own journal (systemd-journald@.service)."""
    return str(app.at.journal)


def files(settings: Settings, overview: HostOverview, ssh_ports: Sequence[int] = ()) -> dict[str, File]:
    """Path → file: the slices that bound apps and builds, and the journal of each app with what keeps it there.

    + ssh_ports: sshd's; an app has no right to those below 1024 anyway
    """
    high = [port for port in ssh_ports if port >= LOWEST_FREE_PORT]
    made = {str(LAYOUT.builds): File(render("limits/builds.slice.j2", ssh_ports=high))}
    made |= {path: File(render("limits/journal.service.j2")) for path in JOURNALS}
    for app in settings.apps.values():
        memory = memory_mb(app, overview, len(settings.apps))
        unit = str(LAYOUT.units / app.slice)
        made[unit] = File(render("limits/app.slice.j2", app=app, memory_mb=memory, ssh_ports=high))
        made[journal(app)] = File(render("limits/journald.conf.j2", app=app))
    return made
