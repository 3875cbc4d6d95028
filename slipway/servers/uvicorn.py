"""Uvicorn, without Gunicorn."""

from __future__ import annotations

from slipway.servers import kept
from slipway.servers.server import ASGI, Server

UVICORN = Server(
    name="uvicorn",
    interfaces=(ASGI,),
    packages=("uvicorn>=0.23", "uvloop>=0.17", "httptools>=0.5"),
    programs=("python",),
    modules={ASGI: ("uvicorn",)},
    deaths=kept.DEATHS,
    files=kept.own("run_uvicorn.py", "slipway_uvicorn.py"),
    reserved={},
    service=kept.service("run_uvicorn.py"),
    refused=kept.CONFIG | {"threads": "Uvicorn serves ASGI alone, whose apps have no threads here: leave it out"},
)
