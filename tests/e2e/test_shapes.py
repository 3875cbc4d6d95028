"""Apps of many shapes, none written for Slipway: each is released twice and goes back, with its dependencies shared."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host
from tests.e2e.apps import LEFT_OUT, author_uv, facts
from tests.e2e.conftest import MakeHost, looked_at, systems, variants

pytestmark = [pytest.mark.story, pytest.mark.slow]

SHAPES = ROOT / "tests/apps/shapes"
QUICK = {
    "workers": 1,
    "watch": 0,
    "keep_warm": 0,
    "readiness_path": "/",
    "liveness_path": "/",
    "tls": {"mode": "off"},
}


@dataclass(frozen=True)
class Shape:
    """An app, and what an inventory says of it."""

    folder: str
    code: str
    """The file with the route."""
    app: str | None = None
    """None: it is found."""
    made: tuple[tuple[str, ...], ...] = ()
    """uv's words for its lock file, where the folder has none."""
    source: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=lambda: {"version": "1.0"})
    """What it answers, besides its file."""


LAYOUT, PACKAGED = "src/greeting/main.py", "greeting.main:app"
LOCK = ("lock",)
PYLOCK = ("export", "--no-emit-project", "--no-dev", "-o", "pylock.toml")
HASHED = ("pip", "compile", "--generate-hashes", "-o", "requirements.lock.txt", "requirements.txt")
UNHASHED = {"dependencies": {"hashes": False}}
NOT_INSTALLED = {"version": "not installed"}
SHAPE = {
    "locked": Shape("layout", LAYOUT, PACKAGED, (LOCK,), settings={"dependencies": {"extras": ["quick"]}}),
    "pylock": Shape("layout", LAYOUT, PACKAGED, (LOCK, PYLOCK)),
    "requirements": Shape(
        "flat",
        "main.py",
        "main:app",
        (HASHED,),
        settings={"dependencies": {"lock": "requirements.lock.txt"}},
        told=NOT_INSTALLED,
    ),
    "loose": Shape("flat", "main.py", "main:app", settings=UNHASHED, told=NOT_INSTALLED),
    "setup": Shape("setup", "greeting/main.py", PACKAGED, settings=UNHASHED),
    "poetry": Shape("poetry", "greeting/main.py", PACKAGED),
    "pdm": Shape("pdm", LAYOUT),
    "member": Shape("monorepo", f"services/api/{LAYOUT}", PACKAGED, (LOCK,), {"subdir": "services/api"}),
    "subfolder": Shape("subfolder", "backend/greeting/main.py", source={"subdir": "backend"}, told=NOT_INSTALLED),
    "factory": Shape("factory", LAYOUT, settings={"python_path": ["src"]}, told={"greeted": "world"}),
    "expression": Shape(
        "factory",
        LAYOUT,
        "greeting.main:create_app('moon')",
        settings={"python_path": ["src"]},
        told={"greeted": "moon"},
    ),
}
USUAL = ("requirements", "poetry")
"""What each run deploys."""
AGAIN = ("poetry",)
"""What each run releases a second time."""


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with an app of each shape that this run looks at."""
    host = make_host("shapes", request.param, ())
    host.slipway["apps"] = {}
    for name in looked_at(request, "name"):
        shape = SHAPE[name]
        folder = shutil.copytree(SHAPES / shape.folder, host.folder / name, ignore=LEFT_OUT)
        for words in shape.made:
            author_uv(folder, *words)
        if name == "pylock":
            (folder / "uv.lock").unlink()
        host.slipway["apps"][name] = {
            "domains": [f"{name}.test"],
            "source": {"path": name, **shape.source},
            "app": shape.app,
            **shape.settings,
            **QUICK,
        }
    host.deploy()
    return host


@pytest.mark.parametrize("name", variants(SHAPE, USUAL))
def test_it_serves_with_a_server_that_its_lock_file_lacks(host: Host, name: str) -> None:
    told = facts(host, domain=f"{name}.test")
    assert told.items() >= SHAPE[name].told.items()
    packages = f"/srv/{name}/current/.venv"
    assert "gunicorn==" in host.ssh(f"cat {packages}/server.txt")
    assert host.ssh(f"ls {packages}/lib/python3*/site-packages | grep -c iniconfig || true").strip() == "0"


@pytest.mark.parametrize("name", variants(SHAPE, AGAIN))
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


@pytest.mark.parametrize("name", variants(SHAPE, AGAIN))
def test_it_goes_back(host: Host, name: str) -> None:
    before = host.release(name)
    host.task("tasks/rollback.py", app=name)
    assert host.release(name) != before
    assert f"/{host.release(name)}/" in facts(host, domain=f"{name}.test")["file"]


def test_a_second_run_changes_nothing(host: Host) -> None:
    host.task("tasks/release.py", again=True)
    host.converged()
