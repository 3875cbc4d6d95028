"""A host that is audited: how the tools reach it, and what is known of it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import testinfra.host  # type: ignore[import-untyped]

from tests.audit.auditor import Auditor
from tests.audit.finding import looked
from tests.host._client import Client

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "inventories/docker.py"
"""The inventory of a target of tests/target."""
PYINFRA_SECONDS = 400
"""Time after which a run of pyinfra counts as hung; a deploy of a host that is far away takes a minute."""


@dataclass
class Subject:
    """A host, however it was set up."""

    name: str
    inventory: Path
    """By which pyinfra connects to it."""
    environment: Mapping[str, str]
    """What that inventory reads from the environment."""
    site: str
    """Domain of the site that is looked at."""
    ssh_port: int
    """At `auditor.address`."""
    local: bool
    """Whether it is a container of this machine's, which may be attacked."""
    client: Client
    """Reaches it from this machine."""
    ca: bytes | None
    """Root of its certificates, PEM; None: the usual ones."""
    host: testinfra.host.Host
    """Runs commands there as root."""
    auditor: Auditor
    apps: tuple[str, ...]
    """Services that are apps."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What nobody else may see: what it is → its value."""
    deployed: str = field(default="", repr=False)
    """What its provisioning printed, as verbose as can be."""

    @cached_property
    def system(self) -> str:
        """Such as "debian12"."""
        return self.run('. /etc/os-release && echo "$ID${VERSION_ID%%.*}"').strip()

    @cached_property
    def address6(self) -> str | None:
        """The host's public (or, in a container, its network's) IPv6 address; None where it has none."""
        found = json.loads(self.run("ip -6 -json address show scope global") or "[]")
        usable = [each for link in found for each in link.get("addr_info", []) if not each.get("temporary")]
        return next((each["local"] for each in usable if not each.get("deprecated")), None)

    @property
    def trust(self) -> ssl.SSLContext:
        """What a visitor verifies its certificate with."""
        return ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)

    def run(self, command: str, *, check: bool = True) -> str:
        """What a shell command prints on the host, as root; DidNotLook where it fails and `check` is true."""
        done = self.host.run("sh -c %s", command)
        if check:
            looked(done.rc == 0, f"`{command[:60]}` ended with {done.rc} on the host: {done.stderr.strip()[-300:]}")
        return str(done.stdout)

    def services(self) -> tuple[str, ...]:
        """Services whose unit files lie where an administrator's do, which a package's don't; apps' left out."""
        listed = self.run("find /etc/systemd/system -maxdepth 1 -type f -name '*.service' -printf '%f\\n'").split()
        return tuple(sorted(set(listed) - set(self.apps)))

    def pyinfra(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pyinfra as this host's inventory wants it."""
        return run_pyinfra(self.environment, *arguments)


def run_pyinfra(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pyinfra with these variables beside this process' own; stderr, where its log is, goes with stdout."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "pyinfra"), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PYINFRA_SECONDS,
        check=False,
    )
