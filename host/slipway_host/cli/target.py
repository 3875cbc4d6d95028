"""slipway target"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import state, target
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("target", "the release that a rollback would make serve", _does, hidden=True)
    parser.add_argument("--to", metavar="RELEASE", type=cli.plain_name)


def _does(system: System, given: Namespace) -> None:
    state.require(system)
    tell(target.target(cli.app_of(system, given, hide=False), given.to))
