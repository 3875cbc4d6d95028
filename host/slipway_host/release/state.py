"""The forms of what a host keeps: an older one is taken over, a newer one is refused.

1  what hosts had before forms were written down: records have no "format" and no "number"
2  records count up (`number`); records and release.json have their "format"; and so has the host, in format.json
"""

from __future__ import annotations

import json

from slipway_host import VERSION
from slipway_host.protocol import FORMAT
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App
    from slipway_host.system import System

LOCK_SECONDS = 30  # a write takes a hundredth of one


def known(system: System) -> tuple[int, str]:
    """The host's form, and the version of the Slipway that made it so; 1 where none is written down."""
    told = system.json(system.layout.format)
    return int(told.get("format", 1)), str(told.get("slipway", "an earlier one"))


def require(system: System) -> None:
    """Fail where the host keeps what this Slipway is too old for."""
    form, version = known(system)
    if form > FORMAT:
        raise Failed(
            f"What this host keeps is in the form of Slipway {version} (format {form}), and this is Slipway {VERSION}, "
            f"which knows none above {FORMAT}: upgrade the Slipway that you run here, to {version} at least."
        )


def take_over(app: App) -> None:
    """Bring what is kept of an app to the form of this Slipway; asked under the app's lock, before all else.

    A run that is killed meanwhile is made good by the next: at each instant the records are in their order.
    """
    require(app.system)
    _claim(app.system)
    _number(app)
    wanted = app.system.json(app.at.wanted)
    if wanted and wanted.get("format", 1) < FORMAT:
        from slipway_host.release import truth

        truth.remember(app, wanted)


def _claim(system: System) -> None:
    """Write down that this host is of this form, before anything of it is: an older Slipway refuses it from then on."""
    if known(system)[0] >= FORMAT and system.layout.format.exists():
        return
    with system.locked(system.layout.format_lock, LOCK_SECONDS):
        system.layout.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        system.replace(system.layout.format, json.dumps({"format": FORMAT, "slipway": VERSION}))


def _number(app: App) -> None:
    """Give a number to each record that has none, in the order of their ids: it is older than any that has one."""
    history = app.history()
    without = [record for record in history if "number" not in record]
    if not without:
        return
    with_one = [record for record in history if "number" in record]
    first = with_one[0]["number"] if with_one else len(without) + 1
    if shift := max(0, len(without) + 1 - first):  # room for them, the last one first
        for record in reversed(with_one):
            app.write_record(record["id"], number=record["number"] + shift)
    # The newest first: those that have none yet stay before those that have one.
    for number, record in zip(range(first + shift - 1, 0, -1), reversed(without), strict=False):
        app.write_record(record["id"], number=number, format=FORMAT)
