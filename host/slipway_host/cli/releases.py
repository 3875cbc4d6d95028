"""slipway releases"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import state, status
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("releases", "all releases and rollbacks: outcome, age, size, and what serves", _does)
    cli.add_json(parser, "for another program, with the durations of the steps")


def _does(system: System, given: Namespace) -> None:
    state.require(system)
    app = cli.app_of(system, given)
    tell(status.releases(app)) if given.json else print(status.table(app))
