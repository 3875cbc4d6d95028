"""The events of a run, each a line of JSON (events.py), and their form for people."""

from __future__ import annotations

import contextlib

from slipway_host.events import for_people
from slipway_host.system import System
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from slipway_host.events import Ended, Event, Step

BEAT_SECONDS = 5  # between two signs of life of a step
LAST = 150  # characters of a command's last line in one


class Progress:
    """Writes the events of a run, and a sign of life in a long step."""

    def __init__(self, app: str, system: System, write: Callable[[Event], object] | None = None) -> None:
        """`write`: called with each event; without it they go to standard output."""
        self.app, self.system, self.write = app, system, write or written
        self.what = ""
        """What is under way, for signs of life; empty if nothing is."""
        self.last = ""
        """The last line of output of its command."""
        self.began = 0.0
        self.number = self.of = 0

    def say(self, text: str) -> None:
        """Write a message for people."""
        self.write({"event": "said", "app": self.app, "text": self.system.hidden.shown(text)})

    def begun(self, unit: str, text: str = "") -> None:
        """A run has begun in this unit (its name without the kind).

        + text: for people, if another run is followed
        """
        text = text or f"runs on the host as {unit}, even if you leave (`systemctl stop {unit}` ends it)"
        self.write({"event": "begun", "app": self.app, "unit": unit, "text": self.system.hidden.shown(text)})

    def begin(self, what: str, number: int = 0, of: int = 0) -> None:
        """Something begins; with a number it is a step."""
        self.what, self.number, self.of, self.last = what, number, of, ""
        self.began = self.system.clock()

    def step(self, seconds: float, note: str | None) -> None:
        """The step has ended."""
        event: Step = {
            "event": "step",
            "app": self.app,
            "step": self.what,
            "number": self.number,
            "of": self.of,
            "seconds": seconds,
            "note": note and self.system.hidden.shown(note),
        }
        self.write(event)

    def end(self) -> None:
        """Nothing is under way from here on."""
        self.what = ""

    def ended(self, code: int, release: str | None, error: str | None) -> Ended:
        """Returns the event for the end of a run; the caller writes it."""
        shown = error and self.system.hidden.shown(error)
        return {"event": "ended", "app": self.app, "code": code, "release": release, "error": shown}

    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.system.clock() - self.began

    def heard(self, line: str) -> None:
        """The command has written a line; JSON, which programs tell each other, is no sign of life for people."""
        if not line.startswith("{"):
            self.last = line

    def beat(self) -> None:
        """Write a sign of life every few seconds: how long it takes, and the command's last line. It never returns."""
        while True:
            self.system.sleep(BEAT_SECONDS)
            if self.what and self.elapsed() >= BEAT_SECONDS:
                last = f": {self.system.hidden.shown(self.last)[:LAST]}" if self.last else ""
                numbers = f"{self.number}/{self.of} " if self.of else ""
                text = f"{numbers}{self.what}, {self.elapsed():.0f} s so far{last}"
                self.write({"event": "beat", "app": self.app, "text": text})


def written(event: Event) -> None:
    """Write an event. A full disk or a closed pipe is no failure."""
    with contextlib.suppress(OSError):
        tell(event)


def printed(event: Event) -> None:
    """Print an event for people."""
    with contextlib.suppress(OSError):
        if text := for_people(event):
            print(text, flush=True)
