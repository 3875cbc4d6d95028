"""Hypercorn."""

from __future__ import annotations

from slipway.servers import kept
from slipway.servers.server import ASGI, Server

HYPERCORN = Server(
    name="hypercorn",
    interfaces=(ASGI,),
    packages=("hypercorn",),
    # The app's kind can be said since 0.15; later than 0.18 isn't tried.
    versions={"hypercorn": ">=0.17,<0.19"},
    programs=("python",),
    modules={ASGI: ("hypercorn.asyncio.run",)},
    deaths=kept.DEATHS,
    add="uv add hypercorn uvloop",
    files=kept.own("run_hypercorn.py"),
    reserved={},
    service=kept.service("run_hypercorn.py"),
    refused={
        "threads": "Hypercorn serves ASGI alone here, whose apps have no threads: leave it out",
        "concurrency": 'Hypercorn has no such limit: leave it out, or write "server": "uvicorn"',
    },
)
