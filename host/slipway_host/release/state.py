"""Formats of what a host stores: an older one is taken over, a newer one is refused.

1  Slipway 0.1, which stored no format: records have no "format" and no "number"
2  records have a "number"; records, release.json and the host itself (format.json) have a "format"
"""

from __future__ import annotations

import json

from slipway_host import VERSION
from slipway_host.protocol import FORMAT
from slipway_host.release import former
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App
    from slipway_host.system import System

LOCK_SECONDS = 30  # a write takes a hundredth of a second


def known(system: System) -> tuple[int, str]:
    """The host's format, and the version of Slipway that set it; 1 if the host has none."""
    told = system.json(system.layout.format)
    form = told.get("format")
    return form if isinstance(form, int) else 1, str(told.get("slipway", "an earlier one"))


def require(system: System) -> None:
    """Raise Failed if this Slipway is too old for the host."""
    form, version = known(system)
    if form > FORMAT:
        raise Failed(
            f"This host has the format of Slipway {version} (format {form}). This is Slipway {VERSION}, which knows "
            f"formats up to {FORMAT}: upgrade it to {version} or newer."
        )


def take_over(app: App) -> None:
    """Bring an app's files to the format of this Slipway. Call it under the app's lock, before everything else.

    If the run is killed meanwhile, the next one completes it: the records are in order at each instant.
    """
    require(app.system)
    _claim(app.system)
    former.settle(app.system)
    _number(app)
    wanted = app.system.json(app.at.wanted)
    form = wanted.get("format")
    if wanted and not (isinstance(form, int) and form >= FORMAT):
        from slipway_host.release import current

        current.remember(app, wanted)


def _claim(system: System) -> None:
    """Store the host's format before anything else changes: from then on an older Slipway refuses the host."""
    if known(system)[0] >= FORMAT and system.layout.format.exists():
        return
    with system.locked(system.layout.format_lock, LOCK_SECONDS):
        system.layout.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        system.replace(system.layout.format, json.dumps({"format": FORMAT, "slipway": VERSION}))


def _number(app: App) -> None:
    """Number the records without a number, in the order of their ids; they are older than numbered ones."""
    history = app.history()
    without = [record for record in history if "number" not in record]
    if not without:
        return
    with_one = [record for record in history if "number" in record]
    first = with_one[0]["number"] if with_one else len(without) + 1
    if shift := max(0, len(without) + 1 - first):  # make room, beginning with the last one
        for record in reversed(with_one):
            app.write_record(record["id"], number=record["number"] + shift)
    # The newest first: records without a number always sort before numbered ones.
    for number, record in zip(range(first + shift - 1, 0, -1), reversed(without), strict=False):
        app.write_record(record["id"], number=number, format=FORMAT)
