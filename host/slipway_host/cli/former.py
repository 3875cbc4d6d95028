"""slipway former"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import former

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    verbs.add("former", "put the names of Slipway 0.1's programs in order", _does, hidden=True)


def _does(system: System, _: Namespace) -> None:
    former.settle(system)
