"""Runs the tests of a host (tests/host) by pytest in a process of its own, and shows the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway import project
from slipway.cli.codes import FAILED, INTERRUPTED, NOTHING
from slipway.foreign import one_line, visible


@dataclass
class Checks:
    """The results of the checks."""

    passed: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    """"check" and "why" of each that doesn't apply, or can't be made."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """"check" and "why" of each that failed."""
    error: str | None = None
    """Why no check was made, or not all."""

    @property
    def good(self) -> bool:
        """Whether a check passed, and none failed."""
        return not self.failed and self.error is None and self.passed > 0


def report(inventory: Path, limit: str | None, options: Sequence[str], *, verbose: bool, as_json: bool) -> int:
    """Check the hosts of an inventory, show the result, and return the exit code."""
    began = time.monotonic()
    try:
        found = _checked(inventory, limit, options, verbose=verbose)
    except KeyboardInterrupt:
        print("Error: interrupted; nothing was changed", file=sys.stderr)
        return INTERRUPTED
    seconds = time.monotonic() - began
    if as_json:
        outcome = "passed" if found.good else "failed"
        told = {"version": 1, "verb": "verify", "outcome": outcome, "seconds": round(seconds, 3)}
        print(json.dumps(told | asdict(found)))
    else:
        _show(found, seconds, inventory)
    return NOTHING if found.good else FAILED


def _show(found: Checks, seconds: float, inventory: Path) -> None:
    for each in found.failed:
        print(f"Error: {one_line(each['check'])} failed", file=sys.stderr)
        for line in visible(each["why"]).splitlines():
            print(f"  {line}", file=sys.stderr)
    if found.error:
        print(f"Error: {visible(found.error)}", file=sys.stderr)
    if found.failed:
        print(f"  `slipway verify {inventory} -v` shows pytest's own output.", file=sys.stderr)
    if found.passed or found.failed:
        parts = [f"{found.passed} checks passed", f"{len(found.failed)} failed" if found.failed else ""]
        parts += [f"{len(found.skipped)} don't apply" if found.skipped else ""]
        print(f"{', '.join(part for part in parts if part)} ({seconds:.1f} s)")


def _checked(inventory: Path, limit: str | None, options: Sequence[str], *, verbose: bool) -> Checks:
    root = project.root()
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        result = Path(folder) / "result.json"
        checks = str(root / "tests" / "host")
        words = [checks, "--inventory", str(inventory.absolute()), "--rootdir", checks]
        # No configuration of the current folder counts, and nothing is written beside the tests.
        words += ["-c", os.devnull, "--import-mode=importlib", "-p", "no:cacheprovider", "--color=auto"]
        words += ["--limit", limit] if limit else []
        words += ["-v"] if verbose else ["-q"]
        # -P: a folder `tests` in the current folder would be taken for ours.
        command = [sys.executable, "-P", "-m", "slipway.cli.pytest_run", str(result), *words, *options]
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if verbose else subprocess.PIPE,
            stderr=None if verbose else subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        try:
            told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {}
    found = Checks(told.get("passed", 0), told.get("skipped", []), told.get("failed", []))
    if ended.returncode not in (0, 1) or not told:
        words = [line for line in (ended.stdout or "").splitlines() if line.strip()]
        found.error = "\n".join(line.removeprefix("ERROR: ") for line in words[-40:]) or "pytest ended without an error"
        if verbose:
            found.error = "the checks didn't finish; the reason is above"
    elif not found.passed and not found.failed:
        found.error = "no check was made"
    return found
