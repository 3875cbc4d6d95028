"""Events of a run: each is a line of JSON in the run's log, for people and for programs.

The classes exist for the type checker alone; at run time events are plain dictionaries.
"""

from __future__ import annotations

import contextlib
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypedDict

    class Begun(TypedDict):
        """A run is under way on the host, whether or not somebody follows it."""

        event: Literal["begun"]
        app: str
        unit: str
        """systemd's, without its kind."""
        text: str

    class Step(TypedDict):
        """A step of a run has ended."""

        event: Literal["step"]
        app: str
        step: str
        number: int
        of: int
        seconds: float
        note: str | None

    class Said(TypedDict):
        """A line for people."""

        event: Literal["said", "beat"]
        app: str
        text: str

    class Ended(TypedDict):
        """How a run ended; nothing follows it."""

        event: Literal["ended"]
        app: str
        code: int
        release: str | None
        """What serves then."""
        error: str | None

    Event = Begun | Step | Said | Ended
    """A line of a run's log, and of what `release`, `rollback` and `follow` tell with --json."""


def event_of(line: str) -> Event | None:
    """The event in a line of a log; None for other lines, which systemd and Python write there, too."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict) and "event" in found:
            event: Event = found  # type: ignore[assignment]
            return event
    return None


def for_people(event: Event) -> str:
    """An event as text for people; empty if it isn't for people."""
    if event["event"] == "step":
        note = f" ({event['note']})" if event["note"] else ""
        return f"{event['app']}: {event['number']}/{event['of']} {event['step']} {event['seconds']:.1f} s{note}"
    if event["event"] == "ended":
        return event["error"] or ""
    return f"{event['app']}: {event['text']}"


def readable(line: str) -> str:
    """A line of a run's log as text for people; a line without an event stays as it is."""
    event = event_of(line)
    try:
        return for_people(event) if event else line
    except (KeyError, TypeError, ValueError):  # of another Slipway
        return line
