"""slipway facts: answers all questions of the operator's side about this host, for all its apps at once."""

from __future__ import annotations

import contextlib
import re

from slipway_host import VERSION, acme, cli
from slipway_host.cli import asking
from slipway_host.protocol import PROTOCOL
from slipway_host.proxy.nginx import Nginx
from slipway_host.release import state, status, target
from slipway_host.release.app import App
from slipway_host.release.failure import last_word
from slipway_host.text import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from slipway_host.protocol import Facts, Lineage, NginxStatus, Question, Status, Target, Trouble
    from slipway_host.system import System


def register(verbs: cli.Verbs) -> None:
    """Add the verb."""
    verbs.add("facts", "what is true of this host, as JSON (the question is on standard input)", _does, hidden=True)


def _does(system: System, _: Namespace) -> None:
    with system.looking():
        told = facts(system, asking.from_stdin())
    tell(told)


def facts(system: System, question: Question) -> Facts:
    """The facts. A part that fails has an error in its place; the others are given all the same."""
    state.require(system)
    apps = {name: App(name, system) for name in question.get("apps", []) if _named(name)}
    states = _states(system, list(apps.values()))
    targets = question.get("targets", {})
    return {
        "protocol": PROTOCOL,
        "slipway": VERSION,
        "format": state.known(system)[0],
        "nginx": _nginx(system),
        "apps": {
            name: _status(apps[name], states) if name in apps else {"error": f"{name!r} {cli.NO_NAME}"}
            for name in question.get("apps", [])
        },
        "certificates": _certificates(system),
        "targets": {
            name: _target(App(name, system), to)
            if _named(name)
            else {"release": None, "error": f"{name!r} {cli.NO_NAME}"}
            for name, to in targets.items()
        },
    }


def _named(name: str) -> bool:
    return bool(re.fullmatch(cli.NAME, name))


def _states(system: System, apps: Sequence[App]) -> Mapping[str, Mapping[str, str]] | None:
    """Unit → properties, for all apps, from one question; None if that fails, and each app asks for itself."""
    with contextlib.suppress(Exception):
        wanted = [unit for app in apps for unit in status.units(app)]
        return apps[0].systemd.briefly(wanted) if wanted else None
    return None


def _status(app: App, states: Mapping[str, Mapping[str, str]] | None) -> Status | Trouble:
    try:
        return status.status(app, states)
    except Exception as error:
        return _trouble(app.system, error)


def _target(app: App, to: str | None) -> Target:
    try:
        return target.target(app, to)
    except Exception as error:
        return {"release": None, "error": _trouble(app.system, error)["error"]}


def _certificates(system: System) -> dict[str, Lineage]:
    try:
        return acme.lineages(system)
    except Exception:
        return {}


def _nginx(system: System) -> NginxStatus | Trouble:
    try:
        return Nginx(system).status()
    except Exception as error:
        return _trouble(system, error)


def _trouble(system: System, error: Exception) -> Trouble:
    return {"error": system.hidden.shown(last_word(error))}
