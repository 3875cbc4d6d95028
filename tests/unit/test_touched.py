"""What is touched of libraries that only apps have, and that they don't promise: the example's versions have all of it.

When a newer version lacks something, this fails, and names it. pyinfra and paramiko: tests/unit/engine.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slipway_host.schema import alembic_api
from slipway_host.schema.errors import Failed

from slipway import project
from slipway.servers.gunicorn import GUNICORN
from tests.unit.host.schemas import python_with_alembic

SCHEMA = Path(alembic_api.__file__).parent
UVICORN: dict[str, tuple[str, ...]] = {
    "uvicorn.protocols.websockets.auto": ("AutoWebSocketsProtocol",),
    "uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol": ("data_received", "shutdown"),
    "uvicorn_worker.UvicornWorker": ("CONFIG_KWARGS", "_install_sigquit_handler", "_serve", "config"),
    "uvicorn.Server": ("server_state", "servers", "serve", "shutdown", "started"),
    "gunicorn.workers.base.Worker": ("app", "cfg", "load_wsgi", "wsgi"),
    "gunicorn.arbiter.Arbiter": ("WORKER_BOOT_ERROR",),
    "gunicorn.workers.gthread": ("ThreadWorker",),
}
"""What files/app/gunicorn.conf.py and slipway_uvicorn.py build on: a module or a class → its names."""
HANDSHAKE = "handshake_complete"
"""Attribute of a WebSocket's protocol in uvicorn."""
# Names are looked up as they are there: an attribute of an object by what its class assigns.
LOOK = """
import importlib, inspect, json, sys
lacks = []
for whole, names in json.load(sys.stdin).items():
    parts = whole.split(".")
    holder = importlib.import_module(parts[0])
    for part, path in zip(parts[1:], (".".join(parts[:end]) for end in range(2, len(parts) + 1))):
        holder = getattr(holder, part) if hasattr(holder, part) else importlib.import_module(path)
    source = inspect.getsource(holder)
    lacks += [f"{name} of {whole}" for name in names if not hasattr(holder, name) and f"self.{name} =" not in source]
print(json.dumps(lacks))
"""
WORDS = """
import importlib.util, json, pathlib
found = importlib.util.find_spec("gunicorn")
text = "".join(path.read_text() for path in pathlib.Path(found.origin).parent.rglob("*.py"))
from gunicorn.config import KNOWN_SETTINGS
print(json.dumps([text, [each.name for each in KNOWN_SETTINGS]]))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_alembic(tmp_path_factory)


def asked(python: Path, program: str, question: object = None) -> Any:
    """What a program prints, as JSON, in the example's environment."""
    argv = [str(python), "-I", "-W", "ignore", "-c", program]
    done = subprocess.run(argv, input=json.dumps(question), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_alembic_has_all_that_is_touched(python: Path) -> None:
    assert asked(python, LOOK, alembic_api.TOUCHED) == []


def test_uvicorn_has_all_that_is_touched(python: Path) -> None:
    assert (
        asked(python, LOOK, UVICORN | {"uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol": (HANDSHAKE,)}) == []
    )
    assert asked(python, LOOK, UVICORN) == []
    assert f"self.{HANDSHAKE}" in (project.root() / "files/app/servers/slipway_uvicorn.py").read_text()


def test_gunicorn_says_and_knows_what_it_is_asked_for(python: Path) -> None:
    """Its words when a worker dies, by which a release that doesn't start is told, and its settings."""
    text, settings = asked(python, WORDS)
    for words in ("Worker exiting (pid", "Worker (pid:%s) exited with code", "Worker (pid:%s) was sent %s"):
        assert words in text, f"gunicorn doesn't say {words!r} any more: slipway/servers/gunicorn.py looks for it"
    assert GUNICORN.deaths == r"Worker exiting \(pid|Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM))"
    tree = ast.parse((project.root() / "files/app/gunicorn.conf.py").read_text())
    given = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.islower()
    }
    assert given == {
        *("accesslog", "control_socket_disable", "errorlog", "forwarded_allow_ips", "worker_class", "worker_tmp_dir"),
        *("limit_request_field_size", "limit_request_line"),
    }
    assert given <= set(settings)


def test_a_name_that_is_lacking_is_found(python: Path) -> None:
    lacking = {"alembic.util": ("load_python_file", "no_such_name"), "alembic.script.ScriptDirectory": ("_nor_this",)}
    assert asked(python, LOOK, lacking) == [
        "no_such_name of alembic.util",
        "_nor_this of alembic.script.ScriptDirectory",
    ]


def test_a_name_that_alembic_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host, where an app may have any version."""
    monkeypatch.setitem(sys.modules, "alembic", SimpleNamespace(__version__="9.9"))
    told = "Alembic 9.9 lacks {}, which Slipway touches: pin an older one in the project."
    script = context = SimpleNamespace()
    for name, use in (
        ("_upgrade_revs", lambda: alembic_api.upgrade_steps(script, ())),
        ("env_py_location", lambda: alembic_api.env_of(script)),
        ("opts", lambda: alembic_api.options_of(context)),
        ("version_table", lambda: alembic_api.version_table_of(context)),
    ):
        with pytest.raises(Failed) as failed:
            use()
        assert str(failed.value) == told.format(name)


def test_alembic_that_would_run_a_strangers_revisions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads them by another name by then, of which nobody here knows."""
    newer = SimpleNamespace(__version__="9.9", util=SimpleNamespace(load_file=None))
    monkeypatch.setitem(sys.modules, "alembic", newer)
    with pytest.raises(Failed, match=r"^Alembic 9\.9 lacks load_python_file, "):
        alembic_api.read_by(lambda folder, name: None, Path)
    assert vars(newer.util) == {"load_file": None}


@pytest.mark.parametrize("path", sorted(SCHEMA.glob("*.py")), ids=lambda path: path.stem)
def test_nobody_else_touches_them(path: Path) -> None:
    """But for what its documentation shows: the command line, run_env()."""
    if path.name != "alembic_api.py":
        shown = {"main", "run_cmd", "run_env", "opts", "run_migrations"}
        names = {name for each in alembic_api.TOUCHED.values() for name in each} - shown
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & names == set()
