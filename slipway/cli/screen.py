"""What a run shows: a line for each change, the progress of long steps, and the result at the end."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
import time
from types import TracebackType
from typing import Any

import gevent
from pyinfra import logger
from pyinfra.api import BaseStateCallback, Host, State
from rich.console import Console
from rich.text import Text
from slipway_host.layout import LAYOUT
from typing_extensions import override

from slipway.cli.report import INTERRUPTION, Report, Step
from slipway.engine import pyinfra_api
from slipway.engine.host import PROGRAM, HostFacts, release_served, under_way
from slipway.engine.plan import FAIL, answers_of, changes, name_of, result, undone
from slipway.engine.pyinfra_api import set_echo
from slipway.foreign import visible

LONG = 15.0
"""Without a terminal: seconds after which a step that still runs is named, and then named again."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"\[([^\]]+)\]\s*")
"""How pyinfra begins a line about a host; padded where hosts' names differ in length."""
_TOLD_OTHERWISE = re.compile(
    r"-->|Success\b|No changes$|Skipped$|Connected$|Loading:|Ready:|noop:|will |Error(?: \(ignored\))?: executed "
    r"|WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!|Someone could be eavesdropping on you right now"
    r"|If this is expected, you can remove the bad key using:| +ssh-keygen -R "
    r"|Failed to load host keys from .*\[Errno 2\]"
    r"|(?:.*, )?(?:nothing (?:else )?to change|\d+ of \d+ operations changed the host)$"
)
"""Lines of pyinfra, `slipway.engine.plan` and roles/verdict.py that `Screen` shows in its own way; what to do about a
host's key is told by the connector, and a file of known keys that isn't there yet is none to speak of."""
_SWITCH = re.compile(r"--data (prove|contract|again|fresh|stop_first)=(?:true|…)(?: \(on the host: --[a-z-]+\))?")
_OPTION = re.compile(r"--data (app|to|schema)=")


def typed(text: str) -> str:
    """A text with our options in place of pyinfra's: ``--data again=true`` becomes ``--again``."""
    return _OPTION.sub(r"--\1 ", _SWITCH.sub(lambda found: f"--{found[1].replace('_', '-')}", text))


