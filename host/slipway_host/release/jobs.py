"""Jobs: programs of the release that serves, which start at a time and end.

A job has one timer and one service, whichever release serves: so it never runs twice at once, and a time that was
missed isn't forgotten by a release. Their texts are those of the release that `current` names. A job that runs goes on
with the code that it was started with.

/var/lib/slipway/<app>/jobs/ has, for each job, how it ended (NAME: systemd's result, code and status, when it was
started and ended, its release), and for one that runs its start and its release (NAME.runs).
"""

from __future__ import annotations

import contextlib
import re
import time

from slipway_host.release import hooks, runs
from slipway_host.system import Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slipway_host.protocol import Went
    from slipway_host.release.app import App
    from slipway_host.wanted import Job

TARGET = "timers.target"
RUNS = ".runs"
ASKED = "ActiveState,NextElapseUSecRealtime"


def of(app: App, release: str | None) -> dict[str, Job]:
    """The jobs that a release was made with."""
    return (app.record(release).get("wanted") or {}).get("jobs", {})


def timers(app: App, release: str | None) -> list[str]:
    """Names of their timers."""
    return [app.at.job(name, "timer") for name in of(app, release)]


def check(app: App, release: str) -> None:
    """Before anything changes: raise Failed if a job has no program, or a time that systemd doesn't know."""
    for name, job in of(app, release).items():
        hooks.must_exist(app, release, f"jobs.{name}", job["command"])
        for calendar in job["calendar"]:
            done = app.system.run("systemd-analyze", "calendar", "--iterations=1", calendar, check=False)
            if done.code != 0:
                raise Failed(f"jobs.{name}.schedule: systemd doesn't know {calendar!r}:\n{tail(done.output)}")


# ── their units ──────────────────────────────────────────────────────────────────────────────────────────────────


def settle(app: App, release: str | None) -> None:
    """Let systemd have the jobs of the release that serves, and no others. It changes nothing if it has them."""
    texts, there, folder = unit_texts(app, release), _units(app), app.system.layout.units
    if not texts and not there:
        return
    strays = [unit for unit in there if unit not in texts]
    _remove(app, strays)
    changed = [unit for unit, text in texts.items() if unit not in there or (folder / unit).read_text() != text]
    for unit in changed:
        app.system.replace(folder / unit, texts[unit])
    wanted = [unit for unit in texts if unit.endswith(".timer")]
    if off := [unit for unit in wanted if not app.systemd.enabled(unit)]:
        app.systemd.ctl("enable", "--quiet", "--no-reload", *off)
    if strays or changed or off:
        app.systemd.reread()  # after they were enabled: else systemd 257 asks for it again for each unit that it has
    active = app.systemd.states(wanted, "ActiveState") if wanted else {}
    if again := [unit for unit in wanted if unit in changed and active[unit]["ActiveState"] == "active"]:
        app.systemd.ctl("restart", *again)
    if new := [unit for unit in wanted if active[unit]["ActiveState"] != "active"]:
        app.systemd.ctl("start", *new)


def faults(app: App, release: str) -> list[str]:
    """What is wrong with the units of a release's jobs, other than that they don't run: a run was killed, say."""
    texts, there, folder = unit_texts(app, release), _units(app), app.system.layout.units
    old: list[str] = []
    for unit, text in texts.items():
        with contextlib.suppress(FileNotFoundError):  # a run may be under way
            old += [unit] if (folder / unit).read_text() != text else []
    # The service of a job that runs stays until it has ended.
    strays = [unit for unit in there if unit not in texts and unit.endswith(".timer")]
    return [*(f"{unit} is another release's" for unit in old), *(f"{unit} is there" for unit in strays)]


def unit_texts(app: App, release: str | None) -> dict[str, str]:
    """Unit → text, of the jobs of a release."""
    return {
        app.at.job(name, kind): text.replace("@RELEASE@", release or "")
        for name, job in of(app, release).items()
        for kind, text in job["units"].items()
    }


