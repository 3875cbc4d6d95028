"""An ASGI app without a framework, without a path for its health, and with `/` behind a login."""

import json
import socket
from urllib.parse import parse_qs


async def app(scope, receive, send):
    """Say what was asked, with cookies of the sizes in the query."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path, query = scope["path"], parse_qs(scope["query_string"].decode())
    headers = [(b"content-type", b"application/json")]
    headers += [(b"set-cookie", b"a=" + b"x" * int(size)) for size in query.get("cookie", [])]
    status, told = 200, {}
    if path == "/":
        status = 302
        headers.append((b"location", b"/login"))
    elif path == "/echo":
        given = {name.decode(): value.decode() for name, value in scope["headers"] if len(value) < 1000}
        told = {"method": scope["method"], "scheme": scope["scheme"], "headers": given}
    elif path == "/busy":
        status = 429
    elif path == "/interfaces":
        told = {"interfaces": [name for _, name in socket.if_nameindex()]}
    elif path == "/print":
        print("printed by the app")
    else:
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
