"""What the firewall's table knows of apps, which come and go."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT

from roles.firewall.facts import FirewallState
from roles.firewall.role import TABLE
from slipway.engine import plan
from slipway.engine.plan import Change, Commands


@plan.operation(lambda apps: [plan.asking(FirewallState, path=TABLE)])
def knows_apps(apps: Mapping[str, tuple[str, int | None]]) -> Commands:
    """Let the table that is loaded have the apps' users, and their ports.

    + apps: name → user, and the port of its own if it has one
    """
    found = plan.known(FirewallState, path=TABLE)
    due = [
        name
        for name, (user, port) in apps.items()
        if user not in found.users or port not in (None, *found.ports) or plan.made(str(LAYOUT.app(name).rules))
    ]
    if not due:
        host.noop("it knows their users")
        return
    plan.announce(
        *(Change("firewall", each, "load", note="what it may have open to this host is bounded") for each in due)
    )
    for each in due:
        yield StringCommand("nft", "-f", str(LAYOUT.app(each).rules))