def stop(app: App) -> None:
    """End all jobs, and let none start."""
    if units := _units(app):
        app.systemd.ctl("stop", *(unit for unit in units if unit.endswith(".timer")), check=False)
        app.systemd.ctl("stop", "--no-block", *(unit for unit in units if unit.endswith(".service")), check=False)


def _units(app: App) -> list[str]:
    """Names of the units of jobs that have a file."""
    name = app.at.job("*", "*")
    found = app.system.like(app.system.layout.units, name)
    units = (path for path in found if path.suffix in (".service", ".timer") and path.is_file())
    return sorted(path.name for path in units if "@" not in path.name)  # else of a process that is called job-…


def _remove(app: App, units: Iterable[str]) -> None:
    """Remove units that no release wants. The service of a job that runs stays until the next run."""
    folder = app.system.layout.units
    if stopped := [unit for unit in units if unit.endswith(".timer")]:
        app.systemd.ctl("disable", "--quiet", "--no-reload", *stopped, check=False)
        app.systemd.ctl("stop", *stopped, check=False)
    for unit in units:
        if unit in stopped or app.systemd.state(unit)["ActiveState"] in runs.OVER:
            (folder / unit).unlink(missing_ok=True)


# ── how they went ────────────────────────────────────────────────────────────────────────────────────────────────


def in_use(app: App) -> set[str]:
    """Releases whose jobs run: their folders are needed."""
    found: set[str] = set()
    for path in app.at.jobs.glob(f"*{RUNS}"):
        unit = app.at.job(path.name.removesuffix(RUNS), "service")
        if (told := _words(path)) and app.systemd.state(unit)["ActiveState"] not in runs.OVER:
            found |= {*told[1:2]}
    return found


def told(app: App, release: str) -> dict[str, Went]:
    """How each job of a release went, and when it starts again."""
    jobs = of(app, release)
    if not jobs:
        return {}
    units = {name: (app.at.job(name, "timer"), app.at.job(name, "service")) for name in jobs}
    states = app.systemd.states([unit for pair in units.values() for unit in pair], ASKED)
    return {name: _told(app, name, job, *(states[unit] for unit in units[name])) for name, job in jobs.items()}


def _told(app: App, name: str, job: Job, timer: dict[str, str], service: dict[str, str]) -> Went:
    runs_now = service["ActiveState"] not in runs.OVER
    begun, last = _words(app.at.jobs / f"{name}{RUNS}"), _words(app.at.jobs / name)
    # The exit status is missing if nothing of it was run.
    matched = re.fullmatch(r"(\S+)(?: (\w+) (\w+))? (\d+) (\d+) (\S+)", " ".join(last))
    state = "running" if runs_now else "waiting" if timer["ActiveState"] == "active" else "off"
    return {
        "calendar": job["calendar"],
        "state": state,
        "since": float(begun[0]) if runs_now and begun and begun[0].isdigit() else None,
        "result": matched[1] if matched else None,
        "exit": (matched[3] or "") if matched else "",
        "started": float(matched[4]) if matched else None,
        "took": float(matched[5]) - float(matched[4]) if matched else None,
        "release": matched[6] if matched else None,
        "next": timer.get("NextElapseUSecRealtime") or None,
    }


def line(app: App, name: str, went: Went) -> str:
    """How a job went, for people."""
    found = f"Job {name}: "
    if went["result"] is None or went["started"] is None:
        found += "it has not ended yet" if went["state"] == "running" else "it has not run yet"
    else:
        how = (
            "succeeded"
            if went["result"] == "success"
            else f"failed ({went['result']} {went['exit']})".replace(" )", ")")
        )
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(went["started"]))
        found += f"{how}, started {at}, took {went['took']:.0f} s"
    if went["state"] == "running":
        found += "; it runs now"
    elif went["state"] == "off":
        found += "; nothing starts it"
    elif went["next"]:
        found += f"; next {went['next']}"
    return f"{found}."


def _words(path: Path) -> list[str]:
    """The words of a small file; none if there is no such file."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").split()
    return []
