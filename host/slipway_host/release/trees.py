"""Read files of untrusted folders, measure such folders, and remove them.

A commit or a build can leave anything: very deep folders, links to devices, pipes, names that are no text. So all
functions here work by descriptors, open only folders and regular files, follow no link out of the folder, and limit how
much they read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from slipway_host.system import Failed
from slipway_host.text import short

DEEPEST = 100  # folders below each other; a path of 4096 bytes, the longest there is, has room for 2,000
MOST_FILES = 500_000  # of a release with its environment: large ones have 50,000
MOST_MB = 16_384  # of the same, holes included: it is read whole
MOST_TEXT = 16_000_000  # bytes of a file that is read at once: a lock file, a list of installed files
LINKS = 40  # that one path may lead over, as for the kernel
AT_ONCE = 1000  # names of folders that are kept in memory for each level
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FOLDER = READ | os.O_DIRECTORY


class Strange(Failed):
    """A file or folder isn't allowed as it is; the message names it, and says what to do."""


def read(folder: Path, path: str | Path, most: int = MOST_TEXT) -> bytes | None:
    """The content of a regular file below a folder; None if there is no such file.

    Raises Strange if it isn't a regular file, is larger than `most`, or a link leads out of the folder.
    """
    top = os.open(folder, FOLDER)
    try:
        file = _open(top, str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(top)
    with os.fdopen(file, "rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise Strange(f"{short(path)} is larger than {most:,} bytes.")
    return content


def _open(top: int, path: str) -> int:
    """Open a regular file below an open folder for reading. Links are followed only below the folder."""
    todo, links, way = path.split("/")[::-1], 0, [os.dup(top)]
    try:
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(way) == 1:
                    raise Strange(f"{short(path)}: a link leads out of the folder.")
                os.close(way.pop())
                continue
            mode = os.stat(part, dir_fd=way[-1], follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                target, links = os.readlink(part, dir_fd=way[-1]), links + 1
                if target.startswith("/") or links > LINKS:
                    raise Strange(f"{short(path)}: a link leads out of the folder.")
                todo += target.split("/")[::-1]
            elif stat.S_ISDIR(mode):
                if len(way) > DEEPEST:
                    raise Strange(f"{short(path)} lies deeper than {DEEPEST} folders.")
                way.append(os.open(part, FOLDER, dir_fd=way[-1]))
            elif todo:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), short(path))
            elif stat.S_ISREG(mode):
                return _regular(os.open(part, READ, dir_fd=way[-1]), path)
            else:
                break
        raise Strange(f"{short(path)} is no regular file.")
    finally:
        for each in way:
            os.close(each)


def _regular(descriptor: int, path: str) -> int:
    """The same descriptor, if it still belongs to a regular file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Strange(f"{short(path)} was a file a moment ago: something still writes there.")
    return descriptor


class Tally:
    """Counts a tree while it is walked. Raises Strange as soon as it is too large."""

    def __init__(self, what: str, most_mb: int | None = None, most_files: int | None = None) -> None:
        """`what`: for the message, such as "The release"; `most_mb`, `most_files`: the limits."""
        self.what, self.size, self.files = what, 0, 0
        self.most_mb, self.most_files = most_mb or MOST_MB, most_files or MOST_FILES

    def add(self, size: int = 0) -> None:
        """Count a file, a link or a folder."""
        self.files += 1
        self.size += size
        if self.files > self.most_files:
            raise Strange(f"{self.what} has more than {self.most_files:,} files.")
        if self.size > self.most_mb << 20:
            raise Strange(f"{self.what} is larger than {self.most_mb:,} MB.")

    def depth(self, levels: int, path: str | Path) -> None:
        """Count a folder at this depth."""
        if levels > DEEPEST:
            raise Strange(f"Folders lie deeper than {DEEPEST} below each other: {short(path)}.")


def measure(folder: Path, what: str, most_mb: int | None = None, most_files: int | None = None) -> Tally:
    """Walk through a folder. Raises Strange if it is too large (see `Tally`), or deeper than DEEPEST."""
    tally = Tally(what, most_mb, most_files)
    top = os.open(folder, FOLDER)
    try:
        _measure(top, "", 0, tally)
    finally:
        os.close(top)
    return tally


def _measure(descriptor: int, path: str, levels: int, tally: Tally) -> None:
    tally.depth(levels, path)
    with os.scandir(descriptor) as found:
        for entry in found:
            told = entry.stat(follow_symlinks=False)
            tally.add(told.st_size if stat.S_ISREG(told.st_mode) else 0)
            if stat.S_ISDIR(told.st_mode):
                inner = os.open(entry.name, FOLDER, dir_fd=descriptor)
                try:
                    _measure(inner, f"{path}{entry.name}/", levels + 1, tally)
                finally:
                    os.close(inner)


def stamps(folder: Path, what: str) -> dict[str, tuple[int, int, int] | None]:
    """Path below a folder → inode, size and time of a file or a link; None for a folder. Bounded as by `measure`.

    Empty if it is no folder.
    """
    tally, found = Tally(what), dict[str, "tuple[int, int, int] | None"]()
    try:
        top = os.open(folder, FOLDER)
    except OSError:
        return found
    try:
        _stamps(top, "", 0, tally, found)
    finally:
        os.close(top)
    return found


def _stamps(
    descriptor: int, path: str, levels: int, tally: Tally, found: dict[str, tuple[int, int, int] | None]
) -> None:
    tally.depth(levels, path)
    with os.scandir(descriptor) as entries:
        for entry in entries:
            told, whole = entry.stat(follow_symlinks=False), f"{path}{entry.name}"
            tally.add(told.st_size if stat.S_ISREG(told.st_mode) else 0)
            folder = stat.S_ISDIR(told.st_mode)
            found[whole] = None if folder else (told.st_ino, told.st_size, told.st_mtime_ns)
            if folder:
                inner = os.open(entry.name, FOLDER, dir_fd=descriptor)
                try:
                    _stamps(inner, f"{whole}/", levels + 1, tally, found)
                finally:
                    os.close(inner)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with everything in it, even an untrusted one. A missing one is no error.

    For any depth and size it takes two descriptors and little memory. It follows no link, and stops with an error if a
    folder is moved meanwhile.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISDIR(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
            _remove_folder(parent, path.name)
        else:
            os.unlink(path.name, dir_fd=parent)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
    finally:
        os.close(parent)


def _remove_folder(parent: int, name: str) -> None:
    """Remove a folder in an open one. It returns by "..", which must lead back to where it came from."""
    here = os.dup(parent)
    levels: list[tuple[str, tuple[int, int], list[str]]] = [("", _identity(parent), [name])]
    try:
        while True:
            name, _, folders = levels[-1]
            if folders:
                here = _in_place_of(here, folders[-1])
                levels.append((folders.pop(), _identity(here), _emptied(here)))
                continue
            levels.pop()
            if not levels:
                return
            here = _in_place_of(here, "..")
            if _identity(here) != levels[-1][1]:
                raise OSError(errno.EBUSY, "It was moved while it was removed", name)
            os.rmdir(name, dir_fd=here)
            if len(levels) > 1 and not levels[-1][2]:
                levels[-1][2].extend(_emptied(here))  # more than were kept at once
    finally:
        os.close(here)


def _in_place_of(descriptor: int, name: str) -> int:
    """Open a folder in the open one, and close that."""
    inner = os.open(name, FOLDER, dir_fd=descriptor)
    os.close(descriptor)
    return inner


def _identity(descriptor: int) -> tuple[int, int]:
    told = os.fstat(descriptor)
    return told.st_dev, told.st_ino


def _emptied(descriptor: int) -> list[str]:
    """Unlink everything but folders in an open folder. Returns the names of folders, at most AT_ONCE."""
    folders: list[str] = []
    unlinked = True
    while unlinked and not folders:  # again, since a folder that changes may be listed in part
        unlinked = False
        with os.scandir(descriptor) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    if len(folders) == AT_ONCE:
                        break
                else:
                    os.unlink(entry.name, dir_fd=descriptor)
                    unlinked = True
    return folders
