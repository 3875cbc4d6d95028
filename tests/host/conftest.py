"""Verifies provisioned hosts: pytest tests/host --inventory inventories/production.py [--limit HOST]

Reads the inventory that the hosts were provisioned with, connects over SSH with pyinfra's connection data (as root, or
with ``"_sudo": True``), and changes nothing. Every test runs once for each host, app or domain. What can't be judged
on a host is skipped, with the reason (`-rs` lists them).

From outside, each site is asked under its own domain, at ports 80 and 443, and its certificate is verified with this
machine's trust store. Where that isn't how to reach the host, say so in the host's data, beside "slipway"::

    "verify": {
        "address": "127.0.0.1",     # connect here, whatever the domain: published ports, or the host behind a CDN
        "http_port": 8080,          # default 80
        "https_port": 8443,         # default 443
        "ca_file": "ca.pem",        # root of the certificates, relative to the inventory; default: the trust store
    }
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from slipway.settings import load_inventory
from tests.host._hosts import Site, Target, close_sessions

TARGETS = pytest.StashKey[list[Target]]()
USAGE = "pytest tests/host --inventory inventories/production.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --inventory and --limit."""
    group = parser.getgroup("slipway", "hosts to verify (tests/host)")
    group.addoption("--inventory", metavar="FILE", help="inventory file that the hosts were provisioned with")
    group.addoption("--limit", metavar="HOST", help="verify this host of the inventory only")


def load_targets(inventory: str | None, limit: str | None, control: Path) -> list[Target]:
    """The hosts to verify; pytest.UsageError in one sentence where they can't be told.

    + control: folder for the sockets of SSH sessions
    """
    if not inventory:
        raise pytest.UsageError(f"--inventory is missing: {USAGE}")
    path = Path(inventory)
    if not path.is_file():
        raise pytest.UsageError(f"--inventory: there is no file {inventory}; write it as in: {USAGE}")
    try:
        hosts = load_inventory(path)
    except PyinfraError as error:  # wrong settings, or what the inventory itself refuses
        raise pytest.UsageError(str(error)) from None
    names = [name for name, _, _ in hosts]
    if limit is not None and limit not in names:
        raise pytest.UsageError(f"--limit: {inventory} has no host {limit}; it has {', '.join(names)}")
    targets = []
    for name, data, settings in hosts:
        if limit in (None, name):
            try:
                targets.append(Target(name, data, settings, path, control))
            except TypeError as error:
                known = "it takes address, http_port, https_port and ca_file"
                raise pytest.UsageError(f'{inventory}: {name}: "verify": {error}; {known}') from None
            except PyinfraError as error:  # a path in a home folder that nobody knows
                raise pytest.UsageError(f"{inventory}: {name}: {error}") from None
    return targets


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the inventory and connect to every host, before any test."""
    # ssh takes a path of about 100 bytes at most for its socket: not in a deep TMPDIR.
    control = Path(tempfile.mkdtemp(prefix="slipway-ssh-", dir="/tmp"))
    session.config.add_cleanup(lambda: close_sessions(control))
    option = session.config.option
    targets = load_targets(getattr(option, "inventory", None), getattr(option, "limit", None), control)
    session.config.stash[TARGETS] = targets
    if not option.collectonly:
        for target in targets:
            if trouble := target.trouble():
                raise pytest.UsageError(f"{target.name} can't be verified: {trouble}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each `site`, `app` or `target`, whichever it asks for."""
    targets = metafunc.config.stash.get(TARGETS, [])
    apps = [app for target in targets for app in target.apps.values()]
    found: dict[str, list[tuple[str, Any]]] = {
        "site": [(f"{app.target.name}-{domain}", Site(app, domain)) for app in apps for domain in app.settings.domains],
        "app": [(f"{app.target.name}-{app.name}", app) for app in apps],
        "target": [(target.name, target) for target in targets],
    }
    for name, each in found.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [value for _, value in each], ids=[label for label, _ in each], scope="session")
            return
