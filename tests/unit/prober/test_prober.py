"""The prober against a real little server over TLS that misbehaves when it is told to.

What traffic makes of a fault is told in this process; what the process of its own does, with a server in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slipway.prober import Fault, Load, Prober, ProberError, Result, Site, asking, child, site_and_load, traffic
from slipway.prober import __main__ as cli
from slipway.settings import Settings
from tests.unit.inventories import certificate, changed, new_key, pem_key, write_private, write_project

NAME = "notes.test"
PATIENCE = 10.0
"""Seconds to wait for what comes in milliseconds, on a busy machine."""
FAST = Load(short=("/healthz",), connections=4, rate=200, timeout=5)
"""Both connections of each kind are used each 20 ms."""


class Server:
    """Answers all that a prober asks. What `once` holds befalls the next request that it can befall, and only that."""

    def __init__(self, folder: Path) -> None:
        self.once: list[str] = []
        self.down = False
        self.asked: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.hosts: set[str] = set()
        self.release = "one"
        self.port = 0
        self._used: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(folder / "site.pem", folder / "site.key")
        self._ca_file = str(folder / "site.pem")

    @property
    def site(self) -> Site:
        return Site(f"https://{NAME}", address="127.0.0.1", port=self.port, ca_file=self._ca_file)

    async def start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._count])
        app.add_routes(
            [
                web.get("/healthz", self._short),
                web.get("/login", self._refused),
                web.get("/api/whoami", self._short),
                web.get("/api/slow", self._slow),
                web.post("/api/upload", self._upload),
                web.get("/ws", self._websocket),
                web.get("/api/events", self._stream),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    def _befalls(self, *troubles: str) -> str | None:
        if self.once and self.once[0] in troubles:
            return self.once.pop(0)
        return None

    @web.middleware
    async def _count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.asked[request.path] += 1
        self.hosts.add(request.host)
        return await handler(request)

    async def _short(self, request: web.Request) -> web.Response:
        transport = request.transport
        assert transport is not None
        kept = transport in self._used
        self._used.add(transport)
        self.connections["kept" if kept else "new"] += 1
        if self.down or self._befalls("503"):
            return web.Response(status=503)
        if self._befalls("moved"):
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        if self._befalls("torn"):
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            transport.close()
        elif (kept and self._befalls("half a head, kept")) or (not kept and self._befalls("half a head, new")):
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            transport.close()
        elif (kept and self._befalls("hang up, kept")) or (not kept and self._befalls("hang up, new")):
            transport.close()
        elif (kept and self._befalls("reset, kept")) or (not kept and self._befalls("reset, new")):
            transport.abort()
        elif self._befalls("stall"):
            time.sleep(0.6)  # noqa: ASYNC251  # nobody is answered
        elif self._befalls("mute"):
            await asyncio.sleep(30)
        return web.json_response({"status": "ok", "release": self.release})

    async def _refused(self, request: web.Request) -> web.StreamResponse:
        await self._short(request)
        return web.Response(status=401)

    async def _slow(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        await asyncio.sleep(float(request.query.get("seconds", "0.3")))
        if self._befalls("slow hangs up"):
            request.transport.close()
        return web.json_response({"release": "a slow one"})

    async def _upload(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        assert request.content_length is not None
        if self._befalls("upload breaks off"):
            await request.content.readany()
            request.transport.abort()
        body = await request.read()
        return web.json_response({"bytes": len(body)}, status=200 if len(body) == request.content_length else 500)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        if self._befalls("no upgrade"):
            return web.Response(status=502)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            if trouble := self._befalls("ws 1000", "ws 1001", "ws 1012", "ws 1011"):
                await websocket.close(code=int(trouble.removeprefix("ws ")))
            elif self._befalls("ws ends"):
                request.transport.close()
            elif self._befalls("ws reset"):
                request.transport.abort()
            elif not self._befalls("ws mute"):
                await websocket.send_str(f"echo {message.data}")
        return websocket

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            if self._befalls("stream ends"):
                return response
            if self._befalls("stream torn"):
                request.transport.close()
            if self._befalls("stream mute"):
                await asyncio.sleep(30)
            await response.write(b"data: tick\n\n")
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, a certificate for NAME that is its own root, and one for another name."""
    folder, key = tmp_path_factory.mktemp("keys"), new_key()
    write_private(folder / "site.key", pem_key(key))
    (folder / "site.pem").write_bytes(certificate(key, [NAME]))
    (folder / "other.pem").write_bytes(certificate(new_key(), [NAME]))
    return folder


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter uploads and pauses in this process."""
    monkeypatch.setattr(asking, "UPLOAD_SECONDS", 0.3)
    monkeypatch.setattr(traffic, "REOPEN_AFTER", 0.05)


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not there():  # noqa: ASYNC110  # what a server in this loop or in a thread counts
            await asyncio.sleep(0.005)


def probe(
    keys: Path, load: Load, *troubles: str, during: Callable[[Server], Awaitable[None]] | None = None
) -> tuple[Result, Server]:
    """The result of traffic in this process, to a server that has the troubles one after the other."""
    server = Server(keys)

    async def tell() -> Result:
        runner = await server.start()
        sending = traffic.Traffic(server.site, load)
        await sending.warm_up(PATIENCE)
        server.asked.clear()
        server.connections.clear()
        server.once = list(troubles)
        stop = asyncio.Event()
        running = asyncio.create_task(sending.run(stop, 0))
        await until(lambda: not server.once and server.connections["kept"] > 1 and server.connections["new"] > 1)
        if during:
            await during(server)
        await asyncio.sleep(0.04)  # what a trouble did shows with the next requests
        stop.set()
        result = await running
        await sending.close()
        await runner.cleanup()
        return result

    return asyncio.run(tell()), server


# --- What is lost, and what isn't -------------------------------------------------------------------------------------


def test_nothing_is_lost_where_nothing_happens(keys: Path) -> None:
    result, server = probe(keys, FAST)
    assert (result.failed, result.resent, result.closed, result.faults) == (0, 0, 0, [])
    assert result.requests == result.counts["short"] == server.asked["/healthz"]
    assert result.counts.keys() == {"short"}
    assert result.releases == ["one"]
    assert 0 < result.p50 <= result.p99 <= result.slowest
    assert 0 < result.longest_gap <= result.seconds
    assert server.hosts == {NAME}, "Host must not tell where the connection goes"


def test_every_other_connection_is_kept(keys: Path) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.connections.total() >= 60)

    _, server = probe(keys, FAST, during=during)
    kept, new = server.connections["kept"], server.connections["new"]
    assert kept <= 3 * new and new <= 3 * kept, "on a busy machine either may lag, but not by so much"


def test_where_no_path_is_known_any_answer_below_500_is_good(keys: Path) -> None:
    load = Load(short=("/login",), lenient=True, connections=2, rate=100)

    async def during(server: Server) -> None:
        await until(lambda: server.asked["/login"] >= 4)

    result, _ = probe(keys, load, during=during)
    assert (result.failed, result.counts["short"] >= 4) == (0, True), result.line


def test_paths_are_taken_in_turn_by_each_connection(keys: Path) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.connections["kept"] >= 8)

    load = Load(short=("/healthz", "/api/whoami"), connections=2, rate=100)
    _, server = probe(keys, load, during=during)
    assert server.asked["/healthz"] == pytest.approx(server.asked["/api/whoami"], abs=2)


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        ("503", "GET /healthz answered 503"),
        ("torn", "GET /healthz got a torn answer"),
        ("hang up, new", "GET /healthz got no answer: Server disconnected"),
        ("reset, new", "GET /healthz got no answer: "),
        ("half a head, new", "GET /healthz got no answer: the connection was closed in the head of it"),
        ("half a head, kept", "GET /healthz got no answer: the connection was closed in the head of it"),
    ],
)
def test_short_request_is_lost(keys: Path, trouble: str, what: str) -> None:
    result, _ = probe(keys, FAST, trouble)
    assert (result.failed, result.resent) == (1, 0)
    assert result.faults[0].kind == "short"
    assert result.faults[0].what.startswith(what)
    assert 0 <= result.faults[0].at <= result.seconds
    assert result.requests == result.counts["short"] + 1


def test_redirect_is_an_answer(keys: Path) -> None:
    result, server = probe(keys, FAST, "moved")
    assert result.failed == 0
    assert "/elsewhere" not in server.asked


@pytest.mark.parametrize("trouble", ["hang up, kept", "reset, kept"])
def test_request_on_a_kept_connection_that_ends_is_sent_again(keys: Path, trouble: str) -> None:
    result, server = probe(keys, FAST, trouble, trouble)
    assert (result.failed, result.resent) == (0, 2), result.line
    assert server.asked["/healthz"] == result.requests + 2


def test_request_is_sent_again_only_once(keys: Path) -> None:
    result, _ = probe(keys, Load(connections=1, rate=100), "hang up, kept", "hang up, new")
    assert (result.failed, result.resent) == (1, 1), result.line


def test_silence_is_lost_after_the_time_out(keys: Path) -> None:
    async def during(server: Server) -> None:
        await asyncio.sleep(0.6)

    result, _ = probe(keys, Load(connections=2, rate=100, timeout=0.5), "mute", during=during)
    assert result.failed == 1
    assert result.faults[0].what == "GET /healthz got no answer within 0.5 s"
    assert result.slowest >= 0.4, "what waited for the connection has waited"


def test_stall_shows_in_the_gap_and_in_each_latency_it_delayed(keys: Path) -> None:
    async def during(server: Server) -> None:
        # Some 120 requests are due in it, over connections that are busy; all of them are sent.
        await until(lambda: server.asked["/healthz"] >= 120)

    result, _ = probe(keys, FAST, "stall", during=during)
    assert result.failed == 0
    assert result.longest_gap > 0.55
    assert result.slowest > 0.55
    assert result.p50 > 0.1


def test_site_that_is_down_is_a_gap_and_faults(keys: Path) -> None:
    async def during(server: Server) -> None:
        server.down = True
        before = server.asked["/healthz"]
        await until(lambda: server.asked["/healthz"] >= before + 40)
        server.release, server.down = "two", False

    result, _ = probe(keys, FAST, during=during)
    assert result.failed >= 40
    assert result.longest_gap > 0.15
    assert result.releases == ["one", "two"]


def test_refused_connections_are_lost_requests(keys: Path) -> None:
    server = Server(keys)

    async def tell() -> Result:
        runner = await server.start()
        load = Load(connections=2, rate=100, slow="/api/slow?seconds=0", websocket="/ws", stream="/api/events")
        sending = traffic.Traffic(server.site, load)
        await sending.warm_up(PATIENCE)
        stop = asyncio.Event()
        running = asyncio.create_task(sending.run(stop, 0))
        await asyncio.sleep(0.1)
        await runner.cleanup()
        await asyncio.sleep(0.3)
        before = server.asked["/healthz"]
        runner = await server.start()
        await until(lambda: server.asked["/healthz"] > before + 5)
        stop.set()
        result = await running
        await sending.close()
        await runner.cleanup()
        return result

    result = asyncio.run(tell())
    refused = [fault for fault in result.faults if fault.what.endswith("found no connection: Connection refused")]
    assert {fault.kind for fault in refused} >= {"short", "slow"}
    assert result.longest_gap > 0.25
    short = [fault for fault in refused if fault.kind == "short"]
    assert len(short) <= 100 * result.seconds + 2, "the timetable holds for failures too"


def test_first_faults_are_kept(keys: Path) -> None:
    result, _ = probe(keys, Load(connections=2, rate=1000), *["503"] * 55)
    assert result.failed == 55
    assert len(result.faults) == 50


def test_slow_request_that_is_cut_off_is_lost(keys: Path) -> None:
    load = Load(connections=2, rate=100, slow="/api/slow?seconds=0.1")
    result, server = probe(keys, load, "slow hangs up")
    assert result.failed == 1
    assert result.resent == 0
    assert result.faults[0].kind == "slow"
    assert result.faults[0].what == "GET /api/slow?seconds=0.1 got no answer: Server disconnected"
    assert result.counts["slow"] == server.asked["/api/slow"] - 1
    assert "a slow one" not in result.releases


def test_upload_is_slow_and_whole(keys: Path) -> None:
    result, server = probe(keys, Load(connections=2, rate=100, upload="/api/upload"))
    assert result.failed == 0
    assert result.counts["upload"] == server.asked["/api/upload"] >= 1, "what is under way at the end is awaited"


def test_upload_that_breaks_off_is_lost(keys: Path) -> None:
    result, _ = probe(keys, Load(connections=2, rate=100, upload="/api/upload"), "upload breaks off")
    assert [fault.kind for fault in result.faults[:1]] == ["upload"], result.line
    assert result.faults[0].what.startswith("POST /api/upload ")


@pytest.mark.parametrize("trouble", ["ws 1000", "ws 1001", "ws 1012"])
def test_websocket_that_is_closed_cleanly_is_opened_again(keys: Path, trouble: str) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.asked["/ws"] == 1)

    result, _ = probe(keys, Load(connections=2, rate=100, websocket="/ws"), trouble, during=during)
    assert (result.failed, result.closed) == (0, 1), result.line
    assert result.counts["websocket"] >= 1
    assert result.requests == result.counts["short"] + result.counts["websocket"] + 1


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        ("ws ends", "WebSocket /ws broke off without a close frame"),
        ("ws reset", "WebSocket /ws broke off without a close frame"),
        ("ws 1011", "WebSocket /ws was closed with code 1011"),
        ("ws mute", "WebSocket /ws got no answer within 0.5 s"),
    ],
)
def test_websocket_that_ends_otherwise_is_lost(keys: Path, trouble: str, what: str) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.asked["/ws"] == 1)

    load = Load(connections=2, rate=100, websocket="/ws", timeout=0.5)
    result, _ = probe(keys, load, trouble, during=during)
    assert [fault.what for fault in result.faults if fault.kind == "websocket"] == [what]
    assert result.closed == 0


def test_websocket_that_can_t_be_reopened_is_lost(keys: Path) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.asked["/ws"] == 2)

    result, _ = probe(keys, Load(connections=2, rate=100, websocket="/ws"), "ws 1012", "no upgrade", during=during)
    assert (result.failed, result.closed) == (1, 1)
    assert result.faults[0].what == "WebSocket /ws answered 502 and opened no WebSocket"


def test_stream_that_ends_is_opened_again(keys: Path) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.asked["/api/events"] == 1)

    result, _ = probe(keys, Load(connections=2, rate=100, stream="/api/events"), "stream ends", during=during)
    assert (result.failed, result.closed) == (0, 1), result.line
    assert result.counts["stream"] >= 2
    assert result.requests == result.counts["short"] + 1


@pytest.mark.parametrize(("trouble", "what"), [("torn", "got a torn answer"), ("mute", "got no answer within 0.5 s")])
def test_stream_that_is_cut_off_is_lost(keys: Path, trouble: str, what: str) -> None:
    async def during(server: Server) -> None:
        await until(lambda: server.asked["/api/events"] == 1)

    load = Load(connections=2, rate=100, stream="/api/events", timeout=0.5)
    result, _ = probe(keys, load, f"stream {trouble}", during=during)
    assert [fault.what for fault in result.faults if fault.kind == "stream"] == [f"stream /api/events {what}"]
    assert result.closed == 0


# --- The process of its own -------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less traffic after the end."""
    monkeypatch.setattr(child, "AFTER", 0.05)


