"""An app's source: a project with a lock file that fits it, or a repository that can be reached."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

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
    if not (folder / "pyproject.toml").is_file():
        do = "name the app's folder in subdir, or run uv init there"
        report.add(place, "a project with pyproject.toml", f"none in {folder}", do)
        return
    project_file = _load_toml(report, place, folder / "pyproject.toml")
    if app.lock_dir is None:
        do = f"run uv lock in {folder} and commit uv.lock; of a workspace, path must be its root"
        report.add(place, "a project with uv.lock", f"none in {folder} or above it inside {root}", do)
        lock = None
    else:
        lock = _load_toml(report, place, app.lock_dir / "uv.lock")
    project = (project_file or {}).get("project")
    if project_file is None:
        return
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        report.add(place, "a project with a [project] table and a name", f"none in {folder}/pyproject.toml", "add it")
        return
    _check_python(report, at, app, project)
    if lock is not None:
        try:
            _check_lock(report, place, folder, project_file, lock, app)
        except (AttributeError, KeyError, TypeError, ValueError):  # not the shape uv writes
            do = f"run uv lock in {folder} and commit uv.lock"
            report.add(place, "a uv.lock as uv writes it", "one that can't be understood", do)


def _check_python(report: Report, at: str, app: AppSettings, project: dict[str, Any]) -> None:
    required = project.get("requires-python")
    if not isinstance(required, str):
        return
    path = at.rpartition(".")[0] + ".python"
    try:
        specifier = SpecifierSet(required)
    except InvalidSpecifier:
        report.add(at, "a requires-python that can be read", show(required), "correct it in pyproject.toml")
        return
    wanted = app.python_version
    patches = [wanted] if wanted.count(".") == 2 else [f"{wanted}.{patch}" for patch in range(100)]
    if not any(specifier.contains(version) for version in patches):
        fitting = [
            f"3.{minor}" for minor in range(11, 15) if any(specifier.contains(f"3.{minor}.{n}") for n in range(100))
        ]
        do = f'set python to "{fitting[-1]}"' if fitting else "release the app for Python 3.11 or newer"
        report.add(path, f"a version that the project's requires-python allows ({required})", show(wanted), do)


def _check_lock(
    report: Report, path: str, folder: Path, project_file: dict[str, Any], lock: dict[str, Any], app: AppSettings
) -> None:
    """The lock file fits the project, as far as uv can tell here, and has what the app's server needs."""
    if uv.outdated(folder, app.lock_dir or folder):
        do = f"run uv lock in {folder} and commit uv.lock"
        report.add(path, "a uv.lock that fits pyproject.toml", "an older one", do)
        return
    packages = [package for package in lock.get("package", []) if isinstance(package, dict) and "name" in package]
    reached = _reachable(canonicalize_name(project_file["project"]["name"]), project_file, packages)
    server = app.runs_under
    if missing := [runner for runner in server.packages if runner not in reached]:
        found = f"uv.lock without {' and '.join(missing)}"
        expected = f"an app that depends on {' and '.join(server.packages)}"
        report.add(path, expected, found, f"in the project run: {server.add}")


def _reachable(name: str, project_file: dict[str, Any], packages: list[dict[str, Any]]) -> set[str]:
    """Names of what `uv sync --no-dev` installs for the project, markers left aside."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    groups = project_file.get("tool", {}).get("uv", {}).get("default-groups", [])
    todo: list[tuple[str, str]] = [(name, "")]
    todo += [
        (entry["name"], extra)
        for package in by_name[name]
        for group, entries in package.get("dev-dependencies", {}).items()
        if group != "dev" and (groups == "all" or group in groups)
        for entry in entries
        for extra in ("", *entry.get("extra", []))
    ]
    seen: set[tuple[str, str]] = set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for package in by_name.get(current[0], []):
            extra = current[1]
            entries = (
                package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
            )
            todo += [(entry["name"], more) for entry in entries for more in ("", *entry.get("extra", []))]
    return {found for found, _ in seen}


def check_git_source(report: Report, at: str, app: AppSettings, source: GitSource) -> None:
    """A repository: keys and known hosts are for SSH, and can be read."""
    for option, file in (("deploy_key", app.deploy_key_local), ("known_hosts", app.known_hosts_local)):
        if file is not None and not source.uses_ssh:
            do = f"write git as an SSH address (git@host:path), or remove {option}"
            report.add(f"{at}.{option}", "set with an SSH address alone", show(source.git), do)
    if source.uses_ssh:
        check_ssh_key(report, f"{at}.deploy_key", app.deploy_key_local, login=False)
        check_text(report, f"{at}.known_hosts", app.known_hosts_local, "a known_hosts file")
