"""A page whose script and style sheet have the names that the build gave them."""

import json
from pathlib import Path

MANIFEST = json.loads((Path(__file__).parent.parent / "dist/manifest.json").read_text())
PAGE = f'<!doctype html><script type="module" src="/assets/{MANIFEST["app.js"]}"></script>'


async def app(scope, receive, send):
    """Answer any request with the page."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE.encode()})