@pytest.fixture
def server(keys: Path, quick: None) -> Iterator[Server]:
    """A server in a thread."""
    made, loop, stop, started = Server(keys), asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        runner = await made.start()
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(PATIENCE)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join(PATIENCE)
    loop.close()


def gone(pid: int | None) -> bool:
    """Whether no process is left, not even one that nobody waited for."""
    assert pid is not None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            time.sleep(0.01)
            continue
        return True
    return False


def test_story_of_every_kind(server: Server) -> None:
    load = Load(
        short=("/api/whoami",),
        slow="/api/slow?seconds=0.2",
        upload="/api/upload",
        websocket="/ws",
        stream="/api/events",
        rate=100,
        upload_bytes=100_000,
    )
    with Prober(server.site, load) as prober:
        pid = prober.pid
        server.once = ["ws 1012"]
        time.sleep(0.3)
        server.release = "two"
    result = prober.result
    assert result.failed == 0, result.line
    assert all(result.counts[kind] > 0 for kind in ("short", "slow", "upload", "websocket", "stream")), result.counts
    assert result.releases == ["one", "two"]
    assert result.closed == 1
    assert gone(pid)
    assert Result.from_json(result.to_json()) == result


def test_result_outlives_an_exception_and_so_does_no_process(server: Server) -> None:
    prober = Prober(server.site, FAST)
    pids = []

    def release(error: BaseException) -> None:
        with prober:
            pids.append(prober.pid)
            raise error

    with pytest.raises(RuntimeError, match="release"):
        release(RuntimeError("release failed"))
    assert prober.result.failed == 0
    with pytest.raises(KeyboardInterrupt):
        release(KeyboardInterrupt())
    assert all(gone(pid) for pid in pids)
    with pytest.raises(ProberError, match="no result"):
        _ = prober.result


