"""`make docs` writes docs/reference.md: every command and every setting, from the parsers and the settings themselves.

It can't say anything else than they do: edit their texts, not the file.
"""

from __future__ import annotations

import argparse
import importlib
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from slipway_host import cli as host_cli
from slipway_host.cli import asking
from slipway_host.layout import LAYOUT

from slipway.cli.main import parser
from slipway.settings import RunOptions, Settings
from slipway.settings.app import AppSettings
from slipway.settings.manual import HEADINGS, default_of, documentation, literal
from slipway.settings.options import TAKES
from slipway.settings.problems import expected_of

TARGET = Path(__file__).with_name("reference.md")
KEYS = {"apps": "NAME", "rate_limits": '"PATH"'}
"""Setting that is a mapping of others → what its keys stand for."""

_HEAD = """\
# Reference

Every command and every setting. Written by `make docs` from the program itself: edit that, not this file.

- [Commands](#commands)
- [Commands on the host](#commands-on-the-host)
- [Options of a run of pyinfra](#options-of-a-run-of-pyinfra)
- [Settings](#settings)
"""
_SETTINGS = """\
## Settings

An inventory is a Python file that sets `hosts`: a list of pairs of a name and its data.
[inventories/example.py](../inventories/example.py) is one with every setting at its default, and
[inventories/example.env](../inventories/example.env) shows how secrets are written.

An unknown or a wrong setting is refused before a host is touched, with its path and what to write instead; all of them
at once. Names of files are relative to the inventory's folder.

| beside `"slipway"` in a host's data | meaning |
|---|---|
| `ssh_user` | user to log in as: root, or one who may use sudo without a password |
| `_sudo` | `True`: become root by sudo; not needed where `ssh_user` is root |
| `ssh_key` | file with your private SSH key; relative to the folder that you are in |
| `ssh_port` | port of sshd |
| `ssh_hostname` | address to connect to, where the host's name in the inventory isn't one |
| `ssh_known_hosts_file`, `ssh_strict_host_key_checking` | as ssh(1) has them; by default the first key is trusted and \
kept, `"yes"` demands a known one |
| `verify` | how `slipway verify` and `--prove` reach the sites: `address` (instead of the domains' DNS records), \
`http_port`, `https_port`, and `ca_file` (the root of the certificates, relative to the inventory) |

These are pyinfra's (but for `verify`), which has
[more of them](https://docs.pyinfra.com/en/3.x/connectors/ssh.html). All below is in `"slipway"`.
"""


