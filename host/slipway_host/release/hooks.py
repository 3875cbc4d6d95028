"""Hooks: the user's own commands at certain moments of a release, and how their programs are found."""

from __future__ import annotations

import os
from pathlib import Path

from slipway_host.names import PATH
from slipway_host.release import sandbox
from slipway_host.system import Failed, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_host.release.app import App

SECONDS = 60  # for a hook, if the app's settings say nothing else


def in_path(app: App, release: str, command: Sequence[str]) -> list[str]:
    """A command with the path of its program: in the app's folder if it has a slash, else in the environment."""
    if "/" in command[0]:
        return [str(app.work(release) / command[0]), *command[1:]]
    program = app.at.programs(release) / command[0]
    return [str(program) if program.exists() else command[0], *command[1:]]


def missing_hooks(app: App, release: str) -> None:
    """Raise Failed if a hook's program doesn't exist."""
    for name, command in app.wanted["hooks"].items():
        if name != "timeout" and command:
            must_exist(app, release, f"hooks.{name}", command)


def must_exist(app: App, release: str, setting: str, command: Sequence[str]) -> None:
    """Raise Failed if the program of a command doesn't exist.

    + setting: that names the command, for the message
    """
    program = in_path(app, release, command)[0]
    if "/" in program:
        folders, wanted = [Path(program).parent], Path(program).name
    else:
        folders, wanted = [app.at.programs(release), *map(Path, PATH.split(":"))], program
    if not any(os.access(folder / wanted, os.X_OK) for folder in folders):
        import difflib

        near = [path.name for path in folders[0].glob("*") if os.access(path, os.X_OK)]
        nearest = difflib.get_close_matches(wanted, near, n=1)
        folder = command[0].rpartition("/")[0]
        meant = f"; there is {folder}{'/' if folder else ''}{nearest[0]}" if nearest else ""
        raise Failed(f"{setting}: there is no program {command[0]} in the release, nor in the PATH{meant}.")


def hook(app: App, release: str, name: str, **told: str) -> None:
    """Run a hook. Its output is shown only if it fails.

    + told: more environment variables
    """
    command, seconds = app.wanted["hooks"].get(name), app.wanted["hooks"].get("timeout", SECONDS)
    if not command:
        return
    began = app.system.clock()
    argv = in_path(app, release, command)
    done = sandbox.as_app(app, release, "hook", argv, seconds, {"SLIPWAY_HOOK": name, **told})
    took = app.system.clock() - began
    if done.code != 0:
        how = f"was ended after {seconds:g} s" if took >= seconds else f"ended with {done.code}"
        raise Failed(f"The hook {name} (`{' '.join(command)}`) {how}:\n{tail(done.output)}")
    app.progress.say(f"hook {name} {took:.1f} s")
