"""systemd's units: read their state, start and stop them, always in time, even if an app asks systemd for more time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path

from slipway_host.system import Done, Failed, Late, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

ACTIVE = ("active", "reloading", "refreshing")
"""States of a unit that runs, as `systemctl is-active` takes them."""
NOT_RUN = range(200, 244)
"""Exit statuses by which systemd reports that it couldn't run a program (systemd.exec(5))."""
JOB_SECONDS = 5  # for a job of systemd; then the unit's own limit counts
JOB_MORE_SECONDS = 5  # beyond that limit: an app may prolong it for ever (EXTEND_TIMEOUT_USEC of sd_notify(3))
LONGEST_JOB_SECONDS = 900  # for a unit without a limit
KILL_SECONDS = 20  # for killed processes to end
STEP_END_SECONDS = 10  # for a unit to stop after its time is over; then it is killed
SECONDS = {"y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3}
KILLED = re.compile(r"Main process exited, code=(?:killed|dumped), status=\d+/([A-Z0-9]+)")
"""systemd's line in a unit's journal."""


class End:
    """How a unit ended: systemd's result, and the exit status or the signal of its main process."""

    def __init__(self, result: str = "", code: str = "", status: str = "") -> None:
        """As systemd.exec(5) describes SERVICE_RESULT, EXIT_CODE and EXIT_STATUS."""
        self.result = result
        self.signal = (f"SIG{status}" if status else "a signal") if code in ("killed", "dumped") else None
        self.status = int(status) if code == "exited" and status.isdecimal() else None


class Ran(Done):
    """How a command ended that ran in a unit of its own."""

    def __init__(self, argv: tuple[str, ...], code: int, output: str, ended: End | None) -> None:
        """`ended`: as systemd reports it; None if it wasn't asked, or doesn't know."""
        super().__init__(argv, code, output)
        self.ended = ended


def in_seconds(text: str, most: float) -> float:
    """A span of time as systemctl shows it ("1min 30s"), in seconds; `most` if it is longer or endless."""
    parts = re.findall(r"([\d.]+)(y|month|w|d|h|min|ms|s)\b", text)
    return min(most, sum(float(number) * SECONDS[unit] for number, unit in parts)) if parts else most


def killed_in(journal: str) -> str | None:
    """The signal that ended a service, from its journal; None if the journal names none."""
    found = KILLED.findall(journal)
    return f"SIG{found[-1]}" if found else None


def environment_file(values: Mapping[str, str]) -> str:
    """Variables in the form that systemd reads (``EnvironmentFile=``, systemd.exec(5))."""
    quoted = {name: re.sub(r'(["\\`$])', r"\\\1", value) for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(quoted.items()))


def transient(unit: str, properties: Iterable[str], environment: Mapping[str, str], argv: Iterable[str]) -> list[str]:
    """The command line that runs another command in a unit of its own, with our standard streams, and waits for it.

    + unit: its name without ``.service``
    """
    flags = [part for item in properties for part in ("--property", item)]
    flags += [part for name, value in environment.items() for part in ("--setenv", f"{name}={value}")]
    flags.append(f"--description=Slipway: {unit}")  # the default is the command line, with its line feeds
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit", unit, *flags, "--", *argv]


class Systemd:
    """This machine's systemd."""

    def __init__(self, system: System) -> None:
        self.system = system

    def ctl(self, *argv: str, check: bool = True, seconds: float = LONGEST_JOB_SECONDS) -> Done:
        """Run `systemctl`."""
        # Raw, because we parse it: a secret may equal one of its words by chance.
        return self.system.run("systemctl", *argv, check=check, raw=True, seconds=seconds)

    # ── what it knows ────────────────────────────────────────────────────────────────────────────────────────────

    def states(self, units: Sequence[str], properties: str) -> dict[str, dict[str, str]]:
        """Unit → its properties, from one question for all.

        + properties: names, separated by commas
        """
        blocks = self.ctl("show", f"--property={properties}", *units).output.strip().split("\n\n")
        told = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
        return dict(zip(units, told, strict=True))

    def state(self, unit: str, properties: str = "ActiveState,SubState,NRestarts,MainPID") -> dict[str, str]:
        """The properties of one unit."""
        return self.states([unit], properties)[unit]

    def loaded(self, units: Sequence[str]) -> dict[str, str]:
        """Unit → state, of those that systemd has loaded. The others don't run.

        This is twice as fast as `states`.
        """
        lines = self.ctl("list-units", "--all", "--plain", "--no-legend", "--full", *units).output.splitlines()
        rows = [line.split() for line in lines]  # a description may have several lines
        return {row[0]: row[2] for row in rows if row[:1] and row[0] in units}

    def briefly(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """Unit → ActiveState and Description, and Job where it is deactivating: for the units of all apps.

        systemd takes 1 ms to show a unit, and 3 ms if it has to load it first; it lists a thousand in 20 ms.
        """
        told = json.loads(self.ctl("list-units", "--all", "--output=json").output or "[]")
        listed = {each["unit"]: {"ActiveState": each["active"], "Description": each["description"]} for each in told}
        found = {unit: listed.get(unit, {"ActiveState": "inactive", "Description": unit}) for unit in units}
        if ending := [unit for unit, state in found.items() if state["ActiveState"] == "deactivating"]:
            for unit, state in self.states(ending, "Id,Job").items():
                found[unit] |= state
        return found

    def enabled(self, unit: str) -> bool:
        """Whether a reboot starts a unit of ours. It checks what `systemctl is-enabled` checks."""
        folder = self.system.layout.units
        wants = self.system.like(folder, "*.wants")
        return (folder / unit).is_file() and any(os.path.lexists(each / unit) for each in wants)

    # ── to start and to end ──────────────────────────────────────────────────────────────────────────────────────

    def in_time(self, verb: str, *units: str) -> Done | None:
        """`systemctl start`, `stop` or `restart`. Returns how it ended; None if the units weren't done in time.

        The time is what the units say, and a little more. systemd itself would let an app prolong it.
        """
        limits: tuple[Callable[[], float], ...] = (lambda: JOB_SECONDS, lambda: self.job_seconds(verb, units))
        for limit in limits:
            with contextlib.suppress(Late):  # systemd goes on with the job, and the next call joins it
                return self.ctl(verb, *units, check=False, seconds=limit())
        return None

    def job_seconds(self, verb: str, units: Sequence[str]) -> float:
        """Seconds that such a job may take beyond JOB_SECONDS."""
        names = {"start": ["Start"], "stop": ["Stop"], "restart": ["Stop", "Start"]}[verb]
        # A socket has no such property: with Id each unit has a block.
        states = self.states(units, ",".join(["Id", *(f"Timeout{name}USec" for name in names)])).values()
        limits = [
            sum(in_seconds(state.get(f"Timeout{name}USec", "0s"), LONGEST_JOB_SECONDS) for name in names)
            for state in states
        ]
        return max(0, max(limits) - JOB_SECONDS) + JOB_MORE_SECONDS

    def kill(self, *units: str) -> None:
        """Kill all processes of units at once."""
        self.ctl("kill", "--signal=SIGKILL", *units, check=False)

    def stop(self, *units: str) -> None:
        """Stop units; kill what doesn't stop in time."""
        if self.in_time("stop", *units) is None:
            self.kill(*units)
            try:
                self.ctl("stop", *units, check=False, seconds=KILL_SECONDS)
            except Late:
                told = f"{', '.join(units)} can't be ended, not even by SIGKILL"
                raise Failed(f"{told}: `systemctl status` and `dmesg` may tell why.") from None

    def reread(self) -> None:
        """Let systemd read its unit files again."""
        self.ctl("daemon-reload")

    # ── commands in units of their own ───────────────────────────────────────────────────────────────────────────

    def run(
        self,
        unit: str,
        properties: Iterable[str],
        environment: Mapping[str, str],
        argv: Sequence[str],
        seconds: float,
        *,
        noting: bool = True,
        **options: Any,
    ) -> Ran:
        """Run a command in a unit of its own, and wait for it.

        A command that any signal ends has failed, although systemd counts SIGTERM as a success.

        + unit: its name without ``.service``
        + seconds: that it may take; then it is told to stop, and then killed
        + noting: whether to find out how it ended, which takes some hundredths of a second
        + options: more of `System.run`'s
        """
        note = self.system.layout.ended / unit
        note.parent.parent.mkdir(mode=0o755, exist_ok=True)
        note.parent.mkdir(mode=0o700, exist_ok=True)
        note.unlink(missing_ok=True)
        # Type=simple, or a newer systemd-run doesn't wait for a unit that ends before its program runs.
        limits = ["Type=simple", f"RuntimeMaxSec={seconds:g}", f"TimeoutStopSec={STEP_END_SECONDS}"]
        limits += [_noting(note)] if noting else []
        command = transient(unit, [*properties, *limits], environment, argv)
        most = seconds + STEP_END_SECONDS + JOB_MORE_SECONDS
        try:
            done = self.system.run(*command, check=False, seconds=most, **options)
            code, output = done.code, done.output
        except Late as late:
            self.kill(f"{unit}.service")
            code, output = 1, late.output
        ended = _noted(note, code) if noting else None
        if ended and ended.signal and code in (0, 1, 255):  # systemd-run's own
            code = 128 + getattr(signal, ended.signal, 0)  # as a shell reports it
        return Ran(tuple(argv), code, output, ended)


def _noting(path: Path) -> str:
    """The line of a unit that stores how it ended: systemd-run doesn't report it, and counts some signals as success.

    Root writes it, outside of the unit's sandbox except for its mounts.
    """
    return f"ExecStopPost=+-/bin/sh -c 'echo \"$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS\" >{path}'"


def _noted(path: Path, status: int) -> End | None:
    """How a unit ended, as `_noting` stored it; None if nothing was stored. The note is deleted.

    + status: exit status of systemd-run
    """
    with contextlib.suppress(FileNotFoundError):
        told = path.read_text().split()
        path.unlink()
        return End(*told[:3])
    # Nothing was stored: its writer was killed, too, while it ran as the unit's user. systemd-run then returns 255 for
    # a signal, and 0 for a signal that it counts as success.
    return End("signal", "killed") if status in (0, 255) else None