def render() -> str:
    """The text of docs/reference.md."""
    settings = _settings(Settings, "slipway")
    return "\n".join([_HEAD, *_commands(), *_host_commands(), *_run_options(), _SETTINGS, *settings])


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def subcommands(of: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Name → purpose and parser of each command that the help of a parser lists, in its order."""
    found: dict[str, tuple[str, argparse.ArgumentParser]] = {}
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {each.dest: (each.help or "", action.choices[each.dest]) for each in action._choices_actions}
    return found


def host_parser() -> argparse.ArgumentParser:
    """The parser of the host's program."""
    verbs = host_cli.Verbs(str(LAYOUT.program))
    for name in host_cli.VERBS:
        importlib.import_module(f"slipway_host.cli.{name}").register(verbs)
    return verbs.parser


def _commands() -> Iterator[str]:
    made = parser()
    yield f"## Commands\n\n```text\n{(made.epilog or '').strip()}\n```\n"
    for name, (_, verb) in subcommands(made).items():
        yield f"### `{' '.join(['slipway', name, *_positionals(verb)])}`\n"
        yield f"{_prose(verb.description or '')}\n"
        yield from _table(_rows(verb))


def _host_commands() -> Iterator[str]:
    made = host_parser()
    yield "## Commands on the host\n"
    yield f"As root, or by sudo: `{LAYOUT.program} COMMAND`. Exit code 0: success; 1: failed; 2: wrong command line.\n"
    yield f"{_prose(made.epilog or '')}\n"
    for name, (purpose, verb) in subcommands(made).items():
        yield f"### `{' '.join(['slipway', name, *_positionals(verb)])}`\n"
        yield f"{_prose(_sentence(purpose))}\n"
        if inner := subcommands(verb):
            rows = [(f"`{' '.join([name, each, *_usage(its)])}`", _cell(told)) for each, (told, its) in inner.items()]
            yield from _table(rows, "command")
        else:
            yield from _table(_rows(verb))


def _shown(of: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in of._actions if each.help != argparse.SUPPRESS and each.dest not in ("help", "version")]


def _positionals(of: argparse.ArgumentParser) -> list[str]:
    return [_argument(each) for each in _shown(of) if not each.option_strings and each.metavar != "COMMAND"]


def _argument(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return f"[{name}…]" if action.nargs == "*" else f"[{name}]" if action.nargs == "?" else name


def _option(action: argparse.Action) -> str:
    value = f"{{{','.join(action.choices)}}}" if action.choices else str(action.metavar or action.dest.upper())
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def _usage(of: argparse.ArgumentParser) -> list[str]:
    options = [_option(each) if each.required else f"[{_option(each)}]" for each in _shown(of) if each.option_strings]
    return [*_positionals(of), *options]


def _rows(of: argparse.ArgumentParser) -> list[tuple[str, str]]:
    return [
        (f"`{_option(each) if each.option_strings else each.metavar or each.dest}`", _cell(each.help or ""))
        for each in _shown(of)
    ]


def _cell(text: str) -> str:
    """A help's text in a cell of a table; of whoever runs this there is nothing in it."""
    return _escaped(text.replace(asking.asker(), "USER@HOST")).replace("|", r"\|")


def _table(rows: list[tuple[str, str]], what: str = "option") -> Iterator[str]:
    lines = [f"| {what} | meaning |", "|---|---|", *(f"| {first} | {second} |" for first, second in rows)]
    yield "\n".join(lines) + "\n"


# ── Options of a run of pyinfra ──────────────────────────────────────────────────────────────────────────────────────


def _run_options() -> Iterator[str]:
    yield "## Options of a run of pyinfra\n"
    yield _prose(
        "Where you run pyinfra itself, an option of `slipway` is written as `--data NAME=VALUE`; switches have the "
        "value `true`. The option `--stop-first` is `--data stop_first=true`."
    )
    told = documentation(RunOptions)
    rows = [
        (f"`{each.name}`", ", ".join(f"`{entry}`" for entry, taken in TAKES.items() if each.name in taken), each.name)
        for each in fields(RunOptions)
    ]
    lines = [f"| {name} | {entries} | {_cell(' '.join(told[key].split()))} |" for name, entries, key in rows]
    yield "\n| option | of | meaning |\n|---|---|---|\n" + "\n".join(lines) + "\n"


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in typing.get_args(annotation) for model in models_in(each)]


def _settings(model: type[BaseModel], path: str, intro: str = "") -> Iterator[str]:
    """A section for a model, and one for each model within it."""
    told = documentation(model)
    yield f"### `{path}`\n"
    if intro:
        yield f"{_prose(intro)}\n"
    inner: list[tuple[type[BaseModel], str, str]] = []
    for name, field in sorted(model.model_fields.items(), key=lambda each: each[0] == "apps"):  # the longest last
        below = f"{path}.{name}"
        models = list(dict.fromkeys(models_in(field.annotation)))
        if model is AppSettings and name in HEADINGS:
            yield f"#### {HEADINGS[name]}\n"
        if isinstance(field.default, BaseModel):
            inner.append((models[0], below, told[name]))
            continue
        yield f"{_prose(_item(name, field, bool(models)), bullet=True)}\n"
        yield f"{_prose(told[name], indent=2)}\n"
        place = f"{below}.{KEYS[name]}" if name in KEYS else below
        several = len(models) > 1
        inner += [(each, place + _kind(each) * several, (each.__doc__ or "") * several) for each in models]
    for each, place, text in inner:
        yield from _settings(each, place, text)


def _kind(model: type[BaseModel]) -> str:
    """Of models that one setting may be: by which key they are told apart."""
    first = next(name for name, field in model.model_fields.items() if field.is_required())
    return f" with {first}"


def _item(name: str, field: Any, holds: bool) -> str:
    value = literal(default_of(field))
    default = f"required, such as `{value}`" if field.is_required() else f"default `{value}`"
    if field.is_required() and holds:
        default = "required"
    return f"`{name}`: {expected_of(field)}; {default}."


# ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    """A text without what Markdown would take for its own; `code` stays, and ``code`` becomes that."""
    parts = re.split(r"(`+[^`]+`+)", text)
    plain = [re.sub(r"([\\*<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    code = [f"`{part.strip('`')}`" for part in parts[1::2]]
    return "".join(word for pair in zip(plain, [*code, ""], strict=True) for word in pair)


def _prose(text: str, *, indent: int = 0, bullet: bool = False) -> str:
    """A text as a paragraph; no line of it begins as a list, a heading or a quotation does."""
    lead = " " * indent
    first, rest = (f"{lead}- ", f"{lead}  ") if bullet else (lead, lead)
    lines = textwrap.wrap(
        _escaped(" ".join(text.split())),
        118,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
    kept = [re.sub(r"^(\s*)([-+#=]|\d+[.)])(?=\s|$)", r"\1\\\2", line) for line in lines]
    return "\n".join([lines[0] if bullet else kept[0], *kept[1:]])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"wrote {TARGET}")
