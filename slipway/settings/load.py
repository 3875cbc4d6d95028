"""From an inventory to checked settings, or to the full list of what is wrong with it."""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway import person, project
from slipway.settings import checks
from slipway.settings import types as t
from slipway.settings.errors import Problem, SettingsError, join, show
from slipway.settings.host import Settings
from slipway.settings.inventory import (
    WITH_A_NAME,
    Inventory,
    find_inventory,
    is_entry_point,
    read_inventory,
    repeated_keys,
    shown,
)
from slipway.settings.options import COMMAND_LINE, OPTIONS, command_line_problems
from slipway.settings.problems import KEY, PLACE_OF, validate


def load(data: Mapping[str, Any], *, inventory: Path, host: str) -> Settings:
    """Check the raw ``slipway`` mapping of `host` and make settings of it.

    `inventory` is the file it comes from: relative paths in it are relative to its folder.
    Raises SettingsError with every problem at once.
    """
    settings, problems = _inspect(data, inventory=inventory, host=host)
    if settings is None or problems:
        raise SettingsError(shown(inventory), {host: problems})
    return settings


def load_for(host: Any) -> Settings:
    """The settings of pyinfra's current `host`, in ``deploy.py`` and ``tasks/``.

    The inventory file is the one on pyinfra's command line. Checks the connection's data too, and refuses ``@local``:
    the operator's own machine is never provisioned. Raises SettingsError with every problem at once.
    """
    inventory = find_inventory(sys.argv[1:], host.groups)
    data = {name: value for name, value in host.data.dict().items() if name not in OPTIONS}
    settings, problems = _inspect_host(host.name, data, inventory)
    if settings is None or problems:
        raise SettingsError(shown(inventory) if inventory else "inventory", {host.name: problems})
    return settings


def load_inventory(path: Path) -> list[tuple[str, dict[str, Any], Settings]]:
    """Every host of an inventory file: its name, its connection data (all but ``slipway``), its settings.

    Runs the file as pyinfra does, and reads ``group_data/`` folders; connectors that make hosts of their own aren't
    asked. For tests of a host, which read the same settings as the roles. Raises SettingsError with every problem of
    every host at once.
    """
    return _load_hosts(path, read_inventory(path))


def _load_hosts(path: Path, inventory: Inventory) -> list[tuple[str, dict[str, Any], Settings]]:
    loaded: list[tuple[str, dict[str, Any], Settings]] = []
    wrong: dict[str, list[Problem]] = {}
    for name, data in inventory.hosts.items():
        settings, problems = _inspect_host(name, data, path, inventory.bare.get(name))
        if settings is None or problems:
            wrong[name] = problems
        else:
            loaded.append((name, {key: value for key, value in data.items() if key != KEY}, settings))
    if wrong:
        raise SettingsError(shown(path), wrong)
    return loaded


def check_command_line() -> None:
    """Check the inventory file on pyinfra's command line, all its hosts, and every ``--data``, before it connects.

    For ``config.py``, which pyinfra runs first: a wrong ``ssh_key`` would otherwise be pyinfra's to report, and it
    prints what it was given, a pasted key included. Does nothing where no argument is an inventory file.
    Raises SettingsError with every problem of the command line and of every host at once.
    """
    arguments = sys.argv[1:]
    words = [word for before, word in zip(["", *arguments], arguments, strict=False) if before not in WITH_A_NAME]
    paths = [path for path in map(Path, words) if not str(path).startswith("-") and not is_entry_point(path)]
    if not paths[:1] or not paths[0].is_file():  # which any name will do for; elsewhere, and of none, .py tells
        paths = [path for path in paths if path.suffix == ".py"]
    path = paths[0] if paths else None
    if path is None:
        return
    person.home()  # where SSH's keys and known hosts are; told here, in one line, if it isn't known
    if not path.is_file():  # pyinfra would take the name for a host's, connect to nothing, and end well
        folder = path.parent if path.parent.is_dir() else project.root() / "inventories"
        known = sorted(shown(each) for each in folder.glob("*.py") if not is_entry_point(each))
        near = difflib.get_close_matches(str(path), known, n=1)
        do = f"write {near[0]}" if near else "write its name" + (f"; there are {', '.join(known)}" if known else "")
        raise SettingsError(shown(path), {"all hosts": [Problem("file", "an inventory file", "none of this name", do)]})
    hosts: dict[str, dict[str, Any]] = {}
    refused: list[SettingsError] = []
    try:
        inventory = read_inventory(path, group_data_in(arguments))
        hosts = inventory.hosts
        _load_hosts(path, inventory)
    except SettingsError as error:
        refused.append(error)
    problems = command_line_problems(arguments, hosts, dict(PLACE_OF))
    if refused or any(problems.values()):
        raise SettingsError(COMMAND_LINE, problems, *refused)


