"""What a deployment is checked with: what reached the app, streams, slow answers, uploads.

Not needed to run notes; drop the module and its line in main.py from an application of your own.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent

from notes.shutdown import wait

TICK_SECONDS = 0.5
RELEASE = os.environ.get("RELEASE_ID")

router = APIRouter()


@router.get("/api/whoami")
async def whoami(request: Request) -> dict[str, Any]:
    """Show the request as the app sees it: client, scheme, host, URL, the proxy's headers, and the release."""
    names = sorted({name for name in request.headers if name.startswith("x-") or name == "forwarded"})
    return {
        "client": (request.client and request.client.host) or None,
        "scheme": request.url.scheme,
        "host": request.headers.get("host"),
        "url": str(request.url),
        "release": RELEASE,
        "headers": {name: ", ".join(request.headers.getlist(name)) for name in names},
    }


@router.get("/api/events", response_class=EventSourceResponse)
async def events(request: Request, n: Annotated[int | None, Query(ge=1)] = None) -> AsyncIterator[ServerSentEvent]:
    """Send a numbered tick every half second, `n` of them or until the client or the server goes."""
    for tick in count(1):
        yield ServerSentEvent(event="tick", id=str(tick), retry=1000, data={"tick": tick, "release": RELEASE})
        if tick == n or await wait(request.app.state.stopping, TICK_SECONDS):
            return


@router.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Send every text message back with the release; uvicorn closes the connection when the server stops."""
    await websocket.accept()
    try:
        async for message in websocket.iter_text():
            await websocket.send_json({"echo": message, "release": RELEASE})
    except KeyError:  # a binary message has no text
        await websocket.close(1003, "text only")


@router.get("/api/slow")
async def slow(seconds: Annotated[float, Query(ge=0, le=30)] = 1.5) -> dict[str, Any]:
    """Answer after a while: a restart must not cut this off."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds, "release": RELEASE}


@router.post("/api/upload")
async def upload(request: Request) -> dict[str, int]:
    """Count the bytes of the request's body as they come, without keeping them."""
    return {"bytes": sum([len(chunk) async for chunk in request.stream()])}
