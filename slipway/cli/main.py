"""The command line of `slipway`: its parser, and the way to a verb."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from slipway_host import VERSION
from typing_extensions import override

from slipway import project
from slipway.cli.codes import FAILED, INTERRUPTED
from slipway.cli.verb import WrongCommandLineError, verbs

_EPILOG = """\
exit codes
  0    done; of a plan: there is nothing to change
  1    it failed, or of a plan: would fail; or something is wrong with the command line or the inventory
  2    of a plan (`slipway plan`, `slipway release --dry`): there are changes;
       of `slipway vulnerabilities`: something is known
  3    of `slipway vulnerabilities`: it could not look
  130  interrupted; a release under way goes on on the host

A plan goes to standard output; what a run does, and errors, to standard error. With --json all of it is one object
on standard output.

Those that log in, but for verify, are runs of pyinfra, which shows more of itself from a clone:
  slipway plan INVENTORY      .venv/bin/pyinfra --dry --diff INVENTORY deploy.py
  slipway apply INVENTORY     .venv/bin/pyinfra -y INVENTORY deploy.py
Options behind -- are pyinfra's: slipway apply INVENTORY -- --limit 203.0.113.5
"""


class Parser(argparse.ArgumentParser):
    """argparse's, but 2 isn't the exit code of a wrong command line: it says that a plan has changes."""

    @override
    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"Error: {message}; `{self.prog} --help` tells more\n")


def parser() -> Parser:
    """Of the command line."""
    made = Parser(
        prog="slipway",
        description="From a machine that only answers SSH to an ASGI app served over HTTPS, checked and kept that way.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"slipway {VERSION}", help="show it, and exit")
    known = made.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs().values():
        told = f"{verb.purpose[0].upper()}{verb.purpose[1:]}."
        verb.options(known.add_parser(verb.name, help=verb.purpose, description=f"{told} {verb.more}".strip()))
    return made


def without_passwords(words: Sequence[str]) -> list[str]:
    """A command line as it may be shown again."""
    shown = [word.partition("=")[0] + "=…" if "password" in word and "=" in word else word for word in words]
    return [
        "…"
        if before.startswith("--") and "password" in before and "=" not in before and "prompt" not in before
        else word
        for before, word in zip(["", *shown], shown, strict=False)
    ]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb, and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    project.keep_bytecode_out(_cache())
    try:
        _main(words)
    except KeyboardInterrupt:  # before the run began, or after it ended
        print("Error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _cache() -> Path | None:
    """The user's cache folder: as `slipway.person` has it, which loads more than a command line needs."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given) if given else Path.home() / ".cache"
    except RuntimeError:
        return None


def _main(words: list[str]) -> NoReturn:
    made = parser()
    said = made.parse_args(words)
    with contextlib.suppress(BrokenPipeError):
        try:
            code = verbs()[said.verb].run(said, shlex.join(["slipway", *without_passwords(words)]))
        except WrongCommandLineError as error:
            made.error(str(error))
        sys.stdout.flush()
        sys.exit(code)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone: nothing more to say
    sys.exit(FAILED)
