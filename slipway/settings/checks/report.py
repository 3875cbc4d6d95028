"""Where problems are collected, and the local files that settings name are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from slipway.settings import environment, names
from slipway.settings import types as t
from slipway.settings.errors import HIDDEN, Problem, under


@dataclass
class Report:
    """Collects problems, one a place: what is already wrong isn't judged again."""

    problems: list[Problem] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    """Paths that hold a stand-in, because what the inventory has there was refused."""

    def add(self, path: str, expected: str, found: str, do: str) -> None:
        """Note a problem, unless its place was refused before."""
        if not any(under(path, wrong) for wrong in self.bad):
            self.problems.append(Problem(path, expected, found, do))


def read_file(
    report: Report, path: str, file: Path | None, what: str, *, private: bool = False, start: str = "the inventory"
) -> bytes | None:
    """The content of a local file; None after reporting why not, and for no file at all.

    A `private` file that others may read is reported, and read nevertheless. `start` is what relative names are
    relative to.
    """
    if file is None:
        return None
    try:
        content = file.read_bytes()
        mode = file.stat().st_mode & 0o777
    except IsADirectoryError:
        report.add(path, what, f"a folder: {file}", "name the file in it")
        return None
    except FileNotFoundError:
        report.add(path, what, f"no file {file}", f"create it, or correct the name; it is relative to {start}")
        return None
    except OSError as error:
        report.add(path, what, f"{file}: {error.strerror}", "make it readable for you")
        return None
    if private and mode & 0o077:
        report.add(path, f"{what} that only you can read", f"mode {mode:04o}", f"chmod 600 {file}")
    return content


def read_env(report: Report, path: str, file: Path | None, *, of_app: bool) -> dict[str, str]:
    """The variables of a .env file; everything wrong with it is reported without any value."""
    content = read_file(report, path, file, "a .env file", private=True)
    if content is None or file is None:
        return {}
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        report.add(path, "a .env file in UTF-8", f"other bytes in line {line}", f"save {file.name} as UTF-8")
        return {}
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        report.add(path, "a .env file of text", f"a NUL character in line {line}", "remove it; no variable can hold it")
        return {}
    parsed = environment.parse_env(text)
    for number in parsed.unreadable:
        found = f"line {number} of {file.name} is something else {HIDDEN}"
        report.add(path, "lines of NAME=value", found, "correct the line: a name, =, and quotes that are closed")
    for name, lines in parsed.duplicates.items():
        found = f"{public_name(name)} in lines {', '.join(map(str, lines))}"
        report.add(f"{path}: {public_name(name)}", "each variable once", found, "keep one of the lines")
    for name, value in parsed.values.items():
        place = f"{path}: {public_name(name)}"
        if environment.NAME.fullmatch(name) is None:
            report.add(place, t.VARIABLE.expected, f'the name "{public_name(name)}"', t.VARIABLE.do)
        elif of_app and (hint := names.reserved_variable(name)):
            report.add(place, t.VARIABLE.expected, f"{name}, which is reserved", hint)
        if reason := environment.unfit_value(value):
            report.add(place, t.VARIABLE_VALUE.expected, f"{reason} {HIDDEN}", t.unfit_hint(reason))
    return parsed.values


def public_name(name: str) -> str:
    """A variable's name as a message may show it: up to what could already be its value."""
    head = re.split(r"[=:\s]", name, maxsplit=1)[0][:60]
    return head if head == name else f"{head}…"


def check_text(report: Report, path: str, file: Path | None, what: str) -> None:
    """A file of text that a setting names: in UTF-8, and not empty."""
    content = read_file(report, path, file, what)
    if content is None:
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or not text.strip():
        found = "an empty file" if not text.strip() else "a file that isn't text in UTF-8"
        report.add(path, what, found, "correct the file, or remove the setting")
