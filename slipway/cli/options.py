"""Options of several verbs."""

from __future__ import annotations

import argparse


def inventory(add: argparse.ArgumentParser) -> None:
    """INVENTORY: the file with the hosts."""
    add.add_argument(
        "inventory",
        metavar="INVENTORY",
        help="the file with the hosts and their settings, such as conf/production.py",
    )


def one_app(add: argparse.ArgumentParser) -> None:
    """--app: only one app."""
    add.add_argument("--app", metavar="NAME", help="only this app")


def as_json(add: argparse.ArgumentParser) -> None:
    """--json: one JSON object instead of lines."""
    add.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def consents(add: argparse.ArgumentParser) -> None:
    """--contract, --again and --fresh: what an operator consents to, of a release."""
    add.add_argument(
        "--contract", action="store_true", help="allow migrations that the release which still serves may not survive"
    )
    add.add_argument("--again", action="store_true", help="release again what you rolled back from")
    add.add_argument(
        "--fresh", action="store_true", help="make a new release from empty caches, even if nothing changed"
    )


def stop_first(add: argparse.ArgumentParser) -> None:
    """--stop-first: end the app's processes before the new ones are started."""
    add.add_argument(
        "--stop-first",
        action="store_true",
        help="end all processes of the app first, for an app that was taken over; requests are lost meanwhile",
    )


def prove(add: argparse.ArgumentParser) -> None:
    """--prove: send traffic during the run."""
    add.add_argument(
        "--prove", action="store_true", help="send requests to the site during the run; fail if one is lost"
    )


def quiet(add: argparse.ArgumentParser) -> None:
    """--quiet: print nothing of what goes well."""
    add.add_argument("-q", "--quiet", action="store_true", help="print nothing unless it fails")


def of_pyinfra(add: argparse.ArgumentParser) -> None:
    """--data, and options for pyinfra itself."""
    add.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="data of every host, in place of the inventory's: --data ssh_user=root logs in as root; may be "
        "given several times",
    )
    # Without a default, argparse would call it required where the inventory is missing.
    add.add_argument("pyinfra", nargs="*", default=[], metavar="-- OPTION", help="options for pyinfra")
