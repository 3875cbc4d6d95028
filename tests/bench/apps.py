"""What further apps cost Slipway's converged run and its plan: hosts with 1, 10 and 100 apps, measured in turn.

The apps are the stories' tiny one, which all have from one folder: each with users, units, a site, a certificate and a
release of its own, and one worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.figures import Figures, aligned, slope
from tests.bench.relay import Relay
from tests.bench.subject import Outcome
from tests.e2e._driver import Host
from tests.e2e.apps import make_tiny, settings
from tests.target import container
from tests.target.engine import docker

if TYPE_CHECKING:
    from tests.bench.cases import Plan

CASE = "apps"
COUNTS = (1, 10, 100)
BAR_SECONDS = 0.01
"""What a further app may take."""
MOST_SECONDS = 2.0
"""What a run may take that is about the most of `COUNTS`."""
MB_OF_AN_APP, FREE_MB = 64, 2048
"""MB of memory: an app of this bench takes some 30, as much again during its release; the rest is the host's own."""
KINDS = {"converged": "a converged run", "dry": "a plan"}
"""Options of a deploy, in short → what it is."""


@dataclass(frozen=True)
class Place:
    """A host with so many apps, seen through a relay."""

    count: int
    far: Host
    relay: Relay

    def run(self, kind: str) -> Outcome:
        """A run of a kind, which finds everything as it should be."""
        done = self.far.deploy(*(["--dry"] if kind == "dry" else []))
        assert done.changed == [], f"with {self.count} apps, {done.changed} changed on a host that was as described"
        return Outcome(done.seconds, 0)


@contextmanager
def places(
    name: str,
    os_name: str,
    folder: Path,
    counts: Sequence[int],
    say: Callable[[str], None],
    through: Callable[[Relay, Host, Path], Host],
) -> Iterator[list[Place]]:
    """Targets that Slipway has provisioned, by their number of apps; they are removed in the end.

    + say: told what is done
    + through: called with a relay, a host and a folder: the host as it is seen through that relay
    """
    with ExitStack() as stack:
        tiny, found = make_tiny(folder / "tiny"), []
        for count in counts:
            own = folder / f"{count}-apps"
            (own / "far").mkdir(parents=True)
            near = Host.up(f"{name}-{count}", os_name, own, ())
            stack.callback(near.down)
            with_memory(near, FREE_MB + count * MB_OF_AN_APP)
            near.change({"acme": {"check": False}, "apps": {f"app{each}": app(tiny, each) for each in range(count)}})
            say(f"  Slipway provisions a host with {count} app{'s' if count > 1 else ''} …")
            say(f"    {near.deploy().seconds:.0f} s")
            relay = stack.enter_context(Relay(near.target["ssh"]["host"], near.target["ssh"]["port"]))
            far = through(relay, near, own)
            stack.callback(far.down)  # the same target; what else is its own goes too
            far.slipway = near.slipway
            found.append(Place(count, far, relay))
            for kind in KINDS:
                found[-1].run(kind)  # after a first one, which is like no other
        yield found


def app(source: Path, number: int) -> dict[str, object]:
    """Settings of an app that takes as little as one can."""
    return settings(
        source, f"app{number}.test", workers=1, watch=0, keep_warm=0, tls={"mode": "acme"}, limits={"memory_mb": 128}
    )


def measure(
    found: Sequence[Place],
    plan: Plan,
    into: Figures,
    once: Callable[[str, Relay, float, str, Callable[[], Outcome]], None],
) -> None:
    """Measure all of them in interleaved rounds.

    + once: called with a case, the relay, the delay, a row and what to do
    """
    for round_, delay in plan.cells:
        for each in [*found[round_ % len(found) :], *found[: round_ % len(found)]]:
            for kind in KINDS:
                row = row_of(kind, each.count)
                if delay in plan.ends and plan.wants(into.of(CASE, row), round_, delay):
                    once(CASE, each.relay, delay, row, partial(each.run, kind))


def row_of(kind: str, count: int) -> str:
    """Name of the figures of a kind of run."""
    return f"{kind} {count}"


def further(figures: Figures, kind: str, count: int, delay: float) -> float | None:
    """Seconds that each app beyond the first takes of a run with so many; None where that wasn't measured."""
    one, many = (figures.of(CASE, row_of(kind, each)).get(delay) for each in (COUNTS[0], count))
    return None if one is None or many is None else (many - one) / (count - COUNTS[0])


def table(figures: Figures, delays: Sequence[float]) -> str:
    """What was measured, and whether it is within the bars, in words."""
    heads = [f"{delay * 1000:.0f} ms" for delay in delays]
    lines = [["", *heads, "round trips", "a further app"]]
    verdicts = []
    for kind, what in KINDS.items():
        for count in COUNTS:
            points = figures.of(CASE, row_of(kind, count))
            if not points:
                continue
            trips, nearest = slope(points), min(points)
            cost = further(figures, kind, count, nearest) if count > COUNTS[0] else None
            cells = [f"{points[delay]:.2f}" if delay in points else "·" for delay in delays]
            title = f"{what} with {count} app{'s' if count > 1 else ''}"
            shown = "" if cost is None else f"{cost * 1000:.1f} ms"
            lines.append([title, *cells, "·" if trips is None else f"{trips:.0f}", shown])
            if cost is not None:
                verdicts.append(verdict(f"{what} with {count} apps: a further app takes", cost, BAR_SECONDS, "ms"))
            if count == COUNTS[-1]:
                verdicts.append(verdict(f"{what} with {count} apps takes", points[nearest], MOST_SECONDS, "s"))
    return "\n".join([aligned(lines), *verdicts])


def verdict(what: str, seconds: float, bar: float, unit: str) -> str:
    """A figure beside its bar, and whether it is within."""
    scale = 1000 if unit == "ms" else 1
    told = "within" if seconds <= bar else "MISSED:"
    return f"{what} {seconds * scale:.1f} {unit}, {told} the bar of {bar * scale:g} {unit}"


def with_memory(host: Host, megabytes: int) -> None:
    """Give a target so much memory, where it has a limit: that of a small VPS is too little for a hundred apps."""
    if host.target["memory_mb"]:
        limit = f"{megabytes}m"
        docker("update", f"--memory={limit}", f"--memory-swap={limit}", container.host_name(host.name))
