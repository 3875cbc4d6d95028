"""What every host has: packages, time zone, name, and a journal that can't fill the disk."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_host.layout import LAYOUT
from slipway_host.names import JOURNAL as UNIT

from roles import access, system, updates
from roles.base.operations import apt_packages
from slipway.engine import operations
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.plan import Change
from slipway.engine.program import Program
from slipway.engine.role import role
from slipway.engine.templates import render
from slipway.settings import Settings

FIRST = ("ca-certificates", "python3", "python3-pip-whl")
"""What fetching uv takes. pip is used as the wheel that Debian keeps for virtual environments: nothing of it, nor
of setuptools, gets into the system's Python, and 3 s of byte-compiling are saved."""
PACKAGES = (*FIRST, "git", "logrotate", "nftables", "nginx", "openssh-client", "openssl", "tzdata")
"""logrotate keeps nginx's logs small (Debian's nginx brings the rules, but doesn't ask for it), python3 runs the host
programs, nftables keeps builds off this host's services, pip fetches uv by its hash, openssl makes self-signed
certificates."""
NODE = ("nodejs", "npm")
"""For builds of apps that ask for it."""
BROTLI = ("libnginx-mod-http-brotli-static",)
"""nginx's module for files that were compressed before; the one that compresses itself is another."""
JOURNAL = str(LAYOUT.journal)
FOLDERS = {
    str(LAYOUT.opt): Folder(),
    str(LAYOUT.bin): Folder(),
    str(LAYOUT.etc): Folder(),
    str(LAYOUT.state): Folder(),
    str(LAYOUT.cache): Folder(),
    str(LAYOUT.sources): Folder("700"),
    str(LAYOUT.mirrors): Folder("700"),
    str(LAYOUT.journal.parent): Folder(),
}
# $1 zone
_ZONE = f"""
set -eu
test -e "{LAYOUT.zones}/$1"
umask 022
ln -sfn "{LAYOUT.zones}/$1" {LAYOUT.zone}
echo "$1" >{LAYOUT.zone_name}
"""
# $1 name: first where it resolves, or every sudo in between waits for DNS
_NAME = f"""
set -eu
grep -qwF "$1" {LAYOUT.hosts} || echo "127.0.1.1 $1" >>{LAYOUT.hosts}
hostnamectl set-hostname "$1"
"""


@role("Base")
def base(settings: Settings, overview: HostOverview, programs: Sequence[Program] = ()) -> None:
    """Folders, packages (those of all roles at once), time zone, host name and journal.

    + programs: other roles' that can be installed while packages are, each after what it needs
    """
    files = {JOURNAL: File(render("base/journald.conf.j2", settings=settings))}
    files |= {path: file for program in programs for path, file in program.files.items()}
    place(name="Make folders, and cap the journal", folders=FOLDERS, files=files)
    of_roles = [*access.packages(settings), *system.packages(settings, overview), *updates.packages(settings)]
    node = NODE if any(app.node for app in settings.apps.values()) else ()
    brotli = BROTLI if settings.nginx.brotli else ()
    packages = list(dict.fromkeys([*PACKAGES, *of_roles, *node, *brotli, *settings.packages]))
    apt_packages(name="Install packages", packages=packages, first=FIRST, meanwhile=programs)
    zone, file = settings.timezone, f"{LAYOUT.zones}/{settings.timezone}"
    operations.command_unless(
        name=f"Set the time zone to {zone}",
        satisfied=operations.shell_line(f'[ ! -e "$1" ] || [ ! {LAYOUT.zone} -ef "$1" ] || echo same', file),
        command=operations.shell(_ZONE, zone),
        change=Change("setting", f"time zone {zone}", "set"),
        why=f"the time zone is {zone}",
    )
    if settings.hostname:
        known = f'! grep -qwF "$1" {LAYOUT.hosts} || [ "$(hostname)" != "$1" ] || echo named'
        operations.command_unless(
            name=f"Name the host {settings.hostname}",
            satisfied=operations.shell_line(known, settings.hostname),
            command=operations.shell(_NAME, settings.hostname),
            change=Change("setting", f"host name {settings.hostname}", "set"),
            why=f"the host is called {settings.hostname}",
        )
    operations.restart_if_stale(name="Restart the journal with its cap", files={f"{UNIT}.service": JOURNAL})
