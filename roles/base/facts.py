"""What dpkg says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from slipway_host.layout import LAYOUT
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class PackageFacts:
    """What dpkg says."""

    installed: frozenset[str]
    """Those of the packages asked for that are installed, fully."""
    interrupted: bool
    """dpkg was interrupted, and refuses all changes until it is repaired."""


class Packages(FactBase[PackageFacts]):
    """Which of `packages` are installed, and whether dpkg is in order."""

    @override
    @staticmethod
    def default() -> PackageFacts:
        return PackageFacts(frozenset(), False)

    @override
    def command(self, packages: tuple[str, ...]) -> Question:
        asked = f"dpkg-query --show --showformat='${{db:Status-Abbrev}} ${{Package}}\\n' {shlex.join(packages)}"
        interrupted = f'[ -z "$(ls -A {LAYOUT.dpkg}/updates)" ] && [ -z "$(dpkg --audit)" ] || echo interrupted'
        return Question(f"! command -v dpkg >/dev/null || {{ {asked} 2>/dev/null; {interrupted}; }}")

    @override
    def process(self, output: list[str]) -> PackageFacts:
        stated = [line.split() for line in output]
        installed = {words[1] for words in stated if len(words) == 2 and words[0][1:2] == "i"}
        return PackageFacts(frozenset(installed), "interrupted" in output)
