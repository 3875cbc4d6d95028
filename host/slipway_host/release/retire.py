"""The old one: let go when it no longer serves, drained, warm for a while, and ended."""

from __future__ import annotations

import math
import shutil

from slipway_host.proxy import nginx, sockets
from slipway_host.release import forms, runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.protocol import Wanted
    from slipway_host.release.app import App

LOOK_EVERY = 0.1
STOP_MORE_SECONDS = 30  # beyond what a release may take to drain and to stop
LEAVING = " is shutting down"
"""nginx's words, at the end of the title of a worker of an earlier configuration."""


def let_go(app: App, release: str) -> None:
    """Let a release that no longer serves finish what it has, in the background, and stay warm as long as is set."""
    from concurrent.futures import ThreadPoolExecutor

    grace, warm, layout = app.wanted["drain_timeout"], app.wanted["keep_warm"], app.system.layout
    stopping = grace + app.wanted["graceful_timeout"] + STOP_MORE_SECONDS
    stopped = app.record(release).get("stopped_first")
    left = app.system.time()
    app.write_record(release, left=left, stopped_first=None)
    units = app.at.units(release)
    if stopped or not all((layout.units / unit).exists() for unit in units):  # or somebody took them away
        remove(app, release)
        return
    for unit in units:  # in /run, so that a reboot ends it
        layout.warm_units.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copy(layout.units / unit, layout.warm_units / unit)
    # By whichever clock it comes first: at each daemon-reload, any app's, a span of time begins anew, and a clock may
    # be set back.
    stays = max(warm, grace)
    when = [f"--on-active={stays}", f"--on-calendar=@{math.ceil(left + stays)}"]
    later = ["--timer-property=AccuracySec=1s", *when]
    common = ["systemd-run", "--quiet", "--collect", *(f"--property={each}" for each in runs.SHUT_OFF)]
    program = str(layout.program)
    commands = [
        [*common, f"--unit={app.at.later(what, release)}", *options, program, what, app.name, release]
        for what, options in {"drain": [], **({"retire": later} if warm else {})}.items()
    ]
    with ThreadPoolExecutor() as pool:
        disabled = pool.submit(app.systemd.ctl, "disable", "--quiet", "--no-reload", *units, check=False)
        begun = [pool.submit(app.system.run, *command, check=False) for command in commands]
    disabled.result()
    if any(each.result().code != 0 for each in begun):  # those of a run that was killed are there
        forget_drain(app, release)
        for command in commands:
            app.system.run(*command)
    for unit in units:
        (layout.units / unit).unlink()
    # At last: a release that nothing is there to end isn't warm but a stray, and the next run takes it away.
    app.write_record(release, warm_until=app.system.time() + max(warm, stopping))


def forget_drain(app: App, release: str) -> None:
    """End what would stop a release later on."""
    timer, drain, _ = app.at.ends(release)  # the last one may be what this runs in
    app.systemd.ctl("stop", timer, drain, check=False)


def busy(app: App, release: str) -> int:
    """How many connections of nginx's the release has."""
    return sockets.connections(app.at.socket(release))


def leaving(app: App) -> bool:
    """Whether workers of an earlier configuration of nginx's are left: each may still hold a request."""
    return any(title.endswith(LEAVING) for title in nginx.Nginx(app.system).workers().values())


def goes_by(app: App, release: str) -> Wanted:
    """What the end of a release goes by: what is wanted now, or else what was when it was made, or else no time."""
    now, then = app.system.json(app.at.wanted), app.record(release).get("wanted", {})
    left: Wanted = {"drain_timeout": 0, "keep_warm": 0}
    return next((each for each in (now, then) if not forms.lacking(each, "rollback")), left)


def drain_end(app: App, release: str) -> float:
    """When a release that was let go may be ended, whatever is still open, in seconds since 1970.

    Never later than drain_timeout from now: the host's clock may have been set back since.
    """
    now = app.system.time()
    return min(app.record(release).get("left", 0), now) + app.wanted["drain_timeout"]


def drained(app: App, release: str, until: float) -> None:
    """Wait until no request can be at the release any more; at most until that time (in seconds since 1970)."""
    while app.system.time() < until:
        if not leaving(app) and not busy(app, release):
            return
        app.system.sleep(LOOK_EVERY)


def drain(app: App, release: str) -> None:
    """Wait for the last requests of a release; what is still open then (WebSockets, streams) gets a clean close."""
    with runs.locked(app, "drain", runs.RUN_SECONDS):  # once the run that let it go has ended, which needn't wait
        app.systemd.ctl("daemon-reload", check=False)
    drained(app, release, until=drain_end(app, release))
    with runs.locked(app, "drain", runs.RUN_SECONDS):
        if release == app.serving() or release not in app.installed():
            return
        if not app.wanted["keep_warm"]:
            take_away(app, release)
        elif busy(app, release) and app.systemd.in_time("restart", app.at.unit(release, "service")) is None:
            take_away(app, release, at_once=True)  # one that doesn't end isn't kept warm


def retire(app: App, release: str) -> None:
    """End a release that was kept warm."""
    with runs.locked(app, "retire", runs.RUN_SECONDS):
        if release != app.serving():
            take_away(app, release)


def remove(app: App, release: str, at_once: bool = False) -> None:
    """Stop a release, and what would stop it later on, and take its units and its socket away; its folder stays.

    + at_once: it never served, so there is no request to wait for
    """
    forget_drain(app, release)
    take_away(app, release, at_once)


def take_away(app: App, release: str, at_once: bool = False) -> None:
    """The same from within the unit that does it later on."""
    units, layout = app.at.units(release), app.system.layout
    app.systemd.ctl("disable", "--quiet", "--no-reload", *units, check=False)
    if at_once:
        app.systemd.kill(app.at.unit(release, "service"))
    app.systemd.stop(*reversed(units))
    for unit in units:
        (layout.units / unit).unlink(missing_ok=True)
        (layout.warm_units / unit).unlink(missing_ok=True)
    app.systemd.ctl("reset-failed", *units, check=False)
    # As a rule systemd has forgotten them by now; not if what it has read last wants them still.
    if any(state["LoadState"] != "not-found" for state in app.systemd.states(units, "LoadState").values()):
        app.systemd.reread()
    app.at.socket(release).unlink(missing_ok=True)


def clear(app: App, release: str) -> None:
    """Take away what made room for this release, as far as it has ended: now there is time, a commit would wait."""
    others = sorted(app.installed() - {release, app.serving()})
    states = app.systemd.states([app.at.unit(other, "service") for other in others], "ActiveState") if others else {}
    for other in others:
        if states[app.at.unit(other, "service")]["ActiveState"] in runs.OVER:
            remove(app, other)
