"""slipway rollback"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.cli import asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System

OPTIONS = ("to", "schema", "stop_first")


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("rollback", "make the previous release serve again", _does)
    to = "this release (an id, the beginning of one, or a commit)"
    parser.add_argument("--to", metavar="RELEASE", type=cli.plain_name, help=to)
    parser.add_argument("--schema", choices=("code-only", "downgrade"), help="if the database is ahead of it")
    asking.add_options(parser)


def _does(system: System, given: Namespace) -> int:
    return asking.ask(system, given, OPTIONS)
