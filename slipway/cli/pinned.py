"""The versions that an app's lock file pins, as a project with a uv.lock: what `uv audit` can look at."""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from slipway_host import lockfiles, requirements

from slipway.settings import AppSettings

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,\\]+)\s*(?:[;\s].*)?")
"""A requirement of just one version, which has no more than a marker or hashes beside that."""
ROOT = "slipway-audited"


class UnpinnedError(Exception):
    """There is no lock file, or it doesn't say which versions are installed; the message says why, in one line."""


def lock_of(app: AppSettings, root: Path) -> str:
    """Path of an app's lock file in its source.

    + root: folder of the source

    Raises UnpinnedError if there is none.
    """

    def content(path: str) -> bytes | None:
        try:
            return (root / path).read_bytes()
        except OSError:
            return None

    named, subdir = app.dependencies.lock, app.source.subdir
    path = lockfiles.found(subdir, content, hashes=app.dependencies.hashes)
    if named is not None:
        path = posixpath.normpath(posixpath.join(subdir, named))
    if path is None or path.startswith("../") or content(path) is None:
        lacking = named or lockfiles.lacking(content(posixpath.join(subdir, lockfiles.PROJECT)))
        raise UnpinnedError(f"its source has no {lacking}")
    return path


def versions(app: AppSettings, root: Path, lock: str) -> set[tuple[str, str]]:
    """Name and version of each package that a lock file pins, of an index; for any machine.

    + lock: path of the lock file in the source

    Raises UnpinnedError if it can't be read, or leaves versions open.
    """
    kind = lockfiles.kind_of(lock)
    try:
        if kind == "requirements":
            return _of_requirements(root, lock)
        parsed = tomllib.loads((root / lock).read_text(encoding="utf-8"))
        table = parsed.get("packages" if kind == "pylock" else "package", [])
        # Without an index: a folder or a repository, of which nobody knows a version.
        elsewhere = {"directory", "vcs", "path", "git", "archive"}
        of_index = [each for each in table if not elsewhere & each.keys() and _is_of_index(each)]
        counts = {
            {"poetry": "main", "pdm": "default"}.get(kind, ""),
            *app.dependencies.groups,
            *app.dependencies.extras,
        }
        return {
            (canonicalize_name(each["name"]), str(each["version"]))
            for each in of_index
            if "version" in each and (kind == "pylock" or counts & {*each.get("groups", counts)})
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnpinnedError(f"{lock} can't be read: {' '.join(str(error).split())}") from error


def _is_of_index(package: dict[str, Any]) -> bool:
    """Whether a package of Poetry's comes from an index; others say nothing of it."""
    source = package.get("source", {})
    return not isinstance(source, dict) or source.get("type", "legacy") == "legacy"


def _of_requirements(root: Path, lock: str) -> set[tuple[str, str]]:
    def content(path: str) -> bytes | None:
        file = root / path
        return file.read_bytes() if file.is_file() else None

    try:
        asked = requirements.read(lock, content)
    except requirements.Unreadable as error:
        raise UnpinnedError(f"{lock}: {error}") from error
    if asked.projects:
        raise UnpinnedError(f"{lock} pins no version")
    found = {line: PINNED.fullmatch(line) for line in (*asked.hashed, *asked.loose) if " @ " not in line}
    if loose := [requirements.named(line) for line, pinned in found.items() if pinned is None]:
        more = f" and {len(loose) - 3} more" if len(loose) > 3 else ""
        raise UnpinnedError(f"{lock} pins no version of {', '.join(loose[:3])}{more}")
    return {(canonicalize_name(pinned[1]), pinned[2]) for pinned in found.values() if pinned}


def write_project(folder: Path, pinned: Iterable[tuple[str, str]]) -> None:
    """Make a project in `folder` whose uv.lock has these packages."""
    listed = sorted(pinned)
    names = sorted({name for name, _ in listed})
    project = [
        "[project]",
        f'name = "{ROOT}"',
        'version = "0"',
        'requires-python = ">=3.11"',
        f"dependencies = {json.dumps(names)}",
    ]
    source = 'source = { registry = "https://pypi.org/simple" }'
    lock = ["version = 1", 'requires-python = ">=3.11"']
    for name, version in listed:
        lock += ["", "[[package]]", f"name = {json.dumps(name)}", f"version = {json.dumps(version)}", source]
    lock += ["", "[[package]]", f'name = "{ROOT}"', 'version = "0"', 'source = { virtual = "." }', "dependencies = ["]
    lock += [
        f"    {{ name = {json.dumps(name)}, version = {json.dumps(version)}, {source} }}," for name, version in listed
    ]
    lock += ["]"]
    (folder / "pyproject.toml").write_text("\n".join([*project, ""]), encoding="utf-8")
    (folder / "uv.lock").write_text("\n".join([*lock, ""]), encoding="utf-8")
