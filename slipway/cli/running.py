"""Verbs that are runs of pyinfra: its command line for ours, and what the run shows."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from slipway import project
from slipway.cli.codes import CHANGES, FAILED, INTERRUPTED, NOTHING
from slipway.cli.verb import WrongCommandLineError, verbs

_OURS = ("--dry", "--diff", "-y", "--yes", "--json")
"""Options of pyinfra that the verb sets itself."""


@dataclass(frozen=True)
class Run:
    """What a verb runs if it is a run of pyinfra."""

    entry: str
    """The file that pyinfra runs, in the project's folder."""
    looks: bool = False
    """It never changes a host."""
    prints: bool = False
    """Its output is the answer: no progress is shown beside it."""

    def __call__(self, said: argparse.Namespace, typed: str) -> int:
        """Run it; see `run`."""
        if ours := [word for word in said.pyinfra if word in _OURS]:
            raise WrongCommandLineError(
                f"{ours[0]} isn't allowed after --: `slipway plan` changes nothing, the other verbs do"
            )
        return run(said, typed)


def run_of(said: argparse.Namespace) -> Run:
    """What the verb of a command line runs."""
    found = verbs()[said.verb].run
    assert isinstance(found, Run)
    return found


def planning(said: argparse.Namespace) -> bool:
    """Whether this run only plans."""
    return run_of(said).looks or bool(vars(said).get("dry"))


def arguments_for(said: argparse.Namespace) -> list[str]:
    """pyinfra's command line for ours."""
    what, given = run_of(said), vars(said)
    data = [*said.data, *(f"{name}={given[name]}" for name in ("app", "to", "schema") if given.get(name))]
    data += [f"{name}=true" for name in ("prove", "contract", "again", "fresh", "stop_first") if given.get(name)]
    if what.prints:
        mode, data = ["-y"], [*data, *(["json=true"] if said.json else [])]
    else:
        mode = ["--json", "--dry" if planning(said) else "-y"]
        mode += ["--diff"] if said.json else []  # a plan always has diffs
    inventory = Path(said.inventory)
    shown = str(inventory.absolute()) if inventory.suffix == ".py" else said.inventory
    data = [word for each in data for word in ("--data", each)]
    # As absolute paths: relative ones, on the command line and in an inventory, are relative to the current folder.
    config, entry = (str(project.root() / name) for name in ("config.py", what.entry))
    return ["--config", config, *mode, *data, *said.pyinfra, shown, entry]


def run(said: argparse.Namespace, typed: str) -> int:
    """Run pyinfra for a verb, show the result, and return the exit code; `typed` is our command line."""
    from gevent import monkey

    monkey.patch_all()  # before anything that it patches is imported: pyinfra demands it

    from slipway.cli.envelope import envelope
    from slipway.cli.interrupt import interruptible
    from slipway.cli.report import INTERRUPTION, Report
    from slipway.cli.screen import Screen
    from slipway.engine.pyinfra_api import run_command_line

    as_json, quiet, prints = said.json, bool(vars(said).get("quiet")), run_of(said).prints
    if not Path(said.inventory).is_file():
        error = f"there is no inventory {said.inventory}"
        report = Report(said.verb, planning(said), 0.0, error, {}, {}, {})
        if as_json:
            print(json.dumps(envelope(report)))
        else:
            print(f"Error: {error}", file=sys.stderr)
        return FAILED
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A letter that the locale lacks is escaped, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.argv = ["pyinfra", *arguments_for(said)]
    project.find_roles()
    screen = Screen(said.verb, typed, planning=planning(said), quiet=quiet or as_json or prints)
    began = time.monotonic()
    printed = io.StringIO()
    with screen, interruptible(), contextlib.ExitStack() as silent:
        if prints:  # without --json, pyinfra prints its progress on standard error
            silent.enter_context(contextlib.redirect_stderr(io.StringIO()))
        if not prints or as_json:
            silent.enter_context(contextlib.redirect_stdout(printed))
        try:
            error = run_command_line(sys.argv[1:], lambda code: f"pyinfra ended with exit code {code}")
        except KeyboardInterrupt:
            error = INTERRUPTION
    report = screen.report(error, seconds=time.monotonic() - began)
    if as_json:
        print(json.dumps(envelope(report, printed.getvalue())))
    elif not prints or report.failed:
        screen.summary(report)
    if error == INTERRUPTION:
        return INTERRUPTED
    if report.failed:
        return FAILED
    return CHANGES if planning(said) and report.changes else NOTHING
