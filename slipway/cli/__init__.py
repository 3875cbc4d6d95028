"""The command `slipway`: pyinfra's runs of this project, and more, under short names."""

from slipway.cli.main import main

__all__ = ["main"]
