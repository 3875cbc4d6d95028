"""The servers that apps run under, a file each: nothing else names one."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.servers.granian import GRANIAN
from slipway.servers.gunicorn import GUNICORN
from slipway.servers.hypercorn import HYPERCORN
from slipway.servers.server import APP, INTERFACE, INTERFACES, Process, Server
from slipway.servers.uvicorn import UVICORN

__all__ = ["APP", "INTERFACE", "INTERFACES", "LEFT_OUT", "SERVERS", "USUAL", "Process", "Server"]

SERVERS: Mapping[str, Server] = {each.name: each for each in (GUNICORN, UVICORN, GRANIAN, HYPERCORN)}
"""Name in an inventory → server."""
USUAL = GUNICORN.name
"""Name of the server of an app that names none."""
LEFT_OUT: Mapping[str, str] = {
    "daphne": "daphne ends requests that are under way when it is stopped, and takes no socket from systemd",
}
"""Server that none of these is → why."""
