"""A small ASGI app that behaves as the hooks.json beside it says, so that a test makes any kind of release.

version: text that / answers with · import_seconds: how long importing takes · import_error: importing raises ·
boot: "exit" ends the process at start-up, "wait" never finishes it · ready_after: seconds until /readyz answers 200,
503 until then · ready_body: what it answers meanwhile · bad_after: seconds after the first request of the public (it
came through nginx, which gives it an ID) from which /readyz answers 503 · headers: more of every answer
"""

import asyncio
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

BORN = time.monotonic()
PUBLIC_SINCE: list[float] = []
"""When the first request of the public came, once there was one."""
GROWN: list[bytes] = []
"""What /grow has taken."""
HOOKS: dict[str, Any] = json.loads(Path(__file__).with_name("hooks.json").read_text(encoding="utf-8"))

time.sleep(HOOKS.get("import_seconds", 0))
if "import_error" in HOOKS:
    raise RuntimeError(HOOKS["import_error"])


def attempt(path: str) -> str:
    """Try to write to a file as the app: "written", or why not."""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("\n")
        return "written"
    except OSError as error:
        return type(error).__name__


def neighbour() -> dict[str, Any] | None:
    """What the build of the package `built` was given, where it is a neighbour of this app in a workspace."""
    try:
        built = importlib.import_module("built")
    except ImportError:
        return None
    return {"token": built.TOKEN, "user": built.USER}


def facts() -> dict[str, Any]:
    """What a test wants to know about the process."""
    return {
        "release": os.environ.get("RELEASE_ID"),
        "version": HOOKS.get("version", ""),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "python": sys.version.split()[0],
        "loop": type(asyncio.get_running_loop()).__module__,
        "cwd": str(Path.cwd()),
        "file": __file__,
        "built": neighbour(),
    }


def block(seconds: float) -> None:
    """Stop the event loop, and with it everything in this worker."""
    time.sleep(seconds)


async def answer(path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
    """Status and JSON of one request."""
    match path:
        case "/healthz":
            return 200, {"status": "ok"}
        case "/readyz":
            if time.monotonic() - BORN < HOOKS.get("ready_after", 0):
                return 503, HOOKS.get("ready_body", "not yet")
            if "bad_after" in HOOKS and PUBLIC_SINCE and time.monotonic() - PUBLIC_SINCE[0] >= HOOKS["bad_after"]:
                return 503, "the queue went away"
            return 200, {"status": "ready"}
        case "/env":
            return 200, dict(os.environ)
        case "/attempt":
            return 200, {each: attempt(each) for each in json.loads(body)}
        case "/api/slow":
            await asyncio.sleep(float(query.get("seconds", "1")))
            return 200, facts()
        case "/hang":
            block(float(query["seconds"]))
            return 200, facts()
        case "/grow":  # a container has no memory limit of its own: what the kernel would do then is done here
            try:
                while len(GROWN) < int(query["mb"]):
                    GROWN.append(os.urandom(1 << 20))
            except MemoryError:
                os.kill(os.getpid(), signal.SIGKILL)
            return 200, facts()
        case "/print":
            print(query["text"], flush=True)
            return 200, {}
        case _:
            return 200, facts()


async def app(
    scope: dict[str, Any], receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[Any]]
) -> None:
    """Answer any request with JSON; follow the hooks at start-up."""
    if scope["type"] == "lifespan":
        await receive()
        match HOOKS.get("boot"):
            case "exit":
                print("tiny gives up: " + HOOKS.get("why", "no reason"), flush=True)
                os._exit(3)
            case "wait":
                await asyncio.sleep(3600)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "http":
        return
    if not PUBLIC_SINCE and any(name == b"x-request-id" for name, _ in scope["headers"]):
        PUBLIC_SINCE.append(time.monotonic())
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    status, value = await answer(scope["path"], query, body)
    text = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in HOOKS.get("headers", {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
