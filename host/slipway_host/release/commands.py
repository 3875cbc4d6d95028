"""Run the app's own commands of a build: they make what its repository doesn't have, such as a front end."""

from __future__ import annotations

import shlex

from slipway_host.names import PATH
from slipway_host.release import builder
from slipway_host.system import Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App

NOT_FOUND = 127
"""How env(1) ends if there is no such program."""
NODE = ("node", "npm", "npx", "corepack")
"""Programs that the setting `node` brings."""
ENV = "/usr/bin/env"
"""It finds a program by the unit's PATH; systemd looks in its own."""


def run(app: App, release: str, base: str | None, *, rebuilt: bool = False, first: bool = False) -> None:
    """Run the commands as the app's builder, in the app's folder, with the release's environment.

    + base: the release whose environment this one shares
    + first: whether these are the commands that come before the app's own project is installed
    + rebuilt: whether it has that already

    Raises Failed if one fails.
    """
    given = app.wanted["build"]
    secrets: dict[str, str] = app.system.json(app.at.build_environment)
    environment = {
        "PATH": f"{app.at.programs(release)}:{PATH}",
        "VIRTUAL_ENV": str(app.at.venv(release)),
        # Nobody sees the prompts of a build.
        "CI": "1",
        **given.get("env", {}),
        **secrets,
    }
    # In this one's place: its own folder is root's when it gets that.
    venv = app.at.venv(base) if base else None
    more = [f"BindReadOnlyPaths={venv} {venv}:{app.at.venv(release)}"] if venv and not rebuilt else []
    setting = "build_first" if first else "build"
    for argv in given.get("first", []) if first else given.get("commands", []):
        began = app.system.clock()
        told = shlex.join(argv)
        hidden, reading = secrets.values(), bool(base)
        done = builder.run(app, release, [ENV, *argv], environment, secrets=hidden, more=more, reading=reading)
        builder.must_run(app, done)
        if done.code != 0:
            advice = unfound(argv) if done.code == NOT_FOUND else ""
            raise Failed(f"{setting}: `{told}` ended with {done.code}:\n{tail(done.output)}{advice}")
        app.progress.say(f"`{told}` {app.system.clock() - began:.1f} s")


def unfound(argv: list[str]) -> str:
    """What to do about a program that isn't found."""
    program = next((word for word in argv if "=" not in word), "")
    if program in NODE:
        return "\nSet node to True: the host gets Node.js and npm from the distribution's packages."
    return (
        f"\nName a program of the release's environment, of the app's folder (./{program}), or of the host: "
        "`packages` installs what the distribution has."
    )
