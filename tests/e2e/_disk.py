"""What of a host's files its disk doesn't have yet: that is lost with the power."""

from __future__ import annotations

from tests.e2e._driver import Host

_WAITING = r"""
    /^File size of / {name = $0; sub(/^File size of /, "", name); sub(/ is [0-9]+ \(.*/, "", name); files++; told = 0}
    /delalloc|unwritten/ {if (!told++) print name}
    END {print files + 0}
"""


def waiting(host: Host, folder: str) -> tuple[list[str], int]:
    """Files below a folder whose content, or a part of it, is in memory alone; and how many files there are.

    Such a part has no place on the disk yet, or one that isn't filled, which ext4 tells (FIEMAP).
    """
    extents = f"find {folder} -type f -size +0 -exec filefrag -v {{}} +"
    *names, files = host.ssh(f"{extents} | awk '{_WAITING}'").splitlines()
    return names, int(files)
