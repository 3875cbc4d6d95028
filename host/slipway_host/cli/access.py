"""slipway access"""

from __future__ import annotations

import json
import os
import sys

from slipway_host import cli
from slipway_host.access import change
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from slipway_host.system import System

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH for its programs; a unit of systemd may have another one."""


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    commands = verbs.add("access", "the ways in: sshd, the firewall, the operator's account").add_subparsers(
        required=True, metavar="COMMAND"
    )
    apply = commands.add_parser("apply", help="make the change given as JSON on standard input, to be confirmed")
    apply.set_defaults(does=_with_path(lambda system, _: tell(change.apply(system, json.load(sys.stdin)))))
    confirm = commands.add_parser("confirm", help="keep it")
    confirm.add_argument("token")
    confirm.set_defaults(does=_with_path(lambda system, given: change.confirm(system, given.token)))
    revert = commands.add_parser("revert", help="take it back")
    revert.add_argument("--boot", action="store_true", help="before sshd and the firewall start")
    revert.set_defaults(does=_with_path(_revert))
    reload = commands.add_parser("reload", help="let sshd read its configuration, or start it where it has ended")
    reload.set_defaults(does=_with_path(lambda system, _: change.reload(system, print)))
    free = commands.add_parser("free", help="end apps that have a port of sshd's, which is about to start")
    free.set_defaults(does=_with_path(lambda system, _: change.free(system, print)))


def _with_path(does: Callable[[System, Namespace], None]) -> Callable[[System, Namespace], None]:
    """Do it with PATH set."""

    def found(system: System, given: Namespace) -> None:
        os.environ["PATH"] = PATH
        does(system, given)

    return found


def _revert(system: System, given: Namespace) -> None:
    if told := change.revert(system, given.boot):
        print(told)
