"""What a deployment is checked with: what reached the app, streams, slow answers, uploads.

Not needed to run notes; drop the module and its line in main.py from an application of your own.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated, Any

from litestar import Request, get, post, websocket_listener
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from litestar_notes.shutdown import wait

TICK_SECONDS = 0.5
RELEASE = os.environ.get("RELEASE_ID")


@get("/api/whoami")
async def whoami(request: Request[Any, Any, State]) -> dict[str, Any]:
    """Show the request as the app sees it: client, scheme, host, URL, the proxy's headers, and the release."""
    names = sorted({name for name in request.headers if name.startswith("x-") or name == "forwarded"})
    return {
        "client": (request.client and request.client.host) or None,
        "scheme": request.url.scheme,
        "host": request.headers.get("host"),
        "url": str(request.url),
        "release": RELEASE,
        "headers": {name: ", ".join(request.headers.getall(name)) for name in names},
    }


@get("/api/events")
async def events(state: State, n: Annotated[int | None, Parameter(ge=1)] = None) -> ServerSentEvent:
    """Send a numbered tick every half second, `n` of them or until the client or the server goes."""

    async def ticks() -> AsyncIterator[ServerSentEventMessage]:
        for tick in count(1):
            data = json.dumps({"tick": tick, "release": RELEASE})
            yield ServerSentEventMessage(event="tick", id=tick, retry=1000, data=data)
            if tick == n or await wait(state.stopping, TICK_SECONDS):
                return

    return ServerSentEvent(ticks())


@websocket_listener("/ws")
async def echo(data: str) -> dict[str, Any]:
    """Send every text message back with the release; uvicorn closes the connection when the server stops."""
    return {"echo": data, "release": RELEASE}


@get("/api/slow")
async def slow(seconds: Annotated[float, Parameter(ge=0, le=30)] = 1.5) -> dict[str, Any]:
    """Answer after a while: a restart must not cut this off."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds, "release": RELEASE}


@post("/api/upload", status_code=200, request_max_body_size=None)
async def upload(request: Request[Any, Any, State]) -> dict[str, int]:
    """Count the bytes of the request's body as they come, without keeping them; nginx sets the limit."""
    return {"bytes": sum([len(chunk) async for chunk in request.stream()])}


handlers = [whoami, events, echo, slow, upload]
