"""What a pass over a host's operations goes by, and what it does: so that a plan and the run after it can't differ.

pyinfra has two passes: one plans (``--dry`` ends there), one carries out. In both, each of our operations decides from
the same two things: what the host answered before the pass changed anything (`known`), and what the operations before
it do, or would do (`changed`, `made`). Never from what a change has just left behind, which a plan can't see. So what
decides is asked before a run's first change; only what a change brings (a newer nginx's version, say) is asked later.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from pyinfra import host, logger
from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api import operation as pyinfra_operation

from slipway.engine import pyinfra_api
from slipway.engine.pyinfra_api import OperationMeta, PyinfraOperation, current_host, format_text, operation_under_way
from slipway.engine.question import Expects, Question
from slipway.foreign import one_line, visible

P = ParamSpec("P")
T = TypeVar("T")

Commands = Generator[StringCommand, None, None]
"""What an operation sends to the host."""
Ask = tuple[type[FactBase[Any]], tuple[tuple[str, Any], ...]]
"""A fact with its arguments."""

FAIL = "fail"
"""Action of a `Change` of which a plan knows that it can't be done."""


@dataclass(frozen=True)
class Change:
    """One thing that an operation does to the host, as data: nothing in it is secret."""

    what: str
    """Kind of the thing: "package", "folder", "file", "link", "user", "unit", "certificate", "nginx", "release",
    "commit", "rollback", "migration", "program", "setting", "kernel setting", "firewall"."""
    target: str
    """Which one: a path, a name."""
    action: str
    """What becomes of it: "create", "modify", "remove", "install", "repair", "set", "enable", "restart", "reload",
    "load", "order", "sign", "run", "make", "release"; or `FAIL`."""
    diff: str = ""
    """Unified diff of its text, or why none is shown; empty where no text changes."""
    note: str = ""
    """Why, and what follows."""

    def __post_init__(self) -> None:
        """Whatever it was told by a host or a source, it can be shown."""
        for name in ("what", "target", "action", "note"):
            object.__setattr__(self, name, one_line(getattr(self, name)))
        object.__setattr__(self, "diff", visible(self.diff))

    @property
    def line(self) -> str:
        """It in one line, for people."""
        named = self.target if self.target.startswith("/") or self.target == self.what else f"{self.what} {self.target}"
        return f"will {self.action} {named}" + (f": {self.note}" if self.note else "")


@dataclass
class _Pass:
    """What one pass over a host has asked and done so far."""

    executing: bool
    answers: dict[Ask, Any] = field(default_factory=dict)
    later: dict[Ask, tuple[str, Any]] = field(default_factory=dict)
    """Fact → (operation, what it would answer after that operation)."""
    changes: dict[str, list[Change]] = field(default_factory=dict)
    """Operation → what it does."""
    made: dict[str, str] = field(default_factory=dict)
    """Path → operation that writes or removes it."""
    undone: dict[str, None] = field(default_factory=dict)
    """What is wanted and isn't done."""


_passes: WeakKeyDictionary[Host, _Pass] = WeakKeyDictionary()
_ahead: WeakKeyDictionary[Host, dict[Ask, None]] = WeakKeyDictionary()
"""Host → what its operations ask, from when they were called: before any of them is carried out."""
_names: WeakKeyDictionary[Host, dict[str, str]] = WeakKeyDictionary()
"""Host → hash of an operation → its name there: hosts share the hash, and pyinfra keeps the names of all in one set."""


def _current() -> _Pass:
    """The pass under way on pyinfra's current host; a run begins with all its questions."""
    this = current_host()
    found = _passes.get(this)
    if found is None or found.executing != pyinfra_api.executing():
        found = _passes[this] = _Pass(pyinfra_api.executing())
        if found.executing:
            if isinstance(this.connector, Expects):
                this.connector.expect(questions(this))
            for ask in _ahead.get(this, {}):
                found.answers[ask] = _get(ask)
    return found


def _get(ask: Ask) -> Any:
    fact, arguments = ask
    return host.get_fact(fact, **dict(arguments))


def _failed(operation: str) -> bool:
    """Whether an operation of this pass ended with an error: what it would have done isn't done."""
    return pyinfra_api.failed(current_host(), operation)


def asking(fact: type[FactBase[Any]], **arguments: Any) -> Ask:
    """A fact with its arguments, which must be hashable."""
    return fact, tuple(sorted(arguments.items()))


