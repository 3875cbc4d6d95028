"""What a run shows: a line for each change, progress while a step is long, and in the end what is true now."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import gevent
from pyinfra import logger, state
from pyinfra.api.host import Host
from pyinfra.api.output import set_echo
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.context import ctx_state
from rich.console import Console
from rich.text import Text

from roles._plan import Change, changes

LONG = 15.0
"""Seconds after which a step is told to be under way where no terminal shows it all the time; then again and again."""


_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TOLD_OTHERWISE = (
    "Success",
    "No changes",
    "Skipped",
    "Connected",
    "Loading:",
    "Ready:",
    "Error: executed",
    "Error (ignored): executed",
    "noop:",
    "will ",
)
"""Beginnings of what pyinfra and `roles._plan` say of their workings, which `Screen` tells in its own way."""

_ENDINGS = re.compile(r"nothing to change|\d+ of \d+ operations changed the host")
"""How roles/verdict.py ends a run."""


@dataclass
class Step:
    """One operation on one host."""

    operation: str
    """Its name: "Base | Install packages"."""
    changes: list[Change]
    seconds: float = 0.0
    """How long it took; 0 in a plan."""
    failed: bool = False


@dataclass
class Report:
    """What became of a run, or would."""

    verb: str
    planning: bool
    seconds: float
    error: str
    """What kept the run from going on; empty where nothing did, or where the hosts' own errors say it."""
    steps: dict[str, list[Step]]
    """Host → its operations that change something, or failed; in their order."""
    errors: dict[str, list[str]]
    """Host → lines that its failed operations printed."""
    unchanged: dict[str, int]
    """Host → operations that had nothing to do."""
    roles: dict[str, float] = field(default_factory=dict)
    """Role → seconds."""

    @property
    def failed(self) -> bool:
        """Whether anything did."""
        return bool(self.error) or any(step.failed for steps in self.steps.values() for step in steps)

    @property
    def changes(self) -> int:
        """How many operations change something."""
        return sum(not step.failed for steps in self.steps.values() for step in steps)

    def as_json(self) -> dict[str, Any]:
        """It as an object of JSON; `version` changes when its meaning does."""
        return {
            "version": 1,
            "verb": self.verb,
            "plan": self.planning,
            "outcome": "failed" if self.failed else "changes" if self.changes else "nothing",
            "seconds": round(self.seconds, 3),
            "error": self.error or None,
            "roles": {role: round(seconds, 3) for role, seconds in self.roles.items()},
            "hosts": {
                host: {
                    "operations": [dataclasses.asdict(step) | {"seconds": round(step.seconds, 3)} for step in steps],
                    "unchanged": self.unchanged.get(host, 0),
                    "errors": self.errors.get(host, []),
                }
                for host, steps in self.steps.items()
            },
        }


