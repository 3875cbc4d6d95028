"""Change what `current` names: in one step, and on the disk before anything of the old release is removed."""

from __future__ import annotations

import json

from slipway_host.protocol import FORMAT
from slipway_host.release import check, retire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.protocol import Left
    from slipway_host.release.app import App
    from slipway_host.wanted import Wanted


def settle(app: App, release: str, damaged: bool = False) -> None:
    """Make the release that nginx uses the one `current` names, and let the old one go.

    + damaged: whether the old one was replaced because its files are damaged
    """
    leave(app, confirm(app, release, damaged), release)


def confirm(app: App, release: str, damaged: bool = False) -> str | None:
    """Let `current` name this release. If the one before is newer, mark it as bad.

    Returns the one before, or None.

    + damaged: as `settle` takes it
    """
    before, known = app.serving(), app.record(release)
    if not known.get("committed") and known.get("wanted"):
        remember(app, known["wanted"])
    previous = known.get("previous") if known.get("committed") else before
    stamp = app.system.stamp()
    app.write_record(
        release, state="good", committed=stamp, previous=previous, bad=None, warm_until=0, stopped_first=None
    )
    if before and app.number(release) < app.number(before) and not damaged:
        by = app.request.get("by", "a run that was killed")
        left: Left = {"since": stamp, "by": by, "why": f"rolled back to {release}"}
        app.write_record(before, bad=left)
    point_current(app, release)
    check.flush(app)  # before anything of the old one is removed
    return before


def leave(app: App, before: str | None, release: str) -> None:
    """Let the release go that `current` named before."""
    if before and before != release:
        retire.let_go(app, before)
    else:
        app.systemd.reread()  # it was enabled without one


def remember(app: App, wanted: Wanted) -> None:
    """Store what is wanted now, for drains and for releases started on the host itself."""
    # In one order, whoever writes it: a record keeps what was wanted without the version of its form.
    app.system.replace(app.at.wanted, json.dumps({"format": FORMAT} | wanted | {"format": FORMAT}, indent=1), 0o600)


def point_current(app: App, release: str) -> None:
    """Point `current` to this release, in one step."""
    app.system.link(app.at.current, f"{app.at.releases.name}/{release}")
