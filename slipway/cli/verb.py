"""A verb of `slipway`: its name, purpose, options, and what it runs. Each is a module of `slipway.cli.verbs`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass


class WrongCommandLineError(Exception):
    """A verb refuses its command line; the message follows "Error: "."""


@dataclass(frozen=True)
class Verb:
    """What a module of `slipway.cli.verbs` registers."""

    name: str
    place: int
    """Where the help lists it: verbs stand in the order of this number."""
    purpose: str
    """What it does, in the imperative: a part of a sentence, without a full stop."""
    options: Callable[[argparse.ArgumentParser], None]
    """Adds its options to a parser."""
    run: Callable[[argparse.Namespace, str], int]
    """Runs it: called with the parsed command line, and the command line as it may be shown; returns the exit code."""
    more: str = ""
    """What its own help adds to its purpose."""


_registered: dict[str, Verb] = {}


def register(verb: Verb) -> Verb:
    """Make a verb known; called by its module."""
    _registered[verb.name] = verb
    return verb


def verbs() -> dict[str, Verb]:
    """Name → verb, in the order of the help."""
    from slipway.cli import verbs as package

    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{found.name}")
    return {verb.name: verb for verb in sorted(_registered.values(), key=lambda verb: verb.place)}
