"""Security updates by themselves, programs that take them on without losing a request, and word of a due reboot."""

from __future__ import annotations

import re

from slipway_host.layout import LAYOUT

from roles.updates.operations import place_unless_foreign, tell_due
from slipway.engine import operations
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.role import role
from slipway.engine.templates import host_file, render
from slipway.settings import Settings

PERIODIC = str(LAYOUT.periodic)
UNATTENDED = str(LAYOUT.unattended)
NEEDRESTART = str(LAYOUT.restarts)
HAND_OVER = str(LAYOUT.nginx_restart)
POLICY = str(LAYOUT.policy)
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
ORIGINS = {
    "debian": (
        "origin=Debian,codename=${distro_codename},label=Debian",
        "origin=Debian,codename=${distro_codename}-security,label=Debian-Security",
    ),
    "ubuntu": ("origin=Ubuntu,archive=${distro_codename}-security",),
}
"""Distribution → what is installed by itself: security updates, and Debian's point releases, which hold those too."""


def packages(settings: Settings) -> list[str]:
    """Those that this role needs."""
    updates = settings.updates
    return ["unattended-upgrades"] * updates.automatic + ["needrestart"] * updates.restart


def files(settings: Settings, overview: HostOverview) -> dict[str, File | None]:
    """Path → file, or None where it must not be there."""
    updates = settings.updates
    origins = [*ORIGINS[overview.distribution], *updates.origins]
    unattended = render("updates/52slipway.j2", updates=updates, origins=origins)
    apps = [re.escape(name) for name in settings.apps]
    needrestart = render("updates/needrestart.conf.j2", updates=updates, apps=apps)
    return {
        PERIODIC: File(render("updates/20auto-upgrades.j2", updates=updates)),
        UNATTENDED: File(unattended) if updates.automatic else None,
        NEEDRESTART: File(needrestart) if updates.restart else None,
        HAND_OVER: File(host_file("updates/nginx.service"), "755") if updates.restart else None,
    }


@role("Updates")
def updates(settings: Settings, overview: HostOverview) -> None:
    """unattended-upgrades and needrestart."""
    hooks = [str(each) for each in (LAYOUT.restarts.parents[1], LAYOUT.restarts.parent, LAYOUT.nginx_restart.parent)]
    place(
        name="Write how updates are installed",
        folders={str(LAYOUT.apt_settings): Folder()}
        | (dict.fromkeys(hooks, Folder()) if settings.updates.restart else {}),
        files=files(settings, overview),
    )
    place_unless_foreign(
        name="Let an update of nginx lose no request", path=POLICY, file=File(host_file("updates/policy-rc.d"), "755")
    )
    if settings.updates.automatic:
        for timer in TIMERS:
            operations.unit_enabled(name=f"Enable {timer}", unit=timer)


@role("Updates")
def due(settings: Settings) -> None:
    """Say, at the end of a run, if the host needs a reboot, or an app a restart."""
    users = [app.user for app in settings.apps.values()]
    tell_due(name="Tell whether a reboot or a restart is due", window=settings.updates.reboot, apps=users)
