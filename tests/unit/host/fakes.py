"""A machine that is a folder: its commands are noted and answered as told, and its clock waits for nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway_host.layout import Layout
from slipway_host.system import Done, Failed, System
from typing_extensions import override


class FakeSystem(System):
    """Stands in for a host. Files are real, below a root; every unit runs but those of `states`."""

    def __init__(self, root: Path, at: float = 1_767_225_600) -> None:
        """`root`: the host's; `at`: the time there, in seconds since 1970 (2026-01-01)."""
        super().__init__(Layout(root))
        self.calls: list[str] = []
        """The command lines, in order."""
        self.failing: dict[str, str] = {}
        """Part of a command line → what it prints when it fails."""
        self.codes: dict[str, int] = {}
        """Part of a command line that fails → its exit status, if not 1."""
        self.printing: dict[str, str] = {}
        """Part of a command line → what it prints."""
        self.doing: dict[str, Callable[[str], object]] = {}
        """Part of a command line → what it does, given the whole line."""
        self.said: list[str] = []
        """What commands read on their standard input."""
        self.states: dict[str, dict[str, str]] = {}
        """Unit → what systemd knows of it, where that isn't what it knows of all."""
        self.owners: dict[str, tuple[str, str]] = {}
        """Name of a file → the owner and group that it was given."""
        self.at = at
        self.slept: list[float] = []
        """Seconds that were waited, each time."""

    @override
    def run(self, *argv: str, check: bool = True, said: str | bytes = "", **options: Any) -> Done:
        line = " ".join(argv)
        self.calls.append(line)
        if said:
            self.said.append(said if isinstance(said, str) else said.decode())
        code, output = 0, next((text for part, text in self.printing.items() if part in line), "")
        for part, text in list(self.failing.items()):
            if part in line:
                code, output = self.codes.get(part, 1), text
                break
        else:
            for part, effect in list(self.doing.items()):
                if part in line:
                    effect(line)
        if note := re.search(r"ExecStopPost=\+-.* >(\S+)'", line):
            result = "success" if code == 0 else "exit-code"
            Path(note[1]).write_text(f"{result} exited {code}\n")
        if code == 0 and argv[:2] == ("systemctl", "list-units"):
            output = self._listed(argv)
        elif code == 0 and argv[:2] == ("systemctl", "show"):
            output = self._shown(argv, output)
        if check and code:
            raise Failed(output)
        return Done(argv, code, output)

    def _listed(self, argv: tuple[str, ...]) -> str:
        if "--output=json" in argv:  # all that are loaded: here those with a file
            files = {path.name: {"ActiveState": "active"} for path in self.layout.units.glob("*.*") if path.is_file()}
            rows = [
                {"unit": unit, "active": each["ActiveState"], "description": each.get("Description", unit)}
                for unit, each in (files | self.states).items()
            ]
            return json.dumps(rows)
        states = {unit: self.states.get(unit, {"ActiveState": "active"}) for unit in argv if ".service" in unit}
        # Columns as they are: the fifth is there while some unit has a job. An inactive unit without one is gone.
        return "\n".join(
            f"{unit}   loaded   {each['ActiveState']:8} dead {each.get('Job', ''):5} a release of notes"
            for unit, each in states.items()
            if each["ActiveState"] != "inactive" or "Job" in each
        )

    def _shown(self, argv: tuple[str, ...], output: str) -> str:
        known = {"ActiveState": "active", "LoadState": "loaded", "NRestarts": "0", "MainPID": "1"}
        known |= {"Description": "x none"} | dict(line.split("=", 1) for line in output.splitlines())
        names = argv[2].removeprefix("--property=").split(",")
        blocks = [known | self.states.get(unit, {}) for unit in argv[3:]]
        return "\n".join("".join(f"{name}={block[name]}\n" for name in names if name in block) for block in blocks)

    @override
    def chown(self, path: Path, user: str, group: str) -> None:
        self.owners[Path(path).name] = (user, group)

    @override
    def sync(self, descriptor: int) -> None:
        """No power fails here."""

    @override
    def time(self) -> float:
        return self.at

    @override
    def clock(self) -> float:
        return self.at

    @override
    def boot(self) -> str:
        return "boot-1"

    def uptime(self) -> float:
        return 1000.0

    @override
    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    def matching(self, part: str) -> list[str]:
        """The command lines that have this part."""
        return [call for call in self.calls if part in call]

    def done_to(self, part: str) -> list[str]:
        """The same, but for those that only ask."""
        return [call for call in self.matching(part) if not call.startswith(("systemctl show", "systemctl list-units"))]
