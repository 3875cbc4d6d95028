"""What every host has: packages, time zone, name, and a journal that can't fill the disk."""

from __future__ import annotations

from pyinfra.operations import files, server

from roles import _operations as operations
from roles._role import role
from roles._templates import render
from roles.settings import Settings

PACKAGES = (
    "ca-certificates",
    "git",
    "logrotate",
    "nginx",
    "openssh-client",
    "openssl",
    "python3",
    "python3-pip",
    "tzdata",
)
"""logrotate keeps nginx's logs small (Debian's nginx brings the rules, but doesn't ask for it), python3 runs the host
programs, pip fetches uv by its hash, openssl makes self-signed certificates."""
JOURNAL = "/etc/systemd/journald.conf.d/50-slipway.conf"
FOLDERS = {
    "/opt/slipway": "755",
    "/opt/slipway/bin": "755",
    "/etc/slipway": "755",
    "/var/lib/slipway": "755",
    "/var/cache/slipway": "755",
    "/var/cache/slipway/sources": "700",
    "/var/cache/slipway/git": "700",
    "/etc/systemd/journald.conf.d": "755",
}


@role("Base")
def base(settings: Settings) -> None:
    """Packages, folders, time zone, host name and journal."""
    operations.apt_packages(name="Install packages", packages=[*PACKAGES, *settings.packages])
    for path, mode in FOLDERS.items():
        files.directory(name=f"Create {path}", path=path, user="root", group="root", mode=mode)
    zone, file = settings.timezone, f"/usr/share/zoneinfo/{settings.timezone}"
    operations.command_unless(
        name=f"Set the time zone to {zone}",
        satisfied=operations.script('[ ! -e "$1" ] || [ ! /etc/localtime -ef "$1" ] || echo same', file),
        commands=[f"test -e {file}", f"ln -sfn {file} /etc/localtime", f"echo {zone} >/etc/timezone"],
        why=f"the time zone is {zone}",
    )
    if settings.hostname:
        # First where it resolves, or every sudo in between waits for DNS.
        operations.command_unless(
            name=f"Let {settings.hostname} resolve on the host itself",
            satisfied=f"! grep -qwF {settings.hostname} /etc/hosts || echo known",
            commands=[f"echo 127.0.1.1 {settings.hostname} >>/etc/hosts"],
            why=f"/etc/hosts knows {settings.hostname}",
        )
        server.hostname(name=f"Name the host {settings.hostname}", hostname=settings.hostname)
    operations.file(
        name="Cap the journal's size", path=JOURNAL, content=render("base/journald.conf.j2", settings=settings)
    )
    operations.restart_if_stale(
        name="Restart the journal with its cap", unit="systemd-journald.service", paths=(JOURNAL,)
    )
