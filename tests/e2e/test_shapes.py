"""Apps of many shapes, none written for Slipway: each is released twice and goes back, with its dependencies shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host
from tests.e2e.apps import facts
from tests.e2e.conftest import MakeHost, systems, variants

pytestmark = pytest.mark.story

SHAPES = ROOT / "tests/apps/shapes"
UV = str(Path(sys.executable).with_name("uv"))
QUICK = {"watch": 0, "keep_warm": 0, "readiness_path": "/", "liveness_path": "/", "tls": {"mode": "off"}}
POETRY = ("tool", "run", "poetry", "lock", "--no-interaction")


@dataclass(frozen=True)
class Shape:
    """An app, how its lock file is made where its author works, and what an inventory says of it."""

    folder: str
    made: tuple[tuple[str, ...], ...]
    """uv's words."""
    app: str
    settings: dict[str, Any]
    code: str
    """The file with the route."""
    version: str = "1.0"


LAYOUT, PACKAGED = "src/greeting/main.py", "greeting.main:app"
EXPORTED = ("export", "--no-emit-project", "--no-dev")
SHAPE = {
    "locked": Shape("layout", (("lock",),), PACKAGED, {"dependencies": {"extras": ["quick"]}}, LAYOUT),
    "pylock": Shape("layout", (("lock",), (*EXPORTED, "-o", "pylock.toml")), PACKAGED, {}, LAYOUT),
    "requirements": Shape(
        "flat",
        (("pip", "compile", "--generate-hashes", "-o", "requirements.lock.txt", "requirements.txt"),),
        "main:app",
        {"dependencies": {"lock": "requirements.lock.txt"}},
        "main.py",
        "not installed",
    ),
    "loose": Shape("flat", (), "main:app", {"dependencies": {"hashes": False}}, "main.py", "not installed"),
    "setup": Shape("setup", (), PACKAGED, {"dependencies": {"hashes": False}}, "greeting/main.py"),
    "poetry": Shape("poetry", (POETRY,), PACKAGED, {}, "greeting/main.py"),
    "member": Shape("monorepo", (("lock",),), PACKAGED, {"subdir": "services/api"}, f"services/api/{LAYOUT}"),
}


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with an app of each shape."""
    host = make_host("shapes", request.param, ())
    host.slipway["apps"] = {}
    for name, shape in SHAPE.items():
        folder = shutil.copytree(SHAPES / shape.folder, host.folder / name)
        for words in shape.made:
            given = {**os.environ, "VIRTUAL_ENV": "", "UV_PYTHON": sys.executable}
            subprocess.run([UV, *words], cwd=folder, env=given, check=True, capture_output=True)
        if name == "pylock":
            (folder / "uv.lock").unlink()
        source = {"path": name} | {key: value for key, value in shape.settings.items() if key == "subdir"}
        more = {key: value for key, value in shape.settings.items() if key != "subdir"}
        host.slipway["apps"][name] = {
            "domains": [f"{name}.test"],
            "source": source,
            "app": shape.app,
            **more,
            **QUICK,
        }
    host.deploy()
    return host


@pytest.mark.parametrize("name", SHAPE)
def test_it_serves_with_a_server_that_its_lock_file_lacks(host: Host, name: str) -> None:
    told = facts(host, domain=f"{name}.test")
    assert told["version"] == SHAPE[name].version
    packages = f"/srv/{name}/current/.venv"
    assert "gunicorn==" in host.ssh(f"cat {packages}/server.txt")
    assert host.ssh(f"ls {packages}/lib/python3*/site-packages | grep -c iniconfig || true").strip() == "0"


@pytest.mark.parametrize("name", variants(SHAPE, ("locked", "poetry")))
def test_the_next_release_has_its_own_code_and_shares_the_rest(host: Host, name: str) -> None:
    before = host.release(name)
    code = host.folder / name / SHAPE[name].code
    code.write_text(f"{code.read_text()}\n# a change\n")
    host.task("tasks/release.py", app=name, prove=True)
    after = host.release(name)
    assert after != before
    assert f"/srv/{name}/releases/{after}/" in facts(host, domain=f"{name}.test")["file"], "it runs its own code"
    file = ".venv/lib/python3*/site-packages/fastapi/__init__.py"
    assert int(host.ssh(f"stat -c %h /srv/{name}/releases/{after}/{file}")) >= 2, "a hard link takes no room"


@pytest.mark.parametrize("name", variants(SHAPE, ("locked", "poetry")))
def test_it_goes_back(host: Host, name: str) -> None:
    before = host.release(name)
    host.task("tasks/rollback.py", app=name)
    assert host.release(name) != before
    assert f"/{host.release(name)}/" in facts(host, domain=f"{name}.test")["file"]


def test_a_second_run_changes_nothing(host: Host) -> None:
    host.task("tasks/release.py", again=True)
    host.converged()
