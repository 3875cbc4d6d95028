"""The process that sends: every request of the traffic, its judgement, and the talk with the parent process.

One thread, one event loop, one TLS context. aiohttp would send a failed GET again by itself, on whatever connection and
even when half an answer had come; here that is switched off, and done only where a visitor's browser does it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import itertools
import json
import math
import os
import signal
import ssl
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from prober._models import MOST_FAULTS, Fault, Load, Result, Site

MESSAGE_EVERY = 0.05
"""Seconds between two messages over one WebSocket: a chatty app's, and fine enough to show a gap."""

REOPEN_AFTER = 0.25
"""Seconds between two openings of one WebSocket or stream, two slow requests, two uploads, where they end sooner: a
site that is down isn't hammered, and one lost stream isn't hundreds of faults."""

UPLOAD_SECONDS = 1.0
"""How long the body of an upload takes to be sent, in pieces: a release should meet it half-way."""

UPLOAD_PIECES = 20
"""Pieces of an upload."""

CLEAN = frozenset({1000, 1001, 1012})
"""Close codes of a WebSocket that ask for nothing but to come again: done, going away, restart (RFC 6455, 7.4.1; IANA's
registry). uvicorn sends 1012 when it stops."""

_T = TypeVar("_T")


class _Lost(Exception):
    """A request that failed; the text is the reason in words, without the request."""


class _TornError(Exception):
    """The connection ended before the head of an answer was there. No aiohttp error, which aiohttp would retry."""

    def __init__(self, error: Exception) -> None:
        # The message is no text but a head of an answer, where half of one came.
        half = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
        super().__init__("the connection was closed in the head of it" if half else _cause(error))
        self.unanswered = not half


class _RefusedError(Exception):
    """The warm-up failed; the text is for the user."""


def _words(error: BaseException) -> str:
    """What befell a request, as the rest of a sentence that begins with it."""
    if isinstance(error, TimeoutError):
        return "got no answer in time"
    if isinstance(error, _TornError):
        return f"got no answer: {error}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"found a certificate that isn't trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"found no connection: {_cause(error.os_error)}"
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status != 101:
        return f"answered {error.status} and opened no WebSocket"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "got a torn answer"
    return f"broke off: {_cause(error)}"


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


async def _never_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:  # never retried
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError) as error:
        raise _TornError(error) from error


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


