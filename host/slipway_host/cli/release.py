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
    parser = verbs.of_app("release", f"release what {wanted} wants, if it doesn't serve already", _does)
    parser.add_argument("--contract", action="store_true", help="consent to migrations the old release may not bear")
    parser.add_argument("--again", action="store_true", help="release again what was rolled back from")
    parser.add_argument("--fresh", action="store_true", help="build all anew, from empty caches, whatever serves")
    asking.add_options(parser)


def _does(system: System, given: Namespace) -> int:
    return asking.ask(system, given, OPTIONS)
