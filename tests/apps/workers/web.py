"""The web process of each app here: it adds jobs to a queue, and tells which were done."""

import inspect
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import work

LOG = Path(os.environ["STATE_DIRECTORY"], "log")


def lines() -> list[str]:
    """What happened to the jobs."""
    return LOG.read_text().splitlines() if LOG.exists() else []


async def answer(path: str, query: dict[str, str]) -> Any:
    """The answer to a request, as JSON."""
    if path == "/add":
        for number in range(int(query.get("count", "1"))):
            added = work.add(f"{query['name']}-{number}", float(query.get("seconds", "0")))
            if inspect.isawaitable(added):
                await added
        return "added"
    if path == "/log":
        return lines()
    return os.environ.get("RELEASE_ID")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without a framework."""
    if scope["type"] != "http":
        return
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    body = json.dumps(await answer(scope["path"], query)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
