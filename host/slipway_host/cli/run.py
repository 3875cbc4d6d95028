"""slipway run"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("run", "run a request (in its unit)", _does, hidden=True)
    parser.add_argument("token", type=cli.plain_name)


def _does(system: System, given: Namespace) -> int:
    return work.work(cli.app_of(system, given), given.token)
