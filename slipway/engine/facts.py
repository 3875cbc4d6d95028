"""What is true on any host: each fact is one command that only looks, is cheap, and ends well.

If a fact's tool isn't installed yet, or is broken, the fact has its default.
"""

from __future__ import annotations

import base64
import json
import shlex
from dataclasses import dataclass, replace
from typing import Any

from pyinfra.api import FactBase
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class Place:
    """What there is at a path."""

    kind: str
    """As `find` says it: "f" a regular file, "d" a folder, "l" a symbolic link, …; "account" for a user."""
    mode: str = ""
    """Octal, without a leading zero."""
    user: str = ""
    """Name of the owner; its number where the host has no such user. So with `group`."""
    group: str = ""
    digest: str = ""
    """SHA-256 of a file's content, where it was asked for."""
    target: str = ""
    """Where a link points; an account's shell."""
    expires: str = ""
    """Of an account: the day from which nobody can log in as it, counted from 1970; empty for never."""


SHADOW = 8
"""Colons of a line of shadow(5); one of passwd(5) has fewer."""


class Places(FactBase[dict[str, Place]]):
    """What there is at paths, and the accounts that there are, in one round trip; what isn't there isn't told.

    + accounts: names of users
    + folders: links to folders among these are followed
    + files: those whose content counts
    + others: the rest
    """

    default = dict

    @override
    def command(
        self, accounts: tuple[str, ...], folders: tuple[str, ...], files: tuple[str, ...], others: tuple[str, ...]
    ) -> Question:
        looked = "-maxdepth 0 -printf '%y\\t%m\\t%u\\t%g\\t%p\\t%l\\n' 2>/dev/null"
        asked = [f"getent passwd {shlex.join(accounts)}; getent shadow {shlex.join(accounts)}"] if accounts else []
        if folders:
            asked.append(f"find -H {shlex.join(folders)} {looked}")
        if files or others:
            asked.append(f"find {shlex.join([*files, *others])} {looked}")
        if files:
            asked.append(f"find {shlex.join(files)} -maxdepth 0 -type f -exec sha256sum {{}} + 2>/dev/null")
        return Question("; ".join([*asked, "true"]))

    @override
    def process(self, output: list[str]) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for line in output:
            kind, *told = line.split("\t")
            if told:
                mode, user, group, path, target = told
                found[path] = Place(kind, mode, user, group, target=target)
            elif "  " in line:
                digest, _, path = line.partition("  ")
                found[path] = replace(found[path], digest=digest)
            elif line.count(":") == SHADOW:
                user, *rest = line.split(":")
                if user in found:
                    found[user] = replace(found[user], expires=rest[-2])
            else:
                user, *_, shell = line.split(":")
                found[user] = Place("account", target=shell)
        return found


class Texts(FactBase[dict[str, str]]):
    """Content of text files, for diffs; empty where there is none."""

    default = dict

    @override
    def command(self, paths: tuple[str, ...]) -> Question:
        each = 'for path do [ ! -f "$path" ] || { echo "$path"; base64 -w 0 <"$path"; echo; }; done'
        return Question(shlex.join(["sh", "-c", each, "slipway", *paths]))

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        pairs = zip(output[::2], output[1::2], strict=True)
        return {path: base64.b64decode(text).decode(errors="replace") for path, text in pairs}


class Existing(FactBase[frozenset[str]]):
    """Those of `paths` that are there; links are followed."""

    default = frozenset

    @override
    def command(self, paths: tuple[str, ...]) -> Question:
        each = 'for path do [ ! -e "$path" ] || echo "$path"; done'
        return Question(shlex.join(["sh", "-c", each, "slipway", *paths]))

    @override
    def process(self, output: list[str]) -> frozenset[str]:
        return frozenset(output)


_STARTS = "/run/systemd/units/invocation:"
"""systemd makes a link for each unit when it starts it, and removes it when that ends: journald reads its target, the
id of this start (systemd, src/core/unit.c, `unit_export_state_files`). `systemctl show` takes 3 ms a unit."""


class Changed(FactBase[dict[str, float]]):
    """When the content or the mode of files was last changed, and since when units run: seconds since 1970.

    What isn't there, or doesn't run, isn't told.

    + paths: links are followed
    """

    default = dict

    @override
    def command(self, paths: tuple[str, ...], units: tuple[str, ...] = ()) -> Question:
        asked = f"stat -L -c '%.9Z %n' {shlex.join(paths)} 2>/dev/null"
        if units:
            starts = shlex.join(f"{_STARTS}{unit}" for unit in units)
            asked += f"; stat -c '%.9Y %n' {starts} 2>/dev/null"
        return Question(f"{asked} || true")

    @override
    def process(self, output: list[str]) -> dict[str, float]:
        lines = (line.partition(" ") for line in output)
        return {name.removeprefix(_STARTS): float(seconds) for seconds, _, name in lines}


class JsonFact(FactBase[dict[str, Any]]):
    """A host program's status as an object; empty where the program isn't there yet or can't tell."""

    default = dict

    @override
    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            answer = json.loads("\n".join(output))
        except ValueError:  # not our program: this run replaces what stands at its path
            return {}
        return answer if isinstance(answer, dict) else {}


_UNIT = "ActiveState,UnitFileState,NeedDaemonReload"


class Unit(FactBase[dict[str, str]]):
    """Whether a systemd unit runs, starts at boot, and is as it is on disk; as `systemctl show` prints it."""

    default = dict

    @override
    def command(self, unit: str) -> Question:
        return Question(f"systemctl show --property={_UNIT} {shlex.quote(unit)} 2>/dev/null || true")

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output if "=" in line)


class Answer(FactBase[str]):
    """What a shell command prints, stripped; for one-line questions whose command never fails."""

    default = str

    @override
    def command(self, question: str) -> Question:
        return Question(question)

    @override
    def process(self, output: list[str]) -> str:
        return "\n".join(output).strip()
