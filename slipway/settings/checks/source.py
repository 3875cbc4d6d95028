"""An app's source: a project with a lock file that fits it, or a repository that can be reached."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier
from packaging.utils import canonicalize_name
from slipway_host import lockfiles, pins, requirements
from slipway_host.lockfiles import PROJECT

from slipway import uv
from slipway.settings.app import AppSettings
from slipway.settings.checks.keys import check_ssh_key
from slipway.settings.checks.report import Report, check_text, read_file
from slipway.settings.errors import show
from slipway.settings.source import FolderSource, GitSource


@functools.cache
def _parsed(content: bytes) -> dict[str, Any]:
    """TOML; nobody changes what is returned, since a run checks the same files twice, and a lock file is long."""
    return tomllib.loads(content.decode("utf-8"))


def _load_toml(report: Report, path: str, file: Path) -> dict[str, Any] | None:
    content = read_file(report, path, file, f"a project with {file.name}")
    if content is None:
        return None
    try:
        return _parsed(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        report.add(path, f"a readable {file.name}", f"{file}: {error}", "correct the file")
        return None


def check_folder(report: Report, at: str, app: AppSettings, source: FolderSource) -> None:
    """A local folder: a project with a lock file that fits it."""
    root, folder = app.source_dir, app.app_dir
    if root is None or folder is None:
        return
    if not root.is_dir():
        do = "correct the path; it is relative to the inventory's folder"
        report.add(f"{at}.path", "an existing folder", f"no folder {root}", do)
        return
    if not folder.is_dir() or not folder.resolve().is_relative_to(root):
        report.add(f"{at}.subdir", f"a folder inside {root}", f"no folder {folder}", "correct the name")
        return
    for number, name in enumerate(source.include):
        if not (root / name).exists():
            found, do = f"{show(name)}, which is not there", "build it first, or correct the name"
            report.add(f"{at}.include[{number}]", f"a file or a folder in {root}", found, do)
    place = f"{at}.subdir" if source.subdir else f"{at}.path"
    app_at = at.rpartition(".")[0]
    lock = app.lock_file
    if app.dependencies.lock is not None and lock is None:
        do = "correct the path; it is relative to the app's folder"
        report.add(f"{app_at}.dependencies.lock", f"a file in {root}", show(app.dependencies.lock), do)
        return
    has_project = (folder / PROJECT).is_file()
    if not has_project and (lock is None or lockfiles.kind_of(lock.name) == "uv"):
        do = "name the app's folder in subdir, or run uv init there"
        if any((folder / each).is_file() for each in requirements.PROJECTS):
            do = UNLOCKED.removeprefix("or ")
        report.add(place, "a project with pyproject.toml", f"none in {folder}", do)
        return
    project_file = _load_toml(report, place, folder / PROJECT) if has_project else {}
    if lock is None:
        _check_lacking(report, place, folder, root)
    if project_file is None:
        return
    project = project_file.get("project")
    named = isinstance(project, dict) and isinstance(project.get("name"), str)
    kind = None if lock is None else lockfiles.kind_of(lock.name)
    if not named and (kind == "uv" or (lock is None and lockfiles.lacking(_bytes(folder)) == lockfiles.UV)):
        report.add(place, "a project with a [project] table and a name", f"none in {folder}/pyproject.toml", "add it")
        return
    _check_python(report, at, app, project_file)
    if lock is None:
        return
    if kind in ("poetry", "pdm"):
        _check_pins(report, place, folder, lock, kind, project_file)
    elif kind == "uv":
        _check_chosen(report, app_at, app, project_file)
        _check_uv(report, place, folder, lock, str(project_file["project"]["name"]))
    elif kind == "requirements":
        if lock.name in requirements.PROJECTS:
            _check_chosen(report, app_at, app, project_file)
        _check_requirements(report, app_at, app, lock)


def _bytes(folder: Path) -> bytes:
    """Content of a project's pyproject.toml."""
    try:
        return (folder / PROJECT).read_bytes()
    except OSError:  # it was told
        return b""


UNLOCKED = "or set dependencies.hashes to False, and the first build pins what the project names"


def _check_lacking(report: Report, path: str, folder: Path, root: Path) -> None:
    """There is no lock file: name the one that the project's own tool makes."""
    name = lockfiles.lacking(_bytes(folder))
    command = lockfiles.MADE_BY[name]
    if name == lockfiles.UV:
        do = f"run {command} in {folder} and commit {name}; of a workspace, path must be its root; {UNLOCKED}"
        report.add(path, f"a project with {name}", f"none in {folder} or above it inside {root}", do)
    else:
        do = f"run {command} there and commit {name}; {UNLOCKED}"
        report.add(path, f"a project with {name}", f"none in {folder}", do)


