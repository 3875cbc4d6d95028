"""The command line of the schema program."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from slipway_host import schema
from slipway_host.schema import apps, commands
from slipway_host.schema.errors import Failed, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "slipway-schema"
MOST_SECONDS = 86_400
LEAST_SECONDS = 0.1  # of a lock's time-out: 0 would be "for ever" to PostgreSQL


def seconds(text: str) -> float:
    """A time in seconds. Raises ValueError for anything else."""
    number = float(text)
    if not 0 <= number <= MOST_SECONDS:
        raise ValueError
    return number


def some_seconds(text: str) -> float:
    """A time in seconds, greater than 0."""
    return max(LEAST_SECONDS, seconds(text))


def revisions(text: str) -> list[str]:
    """Revisions, none for ``base``."""
    return [] if text == "base" else [part.strip() for part in text.split(",") if part.strip() not in {"", "base"}]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `command` is the function to call."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description=(schema.__doc__ or "").partition("\n")[0],
        epilog="Run it with the release's Python, in the app's folder, with the app's environment. Exit codes: 0 done, "
        "1 failed (the reason comes last), 2 usage, 75 a lock is taken: try again.",
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable[[commands.Task], None], help_: str, more: str) -> argparse.ArgumentParser:
        made = parsers.add_parser(function.__name__, help=help_, description=f"{help_[0].upper()}{help_[1:]}. {more}")
        made.set_defaults(command=function)
        _where(made)
        return made

    command(
        commands.look,
        "tell what the database has and what an upgrade would do; changes nothing",
        "The answer is the last line that begins with `slipway-schema: `, as JSON: heads (of the scripts), forked "
        "(heads that were to be one), current (of the database), unknown (what the database has and the scripts don't; "
        "then nothing is pending), dialect, and pending, in order: revision, doc, contract (what a release that still "
        "serves may not survive), downgrade (whether it can be taken back).",
    )
    made = command(
        commands.read,
        "tell what an upgrade would do to a database; runs nothing of the source, and asks no database",
        "The answer is that of `look`: heads, forked, unknown and pending.",
    )
    _at(made)
    made = command(
        commands.render,
        "write the SQL of an upgrade, as `alembic upgrade --sql` does: runs env.py and each upgrade(), offline",
        "As JSON: sql, revision → text, or null where that can't be; without_env, why env.py had no part in it.",
    )
    _at(made)
    made.add_argument("--dialect", metavar="NAME", help="of the database; else that of env.py")
    made = command(
        commands.upgrade,
        "upgrade to the heads",
        "Under a lock that no two migrations of one database can have; the revisions are read once it is got, so that "
        "what another one did meanwhile isn't done again.",
    )
    _limits(made)
    made = command(
        commands.downgrade, "undo all that isn't part of some earlier heads", "Under the same lock as upgrade."
    )
    _target(made)
    _limits(made)
    made = command(
        commands.undone,
        "tell what a downgrade would undo, newest first; changes nothing",
        "As JSON, like `look`: undone, with revision, doc and downgrade of each.",
    )
    _target(made)
    return parser.parse_args(argv)


def _where(made: argparse.ArgumentParser) -> None:
    made.add_argument("--tool", choices=("alembic", "django", *apps.TOOLS), default="alembic", help="what migrates")
    made.add_argument("--app", default="", metavar="MODULE:ATTRIBUTE", help="the app, for flask and advanced-alchemy")
    config = "Alembic's configuration, else as `alembic` finds it; or manage.py, else DJANGO_SETTINGS_MODULE counts"
    made.add_argument("--config", default="", metavar="FILE", help=config)
    made.add_argument("--in", dest="folder", default="", metavar="FOLDER", help="where to run; else here")


def _limits(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--lock-timeout",
        type=some_seconds,
        required=True,
        metavar="SECONDS",
        help="how long to wait for another migration to end, and each statement for a lock",
    )
    made.add_argument(
        "--statement-timeout",
        type=seconds,
        required=True,
        metavar="SECONDS",
        help="how long one statement may take; 0: as long as it likes",
    )


def _target(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--to",
        type=revisions,
        required=True,
        metavar="REVISION[,REVISION…]",
        help="the heads to go back to, as `look` gave them in `current`; or base",
    )


def _at(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--at", type=revisions, required=True, metavar="REVISION[,REVISION…]", help="what the database has; or base"
    )


def go_to(options: argparse.Namespace) -> None:
    """Go to the folder of the command line. The app's folder and the configuration's are searched for modules last.

    Nothing else decides where an app's modules are found, but its environment (PYTHONPATH) and what it does itself.
    """
    folders = [Path.cwd()]
    if options.config:
        options.config = str(folders[0] / options.config)
        folders.insert(0, Path(options.config).parent)
    if options.folder:
        os.chdir(options.folder)
    sys.path += [str(each) for each in folders if str(each) not in sys.path]


def main() -> int:
    """Run the command of the command line. Returns the exit code."""
    options = arguments(sys.argv[1:])
    answer = commands.apart()
    go_to(options)
    try:
        return commands.act(options, answer)
    except Failed as failed:
        print(told(failed), file=sys.stderr)
        return 1
