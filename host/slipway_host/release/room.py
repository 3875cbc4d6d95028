"""Keep builds from filling the host's disks.

A build must leave RESERVE_MB free, or a quarter if less than four times that is free. If hardly anything is free, it
may fill the disk. No single file may be larger than what it may use, and free space is checked while it runs.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

RESERVE_MB = 512
RESERVE_FILES = 20_000
LEAST_MB, LEAST_FILES = 16, 1000  # a smaller reserve isn't worth keeping
EVERY = 0.1  # seconds


def free(path: Path) -> tuple[int, int | None]:
    """Bytes and files that users other than root can still store on a disk; None for no limit of files."""
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None


def floors(path: Path) -> tuple[int, int]:
    """Bytes and files that must stay free; 0 for no floor."""
    size, files = free(path)
    size, files = min(RESERVE_MB << 20, size // 4), min(RESERVE_FILES, (files or 0) // 4)
    return size if size >= LEAST_MB << 20 else 0, files if files >= LEAST_FILES else 0


def largest(path: Path) -> int | str:
    """Bytes of the largest file that may be written there, for systemd's LimitFSIZE=."""
    least = floors(path)[0]
    return free(path)[0] - least if least else "infinity"


class Guard:
    """Watches the disks of folders during the block, and calls `end` once if one gets too full."""

    def __init__(self, folders: Iterable[Path], end: Callable[[], object]) -> None:
        """`end`: ends the process that fills them; it may take a while."""
        self.short = ""
        """How full a disk was, in words; empty if none got too full."""
        self._end, self._over = end, threading.Event()
        one_each = {each.stat().st_dev: each for each in folders}.values()
        self._floors = [(folder, *floors(folder)) for folder in one_each]
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Guard:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            if short := self._look():
                self.short = short
                self._end()
                return

    def _look(self) -> str:
        for folder, least, least_files in self._floors:
            size, files = free(folder)
            if size < least:
                return f"{size >> 20:,} MB were left on the disk of {folder}"
            if files is not None and files < least_files:
                return f"{files:,} files were left on the disk of {folder}"
        return ""
