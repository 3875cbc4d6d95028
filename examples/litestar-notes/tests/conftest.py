"""Runs the application as production does: migrated, then gunicorn with uvicorn workers on a unix socket."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import pytest

APP = "litestar_notes.main:app"
FOLDER = Path(__file__).parent.parent

Serve = Callable[[], AbstractContextManager[tuple[subprocess.Popen[bytes], Path]]]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of the application: a fresh SQLite file, or the empty database of TEST_DATABASE_URL."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= {"STATE_DIRECTORY": str(tmp_path_factory.mktemp("state")), "RELEASE_ID": "test-release"}
    if "TEST_DATABASE_URL" in os.environ:
        environment["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    return environment


@pytest.fixture(scope="session")
def alembic(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs alembic with the given arguments."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alembic", *arguments]
        return subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def serve(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """A context manager that serves the application; gives the server's process and its socket."""

    @contextmanager
    def run() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        socket = tmp_path_factory.mktemp("run") / "app.sock"
        command = [sys.executable, "-m", "gunicorn", APP, "--bind", f"unix:{socket}", "--workers", "2"]
        command += ["--worker-class", "uvicorn_worker.UvicornWorker", "--forwarded-allow-ips", "*"]
        command += ["--no-control-socket"]
        process = subprocess.Popen(command, cwd=FOLDER, env=environment)
        try:
            with connect(socket) as client:
                for _ in range(200):
                    try:
                        client.get("/healthz")
                        break
                    except httpx2.TransportError:
                        assert process.poll() is None, "the server ended, see its output"
                        time.sleep(0.05)
            yield process, socket
        finally:
            process.terminate()
            process.wait(10)

    return run


def connect(socket: Path) -> httpx2.Client:
    """A client that sends what nginx sends: the visitor's address, the scheme and the host."""
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Request-ID": "abc"}
    return httpx2.Client(
        transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://app.test", headers=headers, timeout=10
    )


@pytest.fixture(scope="session")
def socket(alembic: Callable[..., subprocess.CompletedProcess[str]], serve: Serve) -> Iterator[Path]:
    """Socket of the running, migrated application."""
    migration = alembic("upgrade", "head")
    assert migration.returncode == 0, migration.stderr
    with serve() as (_, path):
        yield path


@pytest.fixture
def client(socket: Path) -> Iterator[httpx2.Client]:
    """HTTP client of the running, migrated application."""
    with connect(socket) as client:
        yield client
