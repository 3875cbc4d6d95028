"""Where targets live on this machine: a folder each, a lock each, ports of their own."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.target.console import TargetError, exclusive

ROOT = Path(__file__).resolve().parents[2] / ".target"
"""Folder of all targets of this clone: one folder each, `.cache` and `.locks`."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""Names a target may have: they become part of host names."""

PORTS = range(20000, 32768)
"""Ports on 127.0.0.1 to choose from: below those the kernel gives to outgoing connections, which could take one
while its target is stopped."""

Description = dict[str, Any]
"""A target as `up --json` prints it; see `lifecycle.status`."""


class NoTarget(TargetError):
    """There is no target of that name."""


def folder_of(name: str) -> Path:
    """The folder of a target's keys; raises TargetError for a name that can't be one."""
    if not NAME.fullmatch(name):
        raise TargetError(f"--name {name!r}: use lower-case letters, digits and hyphens, 31 characters at most")
    return ROOT / name


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """The target's folder, with no other command at work on it."""
    folder = folder_of(name)
    with exclusive(ROOT / ".locks" / f"{name}.lock"):
        yield folder


def free_ports(count: int, taken: Collection[int]) -> list[int]:
    """Ports of PORTS that nobody listens on and no stopped target of this engine has, in random order."""
    chosen: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise TargetError(f"fewer than {count} free ports in {PORTS.start}-{PORTS.stop - 1} on 127.0.0.1; remove a target")


def ssh_options(target: Description, user: str | None = None) -> list[str]:
    """The `ssh` call that opens a shell on a described target. `user`: None is the sudo user."""
    ssh = target["ssh"]
    return [
        *("ssh", "-i", ssh["key"], "-p", str(ssh["port"]), "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={ssh['known_hosts']}", "-o", "StrictHostKeyChecking=yes"),
        f"{user or ssh['user']}@{ssh['host']}",
    ]
