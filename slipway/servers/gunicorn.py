"""Gunicorn with Uvicorn's workers."""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from slipway.servers.server import Process, Server

CONFIG = str(LAYOUT.gunicorn)
"""What all Gunicorns share."""
SPARE = 5
"""Seconds that systemd waits beyond those which workers have."""


def _service(process: Process) -> list[str]:
    options = {
        "config": CONFIG,
        "workers": process.workers,
        "timeout": process.timeout,
        "graceful-timeout": process.graceful_timeout,
        "keep-alive": process.keep_alive,
        "max-requests": process.max_requests,
        "max-requests-jitter": process.max_requests_jitter,
    }
    words = [f"{process.programs}/gunicorn", *(f"--{name} {value}" for name, value in options.items()), process.app]
    return [
        "ExecStart=" + " \\\n    ".join(words),
        "KillMode=mixed",
        "# Gunicorn ends its workers itself after --graceful-timeout; systemd only what is still there then.",
        f"TimeoutStopSec={process.graceful_timeout + SPARE}",
        "Restart=always",
        "RestartSec=1",
        "# A worker that ran out of memory is replaced by Gunicorn: no reason to stop the others.",
        "OOMPolicy=continue",
    ]


GUNICORN = Server(
    name="gunicorn",
    packages=("gunicorn>=22", "uvicorn-worker>=0.2", "uvicorn>=0.23", "uvloop>=0.17", "httptools>=0.5"),
    programs=("gunicorn", "python"),
    deaths=r"Worker exiting \(pid|Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM))",
    files={CONFIG: "app/gunicorn.conf.py"},
    reserved={
        # Whom it trusts to say who the client is.
        "FORWARDED_ALLOW_IPS": "remove it; nginx alone reaches the app and says who the client is; for a CDN in front "
        "set trusted_proxies",
        "GUNICORN_CMD_ARGS": "remove it; use the settings workers, timeout, graceful_timeout, keep_alive and "
        "max_requests",
    },
    service=_service,
)
