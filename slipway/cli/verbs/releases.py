"""`slipway releases`: the history of each app."""

from __future__ import annotations

import argparse

from slipway.cli import options
from slipway.cli.running import Run
from slipway.cli.verb import Verb, register


def _options(add: argparse.ArgumentParser) -> None:
    options.inventory(add)
    options.one_app(add)
    options.as_json(add)
    options.of_pyinfra(add)


register(
    Verb(
        "releases", 50, "list all releases and rollbacks of each app", _options, Run("tasks/releases.py", prints=True)
    ),
)
