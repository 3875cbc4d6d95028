"""The wrappers that servers need which don't know nginx's headers (files/app/servers/slipway_served.py)."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slipway import project


@pytest.fixture
def served() -> ModuleType:
    """The module, as it is when a worker starts."""
    spec = importlib.util.spec_from_file_location("served", project.root() / "files/app/servers/slipway_served.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def begins(served: ModuleType, *says: str, error: Exception | None = None) -> int:
    """How many times a lifespan is said to have begun, of an app that says this in it."""
    told: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for each in says:
            await send({"type": f"lifespan.{each}"})
        if error:
            raise error

    async def nothing(*_: Any) -> None: ...

    async def lived() -> None:
        try:
            await served.asgi(app, lambda: told.append(1))({"type": "lifespan"}, nothing, nothing)
        except ValueError:
            assert error

    asyncio.run(lived())
    return len(told)


def test_an_app_begins_once_whatever_it_says_of_its_lifespan(served: ModuleType) -> None:
    assert begins(served, "startup.complete", "shutdown.complete") == 1
    assert begins(served, "startup.complete", error=ValueError("at its end")) == 1
    assert begins(served, error=ValueError("only http")) == 1
    assert begins(served) == 1
    assert begins(served, "startup.failed") == 0
    assert begins(served, "startup.failed", error=ValueError("no database")) == 0


def test_the_last_answers_of_threads_end_their_connections(served: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "0")])
        return []

    def answered() -> Any:
        heard: list[Any] = []
        served.wsgi(app)({}, lambda status, headers: heard.append(headers))
        return heard[0]

    assert answered() == [("Content-Length", "0")]
    monkeypatch.setattr(served, "leaving", True)
    assert answered() == [("Content-Length", "0"), ("Connection", "close")]


# ── prometheus_client's multiprocess mode ────────────────────────────────────────────────────────────────────────────


def test_metrics_of_processes_that_have_ended_are_gone(
    served: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder is made: a metric can't be made without it."""
    folder = tmp_path / "metrics/of"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    served.metrics()
    ended = subprocess.Popen(["true"])
    ended.wait()
    kept = [f"gauge_livesum_{os.getpid()}.db", "counter_1.db", "notes.txt", "other.db"]
    for name in [*kept, f"counter_{ended.pid}.db"]:
        (folder / name).touch()
    served.metrics()
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


@pytest.mark.parametrize("asked", [True, False])
def test_a_worker_that_has_ended_is_marked(served: ModuleType, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    """In an app that asks for it alone: nothing of others' is imported."""
    dead: list[int] = []
    monkeypatch.setitem(sys.modules, "prometheus_client", ModuleType("prometheus_client"))
    module: Any = ModuleType("prometheus_client.multiprocess")
    module.mark_process_dead = dead.append
    monkeypatch.setitem(sys.modules, "prometheus_client.multiprocess", module)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent" if asked else "")
    served.ended(7)
    assert dead == ([7] if asked else [])


def test_nothing_is_said_of_an_app_without_prometheus_client(
    served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    served.ended(7)
    served.metrics()
