"""The command line of `slipway`: its parser, and what calls a verb."""

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
  0    success; of a plan: nothing to change
  1    failed; of a plan: it would fail; or the command line or the inventory is wrong
  2    of a plan (`slipway plan`, `slipway release --dry`): there are changes;
       of `slipway vulnerabilities`: there are known ones
  3    of `slipway vulnerabilities`: could not look
  130  interrupted; a release under way continues on the host

A plan is printed on standard output; the progress of a run, and errors, on standard error. With --json, one JSON
object is printed on standard output instead.

All verbs but verify and vulnerabilities are runs of pyinfra. From a clone you can start them with its own output:
  slipway plan INVENTORY      .venv/bin/pyinfra --dry --diff INVENTORY deploy.py
  slipway apply INVENTORY     .venv/bin/pyinfra -y INVENTORY deploy.py
Options after -- go to pyinfra: slipway apply INVENTORY -- --limit 203.0.113.5
"""


class Parser(argparse.ArgumentParser):
    """argparse's, but a wrong command line has exit code 1: 2 means that a plan has changes."""

    @override
    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"Error: {message}; see `{self.prog} --help`\n")


def parser() -> Parser:
    """The parser of the command line."""
    made = Parser(
        prog="slipway",
        description="Make a Debian machine that answers SSH a production host for ASGI apps, and release them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"slipway {VERSION}", help="print the version, and exit")
    known = made.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs().values():
        told = f"{verb.purpose[0].upper()}{verb.purpose[1:]}."
        verb.options(known.add_parser(verb.name, help=verb.purpose, description=f"{told} {verb.more}".strip()))
    return made


def without_passwords(words: Sequence[str]) -> list[str]:
    """A command line as it may be printed: without passwords."""
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
    """The user's cache folder, as in `slipway.person`, which imports more than a command line needs."""
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
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
    sys.exit(FAILED)
