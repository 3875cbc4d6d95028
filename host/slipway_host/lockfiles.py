"""Find the lock file of an app in its source. Both sides do it: the operator's before a run, the host in a build."""

from __future__ import annotations

import posixpath
import re

from slipway_host import requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Content = Callable[[str], "bytes | None"]
    """Gives a file's content by its path in the source; None if there is no such file."""

PROJECT = "pyproject.toml"
UV, REQUIREMENTS = "uv.lock", "requirements.txt"
KINDS = {UV: "uv", "pylock.toml": "pylock", REQUIREMENTS: "requirements", "poetry.lock": "poetry", "pdm.lock": "pdm"}
KINDS[requirements.PIPFILE] = "requirements"
"""Name of a lock file → its kind, in the order in which they count."""
DESCRIBE = ("describe", "--tags", "--long", "--match", "*[0-9]*")
"""git's words for what the version of a source is, where that comes from tags."""
MADE_BY = {"uv.lock": "uv lock", "poetry.lock": "poetry lock", "pdm.lock": "pdm lock"}
"""Name of a lock file → the command that makes it."""


def found(subdir: str, content: Content, *, hashes: bool = True) -> str | None:
    """Path of an app's lock file: in its own folder, else a uv.lock above it; None if there is none.

    Requirements without hashes count where there is nothing else, or where they need none; there the project's own
    file counts, too, if there is no other.

    + subdir: the app's folder in the source
    """
    own = {name: posixpath.join(subdir, name) for name in KINDS}
    there = [name for name, path in own.items() if content(path) is not None]
    if REQUIREMENTS in there and hashes and not _pinned(own[REQUIREMENTS], content):
        there.remove(REQUIREMENTS)
    if there:
        return own[there[0]]
    parts = subdir.split("/") if subdir else []
    above = [posixpath.join(*parts[:count], UV) for count in range(len(parts) - 1, -1, -1)]
    # Without a project of its own, it is no member of a workspace.
    is_member = content(posixpath.join(subdir, PROJECT)) is not None
    rest = [*above, own[REQUIREMENTS]] if is_member else [own[REQUIREMENTS], *above]
    if not hashes:  # what the project itself names is pinned by a build
        rest += [posixpath.join(subdir, name) for name in requirements.PROJECTS]
    return next((path for path in rest if content(path) is not None), None)


def _pinned(path: str, content: Content) -> bool:
    try:
        return requirements.read(path, content).hashes
    except requirements.Unreadable:
        return False


def kind_of(path: str) -> str:
    """The kind of a lock file, by its name: uv, pylock, requirements, poetry or pdm."""
    name = posixpath.basename(path)
    return KINDS.get(name) or ("pylock" if re.fullmatch(r"pylock\.[^.]+\.toml", name) else "requirements")


def named_python(subdir: str, content: Content) -> tuple[str, str] | None:
    """File and version of the Python that a source names besides what it takes; None if it names none.

    Those are .python-version, in the app's folder or above it, and runtime.txt beside the app.
    """
    parts = subdir.split("/") if subdir else []
    above = [posixpath.join(*parts[:count], ".python-version") for count in range(len(parts), -1, -1)]
    for path in [*above, posixpath.join(subdir, "runtime.txt")]:
        lines = (content(path) or b"")[:1000].decode(errors="replace").splitlines()
        told = next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")
        if version := re.fullmatch(r"(?:(?:c?python)[-@]?)?(3\.\d+(?:\.\d+)?)(?:[+-].*)?", told, re.IGNORECASE):
            return path, version[1]
    return None


def other_python(subdir: str, content: Content, python: str) -> str:
    """What to say of a source that names another Python than it gets; empty if it doesn't.

    + python: the version that it gets
    """
    named = named_python(subdir, content)
    if named is None or f"{named[1]}.".startswith(f"{python}.") or f"{python}.".startswith(f"{named[1]}."):
        return ""
    path, version = named
    short = ".".join(version.split(".")[:2])
    return f'{path} names {version}: for that, set python to "{short}"'


def lacking(project: bytes | None) -> str:
    """Name of the lock file that a project without one should have.

    + project: content of its pyproject.toml
    """
    for tool in ("poetry", "pdm"):
        if re.search(rb"^\[tool\.%s\b" % tool.encode(), project or b"", re.MULTILINE):
            return f"{tool}.lock"
    return UV