def test_process_that_dies_is_told(server: Server) -> None:
    prober = Prober(server.site, FAST)
    prober.start()
    assert prober.pid is not None
    os.kill(prober.pid, 9)
    with pytest.raises(ProberError, match="ended by itself"):
        prober.stop()
    assert prober.pid is None


def test_interrupt_leaves_the_process_to_its_parent_and_the_parent_s_death_ends_it(server: Server) -> None:
    prober = Prober(server.site, FAST)
    prober.start()
    assert prober.pid is not None
    os.kill(prober.pid, 2)
    assert prober.stop().failed == 0
    code = (
        "import json, os, sys; from slipway.prober import *; prober = Prober(Site(**json.loads(sys.argv[1])));"
        "prober.start(); print(prober.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    site = dataclasses.asdict(server.site)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(site)], cwd=child.PROJECT, stdout=subprocess.PIPE, check=False
    )
    assert gone(int(done.stdout))


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (
            {"slow": "/nowhere?a=1"},
            "https://notes.test/nowhere?a=1 answered 404 before anything began: is `probe.slow` right?",
        ),
        ({"upload": "/healthz"}, "https://notes.test/healthz answered 405 before"),
        ({"websocket": "/healthz"}, "https://notes.test/healthz answered 200 and opened no WebSocket before"),
        ({"stream": "/nowhere"}, "https://notes.test/nowhere answered 404 before"),
        ({"short": ("/nowhere", "/healthz")}, "https://notes.test/nowhere answered 404 before"),
        ({"lenient": True, "slow": "/nowhere"}, "https://notes.test/nowhere answered 404 before"),
    ],
)
def test_wrong_path_is_told_before_anything_begins(keys: Path, load: dict[str, Any], told: str) -> None:
    server = Server(keys)

    async def tell() -> None:
        runner = await server.start()
        sending = traffic.Traffic(server.site, Load(**load))
        try:
            await sending.warm_up(PATIENCE)
        finally:
            await sending.close()
            await runner.cleanup()

    with pytest.raises(Exception, match="before anything began") as raised:
        asyncio.run(tell())
    assert str(raised.value).startswith(told)


