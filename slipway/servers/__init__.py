"""The servers that apps run under, a file each: nothing else names one."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.servers.gunicorn import GUNICORN
from slipway.servers.server import Process, Server

__all__ = ["SERVERS", "USUAL", "Process", "Server"]

SERVERS: Mapping[str, Server] = {each.name: each for each in (GUNICORN,)}
"""Name in an inventory → server."""
USUAL = GUNICORN.name
"""Name of the server of an app that names none."""
