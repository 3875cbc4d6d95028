"""slipway log"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("log", "the log of a release or a rollback", _does)
    text = "its id, or the beginning of that (default: the newest)"
    parser.add_argument("release", nargs="?", metavar="RELEASE", type=cli.plain_name, help=text)
    cli.add_json(parser, "a line for each event")


def _does(system: System, given: Namespace) -> None:
    status.log(cli.app_of(system, given), given.release or "", given.json)
