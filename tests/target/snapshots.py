"""Snapshots of a machine: its memory and its disk at one moment, from which it goes on within seconds.

A snapshot is a folder, ``snapshots/<name>`` in the machine's: the disk as it was, frozen, the memory's state, and what
the machine was made of. To go on from it is a new overlay above that disk, so one snapshot serves any number of trials.
It stays with its target, whose ACME server knows the certificates in it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

from tests.target import container, disk, keys, machine, qemu
from tests.target.console import TargetError, step
from tests.target.folders import Description
from tests.target.qmp import Qmp, QmpError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""Names a snapshot may have."""

FOLDER, STATE, TOLD = "snapshots", "memory", "snapshot.json"
"""Names in a machine's folder, and in a snapshot's: of the snapshots, the memory's state, the machine's settings."""

TRANSFER_SECONDS = 300
"""Time the memory has to be written or read; usual are 2 to 4 s for 1 GB."""


def folder_of(folder: Path, snapshot: str) -> Path:
    """The folder of a snapshot of a machine; raises TargetError for a name that can't be one."""
    if not NAME.fullmatch(snapshot):
        raise TargetError(f"snapshot {snapshot!r}: use lower-case letters, digits and hyphens, 31 characters at most")
    return folder / FOLDER / snapshot


def take(name: str, folder: Path, snapshot: str) -> Description:
    """Keep a running machine's memory and disk under a name; it then goes on from there."""
    machine.running(name, folder)
    made, at = machine.settings(folder), folder_of(folder, snapshot)
    if at.exists():
        raise TargetError(f"machine {name} has a snapshot {snapshot} already; use another name")
    partial = at.with_name(f"{snapshot}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with step(f"snapshot {snapshot} of machine {name}"):
        with Qmp(folder / qemu.MONITOR) as monitor:
            monitor("stop")
            try:
                # Bytes a second: without it QEMU takes the memory through a wire of 1 Gbit/s.
                monitor("migrate-set-parameters", max_bandwidth=10**10)
                monitor("migrate", uri=f"exec:cat > {shlex.quote(str(partial / STATE))}")
                _transferred(monitor)
            except TargetError:
                monitor("cont")
                raise
        qemu.kill(folder)  # all of its disk was flushed by `stop`
        told = {"settings": asdict(made), "accelerator": machine.accelerator(made)}
        keys.write_private(partial / TOLD, json.dumps(told, indent=1).encode())
        # A second name for the disk, and the machine's own replaced in one step: killed anywhere, it has a whole one.
        (partial / qemu.DISK).hardlink_to(folder / qemu.DISK)
        partial.rename(at)
    return restore(name, folder, snapshot, ahead=made.clock)


def restore(name: str, folder: Path, snapshot: str, *, ahead: int = 0) -> Description:
    """Go on from a snapshot, on a disk of its own; what the machine was until now is lost.

    `ahead`: seconds by which its clock is ahead of this machine's from now on.
    """
    machine.describe(name, folder)
    at = folder_of(folder, snapshot)
    if not at.is_dir():
        has = ", ".join(machine.snapshots(folder)) or "none"
        raise TargetError(f"machine {name} has no snapshot {snapshot} (it has: {has}); `snapshot` takes one")
    told = json.loads((at / TOLD).read_text())
    container.start(container.acme_name(name))
    with step(f"machine {name} goes on from snapshot {snapshot}"):
        qemu.kill(folder)
        # Its ports are the target's as they are: the machine doesn't see them.
        made = replace(machine.Settings(**told["settings"]), ports=machine.settings(folder).ports, clock=ahead)
        machine.save(folder, made)
        disk.overlay(folder / qemu.DISK, at / qemu.DISK)
        qemu.start(container.host_name(name), folder, made.hardware, told["accelerator"], incoming=True)
        with Qmp(folder / qemu.MONITOR) as monitor:
            monitor("migrate-incoming", uri=f"exec:cat {shlex.quote(str(at / STATE))}")
            _transferred(monitor)
            monitor("cont")
    machine.ready(name, folder)
    return machine.clock(name, folder, ahead)


def _transferred(monitor: Qmp) -> None:
    """Wait until the memory is written, or read."""
    until = time.monotonic() + TRANSFER_SECONDS
    while True:
        told = monitor("query-migrate")
        if told.get("status") == "completed":
            return
        if told.get("status") in {"failed", "cancelled"} or time.monotonic() > until:
            raise QmpError(f"the memory could not be transferred: {told.get('error-desc', told.get('status'))}")
        time.sleep(0.1)
