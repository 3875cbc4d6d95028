"""From an inventory to checked settings, or to the full list of what is wrong with it."""

from __future__ import annotations

import ast
import copy
import difflib
import re
import runpy
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from roles.settings import _checks
from roles.settings import _types as t
from roles.settings._access import FirewallSettings, OperatorSettings, SshSettings
from roles.settings._errors import Problem, SettingsError, join, show, show_type
from roles.settings._models import (
    SOURCE,
    AcmeSettings,
    AppSettings,
    FolderSource,
    GitSource,
    HeadersSettings,
    HooksSettings,
    LimitsSettings,
    NginxSettings,
    ProbeSettings,
    PythonSettings,
    RateLimit,
    SandboxSettings,
    Settings,
    StaticSettings,
    TlsSettings,
    UvSettings,
)
from roles.settings._options import COMMAND_LINE, OPTIONS, command_line_problems
from roles.settings._system import SystemSettings, UpdatesSettings

KEY = "slipway"
"""Everything of ours lives under this one key of a host's data."""

_PLACES: dict[str, type[BaseModel]] = {
    "slipway": Settings,
    "slipway.ssh": SshSettings,
    "slipway.firewall": FirewallSettings,
    "slipway.operator": OperatorSettings,
    "slipway.python": PythonSettings,
    "slipway.python.uv": UvSettings,
    "slipway.acme": AcmeSettings,
    "slipway.nginx": NginxSettings,
    "slipway.updates": UpdatesSettings,
    "slipway.system": SystemSettings,
    "slipway.apps.<app>": AppSettings,
    "slipway.apps.<app>.source": GitSource,
    "slipway.apps.<app>.hooks": HooksSettings,
    "slipway.apps.<app>.probe": ProbeSettings,
    "slipway.apps.<app>.tls": TlsSettings,
    "slipway.apps.<app>.static": StaticSettings,
    "slipway.apps.<app>.sandbox": SandboxSettings,
    "slipway.apps.<app>.limits": LimitsSettings,
    "slipway.apps.<app>.headers": HeadersSettings,
    "slipway.apps.<app>.rate_limits.<path>": RateLimit,
}
"""Every level of an inventory → the model of what may stand there."""

_PLACE_OF = {
    name: f"{place}.{name}"
    for place, model in reversed(_PLACES.items())
    if model in (Settings, AppSettings)
    for name in model.model_fields
}
"""Setting of a host or an app → where it stands; of one that both have, the host's."""

CONNECTOR = "@slipway/"
"""What stands before a host's address in an inventory: slipway/connector.py."""


def load(data: Mapping[str, Any], *, inventory: Path, host: str) -> Settings:
    """Check the raw ``slipway`` mapping of `host` and make settings of it.

    `inventory` is the file it comes from: relative paths in it are relative to its folder.
    Raises SettingsError with every problem at once.
    """
    settings, problems = _inspect(data, inventory=inventory, host=host)
    if settings is None or problems:
        raise SettingsError(_shown(inventory), {host: problems})
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
        raise SettingsError(_shown(inventory) if inventory else "inventory", {host.name: problems})
    return settings


def load_inventory(path: Path) -> list[tuple[str, dict[str, Any], Settings]]:
    """Every host of an inventory file: its name, its connection data (all but ``slipway``), its settings.

    Runs the file as pyinfra does; groups with data are understood, ``group_data/`` folders and connectors are not.
    For tests of a host, which read the same settings as the roles. Raises SettingsError with every problem of every
    host at once.
    """
    return _load_hosts(path, _read_hosts(path))


def _load_hosts(path: Path, hosts: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any], Settings]]:
    loaded: list[tuple[str, dict[str, Any], Settings]] = []
    wrong: dict[str, list[Problem]] = {}
    for name, data in hosts.items():
        settings, problems = _inspect_host(name, data, path)
        if settings is None or problems:
            wrong[name] = problems
        else:
            loaded.append((name, {key: value for key, value in data.items() if key != KEY}, settings))
    if wrong:
        raise SettingsError(_shown(path), wrong)
    return loaded


_ROOT = Path(__file__).resolve().parents[2]


def _is_entry_point(path: Path) -> bool:
    """Whether pyinfra runs the file on an inventory: what a command line may name, and what is no inventory."""
    return path.resolve() == _ROOT / "deploy.py" or path.resolve().parent == _ROOT / "tasks"


_WITH_A_NAME = ("--config", "--data", "--limit", "--exclude", "--key", "--ssh-key", "--group-data", "--chdir")
"""Options of pyinfra behind which a word that ends with .py isn't the inventory."""


