"""Take over the files of a build: no process of it is left, and root owns its files.

A build runs code of the app and its dependencies, as a user of its own in a unit of its own (builder.py). Until root
owns its files, they aren't trusted: each is opened without following links, and changed by its descriptor. Files that
don't belong in a release are refused, with their path.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from pathlib import Path

from slipway_host.names import PROC
from slipway_host.release.trees import FOLDER, READ, Strange, Tally
from slipway_host.text import listed, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WHAT = "The release"
LISTS = ("system.posix_acl_access", "system.posix_acl_default")  # who else may read or write


def processes(user: str) -> list[int]:
    """Ids of processes that run as this user, by any of their user ids."""
    uid, found = b"%d" % pwd.getpwnam(user).pw_uid, []
    for process in PROC.glob("[0-9]*"):
        try:
            status = (process / "status").read_bytes()
        except OSError:  # it has just ended
            continue
        # A process chooses its name; a line feed in it is written as two characters.
        uids = re.search(rb"^Uid:\s*(.*)$", status, re.MULTILINE)
        if uids and uid in uids[1].split():
            found.append(int(process.name))
    return found


def take_over(folder: Path, uid: int, gid: int, outside: Iterable[str | Path] = ()) -> None:
    """Give a folder and everything in it to one user, readable by one group and by nobody else.

    + uid: the new owner (root)
    + gid: group that may read it
    + outside: folders that links may lead to, besides the folder itself

    Raises Strange, with the path, for anything but files, folders and links; for a setuid or setgid file; for a link
    out of the folder; if the user doesn't own something in the end; and if a release is too large (trees.py).
    """
    links: list[tuple[Path, str]] = []
    top = os.open(folder, FOLDER)
    try:
        _take(top, Path(), uid, gid, links, Tally(WHAT))
    finally:
        os.close(top)
    # From here on only root can change links.
    real = [os.path.realpath(each) for each in (folder, *outside)]
    leaving = [
        f"{short(path)} -> {short(target)}"
        for path, target in links
        if not _within(os.path.realpath(folder / path), real)
    ]
    if leaving:
        raise Strange(
            f"A link leads out of the release: {listed(leaving)}. Put its target into the source, or give the app its "
            "path by a setting."
        )
    strange = [short(path.relative_to(folder)) for path in _all(folder) if path.lstat().st_uid != uid]
    if strange:
        raise Strange(f"Root doesn't own {listed(strange)}: something still writes to the release.")


def _take(descriptor: int, path: Path, uid: int, gid: int, links: list[tuple[Path, str]], tally: Tally) -> None:
    """Take over a folder by its descriptor. `path`: below the release."""
    tally.depth(len(path.parts), path)
    _give(descriptor, uid, gid, 0o750)
    with os.scandir(descriptor) as found:
        entries = list(found)
    for entry in entries:
        below = path / entry.name
        if entry.is_symlink():
            tally.add()
            os.chown(entry.name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
            links.append((below, os.readlink(entry.name, dir_fd=descriptor)))
        elif entry.is_dir(follow_symlinks=False):
            tally.add()
            inner = os.open(entry.name, FOLDER, dir_fd=descriptor)
            try:
                _take(inner, below, uid, gid, links, tally)
            finally:
                os.close(inner)
        elif entry.is_file(follow_symlinks=False):
            file = os.open(entry.name, READ, dir_fd=descriptor)
            try:
                _take_file(file, below, uid, gid, tally)
            finally:
                os.close(file)
        else:
            raise Strange(f"{short(below)} is a device, a socket or a pipe: take it out of the source.")


def _take_file(descriptor: int, path: Path, uid: int, gid: int, tally: Tally) -> None:
    """Take over a file by its descriptor."""
    told = os.fstat(descriptor)
    mode = told.st_mode
    tally.add(told.st_size)
    if not stat.S_ISREG(mode):
        raise Strange(f"{short(path)} was a file a moment ago: something still writes to the release.")
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise Strange(f"{short(path)} would run as its owner or group (mode {mode & 0o7777:o}): take that bit off.")
    _give(descriptor, uid, gid, 0o750 if mode & 0o111 else 0o640)


def _give(descriptor: int, uid: int, gid: int, mode: int) -> None:
    """Set owner, group and mode of an open file, and remove its access control list."""
    os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)
    for name in os.listxattr(descriptor):
        if name in LISTS:
            os.removexattr(descriptor, name)


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
