"""Each server: nothing is lost over a release, a rollback and a restart; clients are who they are; work is finished."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e._driver import ROOT, Host, log
from tests.e2e.apps import LEFT_OUT, author_command, author_environment, author_uv
from tests.e2e.conftest import MakeHost, looked_at, variants

pytestmark = pytest.mark.story

APPS = ROOT / "tests/apps"
KINDS: dict[str, dict[str, Any]] = {
    "uvicorn": {"server": "uvicorn"},
    "granian": {"server": "granian"},
    "hypercorn": {"server": "hypercorn"},
    "gunicorn-wsgi": {"server": "gunicorn", "interface": "wsgi"},
    "granian-wsgi": {"server": "granian", "interface": "wsgi"},
}
"""App → its server. What is Gunicorn's with ASGI is told by the other stories."""
QUICKLY = ("granian",)
ASGI = [name for name, options in KINDS.items() if "interface" not in options]
QUICK = {"watch": 1, "keep_warm": 60, "drain_timeout": 5, "graceful_timeout": 10, "workers": 2}


def domain(app: str) -> str:
    return f"{app}.test"


def options(folder: Path, app: str, version: str) -> dict[str, Any]:
    """Settings of an app: the interface isn't among them, since a release finds it out."""
    wsgi = KINDS[app].get("interface") == "wsgi"
    found = {"app": "shop:create_app('here')", "python_path": ["src"]} if wsgi else {}
    return {
        "domains": [domain(app)],
        "source": {"path": str(folder / ("wsgi" if wsgi else "asgi"))},
        "server": KINDS[app]["server"],
        "env": {"VERSION": version},
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "migrate": None,
        **found,
        **QUICK,
    }


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with an app for each server that this run looks at."""
    made = make_host("servers", "debian13", ())
    for name in ("asgi", "wsgi"):
        shutil.copytree(APPS / name, made.folder / name, ignore=LEFT_OUT)
    made.slipway["acme"]["check"] = False
    made.slipway["apps"] = {app: options(made.folder, app, "one") for app in looked_at(request, "app")}
    if made.slipway["apps"]:
        made.deploy()
    return made


def told(host: Host, app: str, path: str = "/", **more: Any) -> dict[str, Any]:
    """What the app knows of a request."""
    answer = host.request("GET", path, domain=domain(app), **more)
    assert answer.status_code == 200, answer.text[:300]
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("app", variants(KINDS, QUICKLY))
def test_clients_are_who_they_are(host: Host, app: str) -> None:
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "ftp", "Forwarded": "for=6.6.6.6"}
    found = told(host, app, headers=forged)
    assert found["scheme"] == "https"
    assert found["client"] not in ("", None, "6.6.6.6")


@pytest.mark.parametrize("app", variants(KINDS, QUICKLY))
def test_a_large_head_arrives(host: Host, app: str) -> None:
    assert told(host, app, headers={"X-Large": "a" * 30_000})["head"] > 30_000


@pytest.mark.parametrize("app", variants(KINDS, QUICKLY))
def test_a_restart_loses_nothing(host: Host, app: str) -> None:
    with host.traffic(domain(app), "/") as public, ThreadPoolExecutor() as pool:
        slow = pool.submit(told, host, app, "/?seconds=3")
        host.ssh(f"sleep 1; systemctl restart {app}@{host.release(app)}.service")
        assert slow.result()["path"] == "/"
    public.unbroken(gap=10)


@pytest.mark.parametrize("app", variants(KINDS, QUICKLY))
def test_a_release_and_a_rollback_lose_nothing(host: Host, app: str) -> None:
    before = host.release(app)
    host.slipway["apps"][app] = options(host.folder, app, "two")
    with host.traffic(domain(app), "/") as public:
        host.task("tasks/release.py", app=app)
    public.unbroken()
    assert told(host, app)["version"] == "two"
    with host.traffic(domain(app), "/") as public:
        host.task("tasks/rollback.py", app=app)
    public.unbroken()
    assert (told(host, app)["version"], host.release(app)) == ("one", before)


@pytest.mark.parametrize("app", variants(ASGI, QUICKLY))
def test_a_websocket_is_closed_when_its_worker_stops(host: Host, app: str) -> None:
    plain = socket.create_connection(("127.0.0.1", host.target["https_port"]), 10)
    name = domain(app)
    with connect(f"wss://{name}/", sock=plain, ssl=host.trust(), server_hostname=name) as connection:
        connection.send("hello")
        assert connection.recv(10) == "hello"
        host.ssh(f"systemctl restart {app}@{host.release(app)}.service")
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(20)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012


@pytest.mark.parametrize("app", variants(KINDS, QUICKLY))
def test_a_worker_that_dies_is_replaced(host: Host, app: str) -> None:
    first = told(host, app)["worker"]
    host.ssh(f"kill -9 $(pgrep -u {app} -f 'slipway_served:app|run_' | tail -n 1)")
    seen = {told(host, app)["worker"] for _ in range(20)}
    assert seen and first
    assert host.ssh(f"systemctl is-active {app}@{host.release(app)}.service").strip() == "active"


@pytest.fixture(scope="module")
def chat(host: Host) -> Path:
    """A Socket.IO server, deployed; the folder of its client. Sessions are a process's own, so it has one worker."""
    for name in ("chat", "client"):
        shutil.copytree(APPS / "sockets", host.folder / name, ignore=LEFT_OUT)
    author_uv(host.folder / "client", "sync", "--quiet", "--group", "client")
    host.slipway["apps"]["chat"] = {
        "domains": [domain("chat")],
        "source": {"path": "chat"},
        "app": "chat:app",
        "tls": {"mode": "off"},
        **QUICK,
        "workers": 1,
    }
    host.deploy()
    return host.folder / "client"