def check_command_line() -> None:
    """Check the inventory file on pyinfra's command line, all its hosts, and every ``--data``, before it connects.

    For ``config.py``, which pyinfra runs first: a wrong ``ssh_key`` would otherwise be pyinfra's to report, and it
    prints what it was given, a pasted key included. Does nothing where no argument is an inventory file.
    Raises SettingsError with every problem of the command line and of every host at once.
    """
    arguments = sys.argv[1:]
    words = [word for before, word in zip(["", *arguments], arguments, strict=False) if before not in _WITH_A_NAME]
    path = next((path for path in map(Path, words) if path.suffix == ".py" and not _is_entry_point(path)), None)
    if path is None:
        return
    if not path.is_file():  # pyinfra would take the name for a host's, connect to nothing, and end well
        folder = path.parent if path.parent.is_dir() else _ROOT / "inventories"
        known = sorted(_shown(each) for each in folder.glob("*.py") if not _is_entry_point(each))
        near = difflib.get_close_matches(str(path), known, n=1)
        do = f"write {near[0]}" if near else f"write its name; there are {', '.join(known)}"
        raise SettingsError(
            _shown(path), {"all hosts": [Problem("file", "an inventory file", "none of this name", do)]}
        )
    hosts: dict[str, dict[str, Any]] = {}
    refused: list[SettingsError] = []
    try:
        hosts = _read_hosts(path)
        _load_hosts(path, hosts)
    except SettingsError as error:
        refused.append(error)
    problems = command_line_problems(arguments, hosts, dict(_PLACE_OF))
    if refused or any(problems.values()):
        raise SettingsError(COMMAND_LINE, problems, *refused)


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


# --- Reading an inventory file ---------------------------------------------------------------------------------------


def _read_hosts(path: Path) -> dict[str, dict[str, Any]]:
    """Host → data of an inventory file, put together in pyinfra's order: host over group over ``all``."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))  # as pyinfra does, so that an inventory may import from the project
    try:
        names = runpy.run_path(str(path))
    except OSError as error:
        problem = Problem("file", "an inventory file", error.strerror or "unreadable", "correct the file's name")
        raise SettingsError(_shown(path), {"all hosts": [problem]}) from None
    except (SyntaxError, UnicodeDecodeError) as error:
        found = f"{error.msg} in line {error.lineno}" if isinstance(error, SyntaxError) else "other bytes"
        problem = Problem("file", "a Python file in UTF-8", found, "correct it")
        raise SettingsError(_shown(path), {"all hosts": [problem]}) from None
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
        raise SettingsError(_shown(path), {"all hosts": [Problem("hosts", "a list of hosts", "none", do)]})
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


def _repeated_keys(inventory: Path) -> Iterator[Problem]:
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


def _shown(path: Path) -> str:
    """A path as a user would type it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


# --- One host --------------------------------------------------------------------------------------------------------


def _inspect_host(name: str, data: Mapping[str, Any], inventory: Path | None) -> tuple[Settings | None, list[Problem]]:
    if name == "@local" or name.startswith("@local/"):
        do = "put the host's address and ssh_user into an inventory file"
        return None, [Problem("host", "a host reached over SSH", "this machine (@local)", do)]
    if inventory is None:
        do = "run pyinfra inventories/production.py deploy.py"
        return None, [Problem("inventory", "an inventory file as pyinfra's first argument", "none", do)]
    problems = [*_connection_problems(data), *_misplaced(data)]
    if KEY not in data:
        near = difflib.get_close_matches(KEY, map(str, data), n=1)
        found = f"no {KEY}" + (f", but {show(near[0])}" if near else "")
        do = f"rename {near[0]} to {KEY}" if near else f'add "{KEY}": {{"apps": {{…}}}} to the data of this host'
        return None, [*problems, Problem(KEY, "a mapping of this host's settings", found, do)]
    settings, found_problems = _inspect(data[KEY], inventory=inventory, host=name)
    if settings is not None:
        report = _checks.Report()
        _checks.check_login(report, settings, lambda *parts: join(KEY, *parts), data.get("ssh_user"))
        found_problems += report.problems
    return settings, [*problems, *found_problems]


def _connection_problems(data: Mapping[str, Any]) -> list[Problem]:
    report = _checks.Report()
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
            _checks.check_ssh_key(report, "ssh_key", Path(key).expanduser().absolute(), login=True)
    return report.problems


