"""The command `slipway`."""

from slipway.cli.main import main

__all__ = ["main"]
