"""slipway drain"""

from __future__ import annotations

from slipway_host import cli
from slipway_host.release import former, retire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    parser = verbs.of_app("drain", "drain a release that no longer serves", _does, hidden=True)
    parser.add_argument("release", type=cli.plain_name)


def _does(system: System, given: Namespace) -> None:
    app = cli.app_of(system, given)
    app.wanted = retire.goes_by(app, given.release)
    retire.drain(app, given.release)
    former.settle(system, but=[f"{app.at.later('drain', given.release)}.service"])  # this one, most likely
