"""slipway nginx"""

from __future__ import annotations

import json
import sys

from slipway_host import cli
from slipway_host.proxy.nginx import Nginx
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    commands = verbs.add("nginx", "nginx's configuration: check it, change it, prove that it is live").add_subparsers(
        required=True, metavar="COMMAND"
    )
    status = commands.add_parser("status", help="what is configured, and whether it is live")
    cli.add_json(status)
    status.set_defaults(does=_status)
    check = commands.add_parser("check", help="validate what is on disk")
    check.set_defaults(does=lambda system, _: Nginx(system).check())
    reload = commands.add_parser("reload", help="validate, reload and prove what is on disk")
    reload.set_defaults(does=lambda system, _: Nginx(system).reload())
    apply = commands.add_parser("apply", help="make the files on standard input (JSON) the configuration")
    apply.set_defaults(does=lambda system, _: Nginx(system).apply(json.load(sys.stdin)))
    switch = commands.add_parser("switch", help="let a release of an app serve")
    switch.add_argument("app", metavar="APP", type=cli.plain_name)
    switch.add_argument("release", metavar="RELEASE", type=cli.plain_name)
    switch.set_defaults(does=lambda system, given: Nginx(system).switch(given.app, given.release))


def _status(system: System, given: Namespace) -> None:
    told = Nginx(system).status()
    if given.json:
        tell(told)
    elif not told["managed"]:
        print("nginx's configuration isn't Slipway's.")
    else:
        live = "serves it" if told["live"] else f"doesn't serve it (`{system.layout.program} nginx reload` says why)"
        print(f"Generation {told['generation']} is on disk; the running nginx {live}.")
