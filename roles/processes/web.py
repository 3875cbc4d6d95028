"""The process that answers requests: a socket, and the app's server behind it."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_host.names import KINDS

from slipway.engine.templates import render
from slipway.servers import Process
from slipway.settings import AppSettings


def units(app: AppSettings, workers: int, sandbox: Sequence[str]) -> dict[str, str]:
    """See `Units` in `roles.processes`."""
    process = Process(
        programs=str(app.at.programs("@RELEASE@")),
        workers=workers,
        timeout=app.timeout,
        graceful_timeout=app.graceful_timeout,
        keep_alive=app.keep_alive,
        max_requests=app.max_requests,
        max_requests_jitter=app.max_requests_jitter,
        threads=app.threads,
        backlog=app.backlog,
        concurrency=app.concurrency,
        access_log=app.access_log,
        config=app.server_config,
    )
    values = {
        "app": app,
        "server": app.runs_under.service(process),
        "subdir": app.source.subdir,
        "sandbox": sandbox,
    }
    return {kind: render(f"app/app.{kind}.j2", **values) for kind in KINDS}
