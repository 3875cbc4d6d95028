"""Programs that a command of their own installs, and not apt."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT

from slipway.engine.operations import command_unless
from slipway.engine.place import File
from slipway.engine.plan import Change
from slipway.engine.pyinfra_api import OperationMeta

INSTALLING = str(LAYOUT.install_lock)
"""Lock during an installation. For root alone: a user who can open the file could hold the lock."""


@dataclass(frozen=True)
class Program:
    """What a command of its own installs, and not apt."""

    title: str
    """Name and version."""
    satisfied: str
    """A shell command that prints a line when it is installed, and never fails."""
    command: str
    """A shell command that installs it."""
    files: Mapping[str, File] = field(default_factory=dict)
    """Path → file that the command reads, in a folder of roles/base's."""

    @property
    def line(self) -> str:
        """The shell command that installs it unless it is there. A host runs one at a time, even for several runs."""
        folder = INSTALLING.rpartition("/")[0]
        due = f'umask 022; [ -n "$({self.satisfied})" ] || {self.command}'
        locked = f"umask 077; mkdir -p -m 755 {folder}; exec flock {INSTALLING} sh -c {shlex.quote(due)}"
        return shlex.join(["sh", "-c", locked])


def install(name: str, program: Program) -> OperationMeta:
    """Install a program unless it is there."""
    return command_unless(
        name=name,
        satisfied=program.satisfied,
        command=StringCommand(program.line),
        change=Change("program", program.title, "install"),
        why=f"{program.title} is installed",
    )
