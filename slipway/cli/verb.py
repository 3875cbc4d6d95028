"""A verb of `slipway`: its name, purpose and options, and what it runs; each is a module of `slipway.cli.verbs`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass


class WrongCommandLineError(Exception):
    """What a verb refuses of its command line, as the rest of a sentence that begins with "Error:"."""


@dataclass(frozen=True)
class Verb:
    """What a module of `slipway.cli.verbs` registers."""

    name: str
    place: int
    """Where the help lists it: verbs stand in the order of this number."""
    purpose: str
    """What it is for: a part of a sentence, without a full stop."""
    options: Callable[[argparse.ArgumentParser], None]
    """Adds its options to a parser."""
    run: Callable[[argparse.Namespace, str], int]
    """Runs it: called with what was said, and the command line as it may be shown; returns the exit code."""
    more: str = ""
    """What its own help tells besides its purpose."""


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
