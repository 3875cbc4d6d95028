"""The wrappers that servers need which don't know nginx's headers (files/app/servers/slipway_served.py)."""

from __future__ import annotations

import asyncio
import importlib.util
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