def test_site_that_can_t_be_asked_is_told(server: Server, keys: Path) -> None:
    def told(**changes: Any) -> str:
        with pytest.raises(ProberError) as raised:
            Prober(dataclasses.replace(server.site, **changes), FAST).start()
        return str(raised.value)

    at = f"https://notes.test at 127.0.0.1:{server.port}: the first requests found"
    assert told(ca_file=str(keys / "other.pem")).startswith(f"{at} a certificate that isn't trusted: ")
    assert (
        told(port=1) == "https://notes.test at 127.0.0.1:1: the first requests found no connection: Connection refused"
    )
    assert told(ca_file="nowhere.pem").endswith(
        "nowhere.pem: No such file or directory; it must be a PEM file of certificates to trust"
    )


def test_certificate_of_another_name_is_believed_only_without_verification(server: Server) -> None:
    site = dataclasses.replace(server.site, url="https://other.test")
    with pytest.raises(ProberError, match=r"isn't trusted: .*other\.test"):
        Prober(site, FAST).start()
    with Prober(dataclasses.replace(site, verify=False), FAST) as prober:
        pass
    assert prober.result.failed == 0


# --- Plain values -----------------------------------------------------------------------------------------------------

RESULT = Result(
    requests=1523,
    failed=0,
    resent=2,
    p50=0.0031,
    p99=0.011,
    longest_gap=0.0381,
    slowest=0.02,
    seconds=30.0,
    counts={"short": 1163, "slow": 12, "upload": 8, "websocket": 340, "stream": 60},
)


