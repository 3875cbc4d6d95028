"""What a build leaves: nothing that runs, and files that are root's.

A build runs code of the app and of its dependencies, as a user of its own in a unit of its own. Until root has taken
its files over they are a stranger's: each is opened without following a link and changed by its descriptor, and what
has no place in a release is refused by its path. Managed by Slipway (roles/release.py).
"""

import os
import pwd
import stat
from pathlib import Path

DEEPEST = 100  # folders below each other; a path of 4096 bytes, the longest there is, has room for 2,000
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LISTS = ("system.posix_acl_access", "system.posix_acl_default")  # who else may read or write
NAMED = 5  # paths that a message lists


class Unfit(Exception):
    """Something has no place in a release; the message names it, and says what to do."""


def processes(user):
    """Process ids of what runs as this user, by whichever of its ids."""
    uid, found = str(pwd.getpwnam(user).pw_uid), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "status").read_text()
        except OSError:  # it has just ended
            continue
        uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        if uid in uids:
            found.append(int(process.name))
    return found


def take_over(folder, uid, gid, outside=()):
    """Make a folder and all in it one user's, readable by one group and by nobody else.

    + uid: who owns it then (root)
    + gid: group that may read it
    + outside: folders that links may lead to, besides the folder itself

    Raises Unfit, with paths, for what isn't a file, a folder or a link; for a file that runs as its owner or group;
    for a link that leads out of the folder; and where something isn't the user's in the end.
    """
    links = []
    top = os.open(folder, READ | os.O_DIRECTORY)
    try:
        _take(top, Path(), uid, gid, links)
    finally:
        os.close(top)
    # Nobody else can change a link any more.
    real = [os.path.realpath(each) for each in (folder, *outside)]
    leaving = [f"{path} -> {target}" for path, target in links if not _within(os.path.realpath(folder / path), real)]
    if leaving:
        raise Unfit(
            f"A link leads out of the release: {_listed(leaving)}. Put what it leads to in the source, or let the app "
            "find it by a setting."
        )
    strange = [str(path.relative_to(folder)) for path in _all(folder) if path.lstat().st_uid != uid]
    if strange:
        raise Unfit(f"Not root's, though all was given to it: {_listed(strange)}. Somebody else writes there.")


def _take(descriptor, path, uid, gid, links):
    """Take a folder over, by its descriptor; `path` is its own below the release."""
    if len(path.parts) > DEEPEST:
        raise Unfit(f"Folders lie deeper than {DEEPEST} below each other: {path}.")
    _give(descriptor, uid, gid, 0o750)
    with os.scandir(descriptor) as found:
        entries = list(found)
    for entry in entries:
        below = path / entry.name
        if entry.is_symlink():
            os.chown(entry.name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
            links.append((below, os.readlink(entry.name, dir_fd=descriptor)))
        elif entry.is_dir(follow_symlinks=False):
            inner = os.open(entry.name, READ | os.O_DIRECTORY, dir_fd=descriptor)
            try:
                _take(inner, below, uid, gid, links)
            finally:
                os.close(inner)
        elif entry.is_file(follow_symlinks=False):
            file = os.open(entry.name, READ, dir_fd=descriptor)
            try:
                mode = os.fstat(file).st_mode
                if not stat.S_ISREG(mode):
                    raise Unfit(f"{below} was a file a moment ago: something still writes to the release.")
                if mode & (stat.S_ISUID | stat.S_ISGID):
                    raise Unfit(f"{below} would run as its owner or group (mode {mode & 0o7777:o}): take that bit off.")
                _give(file, uid, gid, 0o750 if mode & 0o111 else 0o640)
            finally:
                os.close(file)
        else:
            raise Unfit(f"{below} is a device, a socket or a pipe: take it out of the source.")


def _give(descriptor, uid, gid, mode):
    """Owner, group and mode of what is open, and no list of others who may."""
    os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)
    for name in os.listxattr(descriptor):
        if name in LISTS:
            os.removexattr(descriptor, name)


def _all(folder):
    yield folder
    yield from folder.rglob("*")


def _within(path, folders):
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _listed(paths):
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(map(str, paths[:NAMED])) + more
