"""Shared by `release` and `rollback`: their options, and how they start a run. This is no verb."""

from __future__ import annotations

import argparse
import json
import os
import sys

from slipway_host import VERSION, cli
from slipway_host.protocol import PROTOCOL
from slipway_host.system import Failed
from slipway_host.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slipway_host.system import System

WAIT_SECONDS = 60


def asker() -> str:
    """Who asks, as the history shows it."""
    return f"{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'root'}@{os.uname().nodename}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both."""
    parser.add_argument(
        "--stop-first",
        action="store_true",
        help="end all processes of the app first, so that they can't kill those of the new release; requests are lost",
    )
    parser.add_argument("--request", action="store_true", help=argparse.SUPPRESS)  # JSON on standard input
    wait = f"for another run to end ({WAIT_SECONDS})"
    parser.add_argument("--wait", type=int, default=WAIT_SECONDS, metavar="SECONDS", help=wait)
    parser.add_argument("--by", default=asker(), metavar="WHO", help=f"for the history ({asker()})")
    cli.add_json(parser, "a line for each event")


def from_stdin() -> Any:
    """The JSON object on standard input; raises Failed if it has another protocol."""
    told = json.load(sys.stdin)
    spoken = told.pop("protocol", PROTOCOL)
    if spoken != PROTOCOL:
        raise Failed(f"this is Slipway {VERSION}, which understands requests of protocol {PROTOCOL}, not of {spoken}")
    return told


def ask(system: System, given: argparse.Namespace, options: tuple[str, ...]) -> int:
    """Start a run and follow it. Returns its exit status.

    + options: names of options that become part of the request
    """
    from slipway_host.release import runs, source, state

    state.require(system)
    app = cli.app_of(system, given)
    told = from_stdin() if given.request else {}
    told |= {"by": one_line(told.get("by", given.by))}
    named = {name: getattr(given, name) for name in options}
    request: Any = {"protocol": PROTOCOL, "verb": given.verb, "wait": given.wait, **named, **told}
    if archive := request.pop("archive", None):
        source.store(app, app.at.archive(request["wanted"]["source"]["commit"]), archive)
    return runs.submit(app, request, request["wait"], given.json)
