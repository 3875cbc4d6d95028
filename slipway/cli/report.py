"""What became of a run, or would: plain values, from which the screen and the JSON are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway.engine.plan import Change

INTERRUPTION = "interrupted"
"""What keeps a run from going on where its operator did."""


@dataclass
class Step:
    """One operation on one host."""

    operation: str
    """Its name: "Base | Install packages"."""
    changes: list[Change]
    seconds: float = 0.0
    """How long it took; 0 in a plan."""
    failed: bool = False
    """In a plan: it is known that it would."""
    said: list[str] = field(default_factory=list)
    """Lines that its commands printed: of a release its steps, its id, and what its traffic noticed; none in a plan."""


@dataclass
class Report:
    """What became of a run, or would."""

    verb: str
    planning: bool
    seconds: float
    error: str
    """What kept the run from going on; empty where nothing did, or where the hosts' own errors say it."""
    steps: dict[str, list[Step]]
    """Host → its operations that change something, or failed; in their order."""
    errors: dict[str, list[str]]
    """Host → lines that its failed operations printed, or why it wasn't reached."""
    unchanged: dict[str, int]
    """Host → operations that had nothing to do."""
    lost: list[str] = field(default_factory=list)
    """Hosts that weren't reached, or didn't answer."""
    roles: dict[str, float] = field(default_factory=dict)
    """Role → seconds."""

    @property
    def failed(self) -> bool:
        """Whether anything did."""
        return bool(self.error or self.lost) or any(step.failed for steps in self.steps.values() for step in steps)

    @property
    def changes(self) -> int:
        """How many operations change something."""
        return sum(not step.failed for steps in self.steps.values() for step in steps)
