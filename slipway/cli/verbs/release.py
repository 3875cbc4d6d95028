"""`slipway release`: release the apps, without the rest of the host."""

from __future__ import annotations

import argparse

from slipway.cli import options
from slipway.cli.running import Run
from slipway.cli.verb import Verb, register


def _options(add: argparse.ArgumentParser) -> None:
    options.inventory(add)
    options.one_app(add)
    options.consents(add)
    options.stop_first(add)
    add.add_argument("--dry", action="store_true", help="only show what would be released; change nothing")
    options.prove(add)
    options.as_json(add)
    options.quiet(add)
    options.of_pyinfra(add)


register(
    Verb("release", 30, "release the apps; leave the rest of the host as it is", _options, Run("tasks/release.py")),
)
