"""`slipway rollback`: back to the release from before."""

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
    add.add_argument("--to", metavar="RELEASE", help="the release to go back to: the beginning of its id")
    add.add_argument("--schema", choices=["code-only", "downgrade"], help="where the database is ahead of it")
    options.as_json(add)
    options.quiet(add)
    options.of_pyinfra(add)


register(
    Verb("rollback", 40, "let the good release from before serve again", _options, Run("tasks/rollback.py")),
)
