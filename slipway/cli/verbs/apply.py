"""`slipway apply`: make the hosts what the inventory says."""

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
    options.prove(add)
    options.as_json(add)
    options.quiet(add)
    options.of_pyinfra(add)


register(
    Verb("apply", 20, "make the hosts what the inventory says, and release the apps", _options, Run("deploy.py")),
)
