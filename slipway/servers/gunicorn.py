"""Gunicorn: with Uvicorn's workers for ASGI, with threads for WSGI."""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from slipway.servers import kept
from slipway.servers.server import ASGI, WSGI, Process, Server, lines

CONFIG = str(LAYOUT.gunicorn)
"""What all Gunicorns share."""


def _service(process: Process) -> list[str]:
    options = {
        "config": CONFIG,
        "workers": process.workers,
        "threads": process.threads,
        "timeout": process.timeout,
        "graceful-timeout": process.graceful_timeout,
        "keep-alive": process.keep_alive,
        "backlog": process.backlog,
        "max-requests": process.max_requests,
        "max-requests-jitter": process.max_requests_jitter,
    }
    if process.concurrency:
        options["worker-connections"] = process.concurrency
    words = [f"{process.programs}/gunicorn", *(f"--{name} {value}" for name, value in options.items())]
    words += ["--access-logfile -"] if process.access_log else []
    return lines(process, [*words, "slipway_served:app"])


GUNICORN = Server(
    name="gunicorn",
    interfaces=(ASGI, WSGI),
    packages=("gunicorn>=23", "uvicorn-worker>=0.2", "uvicorn>=0.23", "uvloop>=0.17", "httptools>=0.5"),
    programs=("gunicorn", "python"),
    modules={ASGI: ("gunicorn", "uvicorn_worker"), WSGI: ("gunicorn",)},
    deaths=r"Worker exiting \(pid|Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM))",
    files={CONFIG: "app/gunicorn.conf.py"} | kept.own("slipway_gunicorn.py", "slipway_uvicorn.py"),
    reserved={
        # Whom it trusts to say who the client is.
        "FORWARDED_ALLOW_IPS": "remove it; nginx alone reaches the app and says who the client is; for a CDN in front "
        "set trusted_proxies",
        "GUNICORN_CMD_ARGS": "remove it; use the settings workers, timeout, graceful_timeout, keep_alive and "
        "max_requests",
    },
    service=_service,
)
