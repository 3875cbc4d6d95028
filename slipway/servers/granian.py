"""Granian."""

from __future__ import annotations

from slipway.servers import kept
from slipway.servers.server import ASGI, WSGI, Server

GRANIAN = Server(
    name="granian",
    interfaces=(ASGI, WSGI),
    # Its worker is started by parts of it that may change with any 2.x.
    packages=("granian>=2.8,<2.9", "uvloop>=0.17"),
    programs=("python",),
    modules={ASGI: ("granian",), WSGI: ("granian",)},
    deaths=kept.DEATHS,
    files=kept.own("run_granian.py"),
    reserved={},
    service=kept.service("run_granian.py"),
    refused=kept.CONFIG
    | {
        "keep_alive": "Granian keeps idle connections until nginx ends them, which loses no request: leave it out",
    },
)