def _misplaced(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings that stand beside ``slipway`` instead of in it; pyinfra wouldn't say a word."""
    for name in data:
        expected = f"nothing of this name beside {KEY}"
        if name in _PLACE_OF:
            yield Problem(str(name), expected, "a setting", f"move it to {_PLACE_OF[name]}")
        elif name in OPTIONS:
            do = f"take it out, and give it to the run that it is for: --data {name}=…"
            yield Problem(str(name), expected, "an option of a run", do)


def _inspect(data: Any, *, inventory: Path, host: str) -> tuple[Settings | None, list[Problem]]:
    problems = list(_repeated_keys(inventory))
    if not isinstance(data, dict):
        do = f'write "{KEY}": {{"apps": {{…}}}}'
        return None, [*problems, Problem(KEY, "a mapping of this host's settings", show(data), do)]
    settings, own, bad, renamed = _validate(data)
    problems += own
    if settings is None:
        return None, problems
    settings.bind(folder=inventory.absolute().parent, host=host)
    report = _checks.Report(bad=bad)
    _checks.check(settings, report, lambda *parts: join(KEY, *(renamed.get(part, part) for part in parts)))
    return settings, problems + report.problems


# --- pydantic's errors in our words ----------------------------------------------------------------------------------

_Location = tuple[str | int, ...]
_KEY = "[key]"  # what pydantic puts last where a mapping's key is refused
_STAND_INS: dict[str, Any] = {
    "domains": ["stand-in.example.com"],
    "source": {"git": "https://stand-in.example.com/stand-in"},
    "app": "stand:in",
    "path": "static",
    "git": "https://stand-in.example.com/stand-in",
}
_STAND_IN_APP = {option: _STAND_INS[option] for option in ("domains", "source", "app")}


def _validate(data: dict[str, Any]) -> tuple[Settings | None, list[Problem], set[str], dict[str | int, str]]:
    """Settings of `data`, its problems, their paths, and stand-in → real name of an app.

    What is refused is replaced by a stand-in, so that everything else can be judged in the same run: settings are
    returned even with problems. Only `load` and its like hand them out, and only without problems.
    """
    problems: list[Problem] = []
    bad: set[str] = set()
    renamed: dict[str | int, str] = {}
    data = copy.deepcopy(data)
    for attempt in range(10):  # a stand-in may need another one: a list without its last entry is empty
        try:
            return Settings.model_validate(data), problems, bad, renamed
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            problem = _translate(detail["type"], detail["loc"], detail["input"], detail.get("ctx", {}))
            if detail["loc"][-1:] != (_KEY,):  # an app with a bad name is judged all the same
                bad.add(problem.path)
            if attempt == 0:
                problems.append(problem)
        locations = {_without_tag(detail["loc"]) for detail in details}
        for location in sorted(locations, key=_repair_order):
            _repair(data, location, renamed)
    return None, problems, bad, renamed


def _without_tag(location: _Location) -> _Location:
    """`location` without the name of the union's member that pydantic puts behind ``source``."""
    in_source = len(location) > 3 and location[0] == "apps" and location[2] == "source"
    return location[:3] + location[4:] if in_source else location


def _repair_order(location: _Location) -> tuple[bool, int, list[str]]:
    """Inner before outer, the end of a list before its beginning, and renamed apps last."""
    places = [f"{1_000_000 - part:09}" if isinstance(part, int) else part for part in location]
    return location[-1:] == (_KEY,), -len(location), places


def _repair(data: dict[str, Any], location: _Location, renamed: dict[str | int, str]) -> None:
    """Put a stand-in where `data` was refused, or remove what can be left out."""
    parent: Any = data
    *way, last = location[:-1] if location[-1:] == (_KEY,) else location
    for part in way:
        try:
            parent = parent[part]
        except (KeyError, IndexError, TypeError):
            return  # an outer part was replaced before
    if isinstance(parent, dict):  # pydantic writes a key that is no string as one
        last = next((key for key in parent if key == last or str(key) == last), last)
    if location[-1:] == (_KEY,) and way == ["apps"]:
        name = f"stand-in-{len(renamed)}"
        renamed[name] = str(last)
        parent[name] = parent.pop(last, {})
    elif last == "apps" and not way:
        parent[last] = {"stand-in": copy.deepcopy(_STAND_IN_APP)}
    elif way == ["apps"]:
        parent[last] = copy.deepcopy(_STAND_IN_APP)
    elif last in _STAND_INS and (len(way) == 2 or way[-1:] in (["source"], ["static"])):
        parent[last] = copy.deepcopy(_STAND_INS[str(last)])
    elif isinstance(parent, list):
        del parent[int(last)]
    elif isinstance(parent, dict):
        parent.pop(last, None)


def _model_at(location: _Location) -> type[BaseModel] | None:
    """The model whose field `location` (with pydantic's tag) is, or None where it isn't a field."""
    if location[:1] == ("apps",) and len(location) > 2:
        if location[2] == "source" and len(location) > 4:
            return GitSource if location[3] == "git" else FolderSource
        inner = ["rate_limits", "<path>"] if location[2] == "rate_limits" and len(location) > 4 else location[2:-1]
        place = ".".join(["slipway.apps.<app>", *map(str, inner)])
    else:
        place = ".".join(["slipway", *map(str, location[:-1])])
    return _PLACES.get(place)


def narrow_of(field: FieldInfo) -> t.Narrow | None:
    """The narrow type of a field, or of what it is when it isn't None."""
    inner = [data for arg in typing.get_args(field.annotation) for data in getattr(arg, "__metadata__", ())]
    return next((data for data in [*field.metadata, *inner] if isinstance(data, t.Narrow)), None)


def expected_of(field: FieldInfo) -> str:
    """What a field must be, in words."""
    narrow = narrow_of(field)
    nullable = types.NoneType in typing.get_args(field.annotation)
    return (narrow.expected if narrow else "a value") + (", or None" if nullable else "")


def _translate(kind: str, tagged: _Location, value: Any, context: Mapping[str, Any]) -> Problem:
    """One of pydantic's errors as a problem."""
    location = _without_tag(tagged)
    model = _model_at(tagged)
    field = model.model_fields.get(str(location[-1])) if model else None
    if location[-1:] == (_KEY,):
        return _refused_key(location[:-1], value, context)
    path = join(KEY, *location)
    if kind == "extra_forbidden" and model is not None:
        return _unknown(path, location, model)
    if location[-1] == "source" and isinstance(value, dict) and kind == "setting":
        return _unclear_source(path, value)
    if kind == "missing" and field is not None:
        name = location[-1]
        example = {"apps": "{…}", "source": "{…}"}.get(str(name)) or show(next(iter(field.examples or [""])))
        if isinstance(next(iter(field.examples or [""])), list):
            example = "[" + ", ".join(show(one) for one in (field.examples or [[]])[0][:1]) + "]"
        return Problem(path, expected_of(field), "nothing", f'add "{name}": {example}')
    if kind == "setting":
        expected = expected_of(field) if field is not None else str(context["expected"])
        found = show_type(value) if context["secret"] else show(value)
        return Problem(path, expected, found, str(context["do"]))
    narrow = narrow_of(field) if field is not None else None
    if narrow is not None and field is not None:
        return Problem(path, expected_of(field), show(value), narrow.do)
    if len(location) == 2 and location[0] == "apps":
        do = 'write {"domains": […], "source": {…}, "app": "notes.main:app"}'
        return Problem(path, "a mapping of the app's settings", show(value), do)
    return Problem(
        path, "a setting's name and value", show_type(value), "see inventories/example.py for what may stand here"
    )


def _refused_key(location: _Location, key: Any, context: Mapping[str, Any]) -> Problem:
    """A key of a mapping that isn't a fit name: an app's, a variable's, an architecture's."""
    do = str(context.get("do", "write a string"))
    expected = str(context.get("expected", "a string"))
    if location[0] == "apps" and len(location) == 2:
        return Problem(join(KEY, *location), expected, show(key), do)
    name = _checks.public_name(str(key))
    return Problem(join(KEY, *location[:-1], name), expected, show(name), do)


def _unknown(path: str, location: _Location, model: type[BaseModel]) -> Problem:
    name, here = str(location[-1]), join(KEY, *location[:-1])
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    elsewhere = [place for place, other in _PLACES.items() if name in other.model_fields]
    own = next((place for place, other in _PLACES.items() if other is model), "")
    inside = [place for place in elsewhere if place.rpartition(".")[0] == own]
    if inside:
        do = f"move it to {inside[0]}.{name}"
    elif near:
        do = f'rename it to "{near[0]}"'
    elif elsewhere:
        do = f"move it to {elsewhere[0]}.{name}"
    elif everywhere := _near_elsewhere(name):
        do = f"write {everywhere}, if you mean that; otherwise remove it"
    else:
        do = f"remove it; known here are {', '.join(model.model_fields)}"
    return Problem(path, f"a setting of {here}", f"{show(name)}, which is unknown", do)


def _near_elsewhere(name: str) -> str | None:
    for place, model in _PLACES.items():
        if near := difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.8):
            return f"{place}.{near[0]}"
    return None


def _unclear_source(path: str, value: dict[Any, Any]) -> Problem:
    kinds = [kind for kind in ("git", "path") if kind in value]
    found = f"a mapping with {', '.join(show(str(key)) for key in value) or 'nothing'}"
    do = SOURCE.do
    if kinds:
        do = "remove one of git and path"
    else:
        for key in value:
            if near := difflib.get_close_matches(str(key), ["git", "path"], n=1):
                do = f'rename "{key}" to "{near[0]}"'
    return Problem(path, SOURCE.expected, found, do)
