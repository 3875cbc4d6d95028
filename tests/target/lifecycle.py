"""A target's life: up, down, status, reboot, and what only a machine can.

A target is one of two things: a container of the Docker engine (`container`), there in seconds, or a virtual machine
with a kernel, a disk and a clock of its own (`machine`). Which one it is stands in its folder, so that every verb but
`up` is told its name and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.target import acme, container, snapshots
from tests.target import machine as vm
from tests.target.console import TargetError
from tests.target.engine import require
from tests.target.folders import ROOT, Description, NoTarget, folder_of, locked, ssh_options

__all__ = ["DEFAULT_OS", "ROOT", "Description", "NoTarget", "folder_of", "ssh_options"]

DEFAULT_OS = "debian12"


def up(
    name: str,
    os_name: str | None = None,
    *,
    machine: bool | None = None,
    arch: str | None = None,
    memory: int | None = None,
    cpus: int | None = None,
    disk: int | None = None,
    start_from: str | None = None,
) -> Description:
    """Bring a target up, or heal it: started, booted, reachable. What is None stays as it is.

    `os_name`: a key of image.SUITES, of a new target DEFAULT_OS; `machine`: a virtual machine instead of a container,
    of a new target False; `arch` (a key of qemu.ARCHITECTURES), `memory` in MB, `cpus`, `disk` in GB: of a machine, by
    default those of machine.Settings; `start_from`: of a new container, an image of `keep_image`.
    """
    require()
    with locked(name) as folder:
        is_machine = vm.is_one(folder)
        has = vm.settings(folder).os if is_machine else container.system(name, folder)
        if has and machine not in {None, is_machine}:
            has, os_name = ("a machine" if is_machine else "a container"), "another"
        if has and os_name and has != os_name:
            raise TargetError(
                f"target {name} is {has}; `down --name {name}` removes it, another --name stands beside it"
            )
        asked = {"arch": arch, "memory": memory, "cpus": cpus, "disk": disk}
        hardware = {what: wanted for what, wanted in asked.items() if wanted}
        if is_machine or machine:
            return vm.up(name, folder, os_name or DEFAULT_OS, hardware)
        if hardware:
            raise TargetError(f"target {name} is a container, which has no {' or '.join(hardware)}; add --machine")
        return container.up(name, folder, os_name or DEFAULT_OS, start_from)


def keep_image(name: str, tag: str, label: str) -> None:
    """Make an image of a running container's disk for `up`, without keys, ids and logs of its own; see `container`."""
    require()
    with locked(name) as folder:
        container.keep_image(name, folder, tag, label)


def reboot(name: str, *, hard: bool = False) -> Description:
    """Reboot a target: /run, /tmp and every process are lost, disk and Pebble stay. `hard`: as by pulling the plug."""
    require()
    with locked(name) as folder:
        reboot_it = vm.reboot if vm.is_one(folder) else container.reboot
        return reboot_it(name, folder, hard=hard)


def status(name: str) -> Description:
    """The one object that `up --json` and `status --json` print; paths are absolute. Raises NoTarget without a target.

    kind: "container" or "machine"; state: "running", or what it is instead; container: name of its container, or of the
    machine; ip: its own address, as it sees it; ssh, http_port, https_port: on 127.0.0.1; ca_file: root of the issued
    certificates; acme_directory: as seen from the target, its HTTPS signed by acme_ca_file; acme_management_url,
    dns_url: Pebble's and its DNS's control, on 127.0.0.1, for fault tests; python: what the target can install, from
    downloads_json_url or, where that is null, from uv's own source; memory_mb, disk_mb: what it has for itself, null
    where it has its engine's. Of a machine also: pid, cpus, clock (seconds ahead), console (file with all it said),
    monitor (QMP socket), snapshots (their names).
    """
    require()
    folder = folder_of(name)
    if vm.is_one(folder):
        description = vm.describe(name, folder)
    else:
        container.existing(name, folder)
        description = container.describe(name, folder)
    acme.refresh_root(description["acme_management_url"], folder)
    return description


def down(name: str) -> list[str]:
    """Remove all of a target: processes, network, folder; returns what was removed, empty where nothing was."""
    require()
    with locked(name) as folder:
        removed = [*vm.down(folder), *container.down(name, folder)]
        if folder.exists():
            shutil.rmtree(folder)
            removed.append("folder")
        return removed


@contextmanager
def _locked_machine(name: str) -> Iterator[Path]:
    """The folder of a target that has to be a machine, locked."""
    require()
    with locked(name) as folder:
        if not vm.is_one(folder):
            container.existing(name, folder)
            raise TargetError(f"target {name} is a container, and only a machine can; `up --machine` makes one")
        yield folder


def reset(name: str) -> Description:
    """Press a machine's reset button, and wait until it has booted: `reboot` with `hard`."""
    with _locked_machine(name) as folder:
        return vm.reboot(name, folder, hard=True)


def cut(name: str) -> Description:
    """Cut a target's power: what it had not flushed to its disk is lost. It stays off until `up`."""
    require()
    with locked(name) as folder:
        cut_it = vm.cut if vm.is_one(folder) else container.cut
        return cut_it(name, folder)


def clock(name: str, ahead: int) -> Description:
    """Set a machine's clock, at once and for later boots. `ahead`: seconds before the real time; 0 is the real time."""
    with _locked_machine(name) as folder:
        return vm.clock(name, folder, ahead)


def memory(name: str, megabytes: int) -> Description:
    """Shut a machine down and boot it with another size of memory."""
    with _locked_machine(name) as folder:
        return vm.memory(name, folder, megabytes)


def snapshot(name: str, kept_as: str) -> Description:
    """Keep a running machine's memory and disk under a name; the machine goes on."""
    with _locked_machine(name) as folder:
        return snapshots.take(name, folder, kept_as)


def restore(name: str, kept_as: str, *, ahead: int = 0) -> Description:
    """Go on from a machine's snapshot, as often as wanted; what it was until now is lost. `ahead`: see `clock`."""
    with _locked_machine(name) as folder:
        return snapshots.restore(name, folder, kept_as, ahead=ahead)


def ssh_command(name: str, command: Collection[str], user: str | None = None) -> list[str]:
    """The `ssh` call that opens a shell on a target, or runs a command there; raises TargetError where it can't."""
    if not shutil.which("ssh"):
        raise TargetError("no ssh client on this machine; install it: apt install openssh-client")
    target = status(name)
    if target["state"] != "running":
        raise TargetError(f"target {name} is {target['state']}; `python -m tests.target up --name {name}` starts it")
    return [*ssh_options(target, user), *command]