def test_line() -> None:
    assert RESULT.line == (
        "1,523 requests (12 slow, 8 uploads, 340 messages), 0 failed, 2 sent again; "
        "p50 3 ms, p99 11 ms, longest gap 38 ms"
    )


def test_line_names_what_failed_first() -> None:
    fault = Fault(1.24, "short", "GET /healthz answered 502")
    result = Result(2, 1, 0, 0.5, 1.2, 2.0, 1.2, 3.0, [fault], {"short": 1, "upload": 1}, closed=1)
    assert result.line == (
        "2 requests (1 upload), 1 failed (first after 1.2 s: GET /healthz answered 502), 0 sent again, 1 reopened; "
        "p50 500 ms, p99 1.2 s, longest gap 2.0 s"
    )
    result = Result(1, 1, 0, 0, 0, 3.0, 0, 3.0, [fault], {"short": 0})
    assert result.line.endswith("0 sent again; no short request was answered in 3.0 s")


def test_result_travels_as_json() -> None:
    result = Result(1, 1, 0, 0.1, 0.1, 0.1, 0.1, 1.0, [Fault(0.5, "slow", "gone")], {"short": 1}, ["a", "b"], 3)
    assert Result.from_json(result.to_json()) == result
    assert "\n" not in result.to_json()


@pytest.mark.parametrize("url", ["notes.test", "https://", "https://notes.test/app", "ftp://notes.test", ""])
def test_site_needs_a_plain_url(url: str) -> None:
    with pytest.raises(ValueError, match="is no site"):
        Site(url)


