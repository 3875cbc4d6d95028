"""`slipway`: pyinfra's runs of this project under short names, with exit codes and JSON that scripts can use."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

if TYPE_CHECKING:
    from slipway.screen import Report

ROOT = Path(__file__).resolve().parent.parent
NOTHING, FAILED, CHANGES, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; a shell's for a program that SIGINT ended."""

_VERBS = {
    "plan": ("deploy.py", "show what `slipway apply` would change, with diffs; the host stays as it is"),
    "apply": ("deploy.py", "make the host what the inventory says, and release its apps"),
    "release": ("tasks/release.py", "release the apps, and nothing else of the host"),
    "rollback": ("tasks/rollback.py", "let the good release from before serve again"),
    "releases": ("tasks/releases.py", "list every release and rollback"),
}
"""Verb → what pyinfra runs, and what it is for."""

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

Every verb is a run of pyinfra, which shows more of itself:
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
    verbs = made.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (_, purpose) in _VERBS.items():
        add = verbs.add_parser(verb, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        add.add_argument("inventory", metavar="INVENTORY", help="the hosts, such as inventories/production.py")
        add.add_argument("--app", metavar="NAME", help="only this app")
        if verb in ("plan", "apply", "release"):
            add.add_argument("--contract", action="store_true", help="consent to migrations the old release can't bear")
            add.add_argument("--again", action="store_true", help="release again what was rolled back from")
            add.add_argument("--fresh", action="store_true", help="build all anew, from empty caches")
        if verb in ("plan", "apply", "release", "rollback"):
            add.add_argument(
                "--stop-first",
                action="store_true",
                help="end all processes of the app first: for one that was taken over; requests are lost meanwhile",
            )
        if verb == "release":
            add.add_argument("--dry", action="store_true", help="only show what would be released")
        if verb in ("apply", "release", "rollback"):
            add.add_argument("--prove", action="store_true", help="send traffic meanwhile; fail if a request is lost")
        if verb == "rollback":
            add.add_argument("--to", metavar="RELEASE", help="the release to go back to: the beginning of its id")
            add.add_argument("--schema", choices=["code-only", "downgrade"], help="where the database is ahead of it")
        add.add_argument("--json", action="store_true", help="tell all of it as one JSON object, on standard output")
        if verb != "releases":
            add.add_argument("-q", "--quiet", action="store_true", help="say nothing unless it fails")
        add.add_argument(
            "--data",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="data for every host, over the inventory's, as pyinfra takes it: --data app=notes is --app notes, "
            "--data ssh_user=root another user to log in as; may be given several times",
        )
        # With a default, or argparse calls it required where the inventory is missing.
        add.add_argument("pyinfra", nargs="*", default=[], metavar="-- OPTION", help="options for pyinfra")
    purpose = "tell what is publicly known against the versions in the apps' lock files; no host is asked"
    add = verbs.add_parser(
        "vulnerabilities",
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}. Exit code 0: nothing is known; 2: something is; 3: could not "
        "look; 1: something is wrong with the command line or the inventory.",
    )
    add.add_argument("inventory", metavar="INVENTORY", help="the hosts, such as inventories/production.py")
    add.add_argument("--app", metavar="NAME", help="only this app")
    add.add_argument("--service", metavar="URL", help="a service with OSV's API (default: osv.dev)")
    add.add_argument("--json", action="store_true", help="tell all of it as one JSON object, on standard output")
    return made


def arguments_for(options: argparse.Namespace) -> list[str]:
    """pyinfra's command line for ours."""
    entry, _ = _VERBS[options.verb]
    given = vars(options)
    data = [*options.data, *(f"{name}={given[name]}" for name in ("app", "to", "schema") if given.get(name))]
    data += [f"{name}=true" for name in ("prove", "contract", "again", "fresh", "stop_first") if given.get(name)]
    if options.verb == "releases":
        mode, data = ["-y"], [*data, *(["json=true"] if options.json else [])]
    else:
        mode = ["--json", "--dry" if planning(options) else "-y"]
        mode += ["--diff"] if options.json else []  # a plan has them anyway; a run asks for what is there before
    inventory = Path(options.inventory)
    shown = str(inventory.absolute()) if inventory.suffix == ".py" else options.inventory
    return [*mode, *(word for each in data for word in ("--data", each)), *options.pyinfra, shown, entry]


_OURS = ("--dry", "--diff", "-y", "--yes", "--json")
"""Options of pyinfra that a verb decides on."""


def without_passwords(words: Sequence[str]) -> list[str]:
    """A command line as it may be shown again."""
    shown = [word.partition("=")[0] + "=…" if "password" in word and "=" in word else word for word in words]
    return [
        "…"
        if before.startswith("--") and "password" in before and "=" not in before and "prompt" not in before
        else word
        for before, word in zip(["", *shown], shown, strict=False)
    ]


