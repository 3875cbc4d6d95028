"""What pydantic refuses, in our words: each as a `Problem`, all of them at once."""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from slipway.settings import checks
from slipway.settings import types as t
from slipway.settings.access import FirewallSettings, OperatorSettings, SshSettings
from slipway.settings.app import AppSettings
from slipway.settings.dependencies import DependenciesSettings
from slipway.settings.errors import Problem, join, show, show_type
from slipway.settings.host import Settings
from slipway.settings.nginx import HeadersSettings, NginxSettings, RateLimit, StaticSettings
from slipway.settings.process import LimitsSettings, SandboxSettings
from slipway.settings.programs import JobSettings, ProcessSettings
from slipway.settings.python import PythonSettings, UvSettings
from slipway.settings.release import HooksSettings, ProbeSettings
from slipway.settings.source import SOURCE, FolderSource, GitSource
from slipway.settings.system import SystemSettings, UpdatesSettings
from slipway.settings.tls import AcmeSettings, TlsSettings

KEY = "slipway"
"""Everything of ours lives under this one key of a host's data."""

PLACES: dict[str, type[BaseModel]] = {
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
    "slipway.apps.<app>.dependencies": DependenciesSettings,
    "slipway.apps.<app>.probe": ProbeSettings,
    "slipway.apps.<app>.tls": TlsSettings,
    "slipway.apps.<app>.static": StaticSettings,
    "slipway.apps.<app>.sandbox": SandboxSettings,
    "slipway.apps.<app>.limits": LimitsSettings,
    "slipway.apps.<app>.headers": HeadersSettings,
    "slipway.apps.<app>.rate_limits.<path>": RateLimit,
    "slipway.apps.<app>.processes.<name>": ProcessSettings,
    "slipway.apps.<app>.jobs.<name>": JobSettings,
}
"""Every level of an inventory → the model of what may stand there."""
KEYED = {place.split(".")[3]: place.split(".")[4] for place in PLACES if place.count(".") == 4}
"""Setting of an app that maps names of one's own to settings → what PLACES has for such a name."""

PLACE_OF = {
    name: f"{place}.{name}"
    for place, model in reversed(PLACES.items())
    if model in (Settings, AppSettings)
    for name in model.model_fields
}
"""Setting of a host or an app → where it stands; of one that both have, the host's."""

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


def validate(data: dict[str, Any]) -> tuple[Settings | None, list[Problem], set[str], dict[str | int, str]]:
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
    """`location` without the name of the union's member that pydantic puts behind ``source`` and ``static``."""
    tagged = len(location) > 3 and location[0] == "apps" and location[2] in ("source", "static")
    return location[:3] + location[4:] if tagged else location


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
    elif last in _STAND_INS and (len(way) == 2 or way[2:3] in (["source"], ["static"])):
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
        if location[2] == "static" and len(location) > 4:
            return StaticSettings
        key = KEYED.get(str(location[2])) if len(location) > 4 else None
        inner = [location[2], key] if key else location[2:-1]
        place = ".".join(["slipway.apps.<app>", *map(str, inner)])
    else:
        place = ".".join(["slipway", *map(str, location[:-1])])
    return PLACES.get(place)


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
    return Problem(path, "a setting's name and value", show_type(value), "correct it, or remove it")


def _refused_key(location: _Location, key: Any, context: Mapping[str, Any]) -> Problem:
    """A key of a mapping that isn't a fit name: an app's, a variable's, an architecture's."""
    do = str(context.get("do", "write a string"))
    expected = str(context.get("expected", "a string"))
    if location[0] == "apps" and len(location) == 2:
        return Problem(join(KEY, *location), expected, show(key), do)
    name = checks.public_name(str(key))
    return Problem(join(KEY, *location[:-1], name), expected, show(name), do)


def _unknown(path: str, location: _Location, model: type[BaseModel]) -> Problem:
    name, here = str(location[-1]), join(KEY, *location[:-1])
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    elsewhere = [place for place, other in PLACES.items() if name in other.model_fields]
    own = next((place for place, other in PLACES.items() if other is model), "")
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
    for place, model in PLACES.items():
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
