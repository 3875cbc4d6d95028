"""The process of `slipway verify`: python -P -m slipway.cli.pytest_run RESULT OPTION…

Runs pytest with these options, and writes the result of each test to the file RESULT, as JSON.
"""

from __future__ import annotations

import json
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

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result of one phase of a test."""
        check = report.nodeid.rpartition("/")[2]
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
            self.failed.append({"check": report.nodeid.rpartition("/")[2], "why": report.longreprtext})


def main(words: list[str]) -> int:
    """Run pytest; returns its exit code."""
    project.find_roles()
    results = Results()
    code = pytest.main(words[1:], plugins=[results])
    Path(words[0]).write_text(json.dumps(vars(results)), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
