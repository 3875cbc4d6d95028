"""The processes of a release, a module for each kind: how it starts, is proven, and ends.

process.py  what every kind has
web.py      answers requests
named.py    workers and schedulers, as the app names them
"""

from __future__ import annotations

from slipway_host.names import KINDS
from slipway_host.release.processes import named, web
from slipway_host.release.processes.process import Process
from slipway_host.release.processes.web import WEB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slipway_host.release.app import App

__all__ = ["PROCESSES", "WEB", "Process", "finishing", "of", "services", "units", "units_of"]

PROCESSES: tuple[Callable[[Iterable[str]], list[Process]], ...] = (web.found, named.found)
"""All kinds, in the order in which they start: the units of a release → its processes of that kind."""


def of(app: App, release: str) -> list[Process]:
    """The processes of a release, in the order in which they start: those whose units it was made with.

    If its record doesn't tell, those that have a unit's file.
    """
    texts = app.record(release).get("wanted", {}).get("units")
    kinds = sorted(texts) if isinstance(texts, dict) and texts else _of_files(app, release)
    return [process for find in PROCESSES for process in find(kinds)]


def _of_files(app: App, release: str) -> list[str]:
    """The units of a release that have a file."""
    folders, name = (app.system.layout.units, app.system.layout.warm_units), app.at.unit(release, "*.service")
    end = name.partition("*")[2]
    named = {path.name for folder in folders for path in app.system.like(folder, name)}
    return [*KINDS, *sorted(f"{each.removeprefix(f'{app.name}.').removesuffix(end)}.service" for each in named)]


def finishing(app: App, release: str, states: Mapping[str, str] | None = None) -> bool:
    """Whether a process of the release was told to stop and finishes its work.

    + states: unit → state, if they are known already
    """
    services = [each.service(app, release) for each in of(app, release) if each.finishes]
    if not services:
        return False
    known = app.systemd.loaded(services) if states is None else states
    return any(known.get(service) == "deactivating" for service in services)


def units(app: App, release: str) -> list[str]:
    """Names of the units of a release, in the order in which they start."""
    return units_of(app, release, of(app, release))


def units_of(app: App, release: str, found: Iterable[Process]) -> list[str]:
    """The same of processes that were looked up already."""
    return [unit for each in found for unit in each.units(app, release)]


def services(app: App, releases: Iterable[str]) -> list[str]:
    """Names of the services of releases."""
    return [each.service(app, release) for release in releases for each in of(app, release)]
