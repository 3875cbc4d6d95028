"""Slipway as it is installed: the wheel holds the project, it runs from anywhere, and nothing is written there."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway_host import VERSION

from roles import program
from slipway import project
from tests.unit.settings.test_inventory import HOSTS

ROOT = project.root()
HOOK = ast.parse((ROOT / "hatch_build.py").read_text(encoding="utf-8"))
CARRIED: tuple[str, ...] = next(
    ast.literal_eval(node.value)
    for node in HOOK.body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARRIED"
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def copied(source: Path, target: Path) -> None:
    """Copy a file, or a folder without bytecode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as installers fill it: both packages, and in slipway what hatch_build.py carries."""
    made = tmp_path_factory.mktemp("site")
    copied(ROOT / "slipway", made / "slipway")
    copied(ROOT / "host/slipway_host", made / "slipway_host")
    for path in CARRIED:
        copied(ROOT / path, made / "slipway/project" / path)
    return made


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    """`run(*words)`: the command, from a folder that has packages of names like ours."""
    for name in ("tests", "roles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('not ours')\n")
    (tmp_path / "deploy.py").write_text("raise AssertionError('not ours')\n")

    def command(*words: str, code: str = "from slipway.cli import main; main()") -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        program = [sys.executable, "-P", "-c", code, *words]
        return subprocess.run(
            program,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return command


def test_roles_are_those_that_came_with_it(run: Run, site: Path) -> None:
    code = (
        "from slipway import project; project.find_roles(); import roles.access; print(project.root(), roles.__file__)"
    )
    done = run(code=code)
    assert done.stdout.split() == [f"{site}/slipway/project", f"{site}/slipway/project/roles/__init__.py"], done.stderr


def test_a_host_gets_the_same_from_it(run: Run, site: Path) -> None:
    code = (
        "from slipway import project; project.find_roles(); import slipway_host; from roles import program; "
        "print(slipway_host.__file__, program.archive())"
    )
    done = run(code=code)
    assert done.stdout.split() == [f"{site}/slipway_host/__init__.py", program.archive()], done.stderr


@pytest.mark.parametrize("verb", ["plan", "apply", "release", "rollback", "releases", "verify"])
def test_each_verb_runs_from_anywhere(run: Run, site: Path, tmp_path: Path, verb: str) -> None:
    """As far as a host that doesn't answer, with an inventory called all.py; and nothing is written where it lies."""
    inventory = HOSTS.replace('"203.0.113.5", {', '"@slipway/127.0.0.1", {"ssh_port": 9, ')
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/all.py").write_text(inventory)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if "slipway/__pycache__" not in str(path)}
    done = run(verb, "conf/all.py")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    told = done.stderr
    assert "127.0.0.1 was not reached" in told or "127.0.0.1 can't be verified: no SSH session" in told, told
    after = {path: path.stat().st_mtime_ns for path in site.rglob("*") if "slipway/__pycache__" not in str(path)}
    changed = {str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {str(site / "slipway")}, "Python itself writes the bytecode of slipway/__init__.py"
    assert (tmp_path / "cache/slipway/bytecode").is_dir()


def test_in_json_it_is_one_object(run: Run, tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text("raise ValueError('x')\n")
    done = run("plan", "all.py", "--json")
    assert "line 1 of all.py" in json.loads(done.stdout)["error"], done.stderr


def test_who_has_no_home_sees_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text(HOSTS)
    nobody = "import os, pwd; pwd.getpwuid = {}.__getitem__; [os.environ.pop(n, 0) for n in ('HOME', 'XDG_CACHE_HOME')]"
    done = run("plan", "all.py", code=f"{nobody}; from slipway.cli import main; main()")
    assert done.returncode == 1 and done.stderr.startswith("Error: your home folder isn't known"), done.stderr
    assert done.stderr.count("\n") == 1


def test_all_that_is_needed_is_carried() -> None:
    assert {path.partition("/")[0] for path in CARRIED} == {
        *("deploy.py", "config.py", "tasks", "roles", "templates", "files", "tests")
    }
    assert all((ROOT / path).exists() for path in CARRIED)


def test_the_version_stands_in_one_place() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert said["dynamic"] == ["version"] and said["name"] == "slipway-vps"
    texts = [path for folder in ("slipway", "roles", "tasks") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in texts if re.search(rf'"{re.escape(VERSION)}"', path.read_text("utf-8"))] == []
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_bare_pyinfra_runs_from_the_clone(tmp_path: Path) -> None:
    """With an inventory of any name, anywhere."""
    (tmp_path / "all.py").write_text(HOSTS.replace('"203.0.113.5", {', '"@slipway/127.0.0.1", {"ssh_port": 9, '))
    program = "import sys; from pyinfra_cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--dry", str(tmp_path / "all.py"), "deploy.py"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120
    )
    assert "[127.0.0.1] Could not connect" in done.stderr and "No hosts remaining" in done.stderr, done.stderr
