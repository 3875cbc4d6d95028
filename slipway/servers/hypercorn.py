"""Hypercorn."""

from __future__ import annotations

from slipway.servers import kept
from slipway.servers.server import ASGI, Server

HYPERCORN = Server(
    name="hypercorn",
    interfaces=(ASGI,),
    # Later than 0.18 isn't tried.
    packages=("hypercorn>=0.17,<0.19", "uvloop>=0.17"),
    programs=("python",),
    modules={ASGI: ("hypercorn.asyncio.run",)},
    deaths=kept.DEATHS,
    files=kept.own("run_hypercorn.py"),
    reserved={},
    service=kept.service("run_hypercorn.py"),
    refused=kept.CONFIG
    | {
        "threads": "Hypercorn serves ASGI alone here, whose apps have no threads: leave it out",
        "concurrency": 'Hypercorn has no such limit: leave it out, or write "server": "uvicorn"',
    },
)
