"""The old release: let go when it no longer serves, drained, kept warm for a while, and ended."""

from __future__ import annotations

import math
import shutil

from slipway_host.proxy import nginx
from slipway_host.release import forms, processes, runs, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_host.release.app import App
    from slipway_host.release.processes import Process
    from slipway_host.wanted import Wanted

LOOK_EVERY = 0.1
FINISH_EVERY = 1  # seconds between two looks at a worker that may have a long job
STOP_MORE_SECONDS = 30  # beyond the time to drain and to stop
FINISH_SECONDS = 2  # for an idle worker to end; one that has work goes on without anybody waiting for it
LEAVING = " is shutting down"
"""End of the title of an nginx worker that has an old configuration."""


def let_go(app: App, release: str) -> None:
    """Let a release that no longer serves finish its requests in the background, and stay warm for keep_warm."""
    from concurrent.futures import ThreadPoolExecutor

    grace, warm, layout = app.wanted["drain_timeout"], app.wanted["keep_warm"], app.system.layout
    stopping = grace + app.wanted["graceful_timeout"] + STOP_MORE_SECONDS
    stopped = app.record(release).get("stopped_first")
    left = app.system.time()
    app.write_record(release, left=left, stopped_first=None)
    found = processes.of(app, release)
    units = processes.units_of(app, release, found)
    if stopped or not all((layout.units / unit).exists() for unit in units):  # or somebody took them away
        remove(app, release)
        return
    for unit in units:  # in /run, so that a reboot ends it
        layout.warm_units.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copy(layout.units / unit, layout.warm_units / unit)
    # Whichever comes first: a daemon-reload, of any app, restarts a span of time, and the clock may be set back.
    stays = max(warm, grace)
    when = [f"--on-active={stays}", f"--on-calendar=@{math.ceil(left + stays)}"]
    later = ["--timer-property=AccuracySec=1s", *when]
    commands = [
        _later(app, what, release, options)
        for what, options in {"drain": [], **({"retire": later} if warm else {})}.items()
    ]
    with ThreadPoolExecutor() as pool:
        disabled = pool.submit(app.systemd.ctl, "disable", "--quiet", "--no-reload", *units, check=False)
        begun = [pool.submit(app.system.run, *command, check=False) for command in commands]
    disabled.result()
    if any(each.result().code != 0 for each in begun):  # units of a killed run have these names
        forget_drain(app, release)
        for command in commands:
            app.system.run(*command)
    for process in found:
        process.let_go(app, release)
    for unit in units:
        (layout.units / unit).unlink()
    # Last: a release that no unit ends isn't warm, and the next run removes it.
    app.write_record(release, warm_until=app.system.time() + max(warm, stopping))


def _later(app: App, what: str, release: str, options: Sequence[str] = ()) -> list[str]:
    """The command line that starts a unit which ends a release; `what` is ``drain`` or ``retire``."""
    common = ["systemd-run", "--quiet", "--collect", *(f"--property={each}" for each in runs.SHUT_OFF)]
    verb = [str(app.system.layout.program), what, app.name, release]
    return [*common, f"--unit={app.at.later(what, release)}", *options, *verb]


def forget_drain(app: App, release: str) -> None:
    """Stop the units that would end a release later."""
    timer, drain, _ = app.at.ends(release)  # this process may run in the last one
    app.systemd.ctl("stop", timer, drain, check=False)


def busy(app: App, release: str) -> bool:
    """Whether a process of the release still has something to finish."""
    return any(process.busy(app, release) for process in processes.of(app, release))


def leaving(app: App) -> bool:
    """Whether nginx has workers with an old configuration: they may still have a request."""
    return any(title.endswith(LEAVING) for title in nginx.Nginx(app.system).workers().values())


def goes_by(app: App, release: str) -> Wanted:
    """The settings for a release's end: those wanted now, or else its own, or else no time."""
    now, then = app.system.json(app.at.wanted), app.record(release).get("wanted", {})
    left: Wanted = {"drain_timeout": 0, "keep_warm": 0}
    return next((each for each in (now, then) if not forms.lacking(each, "rollback")), left)


def drain_end(app: App, release: str) -> float:
    """When a release that was let go may be ended even with open requests, in seconds since 1970.

    At most drain_timeout from now: the host's clock may have been set back.
    """
    now = app.system.time()
    return min(app.record(release).get("left", 0), now) + app.wanted["drain_timeout"]


