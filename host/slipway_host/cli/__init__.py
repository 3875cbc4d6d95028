"""The host's one program: `slipway VERB …`, for root. A verb is a module of this folder, named as it is.

Each has `register(verbs)`, which adds its command line and what it does. Only the module of the verb that is asked for
is loaded, so that a question is answered soon, and the ways in can be put right where all else is damaged.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys

from slipway_host import former
from slipway_host.layout import LAYOUT
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
"""Those that are for the program itself, and for the operator's side."""
FOLLOWING = ("release", "rollback", "follow")
"""Those that go on without who asked for them."""
NAME, NO_NAME = r"[A-Za-z0-9][A-Za-z0-9-]*", "is no name: letters, digits and hyphens"
"""What becomes part of paths and of units' names, and what is said of what can't."""
DESCRIPTION = "Release apps on this host, and look after what serves them."
UNIT = LAYOUT.app("APP").run_unit.removesuffix(".service")
EPILOG = f"To stop a run that is under way: systemctl stop {UNIT}. It takes back what it did."


class Verbs:
    """The command line, while verbs register."""

    def __init__(self, program: str) -> None:
        self.parser = argparse.ArgumentParser(prog="slipway", description=DESCRIPTION, epilog=EPILOG)
        self.commands = self.parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
        self.program = program

    def add(self, name: str, text: str, does: Does | None = None, hidden: bool = False) -> argparse.ArgumentParser:
        """A verb. Without `does`, its own commands say what it does (`set_defaults(does=…)`)."""
        shown: Any = {} if hidden else {"help": text}  # without a help of its own a command isn't listed
        made = self.commands.add_parser(name, description=text, **shown)
        made.set_defaults(does=does)
        return made

    def of_app(self, name: str, text: str, does: Does, hidden: bool = False) -> argparse.ArgumentParser:
        """A verb that is about an app; it is only done where there is such an app."""
        made = self.add(name, text, does, hidden)
        made.add_argument("app", metavar="APP", type=plain_name, help="name of the app")
        return made


def plain_name(text: str) -> str:
    """An argument that becomes part of paths and of units' names."""
    if not re.fullmatch(NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} {NO_NAME}")
    return text


def add_json(parser: argparse.ArgumentParser, text: str = "for another program") -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help=text)


def app_of(system: System, given: argparse.Namespace, *, hide: bool = True) -> App:
    """The app that a command is about.

    + hide: whether its secrets are shown nowhere; not needed where nothing of the app's is run or shown
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
    """What the command line says; ends the program with 2 where it is wrong."""
    verbs, named = Verbs(program), argv[0] if argv else ""
    for name in (named,) if named in (*VERBS, *HIDDEN) else VERBS:
        with contextlib.ExitStack() as stack:
            if name != named:
                stack.enter_context(contextlib.suppress(ImportError))
            importlib.import_module(f"{__name__}.{name}").register(verbs)
    return verbs.parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, system: System | None = None) -> NoReturn:
    """Exit status: 0 done, 1 failed (what served goes on serving), 2 wrong usage."""
    argv, system = former.words(sys.argv) if argv is None else argv, system or System()
    outlet(system.hidden)
    program = str(system.layout.program)
    given = arguments(argv, program)
    os.environ["LC_ALL"] = "C.UTF-8"
    os.umask(0o022)  # nginx must be able to read what is for it, whatever the mask of a login is
    if os.geteuid() != 0:
        sys.exit(f"slipway: only root may do that: sudo {' '.join([program, *argv])}")
    try:
        sys.exit(given.does(system, given))
    except (Failed, OSError) as error:
        from slipway_host.release.failure import last_word

        sys.exit(f"slipway: {last_word(error)}")
    except KeyboardInterrupt:
        if given.verb not in FOLLOWING:
            sys.exit("\nslipway: ended, as told")
        again = f"`{program} follow {given.app}` follows it again"
        sys.exit(f"\nslipway: a run that was begun goes on without you; {again}.")
