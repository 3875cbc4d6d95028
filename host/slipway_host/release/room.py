"""That a build leaves room on the host's disks.

A build may take what there is but for the last RESERVE_MB, or the last quarter where less than four times that is free;
where hardly anything is, it meets the disk's end itself. No file of its may be larger than that, and while it runs,
what is left is looked at again and again.
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
LEAST_MB, LEAST_FILES = 16, 1000  # to be left: with less than that there is nothing to keep
EVERY = 0.1  # seconds


def free(path: Path) -> tuple[int, int | None]:
    """Bytes and files that others than root may still have on a disk; no limit of files is None."""
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None


def floors(path: Path) -> tuple[int, int]:
    """Bytes and files that are to be left there; 0 is no floor."""
    size, files = free(path)
    size, files = min(RESERVE_MB << 20, size // 4), min(RESERVE_FILES, (files or 0) // 4)
    return size if size >= LEAST_MB << 20 else 0, files if files >= LEAST_FILES else 0


def largest(path: Path) -> int | str:
    """Bytes of the largest file that may be written there, as systemd's LimitFSIZE= takes it."""
    least = floors(path)[0]
    return free(path)[0] - least if least else "infinity"


class Guard:
    """Watches the disks of some folders as long as the block lasts, and calls `end` once when one gets too full."""

    def __init__(self, folders: Iterable[Path], end: Callable[[], object]) -> None:
        """`end`: ends who fills them, and may take a while."""
        self.short = ""
        """In words, how full one was when it was too full."""
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
