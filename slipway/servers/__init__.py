"""The servers that apps run under, a file each: nothing else names one."""

from __future__ import annotations

from slipway.servers.gunicorn import GUNICORN
from slipway.servers.server import Process, Server

__all__ = ["SERVER", "Process", "Server"]

SERVER: Server = GUNICORN
"""The server of every app."""
