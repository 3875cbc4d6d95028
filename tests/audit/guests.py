"""systemd-analyze on the units of a build and of a release, which are there only while they run."""

from __future__ import annotations

import re

from tests.audit.finding import Finding, looked
from tests.audit.placed import run_placed
from tests.audit.subject import Subject
from tests.audit.system import units_finding

BUILD_EXPOSURE = 3.0
RELEASE_EXPOSURE = 4.5
"""A release writes units and switches users, as root."""


def guest_units(subject: Subject) -> Finding:
    """How exposed both are, with the properties that the host's own program gives them (onhost/units.py)."""
    looked(subject.apps, "no app runs")
    return guests_finding(run_placed(subject, "units", subject.apps[0]))


def guests_finding(printed: str) -> Finding:
    """What onhost/units.py prints: the units' names, and what systemd says of them."""
    bars = {"BUILD": BUILD_EXPOSURE, "RELEASE": RELEASE_EXPOSURE}
    named = dict(re.findall(rf"^({'|'.join(bars)}) (\S+)$", printed, re.MULTILINE))
    looked(named.keys() == bars.keys(), f"no unit was started: {printed[-200:]}")
    return units_finding(printed, {named[what]: bar for what, bar in bars.items()})
