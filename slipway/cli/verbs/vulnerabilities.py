"""`slipway vulnerabilities`: known vulnerabilities of the apps' dependencies."""

from __future__ import annotations

import argparse
from pathlib import Path

from slipway.cli import options
from slipway.cli.verb import Verb, WrongCommandLineError, register


def _options(add: argparse.ArgumentParser) -> None:
    options.inventory(add)
    options.one_app(add)
    add.add_argument("--service", metavar="URL", help="a service with OSV's API (default: osv.dev)")
    options.as_json(add)


def _run(said: argparse.Namespace, typed: str) -> int:
    from slipway.cli.audit import report

    if not Path(said.inventory).is_file():
        raise WrongCommandLineError(f"there is no inventory {said.inventory}")
    return report(Path(said.inventory), app=said.app, service=said.service, as_json=said.json)


register(
    Verb(
        "vulnerabilities",
        60,
        "list known vulnerabilities of the versions in the apps' lock files; no host is asked",
        _options,
        _run,
        more="Exit code 0: none is known; 2: there are known ones; 3: could not look; 1: the command line or the "
        "inventory is wrong.",
    )
)
