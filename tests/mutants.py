"""Whether the golden texts notice every edit of a template and of a file: `python -m tests.mutants`.

It makes mutants of each line of templates/ and files/: the line is gone, a word or a part of a list is gone, a number
is another, yes is no, drop is accept. What is rendered of a mutant is compared with tests/unit/golden, in this process;
it survives where that is what is kept, in every case. A mutant that is no template any more, or whose compiled code is
that of the original (a comment of Jinja's), is counted by itself.

Takes some minutes, and is no part of `make test`.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from jinja2 import BaseLoader, ChoiceLoader, DictLoader, Environment, TemplateError, meta

from slipway.engine import templates
from tests.unit import goldens
from tests.unit.golden_cases import CASES

SWAPS = {
    "yes": "no",
    "on": "off",
    "true": "false",
    "True": "False",
    "accept": "drop",
    "allow": "deny",
    "invalid": "new",
    "established": "new",
    "strict": "full",
    "closed": "auto",
    "private": "shared",
    "invisible": "default",
    "always": "no",
    "requisite": "optional",
    "required": "optional",
    "sufficient": "required",
    "default": "none",
    "die": "ok",
    "first": "last",
    "and": "or",
    "if": "if not",
    "over": "until",
    "input": "output",
    "mixed": "process",
    "continue": "kill",
    "overflow": "strict",
    "weekly": "monthly",
    "null": "zero",
    "root": "nobody",
}
OTHERS = {other: word for word, other in SWAPS.items() if word not in ("if", "and")} | {"reject": "accept", "or": "and"}
"""The same the other way; of words that lie on both sides, the first counts."""
WORDS = OTHERS | SWAPS
HASH = re.compile(r"sha256:[0-9a-f]{64}")
PARTS = re.compile(r"[^\s,:|;]+[,:|;]?")
"""Words of a line, and parts of a list without spaces."""
REFUSED, SAME, KILLED, SURVIVED = "refused by Jinja", "the same template", "noticed", "survived"


@dataclass(frozen=True)
class Mutant:
    """An edit of one line."""

    file: str
    line: int
    """Counted from 1."""
    what: str
    text: str
    """The whole file."""


def edits(line: str) -> Iterator[tuple[str, str | None]]:
    """What is done to a line, and what stands in its place; None for nothing."""
    yield "gone", None
    body = line.rstrip("\n")
    if HASH.search(body):  # one digit stands for all
        yield "another digit", HASH.sub(lambda found: found[0][:-1] + ("0" if found[0][-1] != "0" else "1"), line)
        return
    for found in re.finditer(r"\d+", body):
        other = str(int(found[0]) + 1).rjust(len(found[0]), "0")
        yield f"{found[0]} is {other}", f"{line[: found.start()]}{other}{line[found.end() :]}"
    for found in re.finditer(r"[A-Za-z]+", body):
        if found[0] in WORDS:
            other = WORDS[found[0]]
            yield f"{found[0]} is {other}", f"{line[: found.start()]}{other}{line[found.end() :]}"
    for found in re.finditer(r"==|!=", body):
        other = "!=" if found[0] == "==" else "=="
        yield f"{found[0]} is {other}", f"{line[: found.start()]}{other}{line[found.end() :]}"
    for code in re.finditer(r"\{[{%].*?[}%]\}", body):
        for found in re.finditer(r"""(?<=["'])[^"']*(?=["'])""", code[0]):
            at = code.start() + found.end()
            yield f"{found[0]!r} is longer", f"{line[:at]}x{line[at:]}"
    parts = [*PARTS.finditer(body)]
    for found in parts if len(parts) > 1 else []:
        yield f"without {found[0]}", f"{line[: found.start()]}{line[found.end() :]}"


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Each edit of each line of a file, no two of which come to the same."""
    lines = text.splitlines(keepends=True)
    seen = {text}
    for at, line in enumerate(lines):
        for what, other in edits(line):
            whole = "".join([*lines[:at], other or "", *lines[at + 1 :]])
            if whole not in seen:
                seen.add(whole)
                yield Mutant(file, at + 1, what, whole)


