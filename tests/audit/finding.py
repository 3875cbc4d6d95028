"""What a row of the table can say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a row ended."""

    MET = "meets"
    SHORT = "falls short"
    BLIND = "did not look"
    """The tool said nothing that could be judged: as bad as falling short, whatever its exit code was."""
    LEFT_OUT = "left out"
    """Nothing that may be done to this host, or nothing there that could be asked; the row says why."""


class DidNotLook(Exception):
    """A tool's output doesn't show that it saw the host; the text says what is missing."""


@dataclass(frozen=True)
class Finding:
    """What one row found."""

    verdict: Verdict
    measured: str
    """For the table: a few words."""
    details: tuple[str, ...] = ()
    """One line each: what to look at."""


def judged(met: bool, measured: str, details: Iterable[object] = ()) -> Finding:
    """A finding by whether the bar is met."""
    return Finding(Verdict.MET if met else Verdict.SHORT, measured, tuple(map(str, details)))


def looked(condition: object, missing: str) -> None:
    """Raise DidNotLook with `missing` unless the condition is true or something like it."""
    if not condition:
        raise DidNotLook(missing)
