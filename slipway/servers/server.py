"""What Slipway has to know of a server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

APP, INTERFACE = "@APP@", "@INTERFACE@"
"""What stands in a unit for the application and its interface: a release finds out (slipway_host.release.served)."""
ASGI, WSGI = "asgi", "wsgi"
INTERFACES = (ASGI, WSGI)
SPARE = 5
"""Seconds that systemd waits beyond those which workers have."""


@dataclass(frozen=True)
class Process:
    """What an app asks of its server."""

    programs: str
    """Folder of the programs of the release's environment."""
    workers: int
    timeout: int
    """Seconds without a sign of life after which a worker is killed."""
    graceful_timeout: int
    """Seconds that a worker has to finish its requests when it is told to stop."""
    keep_alive: int
    """Seconds that an idle connection from nginx stays open."""
    max_requests: int
    """Requests after which a worker is replaced; 0: never."""
    max_requests_jitter: int
    """Up to so many requests more for each worker, at random."""
    threads: int
    """Threads of a worker that serves WSGI."""
    backlog: int
    """Connections that may wait to be accepted."""
    concurrency: int | None
    """Connections and requests that a worker may have under way; None: no limit."""
    access_log: bool
    """Whether it writes a line for each request."""
    config: str | None = None
    """A configuration of the app's own, in its folder."""


@dataclass(frozen=True)
class Server:
    """A server: how it is started, stopped and trusted, and what it needs."""

    name: str
    """Its name in an inventory (`apps.NAME.server`)."""
    interfaces: Sequence[str]
    """Which of `INTERFACES` it serves."""
    packages: Sequence[str]
    """What it needs, as requirements with the versions that fit. A build adds what the app's lock file lacks."""
    programs: Sequence[str]
    """What a release's environment must have in its bin folder, once it is installed."""
    modules: Mapping[str, Sequence[str]]
    """Interface → modules that its start imports: what can't be imported is found before a release starts."""
    deaths: str
    """Pattern of the lines that it writes when a worker ends: what an app says stands before that."""
    files: Mapping[str, str]
    """Path on the host → file of ``files/`` that goes there: what all apps share."""
    reserved: Mapping[str, str]
    """Variable that an inventory can't set, since the server goes by it → what to do instead."""
    service: Callable[[Process], list[str]]
    """The lines of a unit that start it, and stop it drained. Whether it is ready, an HTTP answer alone tells."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Setting of an app that it can't follow → why, and what to do."""

    @property
    def versions(self) -> dict[str, str]:
        """Package → its versions that fit, such as ``>=23,<28``."""
        split = (re.fullmatch(r"([A-Za-z0-9._-]+)([<>=!~,.0-9]*)", each) for each in self.packages)
        return {found[1]: found[2] for found in split if found and found[2]}


def lines(process: Process, words: Sequence[str]) -> list[str]:
    """The lines of a unit that start a server, and end it drained.

    + words: its command, an option with its value a word
    """
    config = [f'Environment="SLIPWAY_SERVER_CONFIG={process.config}"'] if process.config else []
    return [
        f'Environment="SLIPWAY_APP={APP}" SLIPWAY_INTERFACE={INTERFACE}',
        *config,
        "ExecStart=" + " \\\n    ".join(words),
        "KillMode=mixed",
        "# The first process ends its workers itself after their time; systemd only what is still there then.",
        f"TimeoutStopSec={process.graceful_timeout + SPARE}",
        "Restart=always",
        "RestartSec=1",
        "# A worker that ran out of memory is replaced: no reason to stop the others.",
        "OOMPolicy=continue",
    ]