class Judge:
    """Judges mutants by what is kept in tests/unit/golden."""

    def __init__(self, maker: goldens.Maker) -> None:
        """What `maker` makes must be what is kept."""
        self.environment: Environment = maker.environment
        self.loader: BaseLoader = self.environment.loader or DictLoader({})
        self.calls: dict[str, dict[tuple[str, str], goldens.Call]] = {}
        self.kept: dict[str, Mapping[str, str]] = {}
        for case in CASES:
            made = maker.texts(case)
            self.kept[case] = {path: goldens.kept(case, path) or "" for path in made}
            if self.kept[case] != made:
                sys.exit(f"Error: {case} isn't what is kept of it; run tests/unit/roles/test_golden.py first")
        self.kept["scripts"] = {
            path: goldens.place_of("", path).read_text(encoding="utf-8") for path in goldens.scripts()
        }
        for call in maker.rendered():
            for template in self.parts(call.template):
                self.calls.setdefault(template, {}).setdefault((call.template, call.text), call)

    def source(self, template: str) -> str:
        """The text of a template."""
        return self.loader.get_source(self.environment, template)[0]

    def parts(self, template: str) -> set[str]:
        """A template, and those that it includes."""
        named = meta.find_referenced_templates(self.environment.parse(self.source(template)))
        return {template}.union(*(self.parts(each) for each in named if each))

    def template(self, mutant: Mutant) -> str:
        """What becomes of a mutant of a template."""
        name = mutant.file.removeprefix("templates/")
        changed = self.environment.overlay(loader=ChoiceLoader([DictLoader({name: mutant.text}), self.loader]))
        try:
            if self._code(mutant.text) == self._code(self.source(name)):
                return SAME
            for call in self.calls[name].values():
                text = changed.get_template(call.template).render(**call.values)
                if text != call.text:  # which is what is kept
                    return KILLED
        except (TemplateError, TypeError, ValueError, AttributeError):
            return REFUSED
        return SURVIVED

    def _code(self, source: str) -> str:
        return re.sub(r"(?m)^debug_info = .*$|^ *# line .*$", "", self.environment.compile(source, raw=True))

    def file(self, mutant: Mutant) -> str:
        """What becomes of a mutant of a file, which goes to the host as it is."""
        original = templates.host_file(mutant.file.removeprefix("files/"))
        kept = any(original in texts.values() for texts in self.kept.values())
        return KILLED if kept and not any(mutant.text in texts.values() for texts in self.kept.values()) else SURVIVED


def sources() -> dict[str, str]:
    """Path → text of all that is edited."""
    found = {}
    for folder in ("templates", "files"):
        for path in sorted((templates.ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                found[str(path.relative_to(templates.ROOT))] = path.read_text(encoding="utf-8")
    return found


def main() -> int:
    """Judge all mutants, or those of the files that are named; 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="as templates/ssh/sshd.conf.j2; all without")
    named = parser.parse_args().files
    logging.getLogger("pyinfra").setLevel(logging.ERROR)
    began, counted, lines = time.monotonic(), Counter[str](), 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        judge = Judge(goldens.Maker(patch, Path(folder)))
        for file, text in sources().items():
            if named and file not in named:
                continue
            lines += len(text.splitlines())
            for mutant in mutants(file, text):
                verdict = judge.template(mutant) if file.startswith("templates/") else judge.file(mutant)
                counted[verdict] += 1
                if verdict == SURVIVED:
                    print(f"{file}:{mutant.line}: {mutant.what}", flush=True)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
    print(f"{counted.total()} mutants of {lines} lines in {time.monotonic() - began:.0f} s: {told}")
    return 1 if counted[SURVIVED] else 0


if __name__ == "__main__":
    sys.exit(main())
