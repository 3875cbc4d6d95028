"""`slipway rollback`: go back to an earlier release."""

from __future__ import annotations

import argparse

from slipway.cli import options
from slipway.cli.running import Run
from slipway.cli.verb import Verb, register


def _options(add: argparse.ArgumentParser) -> None:
    options.inventory(add)
    options.one_app(add)
    options.stop_first(add)
    options.prove(add)
    add.add_argument("--to", metavar="RELEASE", help="go to this release: the beginning of its id or of its commit")
    add.add_argument(
        "--schema",
        choices=["code-only", "downgrade"],
        help="if the database is ahead of that release: leave it as it is, or take its migrations back",
    )
    options.as_json(add)
    options.quiet(add)
    options.of_pyinfra(add)


register(
    Verb(
        "rollback",
        40,
        "go back to the last good release before the one that serves",
        _options,
        Run("tasks/rollback.py"),
    ),
)
