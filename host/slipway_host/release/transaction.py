"""Take the steps of a release in order, and record each. After a failure the old release keeps serving."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import threading
import time
from pathlib import Path

from slipway_host.names import RECORD
from slipway_host.release import (
    build,
    check,
    current,
    database,
    denied,
    failure,
    heal,
    hooks,
    lacking,
    proof,
    source,
    start,
    switch,
)
from slipway_host.release import manifest as manifests
from slipway_host.system import Failed, Interrupted, Undecided, tail
from slipway_host.wanted import held_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from slipway_host.release.app import App
    from slipway_host.wanted import Wanted

    Step = tuple[str, Callable[[App, str], str | None]]
    """Name and function of a step. The function may return a note."""

AHEAD = ("concurrent.futures.thread", "http.client", "ssl")
"""Modules that the steps will need."""
AHEAD_AFTER = 0.1  # seconds: by then the first step waits for its command, and the interpreter is idle
ID_EVERY = 0.1  # seconds between two tries for a free id


def steps(stop_first: bool = False) -> list[Step]:
    """The steps of a release.

    + stop_first: whether to stop the app before anything of the new release runs as its user, as late as possible
    """
    return [
        ("fetch", source.fetch),
        ("build", build.build),
        *([stop()] if stop_first else []),
        ("check", check.check),
        ("migrate", database.migrate),
        ("start", start.start),
        ("prove", proof.prove),
        ("switch", switch.switch),
        ("watch", proof.watch),
        ("commit", switch.commit),
    ]


def stop() -> Step:
    """The step that ends all processes of the app."""
    return ("stop", start.make_way)


def transact(app: App, record_id: str, release: str, taken: Sequence[Step], **facts: Any) -> float:
    """Take the steps, and record each. Returns the seconds that they took. Raises Failed after undoing a failure.

    + record_id: id of the release, or of the rollback to it
    + taken: the steps, in order
    + facts: more facts for the record
    """
    begun = app.system.clock()
    ahead = threading.Timer(AHEAD_AFTER, import_ahead)
    ahead.daemon = True
    ahead.start()
    with contextlib.suppress(KeyError, OSError):  # for the next run, if this one is killed
        Path(app.request["folder"], RECORD).write_text(record_id)
    stamp, by = app.system.stamp(), app.request["by"]
    app.write_record(record_id, app=app.name, state="started", started=stamp, by=by, steps={}, **facts)
    seconds: dict[str, float] = {}
    name, number = "start", 0
    try:
        for number, (name, step) in enumerate(taken, start=1):
            app.progress.begin(name, number, len(taken))
            note = step(app, release)
            seconds[name] = round(app.progress.elapsed(), 2)
            app.write_record(record_id, steps=seconds)
            app.progress.step(seconds[name], note)
    except Exception as error:  # of any kind: undo the steps
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # a full disk
            app.write_record(record_id, took=round(app.system.clock() - begun, 1))
        fail(app, record_id, release, f"failed at {name} ({number} of {len(taken)})", name, error)
    finally:
        app.progress.end()
    app.write_record(record_id, state="good", finished=app.system.stamp())
    return sum(seconds.values())


def import_ahead() -> None:
    """Import what the steps will need, while they wait for their commands."""
    for module in AHEAD:
        with contextlib.suppress(ImportError):  # the step that needs it reports it
            importlib.import_module(module)


def fail(app: App, record_id: str, release: str, where: str, step: str, error: Exception) -> None:
    """Undo the steps and record the failure. Always raises Failed."""
    before = app.proxied() == release and app.serving() != release
    later = failure_hook(app, release, step)
    schema_left = schema_after(app, record_id, release, step)
    undone = heal.undo(app, release)
    told = failure.said_of(error)
    with contextlib.suppress(OSError):  # the disk may be full even after undoing
        state = "good" if app.serving() == release else "failed"  # after the commit it stands
        shown = app.system.hidden.shown(told)
        app.write_record(record_id, state=state, finished=app.system.stamp(), step=step, error=shown)
    serving = app.serving()
    after = f"{serving} {'serves again' if before else 'keeps serving'}." if serving else "No release serves yet."
    if serving and app.damage(serving) and not heal.answers(app, serving):
        after = f"{serving} should serve, but is damaged and doesn't answer."
    after += schema_left
    kind = "release" if record_id == release else "rollback to"
    more = "" if isinstance(error, (Undecided, Interrupted)) else " Correct the cause and run again."
    built = step not in ("fetch", "build")
    advice = failure.advice(error) + (
        denied.advice(app, release, told, built=built) or (lacking.advice(told) if built else "")
    )
    raise Failed(f"{kind} {release} {where}.\n{told}{advice}{later}{undone}\n{after}{more}") from error


def schema_after(app: App, record_id: str, release: str, step: str) -> str:
    """The state of the database after a failure, in words. A downgrade is undone."""
    if step == "migrate" and app.record(record_id).get("pending"):
        with contextlib.suppress(Failed, OSError):
            seen = database.look(app, release)
            return f" The database is at {', '.join(seen['current']) or 'no revision'}." if seen else ""
    revisions = app.record(record_id).get("revisions", {})
    before = revisions.get("before") or []
    after = revisions.get("after", before)
    if before == after:
        return ""
    if app.serving() == release != record_id:  # the rollback stands, and its release wants this schema
        return ""
    if record_id == release:
        return f" The database stays at {', '.join(after)}: migrations aren't undone."
    migrator, stays = app.migrator, f"stays at {', '.join(after) or 'base'}"
    if not migrator:
        return f" The database {stays}: no release here can migrate it to {', '.join(before)} again."
    limit = app.wanted["migration"]["timeout"]
    done = database.schema(app, migrator, "upgrade", what="migrate", seconds=limit)
    if done.code == 0:
        return f" The database was downgraded and is at {', '.join(before)} again; data in what was removed is lost."
    return f" The database {stays}, and can't be migrated to {', '.join(before)} again:\n{tail(done.output)}\n"


def failure_hook(app: App, release: str, step: str) -> str:
    """Run the hook on_failure with the environment of the failed or else the serving release. Returns a message."""
    if not app.wanted["hooks"].get("on_failure"):
        return ""
    able = [each for each in (release, app.serving()) if each and app.at.env(each).exists() and not app.damage(each)]
    if not able:
        return "\nThe hook on_failure wasn't run: no release has an environment yet."
    try:
        hooks.hook(app, able[0], "on_failure", SLIPWAY_STEP=step, SLIPWAY_RELEASE=release)
    except (Failed, OSError) as error:
        return f"\n{failure.said_of(error)}"
    return ""


def release(app: App) -> None:
    """Release what is wanted, unless it serves already."""
    if "build" in app.request:
        app.system.replace(app.at.build_environment, json.dumps(app.request["build"]), 0o600)
    heal.heal(app)
    serving = app.serving()
    if serving and _held(app, serving):
        current.remember(app, held_back(app.system.json(app.at.wanted), app.wanted))  # type: ignore[arg-type]
        return
    if serving and _is_wanted(app, serving):
        current.remember(app, app.wanted)
        return
    commit = app.wanted["source"]["commit"]
    made = new_id(app, commit[:7])
    facts = {"commit": commit, "inputs": app.wanted["inputs"], "wanted": _recorded(app.wanted)}
    app.record_id = made
    taken = steps(bool(app.request.get("stop_first")))
    took = transact(app, made, made, taken, kind="release", **facts)
    app.progress.say(f"{made} serves ({took:.1f} s)")
    try:
        hooks.hook(app, made, "after_switch")
    except (Failed, Interrupted) as error:
        app.write_record(made, hook="after_switch failed")
        again = "No run repeats it: do by hand what it should have done."
        raise Failed(f"{made} serves. But: {error}\n{again}") from error


def _recorded(wanted: Wanted) -> dict[str, Any]:
    """The part of what is wanted that a record stores; the record has its own format."""
    return {key: value for key, value in wanted.items() if key != "format"}


def _held(app: App, serving: str) -> bool:
    """Whether somebody rolled back from what is wanted, so that it isn't released again. The serving release stays."""
    bad = app.rolled_back()
    if not bad or app.request.get("again") or app.request.get("fresh"):
        return False
    left = bad["bad"]
    assert left  # as `rolled_back` looks for
    told = f"{bad['id']} was made from exactly this, and {left['by']} rolled back from it at {left['since']}"
    if wrong := app.damage(serving):
        ways = "Roll back to another release (--to), or release it again (--again)"
        raise Failed(f"{serving} is damaged: {manifests.listed(wrong)}. {told}. {ways}.")
    if not heal.bring_back(app, serving):
        raise Failed(f"{serving} doesn't serve, and {told}: --again releases it again.")
    again = "For a release, change the code, or use --again."
    app.progress.say(f"{told}; {serving} serves. {again}")
    return True


def _is_wanted(app: App, serving: str) -> bool:
    """Whether the serving release was made from what is wanted, and is whole. It is started if it doesn't run."""
    wanted = app.record(serving).get("inputs") == app.wanted["inputs"] and not app.request.get("fresh")
    if not wanted or app.damage(serving) or not heal.bring_back(app, serving):
        return False
    app.progress.say(f"{serving} serves, and is what is wanted")
    return True


def new_id(app: App, name: str) -> str:
    """A new id, with the time in it.

    + name: its end
    """
    while True:
        made = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(app.system.time()))}-{name}"
        if not app.at.record(made).exists():
            return made
        app.system.sleep(ID_EVERY)
