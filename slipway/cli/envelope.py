"""The JSON of a run: one object. Its `version` changes when its meaning changes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

from slipway.cli.report import Report


def envelope(report: Report, printed: str = "") -> dict[str, Any]:
    """A run as one JSON object. That of `slipway releases` also has "releases": host → app → rows, newest first.

    + printed: what the run printed: a line of JSON for each app from tasks/releases.py; an inventory may print more
    """
    if report.verb != "releases":
        return _of_run(report)
    releases: dict[str, dict[str, Any]] = {}
    for line in printed.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):  # printed by the inventory
            told = json.loads(line)
            host, app, rows = told["host"], told["app"], told["releases"]
            if host not in report.lost:
                releases.setdefault(host, {})[app] = rows
    return _of_run(report) | {"releases": releases}


def _of_run(report: Report) -> dict[str, Any]:
    hosts = dict.fromkeys([*report.steps, *report.lost, *report.errors])
    return {
        "version": 1,
        "verb": report.verb,
        "plan": report.planning,
        "outcome": "failed" if report.failed else "changes" if report.changes else "nothing",
        "seconds": round(report.seconds, 3),
        "error": report.error or None,
        "roles": {role: round(seconds, 3) for role, seconds in report.roles.items()},
        "hosts": {
            host: {
                "operations": [
                    dataclasses.asdict(step) | {"seconds": round(step.seconds, 3)}
                    for step in report.steps.get(host, [])
                ],
                "unchanged": report.unchanged.get(host, 0),
                "reached": host not in report.lost,
                "errors": report.errors.get(host, []),
            }
            for host in hosts
        },
    }
