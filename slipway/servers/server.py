"""What Slipway has to know of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """What an app asks of its server."""

    app: str
    """The ASGI application, as module:attribute."""
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


@dataclass(frozen=True)
class Server:
    """A server: how it is started, stopped and trusted, and what it needs."""

    name: str
    """Its name in an inventory (`apps.NAME.server`)."""
    packages: Sequence[str]
    """What it needs, as requirements with the versions that fit. A build adds what the app's lock file lacks."""
    programs: Sequence[str]
    """What a release's environment must have in its bin folder, once it is installed."""
    deaths: str
    """Pattern of the lines that it writes when a worker ends: what an app says stands before that."""
    files: Mapping[str, str]
    """Path on the host → file of ``files/`` that goes there: what all apps share."""
    reserved: Mapping[str, str]
    """Variable that an inventory can't set, since the server goes by it → what to do instead."""
    service: Callable[[Process], list[str]]
    """The lines of a unit that start it, and stop it drained. Whether it is ready, an HTTP answer alone tells."""
