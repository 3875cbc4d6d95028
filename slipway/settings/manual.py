"""The manual of all options, as an inventory: written from the models, so that it can't say anything else."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slipway.settings.app import AppSettings
from slipway.settings.host import Settings
from slipway.settings.nginx import RateLimit, StaticSettings
from slipway.settings.problems import expected_of
from slipway.settings.programs import JobSettings, ProcessSettings
from slipway.settings.source import FolderSource, GitSource

_HEAD = '''\
"""Every option of an inventory, with its meaning, its type and its default.

Copy this file to conf/production.py in your app's repository, and keep the lines you change: what isn't there has the
default shown here.
Names of files are relative to the inventory's folder. Anything unknown or wrong is refused before a host is touched.

Written by `python -m slipway.settings` from the settings' own documentation: edit that, not this file.
"""

hosts = [
    (
        # Address or name of the host, as ssh takes it. "@slipway/" is the connector that needs few round trips; without
        # it pyinfra's own is used, which takes the same settings.
        "@slipway/203.0.113.5",
        {
            # User to log in as: root, or one who may use sudo.
            "ssh_user": "deploy",
            # Your private SSH key, which only you may read; relative to the folder that you are in.
            # Ed25519, or RSA of at least 3072 bits.
            "ssh_key": "~/.ssh/id_ed25519",
            # Port of sshd.
            "ssh_port": 22,
            # Become root by sudo on the host; not needed when ssh_user is root.
            "_sudo": True,
            # How `slipway verify` and `--prove` reach the sites: at the domains themselves, unless this says otherwise.
            # Before their DNS records are set: "address": "203.0.113.5". With a private CA: "ca_file": "ca.pem".
            "verify": {},
            # Everything below is this project's; the lines above are pyinfra's (but for verify).
            "slipway": {
'''
_TAIL = """\
            },
        },
    ),
]
"""
HEADINGS = {
    "domains": "Names and code",
    "env": "Environment",
    "port": "Process",
    "migrate": "Release",
    "static": "nginx and TLS",
}
"""Setting of an app → heading of the settings that begin with it."""
_WIDTH = 118


def render_example() -> str:
    """The text of ``inventories/example.py``."""
    host = _fields(Settings, 16, {"apps": _apps})
    return _HEAD + "".join(f"{line}\n" for line in host) + _TAIL


def _apps(field: FieldInfo, indent: int) -> Iterator[str]:
    pad = " " * indent
    yield f'{pad}"apps": {{'
    yield from _comment("An app from a git repository, with every option.", indent + 4)
    yield f'{pad}    "notes": {{'
    yield from _fields(AppSettings, indent + 8, {"source": lambda _, at: _nested("source", GitSource, at)})
    yield f"{pad}    }},"
    yield from _comment(
        "An app from a folder on this machine, with static files, a limit, a worker and a job.", indent + 4
    )
    yield f'{pad}    "shop": {{'
    inner = indent + 8
    yield f'{" " * inner}"domains": ["shop.example.com"],'
    yield f'{" " * inner}"app": "shop.main:app",'
    yield from _nested("source", FolderSource, inner)
    yield from _nested("static", StaticSettings, inner)
    yield f'{" " * inner}"rate_limits": {{'
    yield from _nested("/login", RateLimit, inner + 4)
    yield f"{' ' * inner}}},"
    for setting, name, model in (("processes", "worker", ProcessSettings), ("jobs", "cleanup", JobSettings)):
        yield f'{" " * inner}"{setting}": {{'
        yield from _nested(name, model, inner + 4)
        yield f"{' ' * inner}}},"
    yield f"{pad}    }},"
    yield f"{pad}}},"


def _nested(name: str, model: type[BaseModel], indent: int) -> Iterator[str]:
    pad = " " * indent
    yield f'{pad}"{name}": {{'
    yield from _fields(model, indent + 4, {})
    yield f"{pad}}},"


def documentation(model: type) -> dict[str, str]:
    """Setting → the text below it in the class, or in one that it is made from.

    pydantic's own `use_attribute_docstrings` reads it anew in every run, which takes a twentieth of a second.
    """
    classes = [each for each in reversed(model.__mro__) if each.__module__.startswith("slipway.")]
    return {name: text for each in classes for name, text in _documentation(each)}


def _documentation(model: type) -> Iterator[tuple[str, str]]:
    [body] = [each.body for each in ast.parse(inspect.getsource(model)).body if isinstance(each, ast.ClassDef)]
    for before, after in itertools.pairwise(body):
        if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            yield before.target.id, after.value.value


def _fields(
    model: type[BaseModel], indent: int, special: dict[str, Callable[[FieldInfo, int], Iterator[str]]]
) -> Iterator[str]:
    pad = " " * indent
    fields, told = dict(model.model_fields), documentation(model)
    if model is Settings:
        fields["apps"] = fields.pop("apps")  # last: the longest
    for name, field in fields.items():
        if model is AppSettings and name in HEADINGS:
            yield f"{pad}# --- {HEADINGS[name]} ".ljust(_WIDTH, "-")
        yield from _comment(told.get(name, ""), indent)
        nested = isinstance(field.default, BaseModel)
        if not nested:
            yield from _comment(_type_line(field), indent)
        if name in special:
            yield from special[name](field, indent)
        elif nested:
            yield from _nested(name, type(field.default), indent)
        else:
            yield from _value(name, default_of(field), indent)


def _value(name: str, value: Any, indent: int) -> Iterator[str]:
    """A setting's line, or lines where it is a list that has no room in one."""
    pad = " " * indent
    line = f'{pad}"{name}": {literal(value)},'
    if not isinstance(value, list) or len(line) <= _WIDTH:
        yield line
        return
    yield f'{pad}"{name}": ['
    yield from (f"{pad}    {literal(each)}," for each in value)
    yield f"{pad}],"


def _type_line(field: FieldInfo) -> str:
    shown = literal(default_of(field))
    default = "required" if field.is_required() else f"default {shown if len(shown) < _WIDTH else 'as here'}"
    return f"Type: {expected_of(field)}; {default}."


def default_of(field: FieldInfo) -> Any:
    """Default of a setting; of a required one its example."""
    return (field.examples or [""])[0] if field.is_required() else field.default


def literal(value: Any) -> str:
    """A value as an inventory writes it."""
    return repr(value) if value is None or isinstance(value, bool | int) else json.dumps(value, ensure_ascii=False)


def _comment(text: str, indent: int) -> Iterator[str]:
    lead = " " * indent + "# "
    flat = " ".join(text.split())
    yield from textwrap.wrap(flat, _WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)
