"""A build of an app, as Slipway's own program on this host runs one: its user, its sandbox, its folders."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIBRARY = "/opt/slipway/host/current"
RELEASE = "slipway-audit"
"""Name of the folder beside the app's releases; a killed run's is taken away by the next release."""


def module(name: str) -> Any:
    """A module of this host's own program."""
    sys.dont_write_bytecode = True
    if LIBRARY not in sys.path:
        sys.path.insert(0, LIBRARY)
    return importlib.import_module(f"slipway_host.{name}")


def wanted(name: str) -> dict[str, Any]:
    """What the app's releases are made from."""
    found: dict[str, Any] = json.loads(Path("/etc", name, "release.json").read_text())
    return found


class Builder:
    """Runs commands as a build of an app does."""

    def __init__(self, name: str, folder: str) -> None:
        """Take `folder` for what a run of a release writes down."""
        self.app = module("release.app").App(name)
        self.app.wanted, self.app.request = wanted(name), {"folder": folder}
        self.unit = f"{name}-build.service"
        self.folder: Path = self.app.at.folder(RELEASE)
        self.work: Path = self.app.work(RELEASE)
        """Where its commands run."""

    def run(self, argv: Sequence[str]) -> str:
        """Run a command; returns what it printed, whatever its end was."""
        done = module("release.builder").run(self.app, RELEASE, list(argv), {})
        return str(done.output)


@contextmanager
def builder(name: str) -> Iterator[Builder]:
    """The builder of an app; its folder is removed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        made = Builder(name, folder)
        shutil.rmtree(made.folder, ignore_errors=True)
        try:
            made.work.mkdir(parents=True)
            for each in {made.folder, made.work}:
                shutil.chown(each, made.app.at.builder, made.app.at.builder)
            yield made
        finally:
            made.app.systemd.stop(made.unit)
            shutil.rmtree(made.folder)


class _Captured(BaseException):
    """A command line, instead of its run."""


def release_command(name: str, argv: Sequence[str], unit: str) -> list[str]:
    """The command line with which a run of a release is started, though with another command and unit's name."""
    app, words = module("release.app").App(name), list[str]()

    def capture(*given: str, **_: object) -> None:
        words.extend(given)
        raise _Captured

    with tempfile.TemporaryDirectory() as folder:
        app.at.runs, app.system.run = Path(folder), capture
        with suppress(_Captured):
            module("release.runs").submit(app, {"verb": "release", "by": "the audit"}, 0)
    kept: list[str] = []
    for word in words[: words.index(str(app.system.layout.program))]:
        if word.startswith("Standard"):  # a log in the folder that is gone by now
            kept.pop()
        else:
            kept.append(unit if word == app.at.run_unit else word)
    return [*kept, *argv]