def planning(options: argparse.Namespace) -> bool:
    """Whether this run only looks."""
    return options.verb == "plan" or bool(vars(options).get("dry"))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb, and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _main(words)
    except KeyboardInterrupt:  # before the run began, or after it ended
        print("Error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _main(words: list[str]) -> NoReturn:
    made = parser()
    options = made.parse_args(words)
    if options.verb == "vulnerabilities":
        from slipway.vulnerabilities import report

        if not Path(options.inventory).is_file():
            made.error(f"there is no inventory {options.inventory}")
        sys.exit(report(Path(options.inventory), app=options.app, service=options.service, as_json=options.json))
    if ours := [word for word in options.pyinfra if word in _OURS]:
        made.error(f"{ours[0]} can't stand behind --; `slipway plan` only looks, the other verbs do")
    with contextlib.suppress(BrokenPipeError):
        code = run(options, shlex.join(["slipway", *without_passwords(words)]))
        sys.stdout.flush()
        sys.exit(code)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone: nothing more to say
    sys.exit(FAILED)


def run(options: argparse.Namespace, typed: str) -> int:
    """Run pyinfra for a verb, show what comes of it, and return the exit code; `typed` is our command line."""
    import pyinfra_cli  # noqa: F401 (gevent's patches must come before anything that they patch)

    from slipway.interrupt import interruptible
    from slipway.screen import INTERRUPTION, Report, Screen

    as_json, quiet = options.json, bool(vars(options).get("quiet"))
    if not Path(options.inventory).is_file() and Path(options.inventory).suffix == ".py":
        there = ", ".join(sorted(f"inventories/{path.name}" for path in (ROOT / "inventories").glob("*.py")))
        error = f"there is no inventory {options.inventory}; those of this project are {there}"
        report = Report(options.verb, planning(options), 0.0, error, {}, {}, {})
        if as_json:
            print(json.dumps(_object(report, "")))
        else:
            print(f"Error: {error}", file=sys.stderr)
        return FAILED
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale may lack a letter of a diff: it is replaced, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.argv = ["pyinfra", *arguments_for(options)]
    os.chdir(ROOT)  # where pyinfra finds config.py and what its entry points import
    screen = Screen(
        options.verb, typed, planning=planning(options), quiet=quiet or as_json or options.verb == "releases"
    )
    began = time.monotonic()
    printed = io.StringIO()
    with screen, interruptible(), contextlib.ExitStack() as silent:
        if options.verb == "releases":  # pyinfra, not asked for JSON, says where it is on standard error
            silent.enter_context(contextlib.redirect_stderr(io.StringIO()))
        if options.verb != "releases" or as_json:
            silent.enter_context(contextlib.redirect_stdout(printed))
        error = _pyinfra(sys.argv[1:])
    report = screen.report(error, seconds=time.monotonic() - began)
    if as_json:
        print(json.dumps(_object(report, printed.getvalue())))
    elif options.verb != "releases" or report.failed:
        screen.summary(report)
    if error == INTERRUPTION:
        return INTERRUPTED
    if report.failed:
        return FAILED
    return CHANGES if planning(options) and report.changes else NOTHING


def _object(report: Report, printed: str) -> dict[str, Any]:
    """A run as one object of JSON; that of `slipway releases` has "releases", too: host → app → newest first.

    + printed: what the run printed; of tasks/releases.py a line for each app, and whatever an inventory prints
    """
    if report.verb != "releases":
        return report.as_json()
    releases: dict[str, dict[str, Any]] = {}
    for line in printed.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):  # a line of somebody else's
            told = json.loads(line)
            host, app, rows = told["host"], told["app"], told["releases"]
            if host not in report.lost:
                releases.setdefault(host, {})[app] = rows
    return report.as_json() | {"releases": releases}


def _pyinfra(arguments: list[str]) -> str:
    """Run pyinfra's command line in this process; what was wrong, or nothing.

    Its own report isn't needed: `Screen` shows what happens, and reads the result from its state.
    """
    import click
    import pyinfra
    from pyinfra_cli.cli import cli
    from pyinfra_cli.exceptions import UnexpectedExternalError, UnexpectedInternalError

    from slipway.screen import INTERRUPTION

    pyinfra.is_cli = True  # as its own main says: passphrases are asked for, operations of several hosts put in order
    try:
        cli.main(arguments, prog_name="pyinfra", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTION
    except SystemExit as done:  # pyinfra's 1 is "a host failed", which its state tells `Screen` better
        return "" if done.code in (0, 1, None) else f"pyinfra ended with exit code {done.code}"
    except (UnexpectedExternalError, UnexpectedInternalError) as unexpected:
        return f"this shouldn't happen, please report it:\n{unexpected.get_traceback()}{unexpected.get_exception()}"
    except click.ClickException as error:
        return error.format_message()
    return ""