class _Connection:
    """One kept connection, for one request at a time; or the new ones of requests that have one each."""

    def __init__(self, make_session: Callable[[aiohttp.TraceConfig], aiohttp.ClientSession]) -> None:
        self.reused = False
        """Whether the last request found its connection open."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._note)
        self.session = make_session(trace)

    async def _note(self, *_: object) -> None:
        self.reused = True


class Traffic:
    """All requests to one site, and what became of them."""

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
        self._fresh = _Connection(functools.partial(self._session, kept=False))
        self._connections = [
            self._fresh if number % 2 else _Connection(functools.partial(self._session, kept=True))
            for number in range(load.connections)
        ]
        self._websockets: list[aiohttp.ClientWebSocketResponse] = []
        self._streams: list[aiohttp.ClientResponse] = []

        self._ended = False
        self._idle: set[asyncio.Task[None]] = set()
        self._begin = self._last_good = self._gap = 0.0
        self._latencies = array("d")
        self._requests = self._failed = self._resent = self._closed = 0
        self._faults: list[Fault] = []
        kinds = {"short": True, "slow": load.slow, "upload": load.upload, "websocket": load.websocket}
        self._counts = {kind: 0 for kind, path in (kinds | {"stream": load.stream}).items() if path}
        self._releases: dict[str, None] = {}

    # --- Connections --------------------------------------------------------------------------------------------------

    def _session(self, trace: aiohttp.TraceConfig, *, kept: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=1 if kept else 0, force_close=not kept, ssl=self._tls, resolver=self._resolver
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
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
        """The outcome of a request, or `_Lost`; `seconds` None: the load's time-out."""
        seconds = seconds or self._load.timeout
        try:
            async with asyncio.timeout(seconds):
                return await asked
        except TimeoutError as error:
            raise _Lost(f"got no answer within {seconds:g} s") from error
        except (_TornError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _Lost(_words(error)) from error

    async def _ask(self, connection: _Connection, path: str) -> tuple[str, bytes]:
        """Content type and body of the good answer to a GET request, which is sent again where a browser would."""
        try:
            return await self._ask_once(connection, "GET", path)
        except _TornError as error:
            if not (connection.reused and error.unanswered):
                raise
        # The broken connection was the only one of its session, so this opens a new one.
        self._resent += 1
        return await self._ask_once(connection, "GET", path)

    async def _upload(self, path: str) -> None:
        size = self._load.upload_bytes
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        await self._ask_once(self._fresh, "POST", path, headers=headers, data=self._body(size))

    async def _ask_once(self, connection: _Connection, method: str, path: str, **options: Any) -> tuple[str, bytes]:
        connection.reused = False
        async with connection.session.request(
            method, self._base + path, server_hostname=self._name, allow_redirects=False, **options
        ) as response:
            _check(response)
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
                    raise _Lost(f"was closed with code {message.data or 1005}")
                return False
            case aiohttp.WSMsgType.ERROR:
                raise _Lost(_words(message.data))
            case _:
                raise _Lost("broke off without a close frame")

    async def _open_stream(self, path: str) -> aiohttp.ClientResponse:
        response = await self._fresh.session.get(
            self._base + path,
            server_hostname=self._name,
            allow_redirects=False,
            headers={"Accept": "text/event-stream, */*"},
        )
        try:
            _check(response)
        except _Lost:
            response.close()
            raise
        return response

    async def _piece(self, response: aiohttp.ClientResponse) -> bool:
        """Await the next piece of a stream: True; False where the stream ended as it should."""
        if await response.content.readany():
            return True
        if "Content-Length" in response.headers or "chunked" in response.headers.get("Transfer-Encoding", ""):
            return False
        raise _Lost("broke off: neither chunks nor a length tell that this was its end")

    # --- The warm-up --------------------------------------------------------------------------------------------------

    async def warm_up(self, seconds: float) -> None:
        """Ask for each kind of traffic once; WebSockets and streams stay open. `_RefusedError` where one isn't good."""
        seconds = min(seconds, self._load.timeout)
        load, fresh = self._load, self._fresh

        async def websocket(path: str) -> None:
            opened = await self._open_websocket(path)
            if not await self._exchange(opened):
                raise _Lost("was closed at once")
            self._websockets.append(opened)

        async def stream(path: str) -> None:
            opened = await self._open_stream(path)
            if not await self._piece(opened):
                raise _Lost("ended at once; it is for an answer that never ends")
            self._streams.append(opened)

        async def reason(kind: str, path: str, asked: Coroutine[Any, Any, object]) -> str | None:
            try:
                await self._judged(asked, seconds)
            except _Lost as lost:
                if isinstance(lost.__cause__, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
                    at = f" at {self._where}" if self._site.address or self._site.port else ""
                    return f"{self._site.url}{at}: the first requests {lost}"
                return f"{self._site.shown(path)} {lost} before anything began: is `probe.{kind}` right?"
            return None

        asked = [reason("short", path, self._ask(fresh, path)) for path in dict.fromkeys(load.short)]
        if load.slow:
            asked.append(reason("slow", load.slow, self._ask(fresh, load.slow)))
        if load.upload:
            asked.append(reason("upload", load.upload, self._upload(load.upload)))
        if load.websocket:
            asked += [reason("websocket", load.websocket, websocket(load.websocket)) for _ in range(load.websockets)]
        if load.stream:
            asked += [reason("stream", load.stream, stream(load.stream)) for _ in range(load.streams)]
        if reasons := dict.fromkeys(each for each in await asyncio.gather(*asked) if each):
            raise _RefusedError("; ".join(reasons))

    # --- The traffic --------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, after: float) -> Result:
        """Send until `after` seconds past `stop`, await what is under way, and tell what became of it all."""
        load = self._load
        workers: list[Coroutine[Any, Any, None]] = []
        self._begin = self._last_good = self._loop.time()
        workers += [self._short(number, connection) for number, connection in enumerate(self._connections)]
        if load.slow:
            ask = functools.partial(self._ask, self._fresh, load.slow)
            workers += [self._again("slow", f"GET {load.slow}", ask, n) for n in range(load.slow_connections)]
        if load.upload:
            send = functools.partial(self._upload, load.upload)
            workers += [self._again("upload", f"POST {load.upload}", send, n) for n in range(load.upload_connections)]
        if load.websocket:
            workers += [self._websocket(load.websocket, each) for each in self._websockets]
        if load.stream:
            workers += [self._stream(load.stream, each) for each in self._streams]
        tasks = [asyncio.create_task(worker) for worker in workers]
        await stop.wait()
        await asyncio.sleep(after)
        self._ended, end = True, self._loop.time()
        for task in list(self._idle):
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        self._gap = max(self._gap, end - self._last_good)
        return self._result(end)

    def _result(self, end: float) -> Result:
        latencies = sorted(self._latencies)

        def percentile(share: float) -> float:  # the nearest rank
            return latencies[max(math.ceil(share * len(latencies)) - 1, 0)] if latencies else 0.0

        return Result(
            requests=self._requests,
            failed=self._failed,
            resent=self._resent,
            p50=percentile(0.5),
            p99=percentile(0.99),
            longest_gap=self._gap,
            slowest=percentile(1),
            seconds=end - self._begin,
            faults=self._faults,
            counts=self._counts,
            releases=list(self._releases),
            closed=self._closed,
        )

    async def _sleep_until(self, when: float) -> None:
        """Wait, unless the end comes first: then the task is cancelled, for it has nothing under way."""
        if self._ended:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            await asyncio.sleep(when - self._loop.time())
        finally:
            self._idle.discard(task)

    def _good(self, kind: str) -> None:
        self._requests += 1
        self._counts[kind] += 1

    def _fault(self, kind: str, request: str, lost: _Lost) -> None:
        self._requests += 1
        self._failed += 1
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(Fault(round(self._loop.time() - self._begin, 3), kind, f"{request} {lost}"))

    async def _short(self, number: int, connection: _Connection) -> None:
        """Send short requests over one connection, by a timetable that is fixed from the beginning.

        What is due while an earlier answer is late is sent as soon as that came, and its latency counts from when it
        was due (no coordinated omission). The timetables of all connections are spread evenly.
        """
        load = self._load
        for turn in itertools.count():
            due = self._begin + (number + turn * load.connections) / load.rate
            if due > self._loop.time() or self._ended:
                await self._sleep_until(due)
            # Not by `number` alone: kept and new connections shall both ask for each path.
            path = load.short[(turn + number // 2) % len(load.short)]
            try:
                kind, body = await self._judged(self._ask(connection, path))
            except _Lost as lost:
                self._fault("short", f"GET {path}", lost)
                continue
            now = self._loop.time()
            self._good("short")
            self._latencies.append(now - due)
            self._gap, self._last_good = max(self._gap, now - self._last_good), now
            if "json" in kind and b'"release"' in body:
                with contextlib.suppress(ValueError):
                    answer = json.loads(body)
                    if isinstance(answer, dict) and isinstance(answer.get("release"), str):
                        self._releases[answer["release"]] = None

    async def _again(
        self, kind: str, request: str, ask: Callable[[], Coroutine[Any, Any, object]], number: int
    ) -> None:
        """Send one request after the other, each over a new connection; a second worker begins half a second later."""
        await self._sleep_until(self._begin + number / 2)
        while True:
            began = self._loop.time()
            try:
                await self._judged(ask())
                self._good(kind)
            except _Lost as lost:
                self._fault(kind, request, lost)
            await self._sleep_until(began + REOPEN_AFTER)

    async def _websocket(self, path: str, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Send messages over a WebSocket, each when the last one is answered; open it again whenever it ends."""
        opened = self._begin
        open_now = True
        try:
            while True:
                try:
                    if not open_now:
                        await self._sleep_until(opened + REOPEN_AFTER)
                        opened = self._loop.time()
                        websocket = await self._judged(self._open_websocket(path))
                        open_now = True
                        self._requests += 1
                    sent = self._loop.time()
                    if await self._judged(self._exchange(websocket)):
                        self._good("websocket")
                    else:
                        self._closed += 1
                        open_now = False
                except _Lost as lost:
                    self._fault("websocket", f"WebSocket {path}", lost)
                    if open_now:
                        await websocket.close()
                    open_now = False
                if open_now:
                    await self._sleep_until(sent + MESSAGE_EVERY)
        finally:
            if open_now:
                await websocket.close()

    async def _stream(self, path: str, response: aiohttp.ClientResponse) -> None:
        """Read a stream, and open it again whenever it ends; nobody is waiting for its end, so that may cut it off."""
        opened = self._begin
        open_now = True
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                try:
                    if not open_now:
                        await self._sleep_until(opened + REOPEN_AFTER)
                        opened = self._loop.time()
                        response = await self._judged(self._open_stream(path))
                        open_now = True
                        self._requests += 1
                    self._idle.add(task)
                    if self._ended:
                        return
                    if await self._judged(self._piece(response)):
                        self._counts["stream"] += 1
                    else:
                        self._closed += 1
                        open_now = False
                except _Lost as lost:
                    self._fault("stream", f"stream {path}", lost)
                    response.close()
                    open_now = False
                finally:
                    self._idle.discard(task)
        finally:
            response.close()


def _check(response: aiohttp.ClientResponse) -> None:
    if not 200 <= response.status < 400:
        raise _Lost(f"answered {response.status}")


# --- The process ------------------------------------------------------------------------------------------------------


async def _watch(commands: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while await commands.readline():
        stop.set()
    os._exit(1)  # the parent is gone or has what it wanted: nobody is left to tell, and nothing to tidy up


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)


async def _serve() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    order = json.loads(await commands.readline())
    stop = asyncio.Event()
    watching = asyncio.create_task(_watch(commands, stop))
    load = order["load"] | {"short": tuple(order["load"]["short"])}
    site = Site(**order["site"])
    try:
        traffic = Traffic(site, Load(**load))
    except OSError as error:  # ssl.SSLError is one
        _say(error=f"{site.ca_file}: {error.strerror or error}; it must be a PEM file of certificates to trust")
        return
    try:
        await traffic.warm_up(order["warm_up"])
    except _RefusedError as error:
        _say(error=str(error))
        return
    # What is there by now stays: a full collection of it would be a pause in the traffic.
    gc.collect()
    gc.freeze()
    _say(ready=True)
    result = await traffic.run(stop, order["after"])
    _say(result=json.loads(result.to_json()))
    await traffic.close()
    watching.cancel()


def serve() -> None:
    """Be the child process of a `Prober`: read orders from standard input, send, answer on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what ^C means
    asyncio.run(_serve())
