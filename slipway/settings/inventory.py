"""Inventory files: which one a command line names, and what is in it."""

from __future__ import annotations

import ast
import contextlib
import runpy
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError

from slipway import project
from slipway.foreign import one_line
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

    pyinfra puts every host of ``inventories/production.py`` into the group ``production``, and all of them into
    ``all``.
    """
    known = {*groups, "all"}
    words = list(arguments)
    for before, word in zip(["", *words], words, strict=False):
        path = Path(word)
        fit = before not in WITH_A_NAME and path.name.rsplit(".", 1)[0] in known
        if fit and path.is_file() and not is_entry_point(path):
            return path
    return None


@dataclass(frozen=True)
class Inventory:
    """What an inventory file says, with what pyinfra's folders of group data add."""

    hosts: dict[str, dict[str, Any]]
    """Host → data, put together in pyinfra's order: host over group over ``all``."""
    bare: dict[str, str]
    """Host without any data → the list of names that it stands in, which may be meant for something else."""


def read_inventory(path: Path, further: Iterable[str] = ()) -> Inventory:
    """Run an inventory file as pyinfra does; connectors that make hosts of their own aren't asked.

    + further: files and folders of group data, besides ``group_data`` here and beside the inventory

    Raises SettingsError, with the file and the line, if it can't be run.
    """
    names = _run(path, path)
    if problems := list(_unfit(path, names)):
        raise SettingsError(shown(path), {"all hosts": problems})
    groups = {name: value for name, value in names.items() if _is_group(name, value)}
    of_groups = _group_data(path, further)
    of_all: dict[str, Any] = {}
    of_group: dict[str, dict[str, Any]] = {}
    of_host: dict[str, dict[str, Any]] = {}
    bare: dict[str, str] = {}
    for group_name, group in groups.items():
        members, shared = group if isinstance(group, tuple) else (group, {})
        shared = {**shared, **of_groups.get(group_name, {})}
        if group_name == "all":
            of_all = shared
        for entry in members:
            name, data = entry if isinstance(entry, tuple) else (entry, {})
            name = name.removeprefix(CONNECTOR)  # pyinfra names the host so, too
            of_host.setdefault(name, {}).update(data)
            of_group.setdefault(name, {}).update({} if group_name == "all" else shared)
            if not isinstance(group, tuple) and all(isinstance(each, str) for each in members):
                bare.setdefault(name, group_name)
    of_all = {**of_groups.get("all", {}), **of_all}
    of_file = of_groups.get(path.name.rsplit(".", 1)[0], {}) if path.name.rsplit(".", 1)[0] not in groups else {}
    hosts = {name: {**of_all, **of_group[name], **of_file, **data} for name, data in of_host.items()}
    if not hosts:
        do = 'write hosts = [("203.0.113.5", {"ssh_user": …, "slipway": {…}})]'
        where, found = ("hosts", "none")
        if "hosts" in names:  # a mapping, say, which pyinfra takes for no group
            where, found = f"hosts in line {_line_of(path, 'hosts')}", show(names["hosts"])
        raise SettingsError(shown(path), {"all hosts": [Problem(where, "a list of hosts", found, do)]})
    return Inventory(hosts, {name: group for name, group in bare.items() if not hosts[name]})


def _run(path: Path, inventory: Path) -> dict[str, Any]:
    """The names of a Python file, run as pyinfra does, and with what lies beside the inventory to import."""
    # Behind all else, and to stay: pyinfra runs the file once more.
    sys.path += [each for each in (str(Path.cwd()), str(inventory.absolute().parent)) if each not in sys.path]
    try:
        # What it prints isn't part of an answer, and where it goes isn't where others look for its file.
        with contextlib.redirect_stdout(sys.stderr), contextlib.chdir(Path.cwd()):
            return runpy.run_path(str(path))
    except (PyinfraError, KeyboardInterrupt):  # the inventory's own words
        raise
    except (SyntaxError, UnicodeDecodeError) as error:
        found = f"{error.msg} in line {error.lineno}" if isinstance(error, SyntaxError) else "other bytes"
        if isinstance(error, SyntaxError) and error.filename and Path(error.filename).name != path.name:
            found += f" of {shown(Path(error.filename))}"
        problem = Problem("file", "a Python file in UTF-8", found, "correct it")
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)) == path:
            problem = Problem("file", "an inventory file", error.strerror or "unreadable", "correct the file's name")
        else:
            problem = _raised(path, error)
    except BaseException as error:
        problem = _raised(path, error)
    raise SettingsError(shown(path), {"all hosts": [problem]}) from None