@pytest.mark.parametrize(
    "values", [{"short": ()}, {"rate": 0}, {"connections": 0}, {"streams": 0}, {"slow": "api/slow"}, {"timeout": -1}]
)
def test_load_must_be_something(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values)) if "slow" not in values else "no path"):
        Load(**values)


# --- Settings and the command line ------------------------------------------------------------------------------------


def test_settings_of_each_tls_mode(maximal: Settings, folder: Path) -> None:
    verify = {"address": "127.0.0.1", "http_port": 8080, "https_port": 8443, "ca_file": "chain.pem"}
    site, _ = site_and_load(maximal.apps["notes"], verify)
    assert site == Site("https://notes.example.com", "127.0.0.1", 8443, str(folder / "chain.pem"))
    site, load = site_and_load(maximal.apps["lab"], {})
    assert site == Site("https://lab.example.com", verify=False)
    assert (load.short, load.lenient) == (("/",), True)
    assert (load.connections, load.rate, load.slow) == (10, 50, None)
    site, _ = site_and_load(maximal.apps["plain"], verify)
    assert (site.url, site.port) == ("http://plain.example.com", 8080)
    with pytest.raises(ProberError, match="has no adress; it takes address, http_port, https_port, ca_file"):
        site_and_load(maximal.apps["notes"], {"adress": "::1"})