class _Plain(Console):
    """A console that escapes control characters in what it prints, see `slipway.foreign`."""

    @override
    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; control characters in texts and strings are escaped."""
        fit = [
            Text(visible(each.plain), style=each.style)
            if isinstance(each, Text)
            else visible(each)
            if isinstance(each, str)
            else each
            for each in objects
        ]
        super().print(*fit, **options)


class _Kept(_Plain):
    """Standard output. Its reader may end (`| head`) while the run continues: the exit code still counts."""

    @override
    def on_broken_pipe(self) -> None:
        """Print nothing more; rich would end the run."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Screen(logging.Filter, BaseStateCallback):
    """Takes pyinfra's log and callbacks, and shows the operator what matters."""

    def __init__(self, verb: str, again: str, *, planning: bool, quiet: bool) -> None:
        """A screen for one run.

        + again: the command line to type to run it again
        + quiet: print nothing of what goes well
        """
        super().__init__()
        self.verb, self.again, self.planning, self.quiet = verb, again, planning, quiet
        self.console = _Plain(file=sys.stderr, highlight=False, soft_wrap=True)
        # A plan goes to standard output, so that it can be kept in a file without the errors. A terminal that shows
        # both has one console: two would overwrite each other's lines.
        apart = planning and not (sys.stdout.isatty() and sys.stderr.isatty())
        self.shown = _Kept(file=sys.stdout, highlight=False, soft_wrap=True) if apart else self.console
        self.state: State | None = None
        self.began: dict[tuple[str, str], float] = {}
        """(host, hash of an operation under way) → when it began."""
        self.took: dict[tuple[str, str], float] = {}
        self.said: dict[str, list[str]] = {}
        """Host → what the operation under way there has printed so far."""
        self.spoken: dict[tuple[str, str], list[str]] = {}
        """(host, hash of an operation that has ended) → what it printed."""
        self.kept: dict[str, list[str]] = {}
        """Host → what failed operations printed, and errors outside of operations."""
        self.ticker: gevent.Greenlet | None = None
        self.status = self.console.status("connecting") if not quiet and self.console.is_terminal else None

    # --- While it runs -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Screen:
        logger.addFilter(self)
        set_echo(self._echo)
        if self.status:
            self.status.start()
        self.ticker = gevent.spawn(self._tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.ticker:
            self.ticker.kill()
        if self.status:
            self.status.stop()
        logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a line of pyinfra's log; False: no one else prints it."""
        if self.state is None and pyinfra_api.begun():
            self.state = pyinfra_api.current_state()
            pyinfra_api.listen(self)
        if record.levelno >= logging.INFO:
            text = str(record.msg) % record.args if record.args else str(record.msg)
            self._line(text, record.levelno, logged=True)
        return False

    def _echo(self, message: Any = None, **_: Any) -> None:
        self._line(str(message or ""), logging.INFO, logged=False)

    def _line(self, text: str, level: int, *, logged: bool) -> None:
        """Show a line.

        + logged: by pyinfra or a role; False: printed by a command
        """
        text = typed(visible(_ANSI.sub("", text)))  # colours are ours, and only on a terminal
        named = _PREFIX.match(text)
        host, said = (named[1], text[named.end() :]) if named else ("", text)
        if not said.strip() or (logged and _TOLD_OTHERWISE.match(said)):
            return
        if self.planning and logged and text.startswith("  "):  # by `plan.show`; `_plan` prints it
            return
        if host in self.said:
            self.said[host].append(said)
        elif host and level >= logging.ERROR:
            self.kept.setdefault(host, []).append(said)
        style = "red" if level >= logging.ERROR else "yellow" if level >= logging.WARNING else ""
        several = self.state is not None and pyinfra_api.has_several_hosts(self.state)
        console = self.console if level >= logging.ERROR else self.shown
        self._print(f"  [{host}] {said}" if several and host else f"  {said}", style, console)

    def _print(self, text: str, style: str = "", console: Console | None = None) -> None:
        if not self.quiet:
            (console or self.shown).print(Text(text, style=style))

    def _tick(self) -> None:
        """Name each step that still runs, with its seconds."""
        while True:
            gevent.sleep(0.25 if self.status else LONG)
            for (_, op_hash), began in self.began.items():
                seconds = time.monotonic() - began
                title = pyinfra_api.name_under_way(op_hash)
                if self.status:
                    self.status.update(f"{title} {seconds:.0f} s")
                elif seconds >= LONG:
                    self._print(f"  … {title}, {seconds:.0f} s so far")

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:  # type: ignore[override]
        """An operation begins on a host."""
        self.began[host.name, op_hash] = time.monotonic()
        self.said[host.name] = []

    def operation_host_success(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_count: int = 0
    ) -> None:
        """It did what it should there; pyinfra sets its result a moment later."""
        seconds = self._ended(host, op_hash)
        name = name_of(host, op_hash)
        if made := changes(host).get(name):
            self._print(f"{name}  {seconds:.1f} s", "green")
            for change in made:
                self._print(f"  {typed(change.line).removeprefix('will ')}")

    def operation_host_error(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        """An operation failed on a host; what it printed was shown already."""
        self._ended(host, op_hash)
        self.kept.setdefault(host.name, []).extend(self.spoken[host.name, op_hash])
        if not _is_verdict(name := name_of(host, op_hash)):
            self._print(f"{name}  failed", "red")

    def _ended(self, host: Host, op_hash: str) -> float:
        key = host.name, op_hash
        self.took[key] = time.monotonic() - self.began.pop(key)
        self.spoken[key] = self.said.pop(host.name, [])
        return self.took[key]

    # --- In the end --------------------------------------------------------------------------------------------------

    def report(self, error: str, *, seconds: float) -> Report:
        """The result of the run, from pyinfra's state."""
        if error == INTERRUPTION:
            error = self._interrupted()
        report = Report(self.verb, self.planning, seconds, typed(error), {}, self.kept, {})
        for host, operations in pyinfra_api.operations_of(self.state):
            announced = changes(host)
            made = report.steps[host.name] = []
            report.unchanged[host.name] = 0
            if release_served(answers_of(host, HostFacts)):
                report.served.add(host.name)
            report.undone[host.name] = undone(host)
            for op_hash, operation in operations:
                name, ended = name_of(host, op_hash), operation.is_complete()
                does = [dataclasses.replace(each, note=typed(each.note)) for each in announced.get(name, [])]
                key = host.name, op_hash
                step = Step(name, does, self.took.get(key, 0.0), said=self.spoken.get(key, []))
                if ended:
                    step.failed = operation.did_error()
                elif self.planning:
                    step.failed = any(change.action == FAIL for change in does)
                if step.failed or (operation.did_change() if ended else self.planning and does):
                    made.append(step)
                elif ended or self.planning:
                    report.unchanged[host.name] += 1
                role = name.partition(" | ")[0]
                if ended:
                    report.roles[role] = report.roles.get(role, 0.0) + step.seconds
        if self.state is not None:
            failed = {host.name for host in pyinfra_api.lost_hosts(self.state)}
            report.lost = sorted(host for host in failed if not any(step.failed for step in report.steps.get(host, [])))
            if not error and not failed and not pyinfra_api.any_reached(self.state) and self.verb != "releases":
                report.error = "no host was reached: after --, --limit and --exclude leave none"
        if error == "No hosts remaining!" and (report.lost or any(report.steps.values())):
            report.error = ""  # the hosts' own errors tell it
        return report

    def _interrupted(self) -> str:
        """What to tell an operator who interrupted the run."""
        if self.state is None or not pyinfra_api.carries_out(self.state):
            return f"{INTERRUPTION}; nothing was changed"
        told = [INTERRUPTION]
        for host in self.said:
            for app in under_way(host):
                follow = f"run {self.again}"
                if self.verb == "rollback":  # the same command would roll back once more
                    follow = f"run there, as root: {PROGRAM} follow {app}"
                unit = LAYOUT.app(app).run_unit.removesuffix(".service")
                what = "rollback" if self.verb == "rollback" else "release"
                told += [
                    f"  The {what} of {app} continues on {host}. To follow it, {follow}",
                    f"  To stop it and undo what it did, run there, as root: systemctl stop {unit}",
                ]
        if len(told) == 1 and self.verb == "rollback":
            told.append("  What was done so far stays. `slipway releases` shows which release serves.")
        elif len(told) == 1:
            told.append(f"  What was done so far stays. To continue, run it again: {self.again}")
        return "\n".join(told)

    def summary(self, report: Report) -> None:
        """Show the result of the run."""
        for host, steps in report.steps.items():
            if report.planning and not report.error and not self.quiet and host not in report.lost:
                self._plan(host, steps, report)
        if report.error:
            self.console.print(Text(f"Error: {report.error}", style="red"))
        for host in dict.fromkeys([*report.steps, *report.lost]):
            steps = report.steps.get(host, [])
            if host in report.lost or any(step.failed for step in steps):
                self._failure(host, steps, report)
        if not report.failed and not report.planning and not self.quiet:
            self.console.print(Text(_ending(report), style="bold"))

    def _plan(self, host: str, steps: list[Step], report: Report) -> None:
        if not steps:
            self._print(_result(host, "", report), "bold")
            return
        for step in steps:
            self._print(step.operation, "bold")
            for change in step.changes:
                self._print(f"  {change.line}", "red" if change.action == FAIL else "")
                for line in change.diff.splitlines():
                    style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
                    self._print(f"      {line}", style)
        failing = sum(step.failed for step in steps)
        would = f"{_count(len(steps) - failing, 'operation')} would change it" + (
            f", {failing} would fail" if failing else ""
        )
        self._print(_result(host, f"{would}, {report.unchanged[host]} have nothing to do", report), "bold")

    def _failure(self, host: str, steps: list[Step], report: Report) -> None:
        failed = [step.operation for step in steps if step.failed]
        named = [name for name in failed if not _is_verdict(name)] or failed
        what = f"{' and '.join(named)} {'would fail' if report.planning else 'failed'} on {host}"
        self.console.print(Text(f"Error: {what if failed else f'{host} was not reached'}", style="red"))
        if self.quiet:
            for line in report.errors.get(host, []):
                self.console.print(Text(f"  {line}"))
        if not report.planning and failed:
            still = " The release that served still serves, unless an error above says otherwise."
            self.console.print(Text(f"  {_stays(steps)}{still if host in report.served else ''}"))
        self.console.print(Text(f"  Fix the cause, then run it again: {self.again}"))


def _is_verdict(name: str) -> bool:
    """Whether an operation is roles/verdict.py's, which only fails because another one did: its message tells it."""
    return name.startswith("Verdict | ")


def _stays(steps: list[Step]) -> str:
    """What a run that failed has changed on a host."""
    failed = [step for step in steps if step.failed and not _is_verdict(step.operation)]
    if done := sum(not step.failed for step in steps):
        return f"{_count(done, 'operation')} changed the host; {'its' if done == 1 else 'their'} changes stay."
    if all(step.changes and all(change.action == FAIL for change in step.changes) for step in failed):
        return "Nothing was changed on the host."
    return "No other operation changed the host."  # one that failed may have begun


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _result(host: str, changes: str, report: Report) -> str:
    """What became of a host, and first what didn't; `changes` is empty where there were none."""
    return f"{host}: {result(report.undone.get(host, []), changes)}"


def _ending(report: Report) -> str:
    hosts = []
    for host, steps in report.steps.items():
        hosts.append(_result(host, f"{_count(len(steps), 'operation')} changed it" if steps else "", report))
    slow = sorted(((took, role) for role, took in report.roles.items() if took >= 1), reverse=True)
    parts = ", ".join(f"{role} {took:.0f} s" for took, role in slow)
    return "; ".join(hosts) + f" ({report.seconds:.1f} s" + (f": {parts})" if parts else ")")
