"""Refuse a host that Slipway can't make a production host of, before anything on it is changed."""

from __future__ import annotations

import time

from pyinfra import host
from pyinfra.api.exceptions import PyinfraError
from slipway_host import VERSION
from slipway_host.layout import LAYOUT
from slipway_host.protocol import FORMAT

from roles.python import uv_hashes
from slipway.engine.overview import HostOverview, Overview
from slipway.settings import AppSettings, RunOptions, Settings, chosen

SUPPORTED = ("debian 12", "debian 13", "ubuntu 24.04")
"""Distributions whose Python, nginx and systemd are new enough: Python 3.11, nginx 1.22, systemd 252."""
ARCHITECTURES = ("x86_64", "aarch64")
MEMORY_MB = 400
"""A machine that is sold with 512 MB shows its kernel's share less."""
DISK_MB = 1024
"""Python, the tools and two releases of a small app take about 700 MB."""
CLOCK_SECONDS = 300
"""Beyond this, certificates and package signatures are refused as not yet or no longer valid."""


class PreflightError(PyinfraError):
    """The host can't be provisioned; the message names each reason and what to do."""


def problems(found: HostOverview, settings: Settings, now: float) -> list[str]:
    """Each reason, with what was expected, what was found and what to do, why the host is refused.

    + now: the operator's clock, in seconds since 1970
    """
    reasons = []
    if found.name not in SUPPORTED:
        expected = " or ".join(SUPPORTED)
        reasons.append(
            f"the operating system is {found.name}; expected {expected}: reinstall the machine with one of them"
        )
    if found.architecture not in ARCHITECTURES:
        reasons.append(f"the architecture is {found.architecture}; expected {' or '.join(ARCHITECTURES)}")
    if not found.systemd:
        reasons.append("systemd isn't running as process 1; expected a machine (or a container) that boots with it")
    if not found.root:
        reasons.append(
            'commands don\'t run as root; expected "ssh_user": "root" in the inventory, or "_sudo": True with a user '
            "who may sudo without a password"
        )
    if found.memory_mb < MEMORY_MB:
        reasons.append(f"memory is {found.memory_mb} MB; expected at least {MEMORY_MB} MB: choose a larger machine")
    if found.disk_free_mb < DISK_MB:
        reasons.append(
            f"{found.disk_free_mb} MB are free for {LAYOUT.apps}; expected at least {DISK_MB} MB: free some "
            "(`journalctl --vacuum-size=200M`, `apt-get clean`) or enlarge the disk"
        )
    difference = abs(found.clock - now)
    if difference > CLOCK_SECONDS:
        reasons.append(
            f"the host's clock differs from yours by {difference:.0f} s; expected at most {CLOCK_SECONDS} s: "
            "set it (`timedatectl set-ntp true`)"
        )
    if found.architecture in ARCHITECTURES and found.architecture not in uv_hashes(settings):
        wheel = f"uv {settings.python.uv.version}'s wheel"
        reasons.append(f"slipway.python.uv.sha256 has no SHA-256 for {found.architecture}: add that of {wheel}")
    for port, program in sorted(found.listeners.items()):
        if not program.startswith("nginx "):
            reasons.append(
                f"port {port} is taken by {program}; expected it free or nginx's: stop and disable that program"
            )
    if found.firewall and settings.firewall.enabled:
        off = {"ufw": "`ufw disable`", "firewalld": "`systemctl disable --now firewalld`"}[found.firewall]
        reasons.append(
            f"{found.firewall} is in charge of the firewall; expected none, since two contradict each other: {off}, "
            "or set slipway.firewall.enabled to False and open 80 and 443 there"
        )
    taken = {app.name: others for app in settings.apps.values() if (others := strangers(found, app))}
    reasons += [
        f"slipway.apps.{name}: the host already has {', '.join(others)}, of something else; expected nothing of that "
        "name: rename the app, or move that away"
        for name, others in taken.items()
    ]
    return reasons


def strangers(found: HostOverview, app: AppSettings) -> list[str]:
    """What a host has of an app's names that isn't the app's: users, groups, folders and units."""
    users = [
        f"a user {user} with the home {found.users[user]}"
        for user, home in ((app.user, app.home), (app.builder, app.builder_home))
        if found.users.get(user, home) != home
    ]
    # Its builder is the first that it gets; that its user and its folder came together was before there were builders.
    ours = app.builder in found.users or (app.user in found.users and app.root in found.names)
    if ours or str(app.at.records) in found.names:
        return users
    folders = (LAYOUT.units, LAYOUT.packaged_units, LAYOUT.warm_units)
    units = [str(folder / unit) for folder in folders for unit in app.at.claimed]
    paths = [app.config_dir, app.run_dir, app.root, app.home, *units]
    there = [each for each in (f"group {app.group}", f"group {app.builder}", *paths) if each in found.names]
    if app.user in found.users and not users:
        users = [f"a user {app.user}"]
    return users + there


def overview() -> HostOverview:
    """The host's overview; `PreflightError` where it doesn't answer, or where a newer Slipway keeps it.

    With other hosts beside it, pyinfra goes on.
    """
    found = host.get_fact(Overview)
    if found is None:
        raise PreflightError(f"{host.name} didn't answer the first question; the reason stands above")
    if found.format > FORMAT:
        raise PreflightError(
            f"{host.name} is kept by Slipway {found.slipway} (format {found.format}), and this is Slipway {VERSION}, "
            f"which knows none above {FORMAT}: upgrade it, to {found.slipway} at least. The host was not touched."
        )
    return found


def preflight(settings: Settings) -> HostOverview:
    """The host's overview, once nothing speaks against provisioning it; else `PreflightError` with all reasons."""
    found = overview()
    reasons = problems(found, settings, time.time())
    if reasons:
        count = "1 reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        lines = "\n".join(f"  - {reason}" for reason in reasons)
        raise PreflightError(f"{host.name} can't be provisioned, for {count}; it was not touched.\n{lines}")
    return found


def provisioned(settings: Settings, options: RunOptions, found: HostOverview) -> None:
    """Refuse a task on a host that deploy.py hasn't made ready for the apps it is about."""
    missing = [app.name for app in chosen(settings, options) if not {app.user, app.builder} <= found.users.keys()]
    if missing:
        what = " and ".join(missing)
        raise PreflightError(f"{host.name} isn't ready for {what}: run `slipway apply` first; nothing was touched.")
