"""Security updates by themselves, programs that take them on without losing a request, and word of a due reboot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pyinfra import host, logger

from roles import _operations as operations
from roles import _plan as plan
from roles._facts import Answer, HostOverview
from roles._place import File, Folder, place
from roles._plan import Ask, Commands
from roles._role import role
from roles._system import place_unless_foreign
from roles._templates import host_file, render
from slipway.settings import Settings

PERIODIC = "/etc/apt/apt.conf.d/20auto-upgrades"
UNATTENDED = "/etc/apt/apt.conf.d/52slipway"
NEEDRESTART = "/etc/needrestart/conf.d/slipway.conf"
HAND_OVER = "/etc/needrestart/restart.d/nginx.service"
POLICY = "/usr/sbin/policy-rc.d"
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
    hooks = ("/etc/needrestart", "/etc/needrestart/conf.d", "/etc/needrestart/restart.d")
    place(
        name="Write how updates are installed",
        folders={"/etc/apt/apt.conf.d": Folder()}
        | (dict.fromkeys(hooks, Folder()) if settings.updates.restart else {}),
        files=files(settings, overview),
    )
    place_unless_foreign(
        name="Let an update of nginx lose no request", path=POLICY, file=File(host_file("updates/policy-rc.d"), "755")
    )
    if settings.updates.automatic:
        for timer in TIMERS:
            operations.unit_enabled(name=f"Enable {timer}", unit=timer)


# The file is Debian's and Ubuntu's sign; a kernel that was installed before anything wrote it shows by its being newer
# than the one that runs, of the same flavour. An app's process that has a library open which was replaced since says
# "(deleted)" in its maps; $@ are the apps' users.
_DUE = r"""
if [ -e /run/reboot-required ]; then
    echo "reboot=$(sort -u /run/reboot-required.pkgs 2>/dev/null | paste -sd , | sed 's/,/, /g')"
else
    running=$(uname -r) flavour=${running##*[0-9]-}
    there=$(ls /boot 2>/dev/null | sed -n "s/^vmlinuz-\(.*-$flavour\)$/\1/p")
    newest=$(printf '%s\n' "$running" $there | sort -V | tail -n 1)
    [ "$newest" = "$running" ] || echo "reboot=linux $newest"
fi
for user do
    for pid in $(pgrep -u "$user" 2>/dev/null); do
        grep -qs '\.so[^/]* (deleted)$' "/proc/$pid/maps" || continue
        echo "old=$user"; break
    done
done
"""


def _due(window: str | None, apps: Sequence[str]) -> Iterator[Ask]:
    yield plan.asking(Answer, question=operations.shell_line(_DUE, *apps))


@plan.operation(_due)
def tell_due(window: str | None, apps: Sequence[str]) -> Commands:
    """Say what takes effect by a reboot or a restart only, of all that was updated; change nothing.

    + window: time of day when the host reboots by itself
    + apps: users that apps run as
    """
    ((fact, arguments),) = _due(window, apps)
    told = plan.known(fact, **dict(arguments))
    if not plan.planning() and plan.changed("package"):
        told = host.get_fact(fact, **dict(arguments))
    lines = [line.partition("=") for line in str(told).splitlines()]
    for why in (value for key, _, value in lines if key == "reboot"):
        what = f" ({why})" if why else ""
        when = f"it does so by itself at {window}" if window else "choose a quiet moment: `systemctl reboot`"
        plan.say(f"{host.name} needs a reboot for an update to take effect{what}; {when}", logger.warning)
    if old := [value for key, _, value in lines if key == "old"]:
        what = "an update replaced; its next release takes them on, or in a quiet moment `systemctl restart 'APP@*'`"
        plan.say(f"{' and '.join(old)} still run with libraries that {what}", logger.warning)
    host.noop("a reboot or a restart is due" if lines else "neither a reboot nor a restart is due")
    return
    yield


@role("Updates")
def due(settings: Settings) -> None:
    """Say, at the end of a run, if the host needs a reboot, or an app a restart."""
    users = [app.user for app in settings.apps.values()]
    tell_due(name="Tell whether a reboot or a restart is due", window=settings.updates.reboot, apps=users)
