"""slipway acme"""

from __future__ import annotations

from slipway_host import acme, cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    commands = verbs.add("acme", "certificates: ordered only where the order can succeed").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for name, text, does in (
        ("has", "print a line if there is such a certificate", _has),
        ("order", "check the domains, then order it", _order),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("--server", required=True, help="URL of the ACME directory")
        parser.add_argument("--name", required=True, help="name under which certbot keeps it")
        parser.add_argument("--domain", action="append", required=True)
        parser.add_argument("--ca-file", help="CA of the ACME server's own HTTPS")
        no_check = "order without fetching a challenge file first"
        parser.add_argument("--no-check", dest="check", action="store_false", help=no_check)
        parser.set_defaults(does=does)


def _has(system: System, given: Namespace) -> None:
    if acme.has(system, given.name, given.server, given.domain):
        print(f"{given.name}: {', '.join(given.domain)} from {given.server}")


def _order(system: System, given: Namespace) -> None:
    acme.order(system, given.name, given.server, given.domain, ca_file=given.ca_file, check_first=given.check)
