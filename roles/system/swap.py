"""A swap file, for a host without swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfra import host
from slipway_host.layout import LAYOUT
from slipway_host.names import PROC

from roles.system.facts import SwapFacts
from slipway.engine import plan
from slipway.engine.operations import shell
from slipway.engine.place import File, placing, text_diff
from slipway.engine.plan import Change, Commands

SWAP_FILE, SWAP_UNIT = str(LAYOUT.swap), str(LAYOUT.swap_unit)

SMALL_MB = 2000
"""Memory below which a host gets swap by itself: one that is sold with 2 GB shows a little less."""

SPARE_MB = 2048
"""Disk space that a swap file must leave: Python, tools and two releases of a small app take about 700 MB."""

SWAP_FILE_SYSTEMS = ("ext2/ext3", "ext4", "xfs")
"""Those on which a plain file can hold swap; as `stat --file-system` names them. Not btrfs, zfs, overlay."""


def swap_size(wanted: int | None, memory_mb: int) -> int:
    """MB of the swap file that a host should have; 0 for none."""
    if wanted is not None:
        return wanted
    return memory_mb if memory_mb < SMALL_MB else 0


def no_swap(size: int, found: Mapping[str, Any], *, container: bool) -> str:
    """Why there will be no swap file of `size` MB; empty if there will be one."""
    if not size:
        return "no swap file is wanted"
    if container:
        return "in a container, swap is the machine's"
    if found.get("swaps", "0") != "0":
        return "there is swap"
    if found.get("type") not in SWAP_FILE_SYSTEMS:
        return f"a file on {found.get('type') or 'this file system'} can't hold swap"
    if int(found.get("free") or 0) < size + SPARE_MB:
        return f"{found.get('free')} MB are free: too few for {size} MB of swap and {SPARE_MB} MB beside it"
    return ""


_UNIT = f"""\
# Managed by Slipway (roles/system): system.swap_mb of the inventory.
[Unit]
Description=Swap file

[Swap]
What={SWAP_FILE}

[Install]
WantedBy=swap.target
"""

# $1 file, $2 MB. A file of a run that was killed is made anew, unless the host still goes on with it; swap must have no
# holes.
_SWAP = f"""
set -eu
umask 077
exec 9>{LAYOUT.swap_lock}
flock 9
! grep -q "^$1 " {PROC}/swaps || exit 0
rm -f "$1"
fallocate -l "$2MiB" "$1" || dd if=/dev/zero of="$1" bs=1M count="$2" status=none
mkswap "$1" >/dev/null
systemctl daemon-reload
systemctl enable --now --quiet {LAYOUT.swap_unit.name}
"""


@plan.operation(lambda wanted, memory_mb, container: [plan.asking(SwapFacts)])
def swap_file(wanted: int | None, memory_mb: int, *, container: bool) -> Commands:
    """Give a host without swap a swap file, where one can be.

    + wanted: MB; None: by the memory
    + memory_mb: of the host
    + container: it is one
    """
    size, found = swap_size(wanted, memory_mb), plan.known(SwapFacts)
    if why := no_swap(size, found, container=container):
        if size and not container and found.get("swaps", "0") == "0":
            plan.say(f"no swap file is made: {why}")
        host.noop(why)
        return
    plan.announce(
        Change("file", SWAP_UNIT, "create", text_diff(SWAP_UNIT, "", _UNIT)),
        Change("file", SWAP_FILE, "create", note=f"{size} MB of swap; the memory is {memory_mb} MB"),
        makes=[SWAP_UNIT, SWAP_FILE],
    )
    yield placing(files={SWAP_UNIT: File(_UNIT)})
    yield shell(_SWAP, SWAP_FILE, str(size))
