"""Says who asks, takes its time, and echoes: plain ASGI."""

import asyncio
import json
import os
from typing import Any
from urllib.parse import parse_qs


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await answer(scope, receive, send)


async def echo(receive: Any, send: Any) -> None:
    """Send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message.get("text") or ""})


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Say what is known of a request, after ?seconds=."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    asked = parse_qs(scope["query_string"].decode())
    await asyncio.sleep(float(asked.get("seconds", ["0"])[0]))
    told = {
        "client": (scope.get("client") or [None])[0],
        "scheme": scope["scheme"],
        "path": scope["path"],
        "body": size,
        "head": sum(len(name) + len(value) for name, value in scope["headers"]),
        "worker": os.getpid(),
        "version": os.environ.get("VERSION", ""),
    }
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
