"""The firewall: an nftables table of our own, loaded in one step, dropping what nobody asked for; and one for builds.

fail2ban isn't needed beside it: with keys alone there is nothing to guess, and what guessing costs (a key exchange each
time) the kernel limits itself, without a program that reads logs, for IPv6 as well, and before sshd is reached.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from slipway_host.layout import LAYOUT
from slipway_host.names import FIREWALL, ITSELF

from slipway.engine.place import File
from slipway.engine.templates import render
from slipway.settings import Settings

TABLE = str(LAYOUT.firewall_rules)
BUILDS = str(LAYOUT.build_rules)
UNIT = FIREWALL
APPS = str(LAYOUT.app_rules)
"""Folder of files that tell the table the apps' users: one each, so that one whose user is gone is passed over."""
CONNECTIONS = 200
"""Connections to the sites, those on the apps' own ports included, that one app may have open from this host."""
FLOWS = 4096
"""Connections, and exchanges of datagrams, that one app or one build may have under way: a sixteenth of what the kernel
of a small host remembers of all (nf_conntrack_max: 65,536 with 1 GB)."""
PACKAGES = ("nftables",)


def ruleset(settings: Settings, ssh_ports: Sequence[int]) -> str:
    """The table, as `nft -f` loads it."""
    proxies = [ipaddress.ip_network(each) for app in settings.apps.values() for each in app.trusted_proxies]
    extra = settings.firewall_extra_local.read_text(encoding="utf-8") if settings.firewall_extra_local else ""
    return render(
        "firewall/table.nft.j2",
        firewall=settings.firewall,
        ssh_ports=ssh_ports,
        connections=CONNECTIONS,
        flows=FLOWS,
        itself=ITSELF,
        proxies4=_collapsed(each for each in proxies if isinstance(each, ipaddress.IPv4Network)),
        proxies6=_collapsed(each for each in proxies if isinstance(each, ipaddress.IPv6Network)),
        extra=extra,
    )


def of_builds(settings: Settings) -> dict[str, File]:
    """Path → file: the table that keeps builds off this host, whether or not there is a firewall."""
    builders = [app.builder for app in settings.apps.values()]
    return {BUILDS: File(render("firewall/builds.nft.j2", builders=builders, flows=FLOWS), "600")} if builders else {}


def of_apps(settings: Settings) -> dict[str, File]:
    """Path → file: the elements that let the table know an app."""
    apps = settings.apps.values()
    return {str(app.at.rules): File(render("firewall/app.nft.j2", app=app), "600") for app in apps}


def _collapsed(networks: Iterable[ipaddress.IPv4Network] | Iterable[ipaddress.IPv6Network]) -> list[str]:
    """Without those that lie in others: a set of nftables refuses overlaps."""
    return [str(each) for each in ipaddress.collapse_addresses(networks)]  # type: ignore[type-var]


def files(settings: Settings, ssh_ports: Sequence[int]) -> dict[str, File | None]:
    """Path → what is to be there; None for nothing."""
    return {TABLE: File(ruleset(settings, ssh_ports), "600") if settings.firewall.enabled else None}