def operation(
    asks: Callable[..., Iterable[Ask]], **given: Any
) -> Callable[[Callable[P, Commands]], PyinfraOperation[P]]:
    """pyinfra's `operation`, for one that decides by `known`, `changed` and `made`.

    + asks: called with the operation's arguments: the facts that it always needs, so that a run asks them at its start
    + given: arguments of pyinfra's own decorator
    """

    def decorate(function: Callable[P, Commands]) -> PyinfraOperation[P]:
        inner = cast(Callable[..., OperationMeta], pyinfra_operation(**given)(function))
        own = signature(function).parameters

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> OperationMeta:
            this, title = current_host(), str(kwargs.get("name", function.__name__))
            mine = {key: value for key, value in kwargs.items() if key in own}
            _ahead.setdefault(this, {}).update(dict.fromkeys(asks(*args, **mine)))
            meta = inner(*args, **kwargs)
            role = pyinfra_api.role_under_way(this)
            _names.setdefault(this, {})[pyinfra_api.hash_of(meta)] = f"{role} | {title}" if role else title
            return meta

        return cast(PyinfraOperation[P], call)

    return decorate


def known(fact: type[FactBase[T]], **arguments: Any) -> T:
    """What the host answered before this pass changed anything, or what it would answer now where `becomes` said so."""
    this, ask = _current(), asking(fact, **arguments)
    told = this.later.get(ask)
    if told and not _failed(told[0]):
        return cast(T, told[1])
    if ask not in this.answers:
        this.answers[ask] = _get(ask)
    return cast(T, this.answers[ask])


def answers_of(of: Host, fact: type[FactBase[T]]) -> list[T]:
    """What a host answered to a fact, with any arguments, in the pass under way or the last one."""
    found = _passes.get(of)
    return [cast(T, answer) for (asked, _), answer in found.answers.items() if asked is fact] if found else []


def becomes(fact: type[FactBase[T]], value: T, **arguments: Any) -> None:
    """Say what a fact will be after the current operation; to be said before its first command."""
    _current().later[asking(fact, **arguments)] = (operation_under_way(), value)


def announce(*changes: Change, makes: Iterable[str] = ()) -> None:
    """Say what the current operation will do; to be said before its first command, which ends it in a plan.

    + makes: paths that it writes or removes, of which `changes` may say less than all
    """
    this, by = _current(), operation_under_way()
    this.changes.setdefault(by, []).extend(changes)
    this.made |= dict.fromkeys(makes, by)
    for change in changes:
        say(change.line)
        colours = {"+": "green", "-": "red"} if change.what == "file" else {}
        if pyinfra_api.shows_diffs() or change.what == "migration":
            for line in change.diff.splitlines():
                show(format_text(line, colours[line[0]]) if line[:1] in colours else line)


def leave(told: str) -> None:
    """Say what of the wanted isn't done though nothing fails: a run, or a plan, ends with it."""
    _current().undone[one_line(told)] = None


def undone(of: Host) -> list[str]:
    """What the pass under way, or the last one, leaves undone on a host."""
    found = _passes.get(of)
    return list(found.undone) if found else []


def result(undone: Iterable[str], changes: str) -> str:
    """What a run or a plan ends with: first what it leaves undone; `changes` is empty where there were none."""
    left = list(undone)
    return ", ".join([*left, changes or ("nothing else to change" if left else "nothing to change")])


def failure(message: str) -> StringCommand:
    """A command that fails with this message: an exception would end the run on every other host too."""
    return StringCommand(shlex.join(["sh", "-c", 'echo "$1" >&2; exit 1', "slipway", visible(message)]))


def changed(what: str, target: str | None = None) -> bool:
    """Whether an operation before the current one does anything to this thing, or to any of its kind."""
    here = _current().changes.items()
    done = (each for by, made in here if not _failed(by) for each in made)
    return any(each.what == what and target in (None, each.target) for each in done)


def made(*paths: str) -> bool:
    """Whether an operation before the current one writes or removes one of `paths`."""
    here = _current().made
    return any(path in here and not _failed(here[path]) for path in paths)


def changes(of: Host) -> dict[str, list[Change]]:
    """What the pass under way, or the last one, does to a host: name of the operation ("Base | …") → its changes.

    Empty before the first. Of a run, those of an operation that failed are among them: they are what it began.
    """
    found = _passes.get(of)
    return {name_of(of, by): list(made) for by, made in found.changes.items()} if found else {}


def name_of(of: Host, operation: str) -> str:
    """Name of an operation on a host, by pyinfra's hash of it: ours, or anybody's on the same command line."""
    named = _names.get(of, {}).get(operation)
    return named or pyinfra_api.name_under_way(operation)


def questions(of: Host) -> list[Question]:
    """What the operations that were called so far will ask of a host when its run begins, each once, in this order."""
    asked = (fact().command(**dict(arguments)) for fact, arguments in _ahead.get(of, {}))
    return [question for question in asked if isinstance(question, Question)]


def planning() -> bool:
    """Whether this pass only plans."""
    return not pyinfra_api.executing()


def say(message: str, log: Callable[[str], Any] = logger.info) -> None:
    """Tell the operator something of the current host, but not again in a run what its plan has told."""
    if planning() or not pyinfra_api.planned_before():
        host.log(visible(message), log)


def show(line: str) -> None:
    """A line below what `say` said."""
    if planning() or not pyinfra_api.planned_before():
        logger.info("  %s", line)
