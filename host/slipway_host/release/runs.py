"""A run is a unit: start it, wait for it, follow it, and clean up after it.

/run/slipway/<app>/<run>/ has the request (request.json, which may have secrets, until it is read), a summary of it
(about.json), the log (a line of JSON for each event; the last one is `ended`), and the id of the run's record (record).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from slipway_host.events import event_of, readable
from slipway_host.names import ABOUT, LOG, RECORD, REQUEST, RESULT
from slipway_host.protocol import PROTOCOL
from slipway_host.release import trees
from slipway_host.system import Busy, Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from slipway_host.events import Ended
    from slipway_host.protocol import Request, Run
    from slipway_host.release.app import App

KEEP_RUNS = 5
RUN_MEMORY = "75%"  # of the host's memory; git takes most, for a large repository
STOP_SECONDS = 180  # to undo its steps, when the run is told to stop
RUN_SECONDS = 2 * 86_400  # more than any run takes: a build takes an hour at most, a migration a day
ASK_EVERY = 1  # seconds between two questions to systemd whether a silent run still exists
LOOK_EVERY = 0.01
WAIT_EVERY = 0.1
OVER = ("inactive", "failed")  # states of a unit that isn't under way
# The sandbox of our own units. They run as root: they write units, run builds as another user, and mount a candidate
# over nginx's configuration for `nginx -t`, which opens its ports.
CAPABILITIES = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_SYS_ADMIN"
SHUT_OFF = (
    "NoNewPrivileges=yes",
    # In one line: systemd-run lets a second line replace the first.
    f"CapabilityBoundingSet={CAPABILITIES}",
    "RestrictNamespaces=mnt",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "DevicePolicy=closed",
    "LockPersonality=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @resources @swap",
    "SystemCallErrorNumber=EPERM",
)


# ── one run at a time ────────────────────────────────────────────────────────────────────────────────────────────


def busy_message(app: App, holder: str, waited: float) -> str:
    """The message if another run didn't end in time.

    + holder: who runs it
    + waited: seconds
    """
    return (
        f"Another run of {app.name} is under way ({holder}) and didn't end within {waited:g} s. "
        f"Follow it with `{app.system.layout.program} follow {app.name}`, or wait, then run again."
    )


@contextlib.contextmanager
def locked(app: App, doing: str, wait: float) -> Iterator[None]:
    """Hold the app's lock: one run at a time. The kernel frees it when the process ends, even if it is killed.

    + doing: what the holder does, for the message to others
    + wait: seconds to wait for it; then Failed is raised
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(app.system.locked(app.at.lock, wait, doing))
        except Busy as busy:
            raise Failed(busy_message(app, busy.holder, wait)) from None
        yield


# ── the one that is under way ────────────────────────────────────────────────────────────────────────────────────


def under_way(app: App, shown: Mapping[str, str] | None = None) -> Path | None:
    """Folder of the run that is under way, or None.

    + shown: ActiveState and Description of its unit, if they are known already
    """
    shown = shown or app.systemd.state(app.at.run_unit, "ActiveState,Description")
    if shown["ActiveState"] in OVER:
        return None
    token = shown["Description"].rpartition(" ")[2]
    return app.at.runs / token if token and (app.at.runs / token).is_dir() else None


def about(app: App, folder: Path) -> Run | None:
    """The summary of a run; None if it can't be read."""
    found: Run = app.system.json(folder / ABOUT)
    return found or None


# ── to start one ─────────────────────────────────────────────────────────────────────────────────────────────────


def submit(app: App, request: Request, wait: float, as_json: bool = False) -> int:
    """Start a run in a unit of its own and follow it. Returns its exit status.

    If the same release is under way already, that run is followed instead.

    + wait: seconds to wait for another run
    + as_json: as `follow` takes it
    """
    folder = _asked(app, request)
    command, unit = _command(app, request, folder), app.at.run_unit.removesuffix(".service")
    until, said, free = app.system.clock() + wait, False, False
    while True:
        done = app.system.run(*command, check=False)
        if done.code == 0:
            app.progress.begun(unit)
            return follow(app, folder, as_json)
        state = app.systemd.state(app.at.run_unit, "ActiveState,Description")
        over = app.system.clock() > until
        if other := under_way(app, state):
            told: Mapping[str, Any] = app.system.json(other / ABOUT)
            inputs = request.get("wanted", {}).get("inputs")
            if inputs and (told.get("verb"), told.get("inputs")) == ("release", inputs):
                trees.remove(folder)
                began = f"{told.get('by')} began this very release at {told.get('since')}; following it"
                app.progress.begun(unit, began)
                return follow(app, other, as_json)
            holder = f"{told.get('verb')} by {told.get('by')} since {told.get('since')}"
            if over:
                trees.remove(folder)
                raise Failed(busy_message(app, holder, wait))
            if not said:
                app.progress.say(f"waiting for another run ({holder}), {wait:g} s at most")
                said = True
        elif over or (free and state["ActiveState"] in OVER):
            trees.remove(folder)
            raise Failed(f"{app.at.run_unit} can't be started:\n{tail(done.output)}")
        # The other run may just have ended. If there was none before the next try, either, something else is wrong.
        free = state["ActiveState"] in OVER
        app.system.sleep(WAIT_EVERY)


