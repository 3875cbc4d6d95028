"""The units of a release's processes, a module for each kind; `slipway_host.release.processes` starts and ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from roles.processes import named, web
from slipway.settings import AppSettings

Units = Callable[[AppSettings, int, Sequence[str]], Mapping[str, str]]
"""An app, its workers, and the lines of its sandbox → the units of its process: kind → text, where ``@RELEASE@``
stands for the release's id. Empty if the app has no such process."""

PROCESSES: tuple[Units, ...] = (web.units, named.units)
"""All kinds, in the order in which they start."""
