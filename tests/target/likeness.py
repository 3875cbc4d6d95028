"""What a container would have of its machine, and a target has as a VPS of its own: kernel values, memory, disk.

What stays different is told in README.md, each with the test on a real machine that covers it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.target.console import say
from tests.target.engine import call, docker
from tests.target.image import HERE

LABEL = "slipway.limits"
"""Label of a target's container: its `Limits` as JSON."""

MEMORY_MB, DISK_MB = 2048, 8192
"""As the smallest VPS that one would take for two apps and their database; a disk's file takes what is used of it."""

KERNEL = {
    # Docker sets it to 0 for its containers (since 20.10), so that there any process may listen on any port.
    "net.ipv4.ip_unprivileged_port_start": "1024",
    # So, too. Debian 13's linux-sysctl-defaults opens it on a machine as well.
    "net.ipv4.ping_group_range": "1 0",
    # A new network namespace takes these from the machine, whose engine forwards packets…
    "net.ipv4.ip_forward": "0",
    # … and whose memory decides on these: so they are with 2 GB.
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_max_syn_backlog": "128",
    "net.ipv4.tcp_max_tw_buckets": "8192",
    # Docker turns it off for interfaces to come.
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
}
"""Kernel setting → its value at the boot of a bare Debian, where a container has another one and may set it.

Read from Debian's kernels 6.1 and 6.12 under qemu with nothing but a shell, and compared with a container's. What else
a container has of its own (kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*) begins with the same values in both;
what belongs to the machine (vm.*, user.*, most of kernel.* and fs.*, net.core's buffers) can't be set.
"""

LOOP = ("--device-cgroup-rule=b 7:* rwm", "--device-cgroup-rule=c 10:237 rwm", "--volume=/disk")
"""Options for a disk: loop devices, the control of them, and a place for its file, which goes with the container."""


class Limits(NamedTuple):
    """What a target has for itself; None is what its machine has."""

    memory_mb: int | None
    disk_mb: int | None


def limits(image: str, privileges: Sequence[str]) -> Limits:
    """What this engine can limit. `image`: a target's; `privileges`: options that a target gets."""
    found = Limits(MEMORY_MB if _memory() else None, DISK_MB if _disk(image, tuple(privileges)) else None)
    for what, limit in zip(("memory", "disk"), found, strict=True):
        if limit is None:
            say(f"  this engine can't limit a target's {what}: it has the machine's")
    return found


@functools.cache
def _memory() -> bool:
    """Whether the engine limits memory and swap both: with a limit of memory alone a target would swap."""
    return docker("info", "--format", "{{.MemoryLimit}} {{.SwapLimit}}") == "true true"


@functools.cache
def _disk(image: str, privileges: tuple[str, ...]) -> bool:
    """Whether a container there can mount a file of its own; no where the engine has no root, or no loop devices."""
    command = [image, "/bin/sh", "-c", init(), "host-init", "probe"]
    return call("run", "--rm", *privileges, *LOOP, *command, timeout=60).returncode == 0


def init() -> str:
    """The script that is a target's first process."""
    return (HERE / "host-init.sh").read_text()


def options(found: Limits) -> list[str]:
    """Options of the container."""
    made = [f"--label={LABEL}={json.dumps(found._asdict())}"]
    if found.memory_mb:
        # Both the same: no swap.
        made += [f"--memory={found.memory_mb}m", f"--memory-swap={found.memory_mb}m"]
    return made + list(LOOP if found.disk_mb else ())


def command(found: Limits) -> list[str]:
    """Command of the container."""
    kernel = (f"{name}={value}" for name, value in KERNEL.items())
    return ["/bin/sh", "-c", init(), "host-init", str(found.memory_mb or 0), str(found.disk_mb or 0), *kernel]


def of(labels: Mapping[str, str]) -> dict[str, int | None]:
    """The limits as a description has them, from the container's labels; one made before there were any has none."""
    return Limits(**json.loads(labels.get(LABEL, '{"memory_mb": null, "disk_mb": null}')))._asdict()
