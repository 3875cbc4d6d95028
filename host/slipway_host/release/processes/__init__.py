"""The processes of a release, a module for each kind: how it starts, is proven, and ends.

process.py  what every kind has
web.py      answers requests
"""

from __future__ import annotations

import os

from slipway_host.release.processes.process import Process
from slipway_host.release.processes.web import WEB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipway_host.release.app import App

__all__ = ["PROCESSES", "Process", "of", "services", "units", "units_of"]

PROCESSES: tuple[Process, ...] = (WEB,)
"""All kinds, in the order in which they start."""


def of(app: App, release: str) -> list[Process]:
    """The processes of a release, in the order in which they start: those whose units it was made with.

    If its record doesn't tell, those that have a unit's file.
    """
    texts = app.record(release).get("wanted", {}).get("units")
    if isinstance(texts, dict) and texts:
        return [each for each in PROCESSES if any(kind in texts for kind in each.kinds)] or [WEB]
    folders = (app.system.layout.units, app.system.layout.warm_units)
    paths = {each: [folder / unit for folder in folders for unit in each.units(app, release)] for each in PROCESSES}
    return [each for each in PROCESSES if each is WEB or any(map(os.path.lexists, paths[each]))]


def units(app: App, release: str) -> list[str]:
    """Names of the units of a release, in the order in which they start."""
    return units_of(app, release, of(app, release))


def units_of(app: App, release: str, found: Iterable[Process]) -> list[str]:
    """The same of processes that were looked up already."""
    return [unit for each in found for unit in each.units(app, release)]


def services(app: App, releases: Iterable[str]) -> list[str]:
    """Names of the services of releases."""
    return [each.service(app, release) for release in releases for each in of(app, release)]
