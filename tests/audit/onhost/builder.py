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

LIBRARY = "/opt/slipway/lib"
RELEASE = "slipway-audit"
"""Name of the folder beside the app's releases; a killed run's is taken away by the next release."""


def program() -> Any:
    """The module slipway_release of this host."""
    sys.dont_write_bytecode = True
    if LIBRARY not in sys.path:
        sys.path.insert(0, LIBRARY)
    return importlib.import_module("slipway_release")


def wanted(name: str) -> dict[str, Any]:
    """What the app's releases are made from."""
    found: dict[str, Any] = json.loads(Path("/etc", name, "release.json").read_text())
    return found


class Builder:
    """Runs commands as a build of an app does."""

    def __init__(self, name: str, folder: str) -> None:
        """Take `folder` for what a run of a release writes down."""
        self.app = program().App(name)
        self.app.wanted, self.app.request = wanted(name), {"folder": folder}
        self.unit = f"{name}-build.service"
        self.folder: Path = self.app.folder(RELEASE)
        self.work: Path = self.app.work(RELEASE)
        """Where its commands run."""

    def run(self, argv: Sequence[str]) -> str:
        """Run a command; returns what it printed, whatever its end was."""
        done = program().guest(self.app, RELEASE, list(argv), {})
        return str(done.stdout)


@contextmanager
def builder(name: str) -> Iterator[Builder]:
    """The builder of an app; its folder is removed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        made = Builder(name, folder)
        shutil.rmtree(made.folder, ignore_errors=True)
        try:
            made.work.mkdir(parents=True)
            for each in {made.folder, made.work}:
                shutil.chown(each, made.app.builder, made.app.builder)
            yield made
        finally:
            program().run("systemctl", "stop", made.unit, check=False)
            shutil.rmtree(made.folder)


class _Captured(BaseException):
    """A command line, instead of its run."""


def release_command(name: str, argv: Sequence[str], unit: str) -> list[str]:
    """The command line with which a run of a release is started, though with another command and unit's name."""
    slipway, app, words = program(), program().App(name), list[str]()
    was = slipway.run

    def capture(*given: str, **_: object) -> None:
        words.extend(given)
        raise _Captured

    with tempfile.TemporaryDirectory() as folder:
        app.runs = Path(folder)
        slipway.run = capture
        try:
            with suppress(_Captured):
                slipway.submit(app, {"verb": "deploy", "by": "the audit"}, 0)
        finally:
            slipway.run = was
    kept: list[str] = []
    for word in words[: words.index(slipway.PROGRAM)]:
        if word.startswith("Standard"):  # a log in the folder that is gone by now
            kept.pop()
        else:
            kept.append(unit if word == app.run_unit else word)
    return [*kept, *argv]
