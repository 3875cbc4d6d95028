"""What serves, and the history, as data and for people."""

from __future__ import annotations

import sys
from pathlib import Path

from slipway_host.events import readable
from slipway_host.release import jobs, processes, runs
from slipway_host.release import manifest as manifests
from slipway_host.system import Failed
from slipway_host.systemd import ACTIVE
from slipway_host.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slipway_host.protocol import Record, Row, Status
    from slipway_host.release.app import App

ASKED = "ActiveState,Description,Job"
"""Properties of units that a status needs."""
WHAT = 50  # characters of a subject, in a table
COMMIT = 12


def units(app: App) -> list[str]:
    """The units that a status needs."""
    serving = app.serving()
    return [app.at.run_unit, *([*processes.units(app, serving), *jobs.timers(app, serving)] if serving else [])]


def status(app: App, states: Mapping[str, Mapping[str, str]] | None = None) -> Status:
    """What serves, and what is wrong.

    + states: properties of `units` (ASKED), if they are known already
    """
    serving = app.serving()
    record = app.record(serving)
    states = states or app.systemd.states(units(app), ASKED)
    folder = runs.under_way(app, states[app.at.run_unit])
    return {
        "release": serving,
        "commit": record.get("commit"),
        "inputs": record.get("inputs", {}),
        "faults": faults(app, serving, states) if serving else ["no release serves yet"],
        "steps": record.get("steps", {}),
        "wanted": app.system.json(app.at.wanted),
        "warm": sorted(app.warm()),
        "rolled_back": [
            {"id": each["id"], "inputs": each.get("inputs"), **left} for each in app.left() if (left := each.get("bad"))
        ],
        "run": runs.about(app, folder) if folder else None,
        "jobs": jobs.told(app, serving) if serving else {},
    }


