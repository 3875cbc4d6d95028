"""`Question`: a command that only looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from pyinfra.api import StringCommand


class Question(StringCommand):
    """A shell command that only looks: asked twice, or ahead of its time, it does no harm.

    A fact returns one from `command`. The connector may ask it together with others, as soon as the run begins, and
    answers from that until something changes the host. It must need no standard input and show no secret.
    """


@runtime_checkable
class Tells(Protocol):
    """A command that says what is shown of the lines that it prints."""

    def told(self, line: str) -> str:
        """What is shown of a line of its standard output; empty for nothing."""


@runtime_checkable
class Expects(Protocol):
    """A connector that asks questions together, once it knows which ones come."""

    def expect(self, questions: Iterable[Question]) -> None:
        """Take these for what this run is going to ask."""
