"""What an app that was taken over, and what runs while one is built, can do to the host and to another app.

A program inside the sandbox tries it (onhost/tries.py): the sandbox of the app's unit, and that of a build, each from
the host's own files. Before that it tries the same as root without a sandbox, where all of it must succeed: so what is
tried is there, listens, and can be read. The other app is a stand-in, there for as long as that takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.audit.finding import Finding, Verdict, judged, looked
from tests.audit.placed import run_placed
from tests.audit.subject import Subject

STAGED = "STAGED "
"""Before the line that onhost/stage.py ends with."""
DONE = "done"
FEWEST = {"app": 110, "build": 115}
"""Place → attempts below which nothing was shown."""
CALLED = {"app": "the app", "build": "a build"}


def neighbours(subject: Subject) -> Finding:
    """What comes of all attempts of the first app and of its build."""
    if not subject.local:
        return Finding(Verdict.LEFT_OUT, "an attack: made on this machine's own containers only")
    looked(subject.apps, "no app runs")
    return neighbours_finding(run_placed(subject, "stage", subject.apps[0], subject.site))


def neighbours_finding(printed: str) -> Finding:
    """What onhost/stage.py says: nothing may succeed but what root tries without a sandbox."""
    lines = [line.removeprefix(STAGED) for line in printed.splitlines() if line.startswith(STAGED)]
    try:
        [found] = map(json.loads, lines)
        places: Mapping[str, Mapping[str, Any]] = {place: found[place] for place in CALLED}
        root = {name for name, told in found["root"].items() if told == DONE}
    except (ValueError, KeyError, TypeError, AttributeError):
        looked(False, f"no attempt was made: {printed[-200:]}")
    for place, tried in places.items():
        looked(len(tried) >= FEWEST[place], f"only {len(tried)} attempts were made from {CALLED[place]}")
        blind = [name for name in tried if name not in root]
        looked(not blind, f"root can't do it either, so it shows nothing: {'; '.join(blind)}")
    holes = {place: [name for name, told in tried.items() if told == DONE] for place, tried in places.items()}
    measured = ", ".join(f"{len(holes[place])} of {len(tried)} from {CALLED[place]}" for place, tried in places.items())
    details = [f"{CALLED[place]} {name}" for place, names in holes.items() for name in names]
    return judged(not details, measured, details)
