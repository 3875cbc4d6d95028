"""slipway status"""

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
    cli.add_json(verbs.of_app("status", "what serves, and what is wrong", _does))


def _does(system: System, given: Namespace) -> None:
    state.require(system)
    app = cli.app_of(system, given, hide=not given.json)
    told = status.status(app)
    tell(told) if given.json else print(status.summary(app, told))
