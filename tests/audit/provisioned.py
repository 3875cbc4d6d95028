"""A host that Slipway provisions: from an inventory, or a target of this machine's Docker engine."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from pyinfra.api.exceptions import PyinfraError

from slipway.settings import load_inventory
from tests.audit.auditor import Auditor
from tests.audit.subject import Subject, run_pyinfra
from tests.host._hosts import Target
from tests.target import lifecycle
from tests.target.console import TargetError, tail
from tests.target.keys import write_private

WITH_SECRETS = Path(__file__).parent / "inventory.py"
SHORTEST = 8
"""Characters that a secret has at least to be looked for: a shorter value turns up by chance."""


def local(name: str, control: Path) -> Subject:
    """A target of tests/target, on which the example app is released anew, with a secret that is new as well.

    So what a deploy prints is that of one which changes something and has something to hide. Raises TargetError where
    that fails, or no such target runs.

    + control: folder for its SSH session's socket, with a short path
    """
    target = lifecycle.status(name)
    if target["state"] != "running":
        raise TargetError(f"target {name} is {target['state']}; `make demo NAME={name}` starts it")
    env = Path(target["ca_file"]).parent / "audit.env"
    write_private(env, f"API_TOKEN=audited-{secrets.token_hex(16)}\n".encode())
    environment = {"SLIPWAY_TARGET": name, "SLIPWAY_AUDIT_ENV": str(env)}
    os.environ.update(environment)  # which the inventory reads here, too
    deployed = run_pyinfra(environment, "-y", "-vvv", "--diff", str(WITH_SECRETS), "deploy.py")
    if deployed.returncode:
        raise TargetError(f"the deploy that is audited failed:\n{tail(deployed.stdout.encode())}")
    found = _target(WITH_SECRETS, None, control)
    site = _site(found)
    auditor = Auditor(target["ip"], site, target["network"], name)
    return _subject(found, WITH_SECRETS, environment, site, 22, auditor, deployed.stdout)


def remote(inventory: Path, limit: str | None, control: Path) -> Subject:
    """A host of an inventory: changed by nothing, and not attacked; its deploy is a dry one. Raises TargetError.

    + limit: its name; None is the first
    + control: as in `local`
    """
    found = _target(inventory, limit, control)
    site = _site(found)
    data = {name: each for name, each, _ in load_inventory(inventory)}[found.name]
    planned = ("-y", "-vvv", "--dry", "--diff", str(inventory), "--limit", found.name, "deploy.py")
    auditor = Auditor(_address(found.verify.address or site), site)
    port = int(data.get("ssh_port") or 22)
    return _subject(found, inventory, {}, site, port, auditor, run_pyinfra({}, *planned).stdout)


def _target(inventory: Path, limit: str | None, control: Path) -> Target:
    try:
        hosts = [each for each in load_inventory(inventory) if limit in (None, each[0])]
    except PyinfraError as error:
        raise TargetError(str(error)) from None
    if not hosts:
        raise TargetError(f"{inventory} has no host {limit}")
    name, data, settings = hosts[0]
    found = Target(name, data, settings, inventory, control)
    if trouble := found.trouble():
        raise TargetError(f"{name} can't be audited: {trouble}")
    return found


def _site(found: Target) -> str:
    """The first site with TLS."""
    sites = [app.site.domain for app in found.apps.values() if app.settings.tls.mode != "off"]
    if not sites:
        raise TargetError(f"{found.name} can't be audited: it has no site with TLS")
    return sites[0]


def _subject(
    found: Target,
    inventory: Path,
    environment: Mapping[str, str],
    site: str,
    ssh_port: int,
    auditor: Auditor,
    deployed: str,
) -> Subject:
    known: dict[str, str] = {}
    for app in found.apps.values():
        values = sorted(value for value in app.settings.secret_values if len(value) >= SHORTEST)
        known |= {f"value {number} of {app.name}'s env_file": value for number, value in enumerate(values, 1)}
        if app.settings.key_path is not None:
            # A line of its middle: its first and last are every key's.
            known[f"the key of {app.name}'s certificate"] = found.run("sed -n 2p %s", str(app.settings.key_path))
    ca_file = found.verify.ca_file
    return Subject(
        name=found.name,
        inventory=inventory,
        environment=environment,
        site=site,
        ssh_port=ssh_port,
        local=auditor.network is not None,
        client=found.client,
        ca=(found.folder / Path(ca_file).expanduser()).read_bytes() if ca_file else None,
        host=found.host,
        auditor=auditor,
        apps=tuple(app.service for app in found.apps.values()),
        secrets=known,
        deployed=deployed,
    )


def _address(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, 443, socket.AF_INET)[0][4][0])
    except OSError:
        raise TargetError(f"{name} can't be looked up from here; the audit needs an IPv4 address") from None
