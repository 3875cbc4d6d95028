"""What is wrong with an inventory, in the one form every message has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api.exceptions import PyinfraError

HIDDEN = "(not shown)"
"""Stands for a value that is, or may be, a secret."""

_LONGEST = 120  # characters of a value that a message repeats; more helps nobody and fills the screen
_KEY_MATERIAL = re.compile(r"-----BEGIN|PRIVATE KEY|ssh-(?:rsa|ed25519|dss) AAAA")
_CREDENTIALS = re.compile(r"(?<=://).*@")  # greedy: it may hide more than that, never less
_LOOSE_CREDENTIALS = re.compile(r"[^/\s]+:.*@")


@dataclass(frozen=True)
class Problem:
    """One wrong setting: where it is, what it must be, what was found instead, and the next step."""

    path: str
    """Place in the inventory, such as ``slipway.apps.notes.workers``."""
    expected: str
    """What the setting must be."""
    found: str
    """What it is; never a secret's value."""
    do: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.path}\n  expected: {self.expected}\n  found:    {self.found}\n  do:       {self.do}"


class SettingsError(PyinfraError):
    """All problems of an inventory at once; pyinfra prints it as one message, without a traceback."""

    def __init__(self, inventory: str, problems: Mapping[str, Sequence[Problem]], *others: SettingsError) -> None:
        """`inventory` is the file as the user named it, `problems` those of each host by its name.

        `others` are told first, in the same message.
        """
        own = [problem for of_host in problems.values() for problem in of_host]
        self.problems: list[Problem] = [*(problem for other in others for problem in other.problems), *own]
        """Every problem of every host, in the order of the message."""
        blocks = [_block(inventory, host, found) for host, found in problems.items() if found]
        super().__init__("\n\n".join([*map(str, others), *blocks]))


def _block(inventory: str, host: str, problems: Sequence[Problem]) -> str:
    count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    first = f"{inventory}: {host}: {count} wrong; the host was not touched"
    return "\n\n".join([first, *map(str, problems)])


def show(value: Any) -> str:
    """A value as a message may repeat it: on one line, shortened, and without anything that could be a secret.

    Containers are named by their type alone, pasted keys are hidden, and user and password leave a URL.
    """
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        kind = "mapping" if isinstance(value, Mapping) else type(value).__name__
        return f"a {kind} of {len(value)}" if value else f"an empty {kind}"
    if not isinstance(value, str):
        return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"
    if _KEY_MATERIAL.search(value):
        return f"key material {HIDDEN}"
    credentials = _CREDENTIALS if "://" in value else _LOOSE_CREDENTIALS
    text = json.dumps(credentials.sub("…@", value), ensure_ascii=False)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…" ({len(value)} characters)'


def show_type(value: Any) -> str:
    """The type of a value that must not be shown."""
    return f"a value of type {type(value).__name__} {HIDDEN}"


def join(*parts: str | int) -> str:
    """The path of a setting from its keys and list positions: ``slipway.apps.notes.domains[0]``."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            path += f".{part}" if path else part
        else:
            path += f"[{show(part)}]"
    return path


def under(path: str, parent: str) -> bool:
    """Whether `path` is `parent` or something within it."""
    return path == parent or (path.startswith(parent) and path[len(parent)] in ".[:")
