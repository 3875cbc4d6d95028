"""What to do about a path that an app couldn't write: which setting makes it writable, and lets it outlive releases."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from slipway_host.text import read_environment, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App

REFUSED = r"Read-only file system|Permission denied|No such file or directory"
PATHS = (
    # Python: [Errno 30] Read-only file system: 'logs/app.log'; Node.js: EROFS: read-only file system, open '/srv/…'
    re.compile(rf"(?i)({REFUSED})(?:, \w+|:) ['\"]([^'\"\n]+)['\"]"),
    # Programs in C: mkdir: cannot create directory 'logs': Read-only file system
    re.compile(rf"(?i)['\"\u2018]([^'\"\u2018\u2019\n]+)['\"\u2019]: ({REFUSED})"),
)
SQLITE = re.compile(r"unable to open database file|attempt to write a readonly database")
SQLITE_URL = re.compile(r"sqlite(?:\+\w+)?:///([^?#]+)")
MAKES = re.compile(r"mkdir|makedirs|create directory")
"""Words of what makes folders, in the lines before the error."""
JUST_BEFORE = 300  # characters
MOST = 100_000  # characters of a failure's text that are looked at: its end


def advice(app: App, release: str, text: str, *, built: bool) -> str:
    """The advice for a failure; empty if it isn't about a path that couldn't be written.

    + text: what was told of the failure
    + built: whether the release was built already: root owns it from then on
    """
    text = text[-MOST:]
    for what, path in reversed(paths(text)):
        with contextlib.suppress(OSError, ValueError):  # the app wrote it: the path may be none, or too long
            makes = bool(MAKES.search(text[max(0, text.rfind(path) - JUST_BEFORE) :]))
            if told := about(app, release, path, what.lower(), built=built, makes=makes):
                return f"\n{told}"
    if built and SQLITE.search(text):
        return f"\n{of_sqlite(app, release)}"
    return ""


def paths(text: str) -> list[tuple[str, str]]:
    """What was refused, and its path, in the order of the text."""
    first, second = PATHS
    found = [(match.start(), match[1], match[2]) for match in first.finditer(text)]
    found += [(match.start(), match[2], match[1]) for match in second.finditer(text)]
    return [(what, path) for _, what, path in sorted(found)]


def about(app: App, release: str, path: str, what: str, *, built: bool, makes: bool) -> str:
    """The advice for one path.

    + makes: whether it was to become a folder
    """
    work, folder = app.work(release), app.at.folder(release)
    whole = Path(os.path.normpath(work / path))
    missing = what.startswith("no such")
    if not whole.is_relative_to(folder):
        if missing or what.startswith("permission") or whole.is_relative_to(app.at.home):
            return ""
        may = "its folder, HOME and TMPDIR"
        if built:
            may = f"{app.at.home} (its STATE_DIRECTORY), TMPDIR, and what shared and shared_files name in its folder"
        return f"{short(path)} is read-only for {'a build' if not built else 'the app'}, which may write to {may}."
    if not built or (missing and whole.parent.exists()):
        return ""
    if not whole.is_relative_to(work):
        return f"{short(path)} lies in the release, but outside of the app's folder: give the app another path."
    return setting(app, release, whole.relative_to(work), makes=makes)


def setting(app: App, release: str, path: Path, *, makes: bool = False) -> str:
    """The setting that makes a path in the app's folder writable."""
    known = app.wanted.get("shared") or {}
    work = app.work(release)
    if not path.name:
        return ""
    lies = f"{short(path)} lies in the release, which the app can't change."
    is_file = (work / path).is_file() or (not (work / path).is_dir() and "." in path.name and not makes)
    beside_code = path.parent == Path() or any((work / path.parent).glob("*.py"))
    if is_file and beside_code:
        return f"{lies} Set shared_files to {json.dumps({str(path): {'writable': True}}).replace('true', 'True')}."
    folders = [*known.get("folders", []), str(path.parent if is_file else path)]
    return f"{lies} Set shared to {json.dumps(list(dict.fromkeys(folders)))}: what is there outlives releases."


def of_sqlite(app: App, release: str) -> str:
    """The advice for a database of SQLite that can't be written."""
    work = app.work(release)
    for value in environment(app, release).values():
        if match := SQLITE_URL.match(value):
            path = Path(os.path.normpath(work / match[1]))
            if path.is_relative_to(work) and (told := setting(app, release, path.relative_to(work))):
                return told
    return (
        "SQLite writes to its file and beside it. For a file in the app's folder, name it in shared_files, as "
        f'{{"db.sqlite3": {{"writable": True}}}}, or its folder in shared; or let it lie in {app.at.home}.'
    )


def environment(app: App, release: str) -> dict[str, str]:
    """The release's variables; none if they can't be read."""
    try:
        return read_environment(app.at.env(release).read_text(errors="replace"))
    except OSError:
        return {}