def test_settings_of_the_probe(
    make_settings: Callable[[Mapping[str, Any]], Settings],
) -> None:
    probe = {"short": ["/a", "/b"], "slow": "/s", "upload": "/u", "websocket": "/w", "stream": "/e"}
    data = changed({"apps.notes.probe": probe | {"connections": 6, "rate": 30}})
    _, load = site_and_load(make_settings(data).apps["notes"], {})
    assert load == Load(("/a", "/b"), "/s", "/u", "/w", "/e", 6, 30)
    rows: list[tuple[dict[str, Any], bool]] = [({}, True), ({"apps.notes.liveness_path": "/up"}, False)]
    for paths, lenient in rows:
        _, load = site_and_load(make_settings(changed(paths)).apps["notes"], {})
        assert (load.short, load.lenient) == (("/up",) if paths else ("/",), lenient)


@pytest.fixture
def inventory(server: Server, keys: Path, tmp_path: Path) -> Path:
    """An inventory whose app is the server."""
    write_project(tmp_path / "project")
    (tmp_path / "ca.pem").write_bytes((keys / "site.pem").read_bytes())
    acme = {"email": "ops@example.com", "directory": "https://ca.example.com/dir"}
    slipway = changed(
        {
            "apps.notes.domains": [NAME],
            "apps.notes.liveness_path": "/healthz",
            "apps.notes.probe": {"rate": 100},
            "acme": acme,
        }
    )
    verify = {"address": "127.0.0.1", "https_port": server.port, "ca_file": "ca.pem"}
    path = tmp_path / "production.py"
    path.write_text(f"hosts = [('203.0.113.5', {{'ssh_user': 'root', 'verify': {verify}, 'slipway': {slipway}}})]\n")
    return path


def test_command_under_traffic(inventory: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(inventory), "--", sys.executable, "-c", "pass"]) == 0
    assert " requests, 0 failed, " in capsys.readouterr().out
    assert cli.main([str(inventory), "--app", "notes", "--", "sh", "-c", "exit 7"]) == 7
    before = server.asked["/healthz"]

    def fail_later() -> None:
        while server.asked["/healthz"] < before + 5:
            time.sleep(0.01)
        server.once = ["503"]

    thread = threading.Thread(target=fail_later)
    thread.start()
    assert cli.main([str(inventory), "--seconds", "0.3"]) == 3
    thread.join()
    assert "s: GET /healthz answered 503\n" in capsys.readouterr().out


def test_wrong_usage(inventory: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as raised:
            cli.main(arguments)
        assert raised.value.code == 2
        return capsys.readouterr().err

    assert "say how long" in refused(str(inventory))
    assert "say how long" in refused(str(inventory), "--seconds", "1", "--", "true")
    assert "greater than 0" in refused(str(inventory), "--seconds", "0")
    assert "there is no inventory nowhere.py" in refused("nowhere.py", "--seconds", "1")
    assert "no such app: --limit 203.0.113.5 --app notes" in refused(str(inventory), "--app", "wiki", "--seconds", "1")
    server.down = True
    assert cli.main([str(inventory), "--seconds", "1"]) == 2
    assert "https://notes.test/healthz answered 503 before anything began" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["--help"])
    assert raised.value.code == 0
    told = capsys.readouterr().out
    assert "certbot renew --force-renewal" in told
    assert "--serve" not in told
