"""prove and watch: whether a release's processes work, and that what runs is that very release."""

from __future__ import annotations

from pathlib import Path

from slipway_host.release import processes, retire
from slipway_host.release.processes.process import LOOK_EVERY
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App
    from slipway_host.release.processes import Process

BAD_IN_A_ROW = 3  # a single bad look doesn't count
WATCHED = 1000  # looks: what serves has had many
CRASHES = 2  # during its start; then we don't wait any longer
WATCH_EVERY = 0.2
LOADED = "MainPID,ControlGroup,EnvironmentFiles,FragmentPath,NeedDaemonReload"


def prove(app: App, release: str) -> None:
    """Wait until each process of this release works, the web process through its own socket."""
    for process in processes.of(app, release):
        _prove(app, release, process)


def _prove(app: App, release: str, process: Process) -> None:
    """The same of one process."""
    unit, deadline = process.service(app, release), app.system.clock() + process.seconds(app)
    before, times, looks = "", 0, 0
    while True:
        ready, seen = process.ready(app, release)
        app.progress.heard(seen)
        if ready:
            break
        before, times, looks = seen, times + 1 if seen == before else 1, looks + 1
        if why := process.in_vain(app, release, seen, times):
            raise Failed(why)
        state = app.systemd.state(unit)
        if int(state["NRestarts"]) >= CRASHES or state["ActiveState"] == "failed":
            raise Failed(f"{process.name} crashes during its start:\n{process.journal(app, release)}")
        if app.system.clock() > deadline:
            missed = process.unready(app, seen)
            raise Failed(f"{missed} The journal's last lines:\n{process.journal(app, release)}")
        left = deadline - app.system.clock()
        app.system.sleep(min(process.pause(app, seen, looks), max(LOOK_EVERY, left)))
    identify(app, unit, release)


def identify(app: App, unit: str, release: str) -> None:
    """Raise Failed unless a service's process belongs to this release, according to systemd and the kernel.

    A process can change its own environment and command line in /proc.
    """
    warm = str(app.system.layout.warm_units)
    state = _loaded(app, unit, release)
    if state.get("NeedDaemonReload") == "yes" and not state["FragmentPath"].startswith(f"{warm}/"):
        # Its files have changed: a restart must use the right ones, too. The files of a warm release have only moved.
        app.systemd.reread()
        state = _loaded(app, unit, release)
    group, paths = state.get("ControlGroup", ""), app.system.groups(int(state.get("MainPID", "0"))).values()
    if not group or not any(path == group or path.startswith(f"{group}/") for path in paths):
        raise Failed(f"{unit} has no process of its own that runs: `systemctl status {unit}` tells why.")


def _loaded(app: App, unit: str, release: str) -> dict[str, str]:
    """What systemd has loaded for a release's service. Raises Failed if it belongs to another release."""
    layout = app.system.layout
    told = [line.partition("=") for line in app.systemd.ctl("show", f"--property={LOADED}", unit).output.splitlines()]
    state = {name: value for name, _, value in told}
    # One line for each file, including the owner's own drop-ins.
    files = [Path(value.partition(" (")[0]) for name, _, value in told if name == "EnvironmentFiles"]
    ours = [each for each in files if each.parent == app.at.environments]
    places = [str(folder / unit) for folder in (layout.units, layout.warm_units)]
    if ours != [app.at.env(release)] or state.get("FragmentPath") not in places:
        raise Failed(f"{unit} runs with another release's environment: `systemctl cat {unit}` tells why.")
    return state


def watch(app: App, release: str) -> str | None:
    """Watch the processes of a release that has just begun to serve."""
    if not app.serving():
        return "no previous release"
    watched = [(process, process.service(app, release)) for process in processes.of(app, release)]
    bad, seconds = dict.fromkeys((unit for _, unit in watched), 0), app.wanted["watch"]
    due = dict.fromkeys(bad, 0.0)
    restarts = {unit: app.systemd.state(unit)["NRestarts"] for unit in bad}
    until = app.system.clock() + seconds
    while app.system.clock() < until:
        for process, unit in watched:
            seen = ""
            if app.system.clock() >= due[unit]:
                ready, seen = process.ready(app, release)
                bad[unit] = 0 if ready else bad[unit] + 1
                # What works isn't asked more often than it has to be; what doesn't is looked at again at once.
                due[unit] = app.system.clock() + (process.pause(app, seen, WATCHED) if ready else 0)
            if app.systemd.state(unit)["NRestarts"] != restarts[unit]:
                bad[unit], seen = BAD_IN_A_ROW, "nothing: it crashed"
            if bad[unit] >= BAD_IN_A_ROW:
                raise Failed(f"It served, then {process.turned_bad(app, seen)}\n{process.journal(app, release)}")
        retire.clear(app, release)
        app.system.sleep(min(WATCH_EVERY, max(0, until - app.system.clock())))
    return None
