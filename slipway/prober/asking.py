"""Requests to a site, one by one.

aiohttp would send a failed GET again by itself, on whatever connection and even when half an answer had come; here that
is switched off, and done only where a visitor's browser does it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from slipway_host.wanted import TOO_MANY

from slipway.prober.lost import CLEAN, LostError, TornError, words
from slipway.prober.models import Load, Site

UPLOAD_SECONDS = 1.0
"""How long the body of an upload takes to be sent, in pieces: a release should meet it half-way."""

UPLOAD_PIECES = 20
"""Pieces of an upload."""

ANSWER_LINE = 65_536
"""Bytes of the longest line in an answer's header: browsers take as much, and nginx passes on 32 kB."""

_T = TypeVar("_T")


async def _never_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:  # never retried
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError) as error:
        raise TornError(error) from error


class _Resolver(AbstractResolver):
    """Asks DNS once for each name: a hiccup of this machine's DNS isn't the site's, nor is its time."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._found: dict[tuple[str, int, int], list[ResolveResult]] = {}

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        key = (host, port, int(family))
        if key not in self._found:
            self._found[key] = await self._resolver.resolve(host, port, family)
        return self._found[key]

    async def close(self) -> None:
        await self._resolver.close()


class Connection:
    """One kept connection, for one request at a time; or the new ones of requests that have one each."""

    def __init__(self, make_session: Callable[[aiohttp.TraceConfig], aiohttp.ClientSession]) -> None:
        self.reused = False
        """Whether the last request found its connection open."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._note)
        self.session = make_session(trace)

    async def _note(self, *_: object) -> None:
        self.reused = True


class Asking:
    """One site, and how each kind of request is sent to it."""

    def __init__(self, site: Site, load: Load) -> None:
        """Raises OSError where `site.ca_file` can't be read, ssl.SSLError where it holds no certificate."""
        self._site, self._load = site, load
        self._loop = asyncio.get_running_loop()
        parts = urlsplit(site.url)
        self._name = parts.hostname or ""
        host, port = site.address or self._name, site.port or parts.port or (443 if parts.scheme == "https" else 80)
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._base = f"{parts.scheme}://{self._where}"
        self._headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "slipway-prober",
            "Accept-Encoding": "identity",
        }
        self._tls = ssl.create_default_context(cafile=site.ca_file)
        if not site.verify:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
        self._resolver = _Resolver()
        self._fresh = Connection(functools.partial(self._session, kept=False))
        self._connections = [
            self._fresh if number % 2 else Connection(functools.partial(self._session, kept=True))
            for number in range(load.connections)
        ]
        self._resent = 0

    # --- Connections --------------------------------------------------------------------------------------------------

    def _session(self, trace: aiohttp.TraceConfig, *, kept: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=1 if kept else 0, force_close=not kept, ssl=self._tls, resolver=self._resolver
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=ANSWER_LINE,
            max_field_size=ANSWER_LINE,
            timeout=aiohttp.ClientTimeout(total=None),  # `_judged` has the one clock
            middlewares=(_never_retry,),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close every connection."""
        for session in {connection.session for connection in [self._fresh, *self._connections]}:
            await session.close()

    # --- One request --------------------------------------------------------------------------------------------------

    async def _judged(self, asked: Coroutine[Any, Any, _T], seconds: float | None = None) -> _T:
        """The outcome of a request, or `LostError`; `seconds` None: the load's time-out."""
        seconds = seconds or self._load.timeout
        try:
            async with asyncio.timeout(seconds):
                return await asked
        except TimeoutError as error:
            raise LostError(f"got no answer within {seconds:g} s") from error
        except (TornError, aiohttp.ClientError, OSError, ValueError) as error:
            raise LostError(words(error)) from error

    async def _ask(self, connection: Connection, path: str) -> tuple[str, bytes]:
        """Content type and body of the good answer to a GET request, which is sent again where a browser would."""
        try:
            return await self._ask_once(connection, "GET", path)
        except TornError as error:
            if not (connection.reused and error.unanswered):
                raise
        # The broken connection was the only one of its session, so this opens a new one.
        self._resent += 1
        return await self._ask_once(connection, "GET", path)

    async def _upload(self, path: str) -> None:
        size = self._load.upload_bytes
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        await self._ask_once(self._fresh, "POST", path, headers=headers, data=self._body(size))

    async def _ask_once(self, connection: Connection, method: str, path: str, **options: Any) -> tuple[str, bytes]:
        connection.reused = False
        async with connection.session.request(
            method, self._base + path, server_hostname=self._name, allow_redirects=False, **options
        ) as response:
            _check(response, self._load.lenient and path in self._load.short)
            return response.headers.get("Content-Type", ""), await response.read()

    async def _body(self, size: int) -> AsyncIterator[bytes]:
        edges = [size * number // UPLOAD_PIECES for number in range(UPLOAD_PIECES + 1)]
        began = self._loop.time()
        for number, (start, end) in enumerate(itertools.pairwise(edges), 1):
            if end > start:
                yield b"." * (end - start)
            await asyncio.sleep(began + number * UPLOAD_SECONDS / UPLOAD_PIECES - self._loop.time())

    async def _open_websocket(self, path: str) -> aiohttp.ClientWebSocketResponse:
        return await self._fresh.session.ws_connect(
            self._base + path, server_hostname=self._name, timeout=aiohttp.ClientWSTimeout(ws_close=1)
        )

    async def _exchange(self, websocket: aiohttp.ClientWebSocketResponse) -> bool:
        """Send a message and await an answer: True; False where the server said goodbye instead."""
        with contextlib.suppress(ConnectionError):  # what came before the end is still to be read
            await websocket.send_str("probe")
        message = await websocket.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                return True
            case aiohttp.WSMsgType.CLOSE:
                if message.data not in CLEAN:
                    raise LostError(f"was closed with code {message.data or 1005}")
                return False
            case aiohttp.WSMsgType.ERROR:
                raise LostError(words(message.data))
            case _:
                raise LostError("broke off without a close frame")

    async def _open_stream(self, path: str) -> aiohttp.ClientResponse:
        response = await self._fresh.session.get(
            self._base + path,
            server_hostname=self._name,
            allow_redirects=False,
            headers={"Accept": "text/event-stream, */*"},
        )
        try:
            _check(response)
        except LostError:
            response.close()
            raise
        return response

    async def _piece(self, response: aiohttp.ClientResponse) -> bool:
        """Await the next piece of a stream: True; False where the stream ended as it should."""
        if await response.content.readany():
            return True
        if "Content-Length" in response.headers or "chunked" in response.headers.get("Transfer-Encoding", ""):
            return False
        raise LostError("broke off: neither chunks nor a length tell that this was its end")


def _check(response: aiohttp.ClientResponse, lenient: bool = False) -> None:
    """Of an app whose paths aren't known, any answer is good that is no fault of its own."""
    if not 200 <= response.status < (500 if lenient else 400) and response.status != TOO_MANY:
        raise LostError(f"answered {response.status}")
