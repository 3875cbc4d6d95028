"""Processes that an app names: workers and schedulers."""

from __future__ import annotations

from collections.abc import Sequence

from roles.processes.words import command_line
from slipway.engine.templates import render
from slipway.settings import AppSettings


def units(app: AppSettings, workers: int, sandbox: Sequence[str]) -> dict[str, str]:
    """See `Units` in `roles.processes`."""
    made = {}
    for name, process in app.processes.items():
        for number in range(1, process.count + 1):
            kind = f"{name}.{number}" if process.count > 1 else name
            values = {"app": app, "name": name, "kind": kind, "process": process, "sandbox": sandbox}
            made[f"{kind}.service"] = render("app/process.service.j2", command=command_line(process.argv), **values)
    return made
