"""Jobs of an app: a service, and the timer that starts it."""

from __future__ import annotations

from collections.abc import Sequence

from roles.processes.words import command_line
from slipway.engine.templates import render
from slipway.settings import AppSettings
from slipway.settings.programs import JobSettings


def job_units(app: AppSettings, name: str, job: JobSettings, sandbox: Sequence[str]) -> dict[str, str]:
    """The units of a job: kind → text, where ``@RELEASE@`` stands for the id of the release that serves."""
    failed = app.hooks.argv("on_job_failure")
    values = {"app": app, "name": name, "job": job, "sandbox": sandbox, "command": command_line(job.argv)}
    values |= {"failed": command_line(failed) if failed else None, "ending": max(job.stop_timeout, app.hooks.timeout)}
    return {kind: render(f"app/job.{kind}.j2", **values) for kind in ("service", "timer")}
