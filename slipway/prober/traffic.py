"""Every request of the traffic, its timetable and its judgement: one thread, one event loop, one TLS context."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import math
from array import array
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from slipway.prober.asking import Asking, Connection
from slipway.prober.lost import LostError, RefusedError
from slipway.prober.models import MOST_FAULTS, Fault, Load, Result, Site

MESSAGE_EVERY = 0.05
"""Seconds between two messages over one WebSocket: a chatty app's, and fine enough to show a gap."""

REOPEN_AFTER = 0.25
"""Seconds between two openings of one WebSocket or stream, two slow requests, two uploads, where they end sooner: a
site that is down isn't hammered, and one lost stream isn't hundreds of faults."""


class Traffic(Asking):
    """All requests to one site, and their results."""

    def __init__(self, site: Site, load: Load) -> None:
        """Raises OSError where `site.ca_file` can't be read, ssl.SSLError where it holds no certificate."""
        super().__init__(site, load)
        self._websockets: list[aiohttp.ClientWebSocketResponse] = []
        self._streams: list[aiohttp.ClientResponse] = []
        self._ended = False
        self._idle: set[asyncio.Task[None]] = set()
        self._begin = self._last_good = self._gap = 0.0
        self._latencies = array("d")
        self._requests = self._failed = self._closed = 0
        self._faults: list[Fault] = []
        kinds = {"short": True, "slow": load.slow, "upload": load.upload, "websocket": load.websocket}
        self._counts = {kind: 0 for kind, path in (kinds | {"stream": load.stream}).items() if path}
        self._releases: dict[str, None] = {}

    # --- The warm-up --------------------------------------------------------------------------------------------------

    async def warm_up(self, seconds: float) -> None:
        """Ask for each kind of traffic once; WebSockets and streams stay open. `RefusedError` where one isn't good."""
        seconds = min(seconds, self._load.timeout)
        load, fresh = self._load, self._fresh

        async def websocket(path: str) -> None:
            opened = await self._open_websocket(path)
            if not await self._exchange(opened):
                raise LostError("was closed at once")
            self._websockets.append(opened)

        async def stream(path: str) -> None:
            opened = await self._open_stream(path)
            if not await self._piece(opened):
                raise LostError("ended at once; it is for an answer that never ends")
            self._streams.append(opened)

        async def reason(kind: str, path: str, asked: Coroutine[Any, Any, object]) -> str | None:
            try:
                await self._judged(asked, seconds)
            except LostError as lost:
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
            raise RefusedError("; ".join(reasons))

    # --- The traffic --------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, after: float) -> Result:
        """Send until `after` seconds past `stop`, await open requests, and return the result."""
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

    def _fault(self, kind: str, request: str, lost: LostError) -> None:
        self._requests += 1
        self._failed += 1
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(Fault(round(self._loop.time() - self._begin, 3), kind, f"{request} {lost}"))

    async def _short(self, number: int, connection: Connection) -> None:
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
            except LostError as lost:
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
            except LostError as lost:
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
                except LostError as lost:
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
                except LostError as lost:
                    self._fault("stream", f"stream {path}", lost)
                    response.close()
                    open_now = False
                finally:
                    self._idle.discard(task)
        finally:
            response.close()
