"""The application's behaviour over HTTP, as its users and its host see it."""

import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from conftest import Serve, connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect


def test_page_and_static_files(client: httpx2.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "/static/style.css?v=test-release" in page.text and "$" not in page.text
    assert client.head("/").status_code == 200
    assert client.get("/static/style.css").headers["content-type"].startswith("text/css")
    assert client.get("/static/../page.html").status_code == 404


def test_notes_are_created_listed_and_deleted(client: httpx2.Client) -> None:
    created = client.post("/api/notes", json={"text": "  Grüße, <b>world</b>  "})
    assert created.status_code == 201
    note = created.json()
    assert note.keys() == {"id", "text", "created_at"}
    assert note["text"] == "Grüße, <b>world</b>"
    assert note["created_at"].endswith("Z")
    assert client.get(f"/api/notes/{note['id']}").json() == note
    newer = client.post("/api/notes", json={"text": "second"}).json()
    assert client.get("/api/notes").json()[:2] == [newer, note]
    assert client.get("/api/notes", params={"limit": 1}).json() == [newer]
    assert client.delete(f"/api/notes/{note['id']}").status_code == 204
    assert client.get(f"/api/notes/{note['id']}").status_code == 404
    assert client.delete(f"/api/notes/{note['id']}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"text": 1}',
        b'{"text": NaN}',
        b'{"text": "  "}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "\\ud800"}',
        b'{"text": "' + b"x" * 2001 + b'"}',
    ],
)
def test_bad_notes_are_refused(client: httpx2.Client, body: bytes) -> None:
    response = client.post("/api/notes", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize("path", ["0", "-1", "abc", str(2**63), "9" * 40, "?limit=0", "?limit=501"])
def test_bad_parameters_are_refused(client: httpx2.Client, path: str) -> None:
    separator = "" if path.startswith("?") else "/"
    assert client.get(f"/api/notes{separator}{path}").status_code in (400, 404, 422)


def test_health_and_readiness(client: httpx2.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.head("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"status": "ready", "revision": "0002"}


def test_whoami_shows_what_the_proxy_says(client: httpx2.Client) -> None:
    assert client.get("/api/whoami?q=1").json() == {
        "client": "203.0.113.9",
        "scheme": "https",
        "host": "app.test",
        "url": "https://app.test/api/whoami?q=1",
        "release": "test-release",
        "headers": {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-request-id": "abc"},
    }


def test_events(client: httpx2.Client) -> None:
    response = client.get("/api/events?n=2")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    ticks = [json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data:")]
    assert ticks == [{"tick": 1, "release": "test-release"}, {"tick": 2, "release": "test-release"}]
    assert client.get("/api/events?n=0").status_code in (400, 422)


def test_websocket(socket: Path) -> None:
    with unix_connect(str(socket), "ws://app.test/ws") as websocket:
        for text in ("hello", "Grüße"):
            websocket.send(text)
            assert json.loads(websocket.recv(5)) == {"echo": text, "release": "test-release"}


def test_slow_is_bounded(client: httpx2.Client) -> None:
    assert client.get("/api/slow?seconds=0.1").json() == {"seconds": 0.1, "release": "test-release"}
    for seconds in ("-1", "31", "nan", "x"):
        assert client.get(f"/api/slow?seconds={seconds}").status_code in (400, 422)


def test_upload_counts_bytes(client: httpx2.Client) -> None:
    response = client.post("/api/upload", content=(b"x" * 100_000 for _ in range(200)))
    assert (response.status_code, response.json()) == (200, {"bytes": 20_000_000})


def test_models_and_migrations_agree(
    alembic: Callable[..., subprocess.CompletedProcess[str]], client: httpx2.Client
) -> None:
    check = alembic("check")
    assert check.returncode == 0, check.stdout + check.stderr


def test_shutdown_ends_streams_and_finishes_requests(serve: Serve) -> None:
    with (
        serve() as (process, socket),
        connect(socket) as client,
        ThreadPoolExecutor() as pool,
        unix_connect(str(socket), "ws://app.test/ws") as websocket,
        client.stream("GET", "/api/events") as events,
    ):
        lines = events.iter_lines()
        assert next(lines)
        slow = pool.submit(client.get, "/api/slow?seconds=1")
        time.sleep(0.3)
        process.terminate()
        begin = time.monotonic()
        for _ in lines:  # ends, and without an error
            pass
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(5)
        assert time.monotonic() - begin < 0.6
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        assert slow.result().status_code == 200
        assert process.wait(5) == 0
        assert time.monotonic() - begin < 3


def test_an_unmigrated_database_is_not_ready(
    environment: dict[str, str], serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(environment, "DATABASE_URL", raising=False)
    monkeypatch.setitem(environment, "STATE_DIRECTORY", str(tmp_path))
    with serve() as (_, socket), connect(socket) as client:
        assert client.get("/healthz").status_code == 200
        response = client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "not ready"})