def group_data_in(arguments: Sequence[str]) -> list[str]:
    """What ``--group-data`` names on pyinfra's command line."""
    spread = [
        part for word in arguments for part in (word.split("=", 1) if word.startswith("--group-data=") else [word])
    ]
    return [word for before, word in zip(["", *spread], spread, strict=False) if before == "--group-data"]


def _inspect_host(
    name: str, data: Mapping[str, Any], inventory: Path | None, bare: str | None = None
) -> tuple[Settings | None, list[Problem]]:
    """A host's settings, and what is wrong with them; `bare` is a list of names that is all that there is of it."""
    if name == "@local" or name.startswith("@local/"):
        do = "put the host's address and ssh_user into an inventory file"
        return None, [Problem("host", "a host reached over SSH", "this machine (@local)", do)]
    if inventory is None:
        do = "name an inventory file, such as conf/production.py"
        return None, [Problem("inventory", "an inventory file", "none", do)]
    problems = [*_connection_problems(data), *_misplaced(data)]
    if KEY not in data:
        near = difflib.get_close_matches(KEY, map(str, data), n=1)
        found = f"no {KEY}" + (f", but {show(near[0])}" if near else "")
        do = f"rename {near[0]} to {KEY}" if near else f'add "{KEY}": {{"apps": {{…}}}} to the data of this host'
        if bare is not None:
            do += f"; or, if {bare} is no list of hosts, name it _{bare}: pyinfra takes each list at top level for one"
        return None, [*problems, Problem(KEY, "a mapping of this host's settings", found, do)]
    settings, found_problems = _inspect(data[KEY], inventory=inventory, host=name, login_files=_login_files(data))
    if settings is not None:
        report = checks.Report()
        checks.check_login(report, settings, lambda *parts: join(KEY, *parts), data.get("ssh_user"))
        found_problems += report.problems
    return settings, [*problems, *found_problems]


def _connection_problems(data: Mapping[str, Any]) -> list[Problem]:
    report = checks.Report()
    port, key, user = data.get("ssh_port"), data.get("ssh_key"), data.get("ssh_user")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        report.add("ssh_port", "a port from 1 to 65535", show(port), "write the number sshd listens on, without quotes")
    if user is not None and not (isinstance(user, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9._-]{0,31}", user)):
        report.add("ssh_user", "the name of a user on the host", show(user), "write root or a user who may use sudo")
    if key is not None:
        if not isinstance(key, str) or t.LOCAL_PATH.check is None or t.LOCAL_PATH.check(key) is not True:
            do = "save the key to a file (chmod 600), and write the file's name here"
            report.add("ssh_key", "the name of a private key's file", show(key), do)
        else:
            checks.check_ssh_key(report, "ssh_key", person.expanded(key).absolute(), login=True)
    return report.problems


def _misplaced(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings that stand beside ``slipway`` instead of in it; pyinfra wouldn't say a word."""
    for name in data:
        expected = f"nothing of this name beside {KEY}"
        if name in PLACE_OF:
            yield Problem(str(name), expected, "a setting", f"move it to {PLACE_OF[name]}")
        elif name in OPTIONS:
            do = f"take it out, and give it to the run that it is for: --data {name}=…"
            yield Problem(str(name), expected, "an option of a run", do)


def _login_files(data: Mapping[str, Any]) -> frozenset[Path]:
    """Files that the data of a connection name, relative to the current folder; without links."""
    found = set()
    for name in (data.get(each) for each in ("ssh_key", "ssh_config_file", "ssh_known_hosts_file")):
        if isinstance(name, str) and "\0" not in name:
            with contextlib.suppress(person.HomeError):  # who connects says it
                found.add(person.expanded(name).resolve())
    return frozenset(found)


def _inspect(
    data: Any, *, inventory: Path, host: str, login_files: frozenset[Path] = frozenset()
) -> tuple[Settings | None, list[Problem]]:
    problems = list(repeated_keys(inventory))
    if not isinstance(data, dict):
        do = f'write "{KEY}": {{"apps": {{…}}}}'
        return None, [*problems, Problem(KEY, "a mapping of this host's settings", show(data), do)]
    settings, own, bad, renamed = validate(data)
    problems += own
    if settings is None:
        return None, problems
    settings.bind(folder=inventory.absolute().parent, host=host, login_files=login_files)
    report = checks.Report(bad=bad)
    checks.check(settings, report, lambda *parts: join(KEY, *(renamed.get(part, part) for part in parts)))
    return settings, problems + report.problems
