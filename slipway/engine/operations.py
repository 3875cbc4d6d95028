"""Operations that several roles have: they decide from host state where pyinfra's don't, or pyinfra has none.

Each asks what is known, says why there is nothing to do, or announces its changes and yields the commands that make
them. No command carries a secret: contents go through standard input. `place`, for files and their kin, has a module of
its own.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence

from pyinfra import host
from pyinfra.api import StringCommand

from slipway.engine import plan
from slipway.engine.facts import Answer, Changed, Unit
from slipway.engine.plan import Ask, Change, Commands


def shell_line(text: str, *arguments: str) -> str:
    """A small POSIX shell script with its arguments as one command line; the arguments are $1, $2, ..."""
    return shlex.join(["sh", "-c", text, "slipway", *arguments])


def shell(text: str, *arguments: str) -> StringCommand:
    """The command that runs such a script."""
    return StringCommand(shell_line(text, *arguments))


_ENABLE = """
set -eu
systemctl unmask --quiet "$1"
systemctl daemon-reload
# As a package leaves it: `enable` takes half a second where there is an init script, too.
{ systemctl is-enabled --quiet "$1" && systemctl is-active --quiet "$1"; } || systemctl enable --now --quiet "$1"
"""


def _unit(unit: str, files: Sequence[str] = ()) -> Iterator[Ask]:
    yield plan.asking(Unit, unit=unit)


@plan.operation(_unit)
def unit_enabled(unit: str, files: Sequence[str] = ()) -> Commands:
    """Let systemd start `unit` now and at boot, as its files are.

    + files: those of ours that say what it is
    """
    found = plan.known(Unit, unit=unit)
    why = []
    if found.get("ActiveState") != "active":
        why.append("it doesn't run")
    if found.get("UnitFileState") != "enabled":
        why.append("it isn't enabled")
    if found.get("NeedDaemonReload") == "yes" or plan.made(*files):
        why.append("its files change")
    if not why:
        host.noop(f"{unit} is enabled and active")
        return
    plan.announce(Change("unit", unit, "enable", note=", ".join(why)))
    yield shell(_ENABLE, unit)


# $@ files. systemd touches that one when it reads its units (src/core/manager.c, `manager_ready`); to ask it for
# NeedDaemonReload takes some ms a unit.
_READ = """
newer=$(find "$@" -newercm /run/systemd/systemd-units-load 2>/dev/null) && [ -z "$newer" ] && echo current || true
"""


def _reread(units: Sequence[str], files: Sequence[str]) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_READ, *files))


@plan.operation(_reread)
def units_reread(units: Sequence[str], files: Sequence[str]) -> Commands:
    """Let systemd go by the files of `units`: it has read them before they were changed.

    + files: those of ours that say what they are
    """
    (ask,) = _reread(units, files)
    if plan.known(ask[0], **dict(ask[1])) and not plan.made(*files):
        host.noop("systemd has read them")
        return
    named = " ".join(units[:3]) + (f" and {len(units) - 3} more" if len(units) > 3 else "")
    plan.announce(Change("unit", named, "reread", note="what their files say counts at once"))
    yield StringCommand("systemctl", "daemon-reload")


def _ages(files: Mapping[str, str]) -> Iterator[Ask]:
    yield plan.asking(Changed, paths=(*files.values(),), units=(*files,))


@plan.operation(_ages)
def restart_if_stale(files: Mapping[str, str]) -> Commands:
    """Restart those units that have been running since before their file changed, or whose file this run changes.

    Decided from the host: the restart is not lost when the run that changed the file died before it.

    + files: unit → path
    """
    ((fact, arguments),) = _ages(files)
    since = plan.known(fact, **dict(arguments))
    stale = [unit for unit, path in files.items() if plan.made(path) or since.get(path, 0) > since.get(unit, math.inf)]
    if not stale:
        host.noop(f"{' and '.join(files)} {'runs' if len(files) == 1 else 'run'} with the current files")
        return
    plan.announce(*(Change("unit", unit, "restart", note="its file is younger than it") for unit in stale))
    yield StringCommand("systemctl", "restart", *stale)


def _satisfied(satisfied: str, *_: object, **__: object) -> Iterator[Ask]:
    yield plan.asking(Answer, question=satisfied)


@plan.operation(_satisfied)
def command_unless(
    satisfied: str, command: StringCommand, change: Change, why: str, makes: Sequence[str] = ()
) -> Commands:
    """Run `command` unless the shell question `satisfied` prints something.

    + satisfied: a shell command that prints a line when there is nothing to do, and never fails
    + command: what makes it so
    + change: what that is
    + why: said when there is nothing to do
    + makes: paths that it writes
    """
    if plan.known(Answer, question=satisfied):
        host.noop(why)
        return
    plan.announce(change, makes=makes)
    yield command
