"""The figures of a run: medians, the round trips that a case costs, ratios, and the tables that show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import log, nan
from statistics import geometric_mean, median, stdev

Points = Mapping[float, float]
"""Added round trip in seconds → seconds that a run took."""


def slope(points: Points) -> float | None:
    """How many round trips are made one after the other: least squares over the delays; None for a single delay."""
    if len(points) < 2:
        return None
    middle = sum(points) / len(points)
    level = sum(points.values()) / len(points)
    rise = sum((delay - middle) * (seconds - level) for delay, seconds in points.items())
    return rise / sum((delay - middle) ** 2 for delay in points)


class Figures:
    """Seconds by case, tool and delay."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, case: str, tool: str, delay: float, seconds: float) -> None:
        """Count one run."""
        self._samples[case, tool][delay].append(seconds)

    def of(self, case: str, tool: str) -> Points:
        """Median seconds at each delay that was measured."""
        samples = self._samples.get((case, tool), {})
        return {delay: median(samples[delay]) for delay in sorted(samples)}

    def runs(self, case: str) -> int:
        """How many runs the best measured cell of a case has."""
        return max((len(each) for key, cell in self._samples.items() if key[0] == case for each in cell.values()))

    def has(self, case: str) -> bool:
        """Whether the case was measured at all."""
        return any(key[0] == case for key in self._samples)


def ratios(points: Points, others: Points) -> str:
    """How many times as long as `others`, at the first and the last delay that both have."""
    common = [delay for delay in points if delay in others]
    ends = common[:1] + common[1:][-1:]
    return " / ".join(f"{points[delay] / others[delay]:.1f}" for delay in ends)


def paired(rounds: Sequence[Mapping[str, float]], name: str, to: str) -> tuple[float, float]:
    """How many times as much one figure is as another of the same round, and the standard error of that.

    It is the geometric mean of the rounds that have both, so that a round in which all is slow counts as any other. The
    error of a single round is not a number, as is all where no round has both.
    """
    each = [round_[name] / round_[to] for round_ in rounds if name in round_ and to in round_]
    if not each:
        return nan, nan
    mean = geometric_mean(each)
    return mean, mean * stdev(map(log, each)) / len(each) ** 0.5 if len(each) > 1 else nan


def table(figures: Figures, case: str, tools: Mapping[str, str], delays: Sequence[float]) -> str:
    """A case, side by side.

    + tools: name → title, in the order of the rows; "slipway" and "shell" are what others are compared to
    """
    heads = [f"{delay * 1000:.0f} ms" for delay in delays]
    lines = [["", *heads, "round trips", "to Slipway", "to the script"]]
    for name, title in tools.items():
        points = figures.of(case, name)
        if not points:
            continue
        trips = slope(points)
        cells = [f"{points[delay]:.2f}" if delay in points else "·" for delay in delays]
        lines.append(
            [
                title,
                *cells,
                "·" if trips is None else f"{trips:.0f}",
                *("" if other == name else ratios(points, figures.of(case, other)) for other in ("slipway", "shell")),
            ]
        )
    return aligned(lines)


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as text: the first column to the left, all others to the right."""
    rows = list(lines)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )
