"""The process of `slipway verify`: python -P -m slipway.cli.pytest_run RESULT FOLDER OPTION…

Runs pytest over the folder with these options, and writes the result of each test to the file RESULT, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from slipway import project


class Results:
    """A pytest plugin that keeps the result of each test."""

    def __init__(self) -> None:
        self.passed = 0
        self.skipped: list[dict[str, str]] = []
        self.failed: list[dict[str, str]] = []
        self._folder = Path.cwd()

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        """Go back to the operator's folder, to which what they name is relative."""
        os.chdir(self._folder)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result of one phase of a test."""
        check = _name_of(report.nodeid)
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed.append({"check": check, "why": crash.message if crash else report.longreprtext})
        elif report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.skipped.append({"check": check, "why": why.removeprefix("Skipped: ")})
        elif report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the error of a file that can't be imported."""
        if report.failed:
            self.failed.append({"check": _name_of(report.nodeid), "why": report.longreprtext})


def _name_of(node: str) -> str:
    """The name of a check by pytest's id of it: without its folder. Its parameters, in brackets, may be paths."""
    where, bracket, parameters = node.partition("[")
    return where.rpartition("/")[2] + bracket + parameters


def main(words: list[str]) -> int:
    """Run pytest; returns its exit code."""
    project.find_roles()
    results = Results()
    os.chdir(words[1])  # pytest shows paths relative to where it starts
    code = pytest.main(words[1:], plugins=[results])
    told = {"passed": results.passed, "skipped": results.skipped, "failed": results.failed}
    Path(words[0]).write_text(json.dumps(told), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
