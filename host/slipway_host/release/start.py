"""start: start the new release beside the old one, or after the old one was stopped."""

from __future__ import annotations

import contextlib
import os
import signal

from slipway_host.release import check, failure, guest, jobs, processes, retire, runs
from slipway_host.system import Failed
from slipway_host.systemd import ACTIVE
from slipway_host.text import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App

KILL_SECONDS = 20  # for what was killed to be gone
LOOK_EVERY = 0.05


def start(app: App, release: str) -> None:
    """Start the new release beside the old one."""
    for other in sorted(app.warm() - {release}):  # memory for two releases is needed, not for three
        retire.drained(app, other, until=retire.drain_end(app, other))
        if not processes.finishing(app, other):  # else what ends it later is still needed
            retire.forget_drain(app, other)
        app.systemd.ctl("stop", "--no-block", *processes.services(app, [other]), check=False)
    launch(app, release)


def launch(app: App, release: str) -> None:
    """Start the processes of a release, unless they run."""
    app.launched = app.system.time()
    for process in processes.of(app, release):
        process.start(app, release)


def start_missing(app: App, release: str) -> None:
    """Start the workers of the release that serves that don't run: a run that failed may have ended one."""
    workers = [process for process in processes.of(app, release) if process.finishes]
    states = app.systemd.loaded(processes.units_of(app, release, workers)) if workers else {}
    for process in workers:
        if states.get(process.service(app, release), "inactive") in runs.OVER:
            try:
                process.start(app, release)
            except (Failed, OSError) as error:
                app.progress.say(failure.said_of(error))


def ensure_running(app: App, release: str) -> None:
    """Write, enable and start the units of a release."""
    texts, layout = app.record(release).get("wanted", {}).get("units", {}), app.system.layout
    missing = {kind: text for kind, text in texts.items() if not (layout.units / app.at.unit(release, kind)).exists()}
    check.write_units(app, release, missing)
    app.systemd.reread()
    units = processes.units(app, release)
    app.systemd.ctl("reset-failed", *units, check=False)
    app.systemd.ctl("enable", "--quiet", *units)
    # The caller lets nginx switch to it.
    states = app.systemd.states([*units, layout.nginx_unit], "ActiveState")
    if down := [unit for unit, state in states.items() if state["ActiveState"] not in ACTIVE]:
        app.progress.say(f"{', '.join(down)} didn't run: starting again")
    launch(app, release)


# ── what is stopped first ────────────────────────────────────────────────────────────────────────────────────────


def make_way(app: App, release: str) -> str | None:
    """End all processes of the app before anything of a release runs: a compromised one could kill the new ones.

    Old and new release run as the same user, so they can kill each other.
    """
    serving = app.serving()
    if serving:
        app.progress.say(f"{serving} is stopped first, as requested: requests are lost until a release serves")
        # If this run is killed from here on, the next one starts it again.
        app.write_record(serving, stopped_first=app.system.stamp())
    others = sorted(app.installed())  # including a warm release, even as the target of a rollback
    for other in others:
        retire.forget_drain(app, other)
    jobs.stop(app)
    # Stop first, then kill: otherwise systemd would restart killed services, and sockets would start them.
    if units := [unit for other in others for unit in processes.units(app, other)]:
        app.systemd.ctl("stop", "--no-block", *units, check=False)
    until = app.system.clock() + KILL_SECONDS
    slices = [line.removeprefix("Slice=") for line in app.wanted["sandbox"] if line.startswith("Slice=")]
    _kill(app, slices)
    while left := guest.processes(app.at.user):
        if app.system.clock() > until:
            raise Failed(f"Processes of {app.name} don't end ({listed(left)}): see `ps -u {app.at.user}`.")
        for process in left:  # those outside of its slice, too
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _kill(app, slices)
        app.system.sleep(LOOK_EVERY)
    for other in others:
        app.systemd.stop(*processes.units(app, other))
    return None if serving else "nothing served"


def _kill(app: App, slices: list[str]) -> None:
    if slices:
        app.systemd.kill(*slices)


def start_again(app: App) -> str:
    """Start a release that was stopped first, if no other serves. Returns a message, or an empty text."""
    serving = app.serving()
    if not serving or not app.record(serving).get("stopped_first"):
        return ""
    try:
        ensure_running(app, serving)
    except (Failed, OSError) as error:
        return f"{serving}, which was stopped first, can't be started again: {failure.said_of(error)}"
    app.write_record(serving, stopped_first=None)
    return f"{serving}, which was stopped first, was started again."
