"""What a release has besides its source: links to what outlives releases, and the operator's secret files.

Folders and files that the app may write are in one folder of root's, each in a folder that is the app's own. A release,
which is root's, has links to them. Nothing here is ever deleted. What the source has at such a path is copied there
once, when the folder is made.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import stat
import struct
from pathlib import Path

from slipway_host.names import NGINX_USER
from slipway_host.release import trees
from slipway_host.release.app import digest_of_text
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20  # acl(5), as the kernel numbers them
NOBODY = 0xFFFFFFFF
MOST_SECRET = 1_000_000  # bytes of a secret file
MOVE = "Share it by its former path, or move what it has by hand."


def belongs(path: Path, user: str) -> bool:
    """Whether a folder is a user's."""
    return path.lstat().st_uid == pwd.getpwnam(user).pw_uid


def link(app: App, release: str) -> None:
    """Link what outlives releases into a release that is root's already, and copy secret files into it."""
    wanted = app.wanted.get("shared") or {}
    for path in wanted.get("folders", []):
        place = in_release(app, release, path)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise Failed(f"shared: {path} is no folder in the app's source. For a file, set shared_files.")
        target = app.at.shared / path
        make(app, target, place if place.is_dir() else None)
        served(app, target, path in wanted.get("served", []))
        trees.remove(place)
        place.symlink_to(target)
    for path in wanted.get("files", []):
        place = in_release(app, release, path)
        if place.is_symlink() or place.is_dir():
            raise Failed(f"shared_files: {path} is no file in the app's source. For a folder, set shared.")
        target = app.at.shared / path
        make(app, target, place if place.is_file() else None)
        trees.remove(place)
        place.symlink_to(target / place.name)
    copy_secrets(app, release, wanted.get("secrets", []))


def in_release(app: App, release: str, path: str) -> Path:
    """The place of a path in the app's folder. Its parents are made. Raises Failed if a link leads out on the way."""
    folder = app.at.folder(release).resolve()
    place = app.work(release) / path
    parent = place.parent.resolve()
    if not parent.is_relative_to(folder):
        raise Failed(f"{path} can't be put into the release: a link on the way leads out of it.")
    for each in reversed([parent, *parent.parents]):
        if each.is_relative_to(folder) and not each.exists():
            each.mkdir(mode=0o750)
            app.system.chown(each, "root", app.at.group)
    if not parent.is_dir():
        raise Failed(f"{path} can't be put into the release: {parent.relative_to(folder)} is a file in the source.")
    return parent / place.name


def make(app: App, target: Path, content: Path | None) -> None:
    """Make a folder of the app's, unless it exists.

    + content: folder or file of the release that is copied there
    """
    root = app.at.shared
    for each in (root, *reversed([each for each in target.parents if each.is_relative_to(root) and each != root])):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)
        elif belongs(each, app.at.user):
            raise Failed(f"{target} can't be made: {each} is the app's own. {MOVE}")
    if target.exists():
        if not belongs(target, app.at.user):
            raise Failed(f"{target} isn't the app's: it has folders that were shared before. {MOVE}")
        return
    # Only root can write beside it: the app can't exchange anything before it is whole.
    partial = target.with_name(f".{target.name}.partial")
    trees.remove(partial)
    partial.mkdir(mode=0o750)
    if content is not None:
        inner = f"{content}/." if content.is_dir() else str(content)
        app.system.run("cp", "-a", "--", inner, str(partial))
    app.system.run("chown", "-hR", f"{app.at.user}:{app.at.group}", str(partial))
    partial.chmod(0o750)
    partial.rename(target)


# ── what nginx serves ────────────────────────────────────────────────────────────────────────────────────────────────


def served(app: App, folder: Path, wanted: bool) -> None:
    """Let nginx read a folder of the app's, with what the app will put into it; or no longer.

    It is an access control list, which new files inherit: the app's umask doesn't count.
    """
    descriptor = os.open(folder, trees.FOLDER)
    try:
        if (ACCESS in os.listxattr(descriptor)) != wanted:
            uid = os.fstat(descriptor).st_uid
            _allow(descriptor, uid, pwd.getpwnam(NGINX_USER).pw_uid if wanted else None)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        told = f"The disk of {app.at.shared} can't keep access control lists, which static files in `shared` need"
        raise Failed(f"{told}: mount it with them, or keep these files on another disk.") from error
    finally:
        os.close(descriptor)


def _allow(descriptor: int, owner: int, uid: int | None) -> None:
    """Let a user read an open folder and what is in it; None: nobody else. The folder's own list is last.

    The app may write there meanwhile. So what new files inherit is first, each is opened without following links, and
    only what is the app's changes.
    """
    _set(descriptor, DEFAULT, uid, 0o750)
    with os.scandir(descriptor) as found:
        names = [entry.name for entry in found]
    for name in names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                inner = os.open(name, trees.READ, dir_fd=descriptor)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, or a socket
                    continue
                raise
            try:
                told = os.fstat(inner)
                if told.st_uid == owner and stat.S_ISDIR(told.st_mode):
                    _allow(inner, owner, uid)
                elif told.st_uid == owner and stat.S_ISREG(told.st_mode):
                    _set(inner, ACCESS, uid, told.st_mode)
            finally:
                os.close(inner)
    _set(descriptor, ACCESS, uid, os.fstat(descriptor).st_mode)


def _set(descriptor: int, name: str, uid: int | None, mode: int) -> None:
    """Set one access control list of an open file or folder, or take it away."""
    if uid is None:
        if name in os.listxattr(descriptor):
            os.removexattr(descriptor, name)
        return
    reading = 5 if name == DEFAULT or stat.S_ISDIR(mode) else 4
    group = mode >> 3 & 7
    entries = [
        (USER_OBJ, mode >> 6 & 7, NOBODY),
        (USER, reading, uid),
        (GROUP_OBJ, group, NOBODY),
        (MASK, group | reading, NOBODY),
        (OTHER, mode & 7, NOBODY),
    ]
    os.setxattr(descriptor, name, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries))


# ── secret files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def copy_secrets(app: App, release: str, paths: list[str]) -> None:
    """Copy the operator's files into a release, readable by the app alone; remove those that aren't wanted any more."""
    contents = {
        path: trees.read(app.at.etc, f"{app.at.secret_files.name}/{app.at.secret_file(path).name}", MOST_SECRET)
        for path in paths
    }
    if paths and digest_of_files(contents) != app.wanted["inputs"].get("secret files"):
        told = f"{app.at.secret_files} doesn't have the secret files this release was asked for"
        raise Failed(f"{told}: somebody changed them meanwhile.")
    for path, content in contents.items():
        place = in_release(app, release, path)
        if place.is_dir() and not place.is_symlink():
            raise Failed(f"shared_files: {path} is a folder in the app's source.")
        trees.remove(place)
        app.system.replace(place, content or b"", 0o640, app.at.group)
    known = {app.at.secret_file(path).name for path in paths}
    for left in app.at.secret_files.glob("*") if app.at.secret_files.is_dir() else []:
        if left.name not in known:
            left.unlink()


def digest_of_files(contents: dict[str, bytes | None]) -> str:
    """A digest of paths and contents, as the operator's side computes it."""
    import hashlib

    digests = {path: hashlib.sha256(content or b"").hexdigest() for path, content in contents.items()}
    return digest_of_text(json.dumps(digests, sort_keys=True))
