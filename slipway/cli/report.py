"""What became of a run, or would: plain values, from which the screen and the JSON are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway.engine.plan import Change

INTERRUPTION = "interrupted"
"""Error of a run that its operator interrupted."""


@dataclass
class Step:
    """One operation on one host."""

    operation: str
    """Its name: "Base | Install packages"."""
    changes: list[Change]
    seconds: float = 0.0
    """How long it took; 0 in a plan."""
    failed: bool = False
    """In a plan: whether it is known that it would fail."""
    said: list[str] = field(default_factory=list)
    """Lines that its commands printed: of a release its steps, its id and the result of --prove; none in a plan."""


@dataclass
class Report:
    """The result of a run; of a plan what the run would do."""

    verb: str
    planning: bool
    seconds: float
    error: str
    """What ended the run; empty where nothing did, or where the hosts' own errors tell it."""
    steps: dict[str, list[Step]]
    """Host → its operations that change something or failed, in their order."""
    errors: dict[str, list[str]]
    """Host → lines that its failed operations printed, or why it wasn't reached."""
    unchanged: dict[str, int]
    """Host → number of operations that had nothing to do."""
    undone: dict[str, list[str]] = field(default_factory=dict)
    """Host → what is wanted and wasn't done, though nothing failed."""
    lost: list[str] = field(default_factory=list)
    """Hosts that weren't reached, or didn't answer."""
    served: set[str] = field(default_factory=set)
    """Hosts of which the run knows that a release served there before it."""
    roles: dict[str, float] = field(default_factory=dict)
    """Role → seconds."""

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        return bool(self.error or self.lost) or any(step.failed for steps in self.steps.values() for step in steps)

    @property
    def changes(self) -> int:
        """How many operations change something."""
        return sum(not step.failed for steps in self.steps.values() for step in steps)
