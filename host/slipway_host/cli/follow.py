"""slipway follow"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("follow", "follow the run that is under way, or see how the last one ended", _does)
    cli.add_json(parser, "a line for each event")


def _does(system: System, given: Namespace) -> int:
    return runs.follow_any(cli.app_of(system, given), given.json)
