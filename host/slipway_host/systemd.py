"""systemd's units: what it knows of them, and to start, stop and end them in time, whatever they say to it."""

from __future__ import annotations

import contextlib
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
"""Exit statuses with which systemd says that it couldn't run a program (systemd.exec(5))."""
JOB_SECONDS = 5  # for a job of systemd's; then its unit's own limit counts
JOB_MORE_SECONDS = 5  # beyond that: an app may have it prolonged for ever (EXTEND_TIMEOUT_USEC of sd_notify(3))
LONGEST_JOB_SECONDS = 900  # where a unit has none
KILL_SECONDS = 20  # for what was killed to be gone
STEP_END_SECONDS = 10  # for a unit whose time is over to end; then it is killed
SECONDS = {"y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3}
KILLED = re.compile(r"Main process exited, code=(?:killed|dumped), status=\d+/([A-Z0-9]+)")
"""systemd's words, in a unit's journal."""


class End:
    """How a unit ended, as systemd tells it: its result, and the exit status or the signal of its main process."""

    def __init__(self, result: str = "", code: str = "", status: str = "") -> None:
        """As systemd.exec(5) describes SERVICE_RESULT, EXIT_CODE and EXIT_STATUS."""
        self.result = result
        self.signal = (f"SIG{status}" if status else "a signal") if code in ("killed", "dumped") else None
        self.status = int(status) if code == "exited" and status.isdecimal() else None


class Ran(Done):
    """How a command ended that ran as a unit."""

    def __init__(self, argv: tuple[str, ...], code: int, output: str, ended: End | None) -> None:
        """`ended`: how systemd saw it; None where that wasn't asked, or isn't known."""
        super().__init__(argv, code, output)
        self.ended = ended


def in_seconds(text: str, most: float) -> float:
    """A span of time as systemctl shows it ("1min 30s"), in seconds: at most so many, where it is longer or endless."""
    parts = re.findall(r"([\d.]+)(y|month|w|d|h|min|ms|s)\b", text)
    return min(most, sum(float(number) * SECONDS[unit] for number, unit in parts)) if parts else most


def killed_in(journal: str) -> str | None:
    """The signal that ended a service, by what its journal says; None if that says nothing of it."""
    found = KILLED.findall(journal)
    return f"SIG{found[-1]}" if found else None


def environment_file(values: Mapping[str, str]) -> str:
    """Variables as systemd reads them back (``EnvironmentFile=``, systemd.exec(5))."""
    quoted = {name: re.sub(r'(["\\`$])', r"\\\1", value) for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(quoted.items()))


def transient(unit: str, properties: Iterable[str], environment: Mapping[str, str], argv: Iterable[str]) -> list[str]:
    """The command line that runs another one as a unit of its own, to its end, with our standard streams.

    + unit: its name without ``.service``
    """
    flags = [part for item in properties for part in ("--property", item)]
    flags += [part for name, value in environment.items() for part in ("--setenv", f"{name}={value}")]
    flags.append(f"--description=Slipway: {unit}")  # or it is the command line, with its line feeds
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit", unit, *flags, "--", *argv]


class Systemd:
    """This machine's systemd."""

    def __init__(self, system: System) -> None:
        self.system = system

    def ctl(self, *argv: str, check: bool = True, seconds: float = LONGEST_JOB_SECONDS) -> Done:
        """Run `systemctl`."""
        # It is read, and a secret may be a word of it by chance.
        return self.system.run("systemctl", *argv, check=check, raw=True, seconds=seconds)

    # ── what it knows ────────────────────────────────────────────────────────────────────────────────────────────

    def states(self, units: Sequence[str], properties: str) -> dict[str, dict[str, str]]:
        """What it knows of units, by name; asked once for all of them.

        + properties: their names, with commas between them
        """
        blocks = self.ctl("show", f"--property={properties}", *units).output.strip().split("\n\n")
        told = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
        return dict(zip(units, told, strict=True))

    def state(self, unit: str, properties: str = "ActiveState,SubState,NRestarts,MainPID") -> dict[str, str]:
        """What it knows of one unit."""
        return self.states([unit], properties)[unit]

    def loaded(self, units: Sequence[str]) -> dict[str, str]:
        """The state of those units that it has in memory; the others don't run, and nothing is left of them.

        It takes half as long as to ask for each of them.
        """
        lines = self.ctl("list-units", "--all", "--plain", "--no-legend", "--full", *units).output.splitlines()
        rows = [line.split() for line in lines]  # a description has as many lines as it likes
        return {row[0]: row[2] for row in rows if row[:1] and row[0] in units}

    def enabled(self, unit: str) -> bool:
        """Whether a reboot starts a unit of ours: what `systemctl is-enabled` looks at too."""
        folder = self.system.layout.units
        return (folder / unit).is_file() and any(folder.glob(f"*.wants/{unit}"))

    # ── to start and to end ──────────────────────────────────────────────────────────────────────────────────────

    def in_time(self, verb: str, *units: str) -> Done | None:
        """`systemctl start`, `stop` or `restart`: how it ended; None where the units didn't come to it in their time.

        In systemd's eyes that time is what the app says: here it is what its units say, and a little more.
        """
        limits: tuple[Callable[[], float], ...] = (lambda: JOB_SECONDS, lambda: self.job_seconds(verb, units))
        for limit in limits:
            with contextlib.suppress(Late):  # systemd goes on with it, and the next one joins that
                return self.ctl(verb, *units, check=False, seconds=limit())
        return None

    def job_seconds(self, verb: str, units: Sequence[str]) -> float:
        """Seconds that such a job may take beyond JOB_SECONDS."""
        names = {"start": ["Start"], "stop": ["Stop"], "restart": ["Stop", "Start"]}[verb]
        # A socket has none of these: by its name there is something to say of each.
        states = self.states(units, ",".join(["Id", *(f"Timeout{name}USec" for name in names)])).values()
        limits = [
            sum(in_seconds(state.get(f"Timeout{name}USec", "0s"), LONGEST_JOB_SECONDS) for name in names)
            for state in states
        ]
        return max(0, max(limits) - JOB_SECONDS) + JOB_MORE_SECONDS

    def kill(self, *units: str) -> None:
        """Kill all processes of units, at once."""
        self.ctl("kill", "--signal=SIGKILL", *units, check=False)

    def stop(self, *units: str) -> None:
        """Stop units; what doesn't end in its time is killed, whatever it says to systemd."""
        if self.in_time("stop", *units) is None:
            self.kill(*units)
            try:
                self.ctl("stop", *units, check=False, seconds=KILL_SECONDS)
            except Late:
                told = f"{', '.join(units)} can't be ended, not even by SIGKILL"
                raise Failed(f"{told}: `systemctl status` and `dmesg` may tell why.") from None

    def reread(self) -> None:
        """Let it read the files of its units."""
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
        """Run a command as a unit of its own, to its end.

        One that a signal ended has failed, whichever: systemd takes SIGTERM for an end as good as any.

        + unit: its name without ``.service``
        + seconds: that it may take; after that it is told to end, and then killed, whatever becomes of its output
        + noting: whether to ask how systemd saw its end, which takes some hundredths of a second
        + options: more of `System.run`'s
        """
        note = self.system.layout.ended / unit
        note.parent.parent.mkdir(mode=0o755, exist_ok=True)
        note.parent.mkdir(mode=0o700, exist_ok=True)
        note.unlink(missing_ok=True)
        # Simple, or a newer systemd-run doesn't wait for the end of what ends before its program is run.
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
            code = 128 + getattr(signal, ended.signal, 0)
        return Ran(tuple(argv), code, output, ended)


def _noting(path: Path) -> str:
    """The line of a unit that writes down how it ended: systemd-run doesn't tell, and takes some signals for success.

    Root writes it, outside of the unit's sandbox but for what is mounted in it.
    """
    return f"ExecStopPost=+-/bin/sh -c 'echo \"$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS\" >{path}'"


def _noted(path: Path, status: int) -> End | None:
    """How a unit ended, which `_noting` wrote down; None where it didn't come to that. The note is taken away.

    + status: exit status of systemd-run
    """
    with contextlib.suppress(FileNotFoundError):
        told = path.read_text().split()
        path.unlink()
        return End(*told[:3])
    # What writes it was killed as well: systemd lends it the user for a moment. 255 is what systemd-run makes of a
    # signal, and 0 of one that it takes for success.
    return End("signal", "killed") if status in (0, 255) else None
