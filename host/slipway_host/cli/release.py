"""slipway release"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.cli import asking
from slipway_host.layout import LAYOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System

OPTIONS = ("contract", "again", "fresh", "stop_first")


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    wanted = LAYOUT.app("APP").wanted
    parser = verbs.of_app("release", f"release what {wanted} says, unless it serves already", _does)
    parser.add_argument("--contract", action="store_true", help="consent to migrations that can break the old release")
    parser.add_argument("--again", action="store_true", help="release again what somebody rolled back from")
    parser.add_argument("--fresh", action="store_true", help="build from empty caches, even if nothing has changed")
    asking.add_options(parser)


def _does(system: System, given: Namespace) -> int:
    return asking.ask(system, given, OPTIONS)
