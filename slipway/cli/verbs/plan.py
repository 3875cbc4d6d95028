"""`slipway plan`: what `slipway apply` would change."""

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
    options.as_json(add)
    options.quiet(add)
    options.of_pyinfra(add)


register(
    Verb(
        "plan",
        10,
        "show what `slipway apply` would change, with diffs; change nothing",
        _options,
        Run("deploy.py", looks=True),
    )
)
