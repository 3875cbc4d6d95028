"""What the servers have in common whose workers Slipway's own master keeps (files/app/servers/slipway_master.py).

Their own masters lose requests when they are stopped or replace a worker, wait for ever for one that has died, or take
no socket from systemd: that file tells what was measured.
"""

from __future__ import annotations

from collections.abc import Callable

from slipway_host.layout import LAYOUT

from slipway.servers.server import Process, lines

FOLDER = "app/servers"
SHARED = {
    str(LAYOUT.servers / name): f"{FOLDER}/{name}"
    for name in ("slipway_master.py", "slipway_served.py", "slipway_journal.py")
}
"""Path on the host → file of ``files/``: what all of them need."""
CONFIG: dict[str, str] = {"server_config": "it is for Gunicorn alone: leave it out"}
"""What none of them has (`Server.refused`)."""
DEATHS = (
    r"Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM)|gave no sign of life|didn't start within)"
    "|No worker serves, and one "
)
"""Pattern of what the master writes when a worker ends."""


def own(*names: str) -> dict[str, str]:
    """`SHARED`, and these files of a server's own."""
    return SHARED | {str(LAYOUT.servers / name): f"{FOLDER}/{name}" for name in names}


def service(program: str) -> Callable[[Process], list[str]]:
    """The lines of a unit that run a program of `FOLDER`."""

    def made(process: Process) -> list[str]:
        options = {
            "workers": process.workers,
            "timeout": process.timeout,
            "graceful-timeout": process.graceful_timeout,
            "keep-alive": process.keep_alive,
            "backlog": process.backlog,
            "max-requests": process.max_requests,
            "max-requests-jitter": process.max_requests_jitter,
            "concurrency": process.concurrency or 0,
            "threads": process.threads,
        }
        words = [f"{process.programs}/python {LAYOUT.servers / program}"]
        words += [f"--{name} {value}" for name, value in options.items()]
        return lines(process, [*words, *(["--access-log"] if process.access_log else [])])

    return made