def drained(app: App, release: str, until: float) -> None:
    """Wait until no request can be at the release any more, at most until a time (in seconds since 1970)."""
    end = app.system.clock() + until - app.system.time()  # the host's time may be set meanwhile
    while app.system.clock() < end:
        if not leaving(app) and not busy(app, release):
            return
        app.system.sleep(LOOK_EVERY)


def drain(app: App, release: str) -> None:
    """Wait until a release has finished. Then end cleanly what is still open (WebSockets, streams)."""
    with runs.locked(app, "drain", runs.RUN_SECONDS):  # after the run that let it go has ended
        app.systemd.ctl("daemon-reload", check=False)
    drained(app, release, until=drain_end(app, release))
    with runs.locked(app, "drain", runs.RUN_SECONDS):
        if release == app.serving() or release not in app.installed():
            return
        if not app.wanted["keep_warm"]:
            take_away(app, release)
        elif not all(each.cut_off(app, release) for each in processes.of(app, release) if each.busy(app, release)):
            take_away(app, release, at_once=True)  # one that doesn't end isn't kept warm


def retire(app: App, release: str) -> None:
    """End a release that was kept warm, or that still finishes its work. No run waits for that work."""
    until = app.system.clock() + runs.RUN_SECONDS
    while processes.finishing(app, release) and app.system.clock() < until:
        app.system.sleep(FINISH_EVERY)
    with runs.locked(app, "retire", runs.RUN_SECONDS):
        if release == app.serving():
            return
        take_away(app, release)
        if app.record(release).get("state") != "good" and release not in app.installed():
            trees.remove(app.at.folder(release))


def remove(app: App, release: str, at_once: bool = False) -> None:
    """Stop a release, cancel its later end, and remove its units and its socket. Its folder stays.

    + at_once: kill it; it never served, so it has no request
    """
    forget_drain(app, release)
    take_away(app, release, at_once)


def take_away(app: App, release: str, at_once: bool = False) -> None:
    """The same, from within the unit that ends it later. What finishes its work may go on: a unit ends it later."""
    ended, layout = processes.of(app, release), app.system.layout
    units = processes.units_of(app, release, ended)
    app.systemd.ctl("disable", "--quiet", "--no-reload", *units, check=False)
    if at_once:
        for process in ended:
            process.kill(app, release)
    late = [process for process in ended if process.finishes]
    for process in late:
        process.let_go(app, release)
    app.systemd.stop(*(unit for unit in reversed(units) if unit not in processes.units_of(app, release, late)))
    late = _unfinished(app, release, late)
    ended = [process for process in ended if process not in late]
    if late:
        _go_on(app, release, processes.units_of(app, release, late))
        units = processes.units_of(app, release, ended)
    for unit in units:
        (layout.units / unit).unlink(missing_ok=True)
        (layout.warm_units / unit).unlink(missing_ok=True)
    app.systemd.ctl("reset-failed", *units, check=False)
    # Usually systemd has forgotten the units by now, unless other units that it has loaded want them.
    if any(state["LoadState"] != "not-found" for state in app.systemd.states(units, "LoadState").values()):
        app.systemd.reread()
    for process in ended:
        process.clear(app, release)


def _unfinished(app: App, release: str, late: list[Process]) -> list[Process]:
    """Those of these processes that have been told to stop and still have work, after a moment."""
    until = app.system.clock() + FINISH_SECONDS
    while late:
        states = app.systemd.loaded(processes.units_of(app, release, late))
        late = [process for process in late if states.get(process.service(app, release), "inactive") not in runs.OVER]
        if app.system.clock() >= until:
            break
        app.system.sleep(LOOK_EVERY)
    return late


def _go_on(app: App, release: str, units: Sequence[str]) -> None:
    """Let units go on until they have finished: a boot doesn't start them, and another unit removes them then."""
    layout = app.system.layout
    layout.warm_units.mkdir(mode=0o755, parents=True, exist_ok=True)
    for unit in units:
        if (layout.units / unit).exists():
            shutil.copy(layout.units / unit, layout.warm_units / unit)
            (layout.units / unit).unlink()
    app.system.run(*_later(app, "retire", release), check=False)  # there may be one that waits already


def clear(app: App, release: str) -> None:
    """Remove stopped releases, while there is time: at the commit it would take longer."""
    others = sorted(app.installed() - {release, app.serving()})
    services = {other: processes.services(app, [other]) for other in others}
    asked = [unit for units in services.values() for unit in units]
    states = app.systemd.states(asked, "ActiveState") if asked else {}
    for other, units in services.items():
        if all(states[unit]["ActiveState"] in runs.OVER for unit in units):
            remove(app, other)
