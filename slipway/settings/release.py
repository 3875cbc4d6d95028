"""What happens while a release goes out: an app's own commands, and the traffic that proves it."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal, get_args

from slipway.settings import types as t
from slipway.settings.base import LIST_DO, Model

HookName = Literal["before_migrate", "after_migrate", "after_switch", "on_failure", "on_job_failure"]
"""A moment at which a command of the app's own may run."""

HOOKS: tuple[HookName, ...] = get_args(HookName)
"""Those moments, in their order."""


class HooksSettings(Model):
    """Commands of the app's own at four moments of a release, and after a job that failed."""

    before_migrate: t.HookCommand | None = None
    """Command before the migration, as soon as the new release is built and checked. If it fails, the release fails
    and the old one keeps serving. None: nothing."""
    after_migrate: t.HookCommand | None = None
    """Command after the migration (also when there was none to run), before the new release is started. If it fails,
    the release fails and the old one keeps serving; what the migration did stays."""
    after_switch: t.HookCommand | None = None
    """Command once the new release serves. If it fails, that release keeps serving, and the run fails."""
    on_failure: t.HookCommand | None = None
    """Command when a release failed; it gets the name of the step that did as SLIPWAY_STEP. Its own failure is shown
    and changes nothing."""
    on_job_failure: t.HookCommand | None = None
    """Command when one of `jobs` failed; it gets the job's name as SLIPWAY_JOB, and as SERVICE_RESULT, EXIT_CODE and
    EXIT_STATUS how it ended (systemd.exec(5)). It runs as the app, in the job's own unit."""
    timeout: t.Seconds = 60
    """Seconds each of these commands may take; then it is stopped, and counts as failed."""

    def argv(self, name: HookName) -> list[str] | None:
        """The words of the command for one moment; None where there is none."""
        command: str | None = getattr(self, name)
        return None if command is None else shlex.split(command)


class ProbeSettings(Model):
    """What `--prove` sends to the app's public address while a release goes out."""

    short: Annotated[
        list[t.UrlTarget], t.Narrow("a list of paths, each with or without a query", LIST_DO, container=True)
    ] = []
    """Paths of quick GET requests, in turn. Empty: the liveness_path alone; without one /, where any answer below 500
    is good."""
    slow: t.UrlTarget | None = None
    """Path of a GET request that takes a while, longer than a switch does but less than drain_timeout; None: none is
    sent."""
    upload: t.UrlTarget | None = None
    """Path that takes a POST request with a body, which is sent slowly; it must answer 2xx and keep nothing. None: no
    upload."""
    websocket: t.UrlTarget | None = None
    """Path of a WebSocket that answers every text message with one; None: none is opened."""
    stream: t.UrlTarget | None = None
    """Path of an endless answer, such as server-sent events; None: none is read."""
    connections: Annotated[int, t.whole(2, 500, "connections")] = 10
    """Connections that quick requests go over at the same time."""
    rate: Annotated[int, t.whole(1, 1000, "requests a second")] = 50
    """Quick requests a second, all connections together."""
