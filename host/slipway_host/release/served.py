"""Which application a release serves, and by which interface: found before anything changes, by importing it.

The release's own code answers, so what it says is checked: it becomes part of a unit.
"""

from __future__ import annotations

import json
import re

from slipway_host.release import sandbox
from slipway_host.system import Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipway_host.release.app import App
    from slipway_host.wanted import Served, ServerNeeds

INTERFACES = ("asgi", "wsgi")
APPLICATION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\([A-Za-z0-9_'., =+:/@-]*\))?", re.ASCII)
"""module:attribute, for a factory with parentheses."""
LONGEST = 300  # characters
PATH = re.compile(r"/[A-Za-z0-9_./-]{1,60}", re.ASCII)
"""One of the paths of `slipway_look.HEALTH`."""
PLACES = {"@APP@": "app", "@INTERFACE@": "interface"}
"""What stands in a unit for a fact."""


def find(app: App, release: str) -> Served:
    """Find and import a release's application, and write down what it is. Raises Failed if that can't be done."""
    wanted = app.wanted
    server: ServerNeeds = wanted.get("server", {})
    if (config := server.get("config")) and not (app.work(release) / config).is_file():
        raise Failed(f"server_config: there is no {config} in the app's folder: commit it, or correct the setting.")
    name, interfaces = server.get("name", "its server"), server.get("interfaces", list(INTERFACES))
    question = {
        "app": wanted["app"],
        "interface": wanted.get("interface"),
        "factory": wanted.get("factory"),
        "server": name,
        "modules": server.get("modules", {}),
        "versions": server.get("versions", {}),
    }
    argv = [str(app.at.programs(release) / "python"), str(app.system.layout.look_program)]
    said = f"{app.mark}\n{json.dumps(question)}\n"
    done = sandbox.as_app(app, release, "check", argv, sandbox.IMPORT_SECONDS, said=said)
    lines = [line for line in done.output.splitlines() if line.startswith(app.mark)]
    if done.code != 0 or not lines:
        raise Failed(f"The app can't be served:\n{tail(done.output)}")
    told = read(lines[-1].removeprefix(app.mark))
    kind = told["interface"].upper()
    if told["interface"] not in interfaces:
        others = " or ".join(f'"{each}"' for each in server.get("others", {}).get(told["interface"], []))
        raise Failed(f"{told['app']} is a {kind} application, which {name} doesn't serve: set server to {others}.")
    if told["where"]:
        app.progress.say(f"the application is {told['app']} ({kind}), found in {told['where']}; {name} serves it")
    propose(app, told)
    app.write_record(release, served=told)
    return told


def propose(app: App, told: Served) -> None:
    """Name the path by which the app says whether it can serve, if none is set: then an answer of / is enough."""
    if told["health"] and not app.wanted["readiness"].get("strict", True):
        path, *others = told["health"]
        more = f" (or {', '.join(others)})" if others else ""
        app.progress.say(
            f'it has {path}{more}: with readiness_path "{path}" a release serves only once that answers 2xx; '
            "with none, once / answers below 500"
        )


def read(text: str) -> Served:
    """An answer of the release's own code. Raises Failed if it isn't one."""
    try:
        told = json.loads(text)
        served: Served = {name: told[name] for name in ("app", "interface")}  # type: ignore[assignment]
        served["where"] = told["where"] and re.sub(r"[^\w./\[\] -]", "?", str(told["where"]))[:LONGEST]
        served["health"] = [path for path in told["health"] if PATH.fullmatch(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise Failed("The app answered for Slipway's own program when it was imported.") from error
    if not fits(served):
        raise Failed(f"An application can't be called {str(served['app'])[:LONGEST]!r}: set app to module:attribute.")
    return served


def fits(told: Mapping[str, object]) -> bool:
    """Whether an application and its interface may stand in a unit."""
    name = str(told.get("app"))
    return bool(APPLICATION.fullmatch(name)) and len(name) <= LONGEST and told.get("interface") in INTERFACES


def filled(text: str, told: Mapping[str, object]) -> str:
    """The text of a unit, with what was found of its release."""
    if fits(told):
        for place, name in PLACES.items():
            text = text.replace(place, str(told[name]))
    return text
