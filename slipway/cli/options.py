"""Options that several verbs have."""

from __future__ import annotations

import argparse


def inventory(add: argparse.ArgumentParser) -> None:
    """The hosts."""
    add.add_argument("inventory", metavar="INVENTORY", help="the hosts, such as inventories/production.py")


def one_app(add: argparse.ArgumentParser) -> None:
    """Only one app of them."""
    add.add_argument("--app", metavar="NAME", help="only this app")


def as_json(add: argparse.ArgumentParser) -> None:
    """One object of JSON instead of lines."""
    add.add_argument("--json", action="store_true", help="tell all of it as one JSON object, on standard output")


def consents(add: argparse.ArgumentParser) -> None:
    """What an operator consents to, of a release."""
    add.add_argument("--contract", action="store_true", help="consent to migrations the old release can't bear")
    add.add_argument("--again", action="store_true", help="release again what was rolled back from")
    add.add_argument("--fresh", action="store_true", help="build all anew, from empty caches")


def stop_first(add: argparse.ArgumentParser) -> None:
    """End what serves before anything is tried."""
    add.add_argument(
        "--stop-first",
        action="store_true",
        help="end all processes of the app first: for one that was taken over; requests are lost meanwhile",
    )


def prove(add: argparse.ArgumentParser) -> None:
    """Send traffic meanwhile."""
    add.add_argument("--prove", action="store_true", help="send traffic meanwhile; fail if a request is lost")


def quiet(add: argparse.ArgumentParser) -> None:
    """Show nothing of what goes well."""
    add.add_argument("-q", "--quiet", action="store_true", help="say nothing unless it fails")


def of_pyinfra(add: argparse.ArgumentParser) -> None:
    """Data for every host, and options that pyinfra takes itself."""
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
