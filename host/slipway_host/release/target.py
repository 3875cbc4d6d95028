"""Choose the release for a rollback."""

from __future__ import annotations

from slipway_host.release.app import in_order
from slipway_host.system import Failed
from slipway_host.text import NAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.protocol import Target
    from slipway_host.release.app import App


def target(app: App, named: str | None) -> Target:
    """The release that a rollback would make serve, or why there is none."""
    try:
        return {"release": choose(app, app.serving(), named), "error": None}
    except Failed as failure:
        return {"release": None, "error": app.system.hidden.shown(str(failure))}


def choose(app: App, serving: str | None, named: str | None) -> str:
    """The release to roll back to. If there is none of the given name, the message has the nearest one.

    + named: an id, the beginning of one, or a commit; None for the newest good one before the one that serves
    """
    if not serving:
        raise Failed("No release serves yet, so there is nothing to roll back.")
    there = [each for each in app.good() if app.at.env(each).exists() and app.record(each).get("wanted")]
    return _named(app, there, named) if named else _before(app, there, serving)


def _named(app: App, there: list[str], named: str) -> str:
    """The named release, of those that can serve again."""
    found = [release for release in there if release.startswith(named) or without_t(release).startswith(named)]
    # A commit may have been released again, with another environment: then the newest one that isn't bad.
    of_commit = [release for release in there if app.record(release).get("commit", "").startswith(named)]
    sound = [release for release in of_commit if not app.record(release).get("bad")] or of_commit
    several = len({app.record(release)["commit"] for release in of_commit}) > 1
    found = found or (of_commit if several else sound[-1:])
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        more = f" and {len(found) - NAMED} older ones" if len(found) > NAMED else ""
        raise Failed(f"{named} is the beginning of {', '.join(found[-NAMED:])}{more}: name one of them.")
    releases = [record["id"] for record in app.history() if record.get("kind") == "release"]
    known = [release for release in releases if release.startswith(named)]
    if known and app.record(known[0]).get("state") != "good":
        why = f"{known[0]} never went live"
    elif known:
        why = f"{known[0]} isn't on this host any more (keep_releases)"
    else:
        why = f"There is no release {named}"
    if not there:
        raise Failed(f"{why}, and no release on this host can serve again: release anew.")
    import difflib

    near = difflib.get_close_matches(named, there, n=1) or there[-1:]
    raise Failed(f"{why}. Nearest: {near[0]}. Releases that can serve again: {', '.join(there)}.")


def _before(app: App, there: list[str], serving: str) -> str:
    """The newest good one before the one that serves."""
    previous, now = app.record(serving).get("previous"), app.number(serving)
    older = [each for each in in_order(app, there) if app.number(each) < now and not app.record(each).get("bad")]
    for release in [*(each for each in older if each == previous), *reversed(older)]:
        if not app.damage(release):
            return release
    bad = [release for release in there if app.record(release).get("bad")]
    marked = f" Marked as bad, and used only if named: {', '.join(bad)}." if bad else ""
    marked += f" Damaged: {', '.join(older)}." if older else ""
    raise Failed(f"There is no good release before {serving} on this host.{marked}")


def without_t(release: str) -> str:
    """An id without the T in its time, as some people type it."""
    return release.replace("T", "", 1)