_LONGEST = 300
"""Characters of an inventory's own error that are shown."""


def _raised(path: Path, error: BaseException) -> Problem:
    """What an inventory raised, and where: the last line of it, or of what lies beside it, on the way there."""
    folder = path.absolute().parent
    steps = traceback.extract_tb(error.__traceback__)
    own = [each for each in steps if Path(each.filename).absolute().is_relative_to(folder)]
    place = f"line {own[-1].lineno} of {shown(Path(own[-1].filename))}" if own else shown(path)
    words = one_line(f"{type(error).__name__}: {error}".removesuffix(": "))[:_LONGEST]
    return Problem(place, "a file that runs to its end", words, "correct it; python3 shows the whole error")


def _unfit(path: Path, names: Mapping[str, Any]) -> Iterator[Problem]:
    """Lists and tuples at top level that pyinfra takes for groups of hosts, and can't read as such."""
    for name, value in names.items():
        if name.startswith("_"):
            continue
        rename = f"name it _{name}, if it is no group: pyinfra takes each list and tuple at top level for one"
        where = f"{name} in line {_line_of(path, name)}"
        if isinstance(value, tuple) and not (
            len(value) == 2 and isinstance(value[0], list) and isinstance(value[1], dict)
        ):
            yield Problem(where, "a list of hosts, or a tuple of it and the group's data", show(value), rename)
            continue
        members = value[0] if isinstance(value, tuple) else value
        if not isinstance(members, list) or not all(isinstance(member, str | tuple) for member in members):
            continue  # pyinfra leaves it alone, and says so
        for member in members:
            fit = isinstance(member, str) or (
                len(member) == 2 and isinstance(member[0], str) and isinstance(member[1], dict)
            )
            if not fit:
                found = f"({', '.join(map(show, member))})" if len(member) == len(("host", "data")) else show(member)
                yield Problem(where, "hosts as text, or as (host, data)", found, rename)
                break


def _line_of(path: Path, name: str) -> int:
    """Where a file first gives a name at top level."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node.lineno
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(
            isinstance(each, ast.Name) and each.id == name for target in targets if target for each in ast.walk(target)
        ):
            return node.lineno
    return 1


def _group_data(inventory: Path, further: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Group → what pyinfra's files of group data say of it, in the order in which pyinfra reads them."""
    folders = [Path.cwd() / "group_data"]
    if inventory.resolve().parent != Path.cwd():
        folders.append(inventory.resolve().parent / "group_data")
    found: dict[str, dict[str, Any]] = {}
    for place in [*folders, *map(Path, further)]:
        for file in [place] if place.is_file() else sorted(place.glob("*.py")):
            names = _run(file, inventory)
            exported = names.get("__all__", [name for name in names if name not in _imported(file)])
            data = {name: value for name, value in names.items() if name in exported and not name.startswith("__")}
            found.setdefault(file.stem, {}).update(data)
    return found


def _imported(file: Path) -> set[str]:
    """Names that a file has by importing them."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    found = [each for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for each in node.names]
    return {each.asname or each.name.partition(".")[0] for each in found}


def _is_group(name: str, value: Any) -> bool:
    members = value[0] if isinstance(value, tuple) else value
    return (
        not name.startswith("_")
        and isinstance(members, list)
        and len(members) > 0
        and all(isinstance(member, str | tuple) for member in members)
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
