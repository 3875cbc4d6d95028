"""The host's program: `slipway VERB …`, for root. Each verb is a module of this folder with the same name.

Each module has `register(verbs)`, which adds the verb's command line and its function. Only the module of the given
verb is loaded: it starts quickly, and `access` works even if the other modules are damaged.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys

from slipway_host.layout import LAYOUT
from slipway_host.release import former
from slipway_host.system import Failed, System
from slipway_host.text import outlet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from slipway_host.release.app import App

    Does = Callable[[System, argparse.Namespace], int | None]
    """What a verb does; returns its exit status, where that isn't 0."""

VERBS = ("status", "releases", "release", "rollback", "log", "follow", "nginx", "access", "acme")
"""In the order in which the help shows them."""
HIDDEN = ("facts", "plan", "target", "run", "drain", "retire", "former")
"""Verbs for the program itself and for the operator's side."""
FOLLOWING = ("release", "rollback", "follow")
"""Verbs whose run continues if the caller leaves."""
NAME, NO_NAME = r"[A-Za-z0-9][A-Za-z0-9-]*", "is no name: letters, digits and hyphens"
"""Pattern of a name that is safe in paths and unit names, and the message for other names."""
DESCRIPTION = "Release apps on this host, and look after what serves them."
UNIT = LAYOUT.app("APP").run_unit.removesuffix(".service")
EPILOG = f"To stop a run that is under way: systemctl stop {UNIT}. It undoes what it did."


class Verbs:
    """The command line, while verbs register."""

    def __init__(self, program: str) -> None:
        self.parser = argparse.ArgumentParser(prog="slipway", description=DESCRIPTION, epilog=EPILOG)
        self.commands = self.parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
        self.program = program

    def add(self, name: str, text: str, does: Does | None = None, hidden: bool = False) -> argparse.ArgumentParser:
        """Add a verb. Without `does`, its subcommands have their own (`set_defaults(does=…)`)."""
        shown: Any = {} if hidden else {"help": text}  # argparse lists no command without help
        made = self.commands.add_parser(name, description=text, **shown)
        made.set_defaults(does=does)
        return made

    def of_app(self, name: str, text: str, does: Does, hidden: bool = False) -> argparse.ArgumentParser:
        """Add a verb whose first argument is an app."""
        made = self.add(name, text, does, hidden)
        made.add_argument("app", metavar="APP", type=plain_name, help="name of the app")
        return made


def plain_name(text: str) -> str:
    """An argument that is used in paths and unit names."""
    if not re.fullmatch(NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} {NO_NAME}")
    return text


def add_json(parser: argparse.ArgumentParser, text: str = "for another program") -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help=text)


def app_of(system: System, given: argparse.Namespace, *, hide: bool = True) -> App:
    """The app of a command. Raises Failed if the host has none of that name.

    + hide: whether to hide its secrets; not needed if nothing of the app is run or shown
    """
    from slipway_host.release.app import App
    from slipway_host.release.progress import Progress, printed

    app = App(given.app, system, None if getattr(given, "json", True) else Progress(given.app, system, printed))
    if not app.at.etc.is_dir():
        there = ", ".join(system.layout.wanted_apps()) or "none"
        raise Failed(f"there is no app {given.app} on this host; there are: {there}")
    if hide:
        system.hidden.hide(app.secrets())
    return app


def arguments(argv: Sequence[str], program: str) -> argparse.Namespace:
    """The parsed command line; a wrong one ends the program with 2."""
    verbs, named = Verbs(program), argv[0] if argv else ""
    for name in (named,) if named in (*VERBS, *HIDDEN) else VERBS:
        with contextlib.ExitStack() as stack:
            if name != named:
                stack.enter_context(contextlib.suppress(ImportError))
            importlib.import_module(f"{__name__}.{name}").register(verbs)
    return verbs.parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, system: System | None = None) -> NoReturn:
    """Run the program. Exit status: 0 done, 1 failed (the app keeps serving), 2 wrong usage."""
    argv, system = former.words(sys.argv) if argv is None else argv, system or System()
    outlet(system.hidden)
    program = str(system.layout.program)
    given = arguments(argv, program)
    os.environ["LC_ALL"] = "C.UTF-8"
    os.umask(0o022)  # a login may have a stricter one, and nginx must be able to read its files
    if os.geteuid() != 0:
        sys.exit(f"slipway: only root may do that: sudo {' '.join([program, *argv])}")
    try:
        sys.exit(given.does(system, given))
    except (Failed, OSError) as error:
        from slipway_host.release.failure import last_word

        sys.exit(f"slipway: {last_word(error)}")
    except KeyboardInterrupt:
        if given.verb not in FOLLOWING:
            sys.exit("\nslipway: interrupted")
        again = f"`{program} follow {given.app}` shows it"
        sys.exit(f"\nslipway: interrupted; a run that has begun continues; {again}.")
