"""Runs of pyinfra and of this project's commands, and what they did."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder, where deploy.py is."""

DEPLOY_SECONDS = 1800
"""Time after which a deploy counts as hung; a first one takes 40 s in a container, 300 to 900 on an emulated one."""

log = logging.getLogger("e2e")


@dataclass
class Run:
    """What one run of pyinfra did."""

    code: int
    """Exit status."""
    output: str
    """All that people see: stderr, without colours; with `dry`, stdout before it."""
    seconds: float
    changed: list[str] = field(default_factory=list)
    """Names of the operations that changed something; of a dry run, of those that would. Of a failed run, those
    whose log says "Success"."""
    unchanged: list[str] = field(default_factory=list)
    """Names of the operations that found nothing to do."""
    errors: list[str] = field(default_factory=list)
    """Names of the operations that failed."""

    @property
    def ok(self) -> bool:
        """The run ended with 0 and no operation failed."""
        return self.code == 0 and not self.errors

    @property
    def told(self) -> str:
        """The last of the output, without the operations that had nothing to do."""
        return re.sub(r"--> Starting operation: .*\n.*No changes\n\n?", "", self.output)[-6000:]

    def says(self, *texts: str) -> None:
        """Fail unless the output has each of the texts; line ends and indents between words don't count."""
        flat = " ".join(self.output.split())
        for text in texts:
            assert " ".join(text.split()) in flat, f"{text!r} isn't said in:\n{self.told}"

    def has_no_traceback(self) -> None:
        """Fail if the output shows Python's inside."""
        assert "Traceback" not in self.output, self.told


def run_command(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the project in a folder of it, to its end, with nobody at its standard input."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEPLOY_SECONDS,
        check=False,
    )


def run_pyinfra(what: str, command: list[str], *, dry: bool, check: bool, folder: Path = ROOT) -> Run:
    """Run pyinfra in a folder of the project, to its end; with `check`, fail unless it ends well."""
    began = time.monotonic()
    done = run_command(command, folder)
    run = _parse(done, time.monotonic() - began, dry=dry)
    changed = ", ".join(run.changed) if 0 < len(run.changed) <= 6 else f"{len(run.changed)} operations"
    log.info("    %s: exit %d after %.1f s, changed: %s", what, run.code, run.seconds, changed)
    if check:
        assert run.ok, f"{what} ended with {run.code}, errors: {run.errors}\n{run.told}"
    return run


def start_pyinfra(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Start pyinfra in a process group of its own and don't wait."""
    with output.open("wb") as sink:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )


def environment() -> dict[str, str]:
    """The environment of a deploy: without what would steer or colour it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLIPWAY_", "PYINFRA_", "PYTEST_"))}
    cache = {"XDG_CACHE_HOME": str(ROOT / ".target" / "cache")}
    return kept | cache | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _parse(done: subprocess.CompletedProcess[str], seconds: float, *, dry: bool) -> Run:
    """A run from pyinfra's JSON, or from its log where it printed none (dry runs and failures)."""
    shown = _COLOUR.sub("", done.stderr)
    run = Run(done.returncode, shown, seconds)
    if dry and done.stdout.startswith("{"):
        for operation in json.loads(done.stdout)["plan"]:
            changes = operation["hosts_with_change"] + operation["hosts_with_conditional_change"]
            (run.changed if changes else run.unchanged).append(operation["name"])
        return run
    if dry:
        run.output = _COLOUR.sub("", done.stdout) + shown
        cell = r"\s{2,}(-|\d+ \([^)]*\))"
        for name, change, conditional in re.findall(rf"^    (\S.*? \| .*?){cell}{cell}\s*$", run.output, re.MULTILINE):
            (run.unchanged if (change, conditional) == ("-", "-") else run.changed).append(name)
        return run
    try:
        told = json.loads(done.stdout)
    except ValueError:
        name = ""
        for line in shown.splitlines():
            if "Starting operation:" in line:
                name = line.partition("Starting operation:")[2].strip()
            elif name and (ended := re.match(r"\s*\[[^\]]+\] (Success|No changes|Error)", line)):
                {"S": run.changed, "N": run.unchanged, "E": run.errors}[ended[1][0]].append(name)
        return run
    for operation in told["results"]["operations"]:
        if operation["error"]:
            run.errors.append(operation["name"])
        elif operation["success"]:
            run.changed.append(operation["name"])
        else:
            run.unchanged.append(operation["name"])
    return run