def _asked(app: App, request: Request) -> Path:
    """Make the folder of a new run, with its request."""
    app.at.runs.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Named by the time since the boot, which can't be set: so their names give their order. A boot removes them.
    folder = app.at.runs / f"run-{int(app.system.uptime() * 1e6):016}-{os.getpid()}"
    folder.mkdir(mode=0o700)
    known: Run = {
        "protocol": PROTOCOL,
        "verb": request["verb"],
        "inputs": request.get("wanted", {}).get("inputs"),
        "to": request.get("to"),
        "by": request["by"],
        "since": app.system.stamp(),
    }
    (folder / REQUEST).touch(0o600)
    (folder / REQUEST).write_text(json.dumps(request))
    (folder / ABOUT).write_text(json.dumps(known))
    (folder / LOG).touch(0o600)
    return folder


def _command(app: App, request: Request, folder: Path) -> list[str]:
    """The command line that starts it."""
    properties = [
        f"StandardOutput=append:{folder}/{LOG}",
        f"StandardError=append:{folder}/{LOG}",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        # Everything that it reads is limited. This is the last resort for the host's memory.
        f"MemoryMax={RUN_MEMORY}",
        *SHUT_OFF,
    ]
    flags = [part for item in properties for part in ("--property", item)]
    described = f"--description=Slipway: {request['verb']} of {app.name}, run {folder.name}"
    start = ["systemd-run", "--quiet", "--collect", "--unit", app.at.run_unit, described, *flags]
    return [*start, str(app.system.layout.program), "run", app.name, folder.name]


# ── to follow one ────────────────────────────────────────────────────────────────────────────────────────────────


def follow(app: App, folder: Path, as_json: bool = False) -> int:
    """Print the events of a run until it ends. Returns its exit status.

    + as_json: print them as JSON, not for people
    """
    looked, rest = app.system.clock(), ""
    with (folder / LOG).open(errors="replace") as log:
        while True:
            # In this order: first learn that it has ended, then read its last lines.
            gone = False
            if app.system.clock() - looked > ASK_EVERY:
                looked, gone = app.system.clock(), under_way(app) != folder
            lines = (rest + log.read()).split("\n")
            rest = lines.pop()
            for line in lines:
                if (code := _told(line, as_json)) is not None:
                    return code
            if gone:
                if rest:
                    _told(rest, as_json)
                if former := app.system.json(folder / RESULT):  # of a run of Slipway 0.1
                    return int(former["code"])
                raise Failed(
                    f"The run ended without a result: it was killed, or the host ran out of memory "
                    f"(`journalctl -u {app.at.run_unit}`). Run again: the next run puts the host in order first."
                )
            app.system.sleep(LOOK_EVERY)


def follow_any(app: App, as_json: bool = False) -> int:
    """Follow the run that is under way, or else show the last one. Returns its exit status."""
    runs = sorted(known.parent for known in app.at.runs.glob(f"*/{ABOUT}"))
    if not runs:
        program = app.system.layout.program
        raise Failed(
            f"There was no run of {app.name} since the host booted; `{program} releases {app.name}` shows all."
        )
    current = under_way(app)
    if not current:
        began = app.system.json(runs[-1] / ABOUT).get("since")
        app.progress.say(f"no run is under way; this is the log of the last one, begun at {began}")
    return follow(app, current or runs[-1], as_json)


def _told(line: str, as_json: bool) -> int | None:
    """Print a line of a run's log. Returns the run's exit status if it is the last line."""
    event = event_of(line)
    if as_json and event:
        from slipway_host.text import tell

        tell(event)
    else:
        with contextlib.suppress(OSError):  # a reader that went away
            text = readable(line)
            sys.stdout.write(f"{text}\n" if text else "")
            sys.stdout.flush()
    return event["code"] if event and event["event"] == "ended" else None


# ── what is left of them ─────────────────────────────────────────────────────────────────────────────────────────


def sweep_runs(app: App, own: Path) -> None:
    """Remove the folders of earlier runs except the newest, and their requests if the asking process has ended.

    + own: folder of this run
    """
    others = sorted(folder for folder in app.at.runs.iterdir() if folder != own)
    left = {each for each in others if not (app.system.layout.proc / each.name.rpartition("-")[2]).exists()}
    for folder in left:  # of killed runs: keep their logs with their records
        record = folder / RECORD
        if record.exists() and not ended(folder):
            keep_log(app, folder, record.read_text())
            record.unlink()
    for folder in others:
        if folder in left and (folder.name.startswith("plan-") or folder in others[:-KEEP_RUNS]):
            trees.remove(folder)
        elif folder in left:
            (folder / REQUEST).unlink(missing_ok=True)


def ended(folder: Path) -> bool:
    """Whether a run has ended by itself."""
    if (folder / RESULT).exists():  # of a run of Slipway 0.1
        return True
    with contextlib.suppress(OSError):
        lines = (folder / LOG).read_text(errors="replace").splitlines()
        event = event_of(lines[-1]) if lines else None
        return bool(event and event["event"] == "ended")
    return False


def keep_log(app: App, folder: Path, record_id: str, event: Ended | None = None) -> None:
    """Keep the log of a run beside its record.

    + event: its end, if the log doesn't have it yet
    """
    with contextlib.suppress(OSError):  # a full disk
        text = (folder / LOG).read_bytes()
        kept = app.at.log(record_id)
        kept.touch(0o600)
        kept.write_bytes(text + (json.dumps(event) + "\n").encode() if event else text)
        kept.chmod(0o600)