def _check_chosen(report: Report, at: str, app: AppSettings, project_file: dict[str, Any]) -> None:
    """Extras and groups that are asked for: the project has them."""
    project = project_file.get("project")
    known = {
        "extras": project.get("optional-dependencies") if isinstance(project, dict) else None,
        "groups": project_file.get("dependency-groups"),
    }
    for option, table in known.items():
        names = sorted(table) if isinstance(table, dict) else []
        plain = {canonicalize_name(name) for name in names}
        for name in getattr(app.dependencies, option):
            if canonicalize_name(name) not in plain:
                has = f"it has {', '.join(names)}" if names else "it has none"
                do = f"correct the name, or remove it; {has}"
                report.add(f"{at}.dependencies.{option}", f"{option} of pyproject.toml", show(name), do)


def _check_uv(report: Report, path: str, folder: Path, lock: Path, name: str) -> None:
    """A uv.lock fits the project, as far as uv can tell here. Nothing but uv reads it as TOML: it takes newer TOML."""
    do = f"run uv lock in {folder} and commit uv.lock"
    verdict = uv.verdict(folder, lock.parent)
    if verdict is uv.Verdict.OUTDATED:
        report.add(path, "a uv.lock that fits pyproject.toml", "an older one", do)
    elif verdict is uv.Verdict.UNREADABLE:
        report.add(path, "a uv.lock as uv writes it", "one that can't be understood", do)
    elif f'name = "{canonicalize_name(name)}"' not in lock.read_text(encoding="utf-8", errors="replace"):
        report.add(path, "a uv.lock that fits pyproject.toml", f"one without {name}", do)


def _check_requirements(report: Report, at: str, app: AppSettings, lock: Path) -> None:
    """A requirements file pins all of it, or may be pinned by the first build."""
    assert app.source_dir is not None
    path = f"{at}.dependencies.lock" if app.dependencies.lock else f"{at}.source.path"
    for option in ("extras", "groups"):
        if (names := getattr(app.dependencies, option)) and lock.name not in requirements.PROJECTS:
            do = f"remove them, or name the requirements file that has what they need in lock; {lock.name} has no such"
            report.add(f"{at}.dependencies.{option}", "none with a requirements file", show(names), do)
    try:
        asked = requirements.read(str(lock.relative_to(app.source_dir)), app.content)
    except requirements.Unreadable as error:
        report.add(path, "a requirements file that can be read", f"{lock.name}: {error}", "correct it")
        return
    if (asked.loose or asked.projects) and app.dependencies.hashes:
        do = (
            f"pin it: uv pip compile --generate-hashes {lock.name} -o requirements.lock.txt, and name that in "
            "dependencies.lock; or set dependencies.hashes to False, and the first build pins it"
        )
        report.add(path, "requirements with hashes", f"{lock.name} without one of {asked.unpinned}", do)


def _check_pins(report: Report, path: str, folder: Path, lock: Path, kind: str, project: dict[str, Any]) -> None:
    """A poetry.lock or a pdm.lock was made from the dependencies that the project has."""
    locked = _load_toml(report, path, lock)
    if locked is not None and pins.outdated(kind, locked, project):
        do = f"run {kind} lock in {folder} and commit {lock.name}"
        report.add(path, f"a {lock.name} that fits pyproject.toml", "an older one", do)


def _check_python(report: Report, at: str, app: AppSettings, project: dict[str, Any]) -> None:
    """The project takes the Python that the app gets."""
    required, name = pins.required_python(project)
    if required is None:
        return
    path = at.rpartition(".")[0] + ".python"
    fits = functools.partial(_takes, required)
    try:
        taken = fits(app.python_version)
    except InvalidSpecifier:
        report.add(at, f"a {name} that can be read", show(required), "correct it in pyproject.toml")
        return
    if not taken:
        fitting = [version for version in ("3.14", "3.13", "3.12", "3.11", "3.10") if fits(version)]
        do = f'set python to "{fitting[0]}"' if fitting else "release the app for Python 3.10 or newer"
        expected = f"a version that the project's {name} allows ({required})"
        report.add(path, expected, show(app.python_version), do)


def _takes(required: str, version: str) -> bool:
    """Whether some patch release of a Python is within a range."""
    patches = [version] if version.count(".") == 2 else [f"{version}.{patch}" for patch in range(100)]
    return any(pins.within(required, each) for each in patches)


def check_git_source(report: Report, at: str, app: AppSettings, source: GitSource) -> None:
    """A repository: keys and known hosts are for SSH, and can be read."""
    for option, file in (("deploy_key", app.deploy_key_local), ("known_hosts", app.known_hosts_local)):
        if file is not None and not source.uses_ssh:
            do = f"write git as an SSH address (git@host:path), or remove {option}"
            report.add(f"{at}.{option}", "set with an SSH address alone", show(source.git), do)
    if source.uses_ssh:
        check_ssh_key(report, f"{at}.deploy_key", app.deploy_key_local, login=False)
        check_text(report, f"{at}.known_hosts", app.known_hosts_local, "a known_hosts file")
