"""What a source says about its dependencies: its lock file, its projects, and uv's settings in it.

`dependencies` of what is wanted has these, each of which may be missing:
  lock      path of the lock file, below the app's folder; None: it is found
  extras    of the project
  groups    of dependencies, besides those that every installation has
  project   whether the app's own project is installed; None: as its build system says
  hashes    False: requirements without hashes are pinned by the first build
  more      requirements besides those of the lock file
  before    day; what is pinned was on the index before it
  offline   whether a build asks an index only for what earlier ones haven't kept
  server    requirements of the app's server, which a build meets where the lock file doesn't
"""

from __future__ import annotations

import posixpath
import re

from slipway_host import lockfiles, requirements
from slipway_host.lockfiles import MADE_BY, PROJECT
from slipway_host.release import source
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from slipway_host.lockfiles import Content
    from slipway_host.release.app import App

SETTINGS = (PROJECT, "uv.toml", "setup.py", "setup.cfg")
"""Files beside a lock file that decide what is installed."""


class Lock:
    """The lock file of an app, and all that its environment is made from."""

    def __init__(self, kind: str, path: str, made_from: list[bytes], *, builds: bool) -> None:
        """`kind`: as `lockfiles.kind_of` tells; `path`: of the file, in the source; `made_from`: contents that decide,
        its own first; `builds`: whether the app's own project says how it is built."""
        self.kind, self.path, self.made_from, self.builds = kind, path, made_from, builds
        self.pins = requirements.Requirements()
        """What it asks for, if it is a file of requirements."""

    @property
    def content(self) -> bytes:
        """The lock file's own content."""
        return self.made_from[0]


def settings(app: App) -> dict[str, Any]:
    """What the operator has set of dependencies."""
    return dict(app.wanted.get("dependencies") or {})


def find(app: App, folder: Path) -> Lock:
    """The lock file of an app: the named one, else what its folder has; for uv, one above it may count.

    + folder: has the source

    Raises Failed if there is none, or none that can be used.
    """
    subdir, content = app.wanted["source"]["subdir"], source.content_of(app, folder)
    named, hashes = settings(app).get("lock"), settings(app).get("hashes", True)
    path = lockfiles.found(subdir, content, hashes=hashes)
    if named:
        path = posixpath.normpath(posixpath.join(subdir, named))
    told = None if path is None or path.startswith("../") else content(path)
    if path is None or told is None:
        raise Failed(_lacking(content(posixpath.join(subdir, PROJECT)), subdir, named))
    beside = {subdir, posixpath.dirname(path)}
    decide = [content(posixpath.join(each, file)) or b"" for each in sorted(beside) for file in SETTINGS]
    project = content(posixpath.join(subdir, PROJECT))
    builds = b"[build-system]" in (project or b"") or content(posixpath.join(subdir, "setup.py")) is not None
    lock = Lock(lockfiles.kind_of(path), path, [told, *decide], builds=builds)
    if lock.kind == "uv" and project is None:
        where = subdir or "the root"
        raise Failed(f"There is no {PROJECT} in {where} of the source: set source.subdir to the app's folder.")
    if lock.kind == "requirements":
        _read_requirements(lock, subdir, content, hashes=hashes)
    return lock


def _lacking(project: bytes | None, subdir: str, named: str | None) -> str:
    """The message for a source without a lock file."""
    if named:
        return f"The source has no {named}: correct dependencies.lock, which is relative to the app's folder."
    where = subdir or "the root"
    if project is None:
        return (
            f"There is no {PROJECT} and no requirements.txt in {where} of the source: set source.subdir to the app's "
            "folder, or dependencies.lock to its lock file."
        )
    name = lockfiles.lacking(project)
    return (
        f"The source has no {name}: `{MADE_BY[name]}` in the project, commit it, and run again; or set "
        "dependencies.hashes to False, and the first build pins what the project names."
    )


def _read_requirements(lock: Lock, subdir: str, content: Content, *, hashes: bool) -> None:
    """Read what a file of requirements asks for. Raises Failed if that isn't pinned, unless a build may pin it."""
    try:
        lock.pins = asked = requirements.read(lock.path, content)
    except requirements.Unreadable as error:
        raise Failed(f"{lock.path} can't be used: {error}.") from error
    lock.made_from += [each for path, each in sorted(asked.files.items()) if path != lock.path]
    # What these folders need is pinned with the rest.
    folders = {posixpath.normpath(posixpath.join(subdir, requirements.folder_of(each))) for each, _ in asked.local}
    inner = [each for each in sorted(folders) if not each.startswith("../")]
    lock.made_from += [content(posixpath.join(each, file)) or b"" for each in inner for file in SETTINGS]
    if (asked.loose or asked.projects) and hashes:
        raise Failed(
            f"{lock.path} has no hash of {asked.unpinned}: `uv pip compile --generate-hashes` writes them; or set "
            "dependencies.hashes to False, and the first build does."
        )


def plain(name: str) -> str:
    """A package's name as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(lock: bytes) -> list[str]:
    """Names of all packages of a uv.lock or a pylock.toml, sorted."""
    # As uv writes it; Python 3.10 can't read TOML.
    found = re.findall(r'^\[\[packages?\]\]\nname = "([^"]+)"$', lock.decode(errors="replace"), re.MULTILINE)
    return sorted({*found})
