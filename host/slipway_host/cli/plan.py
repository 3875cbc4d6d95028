"""slipway plan"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.cli import asking
from slipway_host.release import plan, state
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("plan", "what a request (JSON on standard input) would change", _does, hidden=True)
    parser.add_argument("--here", action="store_true", help="in this process, which has a unit of its own already")


def _does(system: System, given: Namespace) -> int | None:
    state.require(system)
    app = cli.app_of(system, given)
    if not given.here:
        return plan.in_its_unit(app)
    tell(plan.plan(app, asking.from_stdin()))
    return None
