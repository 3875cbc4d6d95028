"""Access to the host: the operator's account, sshd and the firewall, as one change that can't lock anybody out."""

from __future__ import annotations

from pathlib import PurePosixPath

from slipway_host.layout import LAYOUT

from roles import firewall, operator, ssh
from roles.access.operations import Wanted, ways_in
from roles.ssh.facts import Sshd
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.role import role
from slipway.engine.templates import render
from slipway.settings import Settings

REVERT, BOOT, FIREWALL = str(LAYOUT.revert), str(LAYOUT.revert_at_boot), str(LAYOUT.firewall)
WANTS = str(LAYOUT.early)


def _at_boot(unit: str) -> str:
    """The link that lets systemd start a unit early."""
    return str(LAYOUT.early / PurePosixPath(unit).name)


def packages(settings: Settings) -> list[str]:
    """Debian packages for access."""
    asked = [*firewall.PACKAGES] if settings.firewall.enabled else []
    return asked + ([*operator.PACKAGES] if settings.operator.user else [])


@role("Access")
def access(settings: Settings, overview: HostOverview) -> None:
    """The operator's account, sshd and the firewall: proven by a new connection, or reverted."""
    keys, home = operator.authorized_keys(settings, overview.users), operator.home(settings, overview.users)
    units = {
        REVERT: File(render("access/revert.service.j2", home=home)),
        BOOT: File(render("access/boot.service.j2", home=home)),
    }
    links = {_at_boot(BOOT): BOOT}
    if settings.firewall.enabled:
        units[FIREWALL] = File(render("firewall/firewall.service.j2"))
        links[_at_boot(FIREWALL)] = FIREWALL
    place(
        name="Write the units that revert a change",
        folders={WANTS: Folder()},
        files=units,
        links=links,
    )

    def wanted(sshd: Sshd) -> Wanted:
        ports = ssh.ports(settings, sshd)
        return Wanted(
            files={
                **operator.files(settings, overview.users),
                **firewall.files(settings, ports),
                **ssh.files(settings, sshd),
            },
            sshd=ssh.expected(settings, sshd) if settings.ssh.enabled else [],
            host_keys=ssh.HOST_KEYS if settings.ssh.enabled else {},
            ports=ports,
        )

    asked = [*ssh.PATHS, firewall.TABLE, *([operator.SUDOERS, keys] if keys else [])]
    ways_in(
        name="Change access, proven by a new connection",
        wanted=wanted,
        paths=tuple(asked),
        account=settings.operator.user,
        harden=settings.ssh.enabled,
        filtered=settings.firewall.enabled,
    )
