"""Inventory files: which one a command line names, and what is in it."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from slipway import project
from slipway.settings.errors import Problem, SettingsError, show

CONNECTOR = "@slipway/"
"""What stands before a host's address in an inventory: slipway/transport/connector.py."""

_ROOT = project.root()


def is_entry_point(path: Path) -> bool:
    """Whether pyinfra runs the file on an inventory: what a command line may name, and what is no inventory."""
    return path.resolve() == _ROOT / "deploy.py" or path.resolve().parent == _ROOT / "tasks"


WITH_A_NAME = ("--config", "--data", "--limit", "--exclude", "--key", "--ssh-key", "--group-data", "--chdir")
"""Options of pyinfra behind which a word that ends with .py isn't the inventory."""


def find_inventory(arguments: Iterable[str], groups: Iterable[str]) -> Path | None:
    """The inventory among pyinfra's command line arguments: the file whose stem is a group of the host.

    pyinfra puts every host of ``inventories/production.py`` into the group ``production``.
    """
    known = set(groups)
    for argument in arguments:
        path = Path(argument)
        if path.name.rpartition(".")[0] in known and path.is_file():
            return path
    return None


def read_hosts(path: Path) -> dict[str, dict[str, Any]]:
    """Host → data of an inventory file, put together in pyinfra's order: host over group over ``all``."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))  # as pyinfra does, so that an inventory may import from the project
    try:
        names = runpy.run_path(str(path))
    except OSError as error:
        problem = Problem("file", "an inventory file", error.strerror or "unreadable", "correct the file's name")
        raise SettingsError(shown(path), {"all hosts": [problem]}) from None
    except (SyntaxError, UnicodeDecodeError) as error:
        found = f"{error.msg} in line {error.lineno}" if isinstance(error, SyntaxError) else "other bytes"
        problem = Problem("file", "a Python file in UTF-8", found, "correct it")
        raise SettingsError(shown(path), {"all hosts": [problem]}) from None
    finally:
        sys.path[:] = before
    groups = {name: value for name, value in names.items() if _is_group(name, value)}
    of_all: dict[str, Any] = {}
    of_group: dict[str, dict[str, Any]] = {}
    of_host: dict[str, dict[str, Any]] = {}
    for group_name, group in groups.items():
        members, shared = group if isinstance(group, tuple) else (group, {})
        if group_name == "all":
            of_all = shared
        for entry in members:
            name, data = entry if isinstance(entry, tuple) else (entry, {})
            name = name.removeprefix(CONNECTOR)  # pyinfra names the host so, too
            of_host.setdefault(name, {}).update(data)
            of_group.setdefault(name, {}).update({} if group_name == "all" else shared)
    hosts = {name: {**of_all, **of_group[name], **data} for name, data in of_host.items()}
    if not hosts:
        do = 'write hosts = [("203.0.113.5", {"ssh_user": …, "slipway": {…}})]'
        raise SettingsError(shown(path), {"all hosts": [Problem("hosts", "a list of hosts", "none", do)]})
    return hosts


def _is_group(name: str, value: Any) -> bool:
    if isinstance(value, tuple):  # (hosts, data), as pyinfra has it
        fit = len(value) == 2 and isinstance(value[1], dict)
        value = value[0] if fit else None
    return (
        not name.startswith("_")
        and isinstance(value, list)
        and len(value) > 0
        and all(isinstance(member, str | tuple) for member in value)
    )


def repeated_keys(inventory: Path) -> Iterator[Problem]:
    """Keys that one mapping of the file has twice; Python keeps the last and says nothing."""
    try:
        tree = ast.parse(inventory.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        lines: dict[str, list[int]] = {}
        for key in node.keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                lines.setdefault(key.value, []).append(key.lineno)
        for name, found in lines.items():
            if len(found) > 1:
                where = f"{show(name)} in lines {', '.join(map(str, found))}"
                yield Problem(f"line {found[-1]}", "each key once in a mapping", where, "keep one of them")


def shown(path: Path) -> str:
    """A path as a user would type it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)