def faults(app: App, release: str, states: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Why a release doesn't fully serve now, or wouldn't after a reboot; empty if it does.

    + states: what systemd knows of its units
    """
    wrong = app.damage(release)
    found = [f"{app.at.folder(release)} is damaged: {manifests.listed(wrong)}"] if wrong else []
    if not app.at.wanted.exists():
        found.append(f"{app.at.wanted} is missing")
    for unit in [*processes.units(app, release), *jobs.timers(app, release)]:
        again = states[unit]["ActiveState"] == "deactivating" and states[unit].get("Job", "0") != "0"
        if states[unit]["ActiveState"] not in ACTIVE and not again:  # one that finishes its work is started again then
            found.append(f"{unit} isn't running")
        if not app.systemd.enabled(unit):
            found.append(f"{unit} isn't enabled")
    found += jobs.faults(app, release)
    if app.proxied() != release:
        found.append(f"nginx's upstream names {app.proxied() or 'no release'}")
    if strays := app.installed() - {release} - app.warm():
        found.append("units of other releases are there: " + ", ".join(sorted(strays)))
    if unfinished := [each for each in app.unfinished() if each not in app.warm()]:
        found.append("unfinished releases are there: " + ", ".join(unfinished))
    return found


def summary(app: App, told: Status) -> str:
    """A status for people: what serves, then what is wrong."""
    serving = told["release"]
    lines = [f"{serving} serves (commit {(told['commit'] or 'unknown')[:COMMIT]})." if serving else ""]
    lines += [f"Wrong: {each}." if serving else "No release serves yet." for each in told["faults"]]
    lines += [f"Warm: {', '.join(told['warm'])}."] if told["warm"] else []
    if run := told["run"]:
        lines.append(f"Under way: {run['verb']} by {run['by']} since {run['since']}.")
    lines += [jobs.line(app, name, went) for name, went in told["jobs"].items()]
    return "\n".join(f"{app.name}: {one_line(line)}" for line in lines if line)


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────


def releases(app: App) -> list[Row]:
    """Releases and rollbacks as rows, newest first; sizes in MB, without files shared with an older release."""
    serving, warm, there = app.serving(), app.warm(), app.good()
    sizes = _sizes(app, there)
    rows: list[Row] = []
    for record in reversed(app.history()):
        release = record["id"]
        what = f"rollback to {record.get('to', '')}" if record.get("kind") == "rollback" else record.get("subject", "")
        rows.append(
            {
                "id": release,
                "what": what,
                "commit": (record.get("commit") or "")[:COMMIT],
                "by": record.get("by", ""),
                "when": record.get("started", ""),
                "seconds": record.get("took", round(sum(record.get("steps", {}).values()), 1)),
                "steps": record.get("steps", {}),
                "outcome": _outcome(app, record, release in there),
                "now": "serves" if release == serving else "warm" if release in warm else "",
                "schema": _schema(record),
                "size_mb": sizes.get(release),
                "log": str(log) if (log := app.at.log(release)).exists() else None,
            }
        )
    return rows


def _sizes(app: App, releases: Sequence[str]) -> dict[str, int]:
    """Release → MB."""
    if not releases:
        return {}
    told = app.system.run("du", "-sm", *(str(app.at.folder(each)) for each in releases), check=False).output
    lines = [line.partition("\t") for line in told.splitlines()]
    return {Path(path).name: int(size) for size, _, path in lines if path and size.isdigit()}


def _outcome(app: App, record: Record, there: bool) -> str:
    """The outcome of a release or a rollback, in words."""
    words: str = record.get("state", "?")
    if record.get("bad"):
        words = "bad"
    if words == "failed":
        words = f"failed at {record.get('step', '?')}"
    if record.get("kind") == "release" and words in ("good", "bad") and not there:
        words = f"{words}, removed"
    if there and app.damage(record["id"]):
        words += ", damaged"
    return words + (f", {hook}" if (hook := record.get("hook")) else "")


def _schema(record: Record) -> str:
    """The database's revisions before and after."""
    revisions = record.get("revisions", {})
    before = ",".join(revisions.get("before") or ["none"])
    after = ",".join(revisions["after"] or ["none"]) if "after" in revisions else before
    return "" if not revisions else after if before == after else f"{before} -> {after}"


def table(app: App) -> str:
    """The history for people."""
    head = ("RELEASE", "NOW", "OUTCOME", "AGE", "TOOK", "BY", "SCHEMA", "SIZE", "WHAT")
    lines: list[tuple[str, ...]] = [head]
    for row in releases(app):
        size = f"{row['size_mb']} MB" if row["size_mb"] is not None else ""
        when = age(app, row["when"]) if row["when"] else ""
        took, what = f"{row['seconds']:.1f} s", row["what"][:WHAT]
        cells = (row["id"], row["now"], row["outcome"], when, took, row["by"], row["schema"], size, what)
        lines.append(tuple(map(one_line, cells)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(shown if len(lines) > 1 else [*shown, "no release yet"])


def age(app: App, stamp: str) -> str:
    """How long ago a time of a record was, in short words; empty if it isn't a time."""
    try:
        seconds = seconds_since(app, stamp)
    except ValueError:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def seconds_since(app: App, stamp: str) -> float:
    """Seconds since a time of a record; 0 if it lies in the future."""
    import datetime

    at = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    return max(0.0, app.system.time() - at.timestamp())  # the clock may have been set back


def log(app: App, named: str = "", as_json: bool = False) -> None:
    """Print a log: the newest, or the one whose id begins with `named`.

    + as_json: print its events as JSON, not for people
    """
    logs = sorted(app.at.records.glob(app.at.log("*").name), key=lambda path: (app.number(path.stem), path.stem))
    found = [path for path in logs if path.stem.startswith(named)]
    if not found:
        there = ", ".join(path.stem for path in logs)
        raise Failed(f"There is no log of {named or app.name}; there are: {there}.")
    text = found[-1].read_text(errors="replace")
    if as_json:
        getattr(sys.stdout, "unfiltered", sys.stdout.write)(text)
        return
    lines = [shown for line in text.splitlines() if (shown := readable(line)) or not line]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