class Screen(logging.Filter, BaseStateCallback):
    """Takes pyinfra's log and callbacks, and shows of them what an operator wants to know."""

    def __init__(self, verb: str, again: str, *, planning: bool, quiet: bool) -> None:
        """A screen for one run.

        + again: the command line to type to run it again
        + quiet: show nothing of what goes well
        """
        super().__init__()
        self.verb, self.again, self.planning, self.quiet = verb, again, planning, quiet
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.state: State | None = None
        self.began: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.kept: dict[str, list[str]] = {}
        self.ticker: gevent.Greenlet | None = None
        self.doing = ""
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
        """Take a line of pyinfra's log; False, since nobody else shows it."""
        if self.state is None and ctx_state.isset() and state.initialised:  # type: ignore[no-untyped-call]
            self.state = ctx_state.get()  # type: ignore[no-untyped-call]
            state.add_callback_handler(self)  # type: ignore[no-untyped-call]
        if record.levelno >= logging.INFO:
            self._line(str(record.msg) % record.args if record.args else str(record.msg), record.levelno)
        return False

    def _echo(self, message: Any = None, **_: Any) -> None:
        self._line(str(message or ""), logging.INFO)

    def _line(self, text: str, level: int) -> None:
        text = _ANSI.sub("", text)  # we colour it ourselves, and only on a terminal
        named = re.match(r"\[([^\]]+)\] ?", text)
        said = text[named.end() :] if named else text
        if not said.strip() or text.startswith("-->") or said.startswith(_TOLD_OTHERWISE) or _ENDINGS.fullmatch(said):
            return
        if level >= logging.ERROR and named:
            self.kept.setdefault(named[1], []).append(said)
        style = "red" if level >= logging.ERROR else "yellow" if level >= logging.WARNING else ""
        several = self.state is not None and len(self.state.inventory.hosts) > 1
        self._print(f"  {text if several or not named else said}", style)

    def _print(self, text: str, style: str = "") -> None:
        if not self.quiet:
            self.console.print(Text(text, style=style))

    def _tick(self) -> None:
        """Say what takes long, and for how long it has."""
        while True:
            gevent.sleep(0.25 if self.status else LONG)
            for operation, began in self.began.items():
                seconds = time.monotonic() - began
                if self.status:
                    self.status.update(f"{operation} {seconds:.0f} s")
                elif seconds >= LONG:
                    self._print(f"  … {operation}, {seconds:.0f} s so far")

    def operation_start(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """An operation begins, on all hosts."""
        self.began = {_name(state, op_hash): time.monotonic()}

    def operation_end(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """It has ended on all of them."""
        name = _name(state, op_hash)
        self.took[name] = time.monotonic() - self.began.pop(name)

    def operation_host_success(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_count: int = 0
    ) -> None:
        """It did what it should on one host; pyinfra sets its result a moment later."""
        name = _name(state, op_hash)
        if made := changes(host).get(name):
            seconds = time.monotonic() - self.began[name]
            self._print(f"{name}  {seconds:.1f} s", "green")
            for change in made:
                self._print(f"  {change.line.removeprefix('will ')}")

    def operation_host_error(  # type: ignore[override]
        self, state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        """It failed on one host; what it printed was shown already."""
        self._print(f"{_name(state, op_hash)}  failed", "red")

    # --- In the end --------------------------------------------------------------------------------------------------

    def report(self, error: str, *, seconds: float) -> Report:
        """What became of the run, from pyinfra's state."""
        steps: dict[str, list[Step]] = {}
        unchanged: dict[str, int] = {}
        for host, of_host in _operations(self.state):
            announced = changes(host)
            made = steps[host.name] = []
            unchanged[host.name] = 0
            for name, operation in of_host:
                complete = operation.operation_meta.is_complete()
                failed = complete and operation.operation_meta.did_error()
                does = operation.operation_meta.did_change() if complete else self.planning and name in announced
                if failed or does:
                    made.append(Step(name, announced.get(name, []), self.took.get(name, 0.0), bool(failed)))
                else:
                    unchanged[host.name] += 1
        if error == "No hosts remaining!" and any(step.failed for of_host in steps.values() for step in of_host):
            error = ""  # what failed on them says it
        roles: dict[str, float] = {}
        for name, took in self.took.items():
            role = name.partition(" | ")[0]
            roles[role] = roles.get(role, 0.0) + took
        return Report(self.verb, self.planning, seconds, error, steps, self.kept, unchanged, roles)

    def summary(self, report: Report) -> None:
        """Show how it ended: quiet success, loud failure."""
        for host, steps in report.steps.items():
            if report.planning and not self.quiet:
                self._plan(host, steps, report.unchanged[host])
        if report.error:
            self.console.print(Text(f"Error: {report.error}", style="red"))
        for host, steps in report.steps.items():
            if any(step.failed for step in steps):
                self._failure(host, steps, report)
        if not report.failed and not report.planning and not self.quiet:
            self.console.print(Text(_ending(report), style="bold"))

    def _plan(self, host: str, steps: list[Step], unchanged: int) -> None:
        if not steps:
            self._print(f"{host}: nothing to change", "bold")
            return
        for step in steps:
            self._print(step.operation, "bold")
            for change in step.changes:
                self._print(f"  {change.line}")
                for line in change.diff.splitlines():
                    style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
                    self._print(f"      {line}", style)
        self._print(
            f"{host}: {_count(len(steps), 'operation')} would change it, {unchanged} have nothing to do", "bold"
        )

    def _failure(self, host: str, steps: list[Step], report: Report) -> None:
        failed = [step.operation for step in steps if step.failed]
        # The verdict fails because another operation did, and says no more than that.
        named = [name for name in failed if not name.startswith("Verdict")] or failed
        self.console.print(Text(f"Error: {' and '.join(named)} failed on {host}", style="red"))
        if self.quiet:
            for line in report.errors.get(host, []):
                self.console.print(Text(f"  {line}"))
        done = _count(len(steps) - len(failed), "operation")
        self.console.print(
            Text(
                f"  {done} changed the host and stay; a release that served goes on serving, unless something above "
                f"says otherwise.\n  Mend the cause, then run it again: {self.again}"
            )
        )


def _name(state: State, op_hash: str) -> str:
    return ", ".join(state.get_op_meta(op_hash).names)


def _operations(state: State | None) -> Iterator[tuple[Host, list[tuple[str, Any]]]]:
    """Every host that was reached, with its operations by name, in their order."""
    if state is None:
        return
    order = state.get_op_order()  # type: ignore[no-untyped-call]
    for host in state.inventory:
        if host in state.activated_hosts:
            made: Mapping[str, Any] = state.ops[host]
            yield host, [(_name(state, op_hash), made[op_hash]) for op_hash in order if op_hash in made]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _ending(report: Report) -> str:
    hosts = []
    for host, steps in report.steps.items():
        hosts.append(f"{host}: {_count(len(steps), 'operation')} changed it" if steps else f"{host}: nothing to change")
    slow = sorted(((took, role) for role, took in report.roles.items() if took >= 1), reverse=True)
    parts = ", ".join(f"{role} {took:.0f} s" for took, role in slow)
    return "; ".join(hosts) + f" ({report.seconds:.1f} s" + (f": {parts})" if parts else ")")
