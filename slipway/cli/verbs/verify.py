"""`slipway verify`: check live hosts."""

from __future__ import annotations

import argparse
from pathlib import Path

from slipway.cli import options
from slipway.cli.verb import Verb, WrongCommandLineError, register


def _options(add: argparse.ArgumentParser) -> None:
    options.inventory(add)
    add.add_argument("--limit", metavar="HOST", help="only this host of the inventory")
    add.add_argument("-v", "--verbose", action="store_true", help="show pytest's own output")
    options.as_json(add)
    add.add_argument("pytest", nargs="*", default=[], metavar="-- OPTION", help="options for pytest, such as -k tls")


def _run(said: argparse.Namespace, typed: str) -> int:
    from slipway.cli.verifying import report

    if not Path(said.inventory).is_file():
        raise WrongCommandLineError(f"there is no inventory {said.inventory}")
    if said.verbose and said.json:
        raise WrongCommandLineError("choose one of --verbose and --json")
    return report(Path(said.inventory), said.limit, said.pytest, verbose=said.verbose, as_json=said.json)


register(
    Verb(
        "verify",
        70,
        "check the live hosts from inside and outside; change nothing",
        _options,
        _run,
        more="It logs in as a run does, and visits each site as a visitor does. Exit code 0: every check passed, or "
        "doesn't apply; 1: a check failed, or a host can't be checked.",
    )
)