@contextmanager
def talking(host: Host, folder: Path, transport: str) -> Iterator[Callable[[], str]]:
    """A client that talks meanwhile. What comes gives the next release that answers it, once there is one."""
    address = f"http://127.0.0.1:{host.target['http_port']}"
    command = author_command("run", "--quiet", "--group", "client", "python", "client.py", address, domain("chat"))
    with subprocess.Popen(
        [*command, transport], cwd=folder, env=author_environment(), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        output = client.stdout
        assert output
        yield lambda: Path(output.readline().strip()).parent.name
        told = json.loads(client.communicate(timeout=60)[0])
    log.info("    %s: %s", transport, told)
    assert client.returncode == 0
    assert told["wrong"] == 0 and told["answers"] > 50 and told["gap"] < 40, told


@pytest.mark.parametrize("transport", variants(("websocket", "polling"), ()))
def test_clients_of_socket_io_go_on_with_the_next_release(host: Host, chat: Path, transport: str) -> None:
    """Its library connects again once the old release closes, and asks again what was not answered."""
    code = host.folder / "chat/chat.py"
    code.write_text(code.read_text() + "# changed\n")
    before = host.release("chat")
    with talking(host, chat, transport) as next_release:
        assert next_release() == before
        host.task("tasks/release.py", app="chat", prove=True)
        after = host.release("chat")
        assert next_release() == after != before
    with talking(host, chat, transport) as next_release:
        assert next_release() == after
        host.task("tasks/rollback.py", app="chat", prove=True)
        assert next_release() == before
    host.task("tasks/release.py", app="chat", again=True)
    host.converged()


@pytest.mark.parametrize("app", ["gunicorn-wsgi"])
def test_what_its_server_does_not_serve_ends_at_the_check(host: Host, app: str) -> None:
    before = host.release(app)
    host.slipway["apps"][app]["server"] = "uvicorn"
    run = host.task("tasks/release.py", app=app, check=False)
    assert run.code != 0 and "which uvicorn doesn't serve: set server to" in run.output
    host.slipway["apps"][app] = options(host.folder, app, "one")
    assert host.release(app) == before
