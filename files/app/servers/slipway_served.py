"""The application of a release, as each server loads it. Managed by Slipway (roles/release).

It runs in the release's own Python, in the app's processes. The unit says what to load: SLIPWAY_APP is
``module:attribute`` or, for a factory, ``module:attribute(literals)``.
"""

import ast
import contextlib
import importlib
import os
import sys

GOING_AWAY = 1012  # "service restart" of RFC 6455's registry

CLOSE = (b"connection", b"close")
LAST_SECONDS = 0.5
"""For requests that are on their way on kept connections when a worker is told to stop: each is answered, and is the
last of its connection. Closed at once, a connection would take them with it."""

count = 0
"""Requests that came through the wrappers below."""
leaving = False
"""Whether each answer is to be the last of its connection."""
_open = {}


def parse(text):
    """The parts of what SLIPWAY_APP says: module, attributes, and the arguments of a call (None for no call)."""
    module, _, expression = text.partition(":")
    tree = ast.parse(expression, mode="eval").body
    arguments = None
    if isinstance(tree, ast.Call):
        named = {each.arg: ast.literal_eval(each.value) for each in tree.keywords}
        arguments = ([ast.literal_eval(each) for each in tree.args], named)
        tree = tree.func
    return module, ast.unparse(tree).split("."), arguments


def enter(folder):
    """Let modules be imported from a folder first, as every server does, and last from here."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # few modules are loaded before the app
    sys.path[:] = [folder, *(each for each in sys.path if each not in (folder, here)), here]


def named(text):
    """The object that SLIPWAY_APP names, without the call. A module that ends the process is an error of its own."""
    module, attributes, _ = parse(text)
    try:
        found = importlib.import_module(module)
    except SystemExit as error:
        raise RuntimeError(f"{module} calls sys.exit({error.code!r}) while it is imported") from error
    for name in attributes:
        found = getattr(found, name)
    return found


def load(text):
    """The application that SLIPWAY_APP names."""
    found, arguments = named(text), parse(text)[2]
    if arguments is None:
        return found
    try:
        return found(*arguments[0], **arguments[1])
    except SystemExit as error:
        raise RuntimeError(f"{text} calls sys.exit({error.code!r})") from error


def metrics():
    """Prepare prometheus_client's multiprocess mode, if the app asks for it: the folder of its files is there, and has
    none of processes that have ended, as of before a restart."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        for name in os.listdir(folder):  # noqa: PTH208
            pid = name.removesuffix(".db").rpartition("_")[2]
            if name.endswith(".db") and pid.isdigit() and not _is_there(int(pid)):
                os.unlink(os.path.join(folder, name))  # noqa: PTH108, PTH118


def _is_there(pid):
    """Whether there is such a process. Another release's isn't seen in /proc from here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def ended(pid):
    """A worker has ended: in prometheus_client's multiprocess mode its gauges count no longer."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        with contextlib.suppress(Exception):  # it is the app's package, of whichever version
            importlib.import_module("prometheus_client.multiprocess").mark_process_dead(pid)


def __getattr__(name):
    """``slipway_served:app`` is the application: loaded when a server asks for it, not before."""
    if name != "app":
        raise AttributeError(name)
    return load(os.environ["SLIPWAY_APP"])


# ── for servers that don't do it themselves ──────────────────────────────────────────────────────────────────────────


def asgi(app, started=None):
    """The same application: nginx says who the client is, requests are counted, and WebSockets are known.

    + started: called once the app's lifespan has begun, or the app has none
    """

    async def served(scope, receive, send):
        global count
        kind = scope["type"]
        if kind == "lifespan":
            return await lifespan(scope, receive, send)
        count += 1
        client = scheme = None
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                client = value
            elif name == b"x-forwarded-proto":
                scheme = value
        if client is not None:
            scope["client"] = (client.decode("latin-1").strip(), 0)
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode().replace("http", "ws") if kind == "websocket" else scheme.decode()
        if kind == "websocket":
            return await websocket(scope, receive, send)
        return await app(scope, receive, last(send) if leaving else send)

    def last(send):
        async def heard(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            await send(message)

        return heard

    async def lifespan(scope, receive, send):
        over = started is None

        def begun():
            nonlocal over
            if not over:
                over = True
                started()

        async def heard(message):
            nonlocal over
            over = over or message["type"] == "lifespan.startup.failed"
            if message["type"] == "lifespan.startup.complete":
                begun()
            await send(message)

        try:
            await app(scope, receive, heard)
        finally:  # it has no lifespan, whether it says so by an error or by nothing
            begun()

    async def websocket(scope, receive, send):
        key, over = object(), False

        async def heard(message):
            nonlocal over
            if over:  # we said goodbye: what the app says now has nobody to hear it
                return
            if message["type"] == "websocket.accept":
                _open[key] = goodbye
            elif message["type"] == "websocket.close":
                _open.pop(key, None)
            await send(message)

        async def goodbye():
            nonlocal over
            over = True
            await send({"type": "websocket.close", "code": GOING_AWAY, "reason": ""})

        try:
            await app(scope, receive, heard)
        finally:
            _open.pop(key, None)

    return served


async def say_goodbye():
    """Answer the last requests, and close each WebSocket that is open."""
    global leaving
    leaving = True
    await importlib.import_module("asyncio").sleep(LAST_SECONDS)
    for goodbye in list(_open.values()):
        with contextlib.suppress(Exception):  # its client may be gone
            await goodbye()
    _open.clear()


def wsgi(app):
    """The same application: nginx says who the client is, and requests are counted."""

    def served(environ, start_response):
        global count
        count += 1
        if client := environ.get("HTTP_X_FORWARDED_FOR"):
            environ["REMOTE_ADDR"] = client.strip()
        if (scheme := environ.get("HTTP_X_FORWARDED_PROTO")) in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        return app(environ, last(start_response) if leaving else start_response)

    def last(start_response):
        return lambda status, headers, *error: start_response(status, [*headers, ("Connection", "close")], *error)

    return served
