"""What a poetry.lock or a pdm.lock installs here."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from slipway_host import pins

HERE = ".".join(map(str, sys.version_info[:2]))
POETRY = """
[[package]]
name = "flask"
version = "3.1.3"
groups = ["main", "dev"]
files = [{file = "flask.whl", hash = "sha256:aa"}, {file = "flask.tar.gz", hash = "sha256:bb"}]

[[package]]
name = "pywin32"
version = "306"
groups = ["main"]
markers = "sys_platform == 'win32'"
files = [{file = "pywin32.whl", hash = "sha256:cc"}]

[[package]]
name = "asyncpg"
version = "0.30"
optional = true
groups = ["main"]
markers = "extra == 'pg'"
files = [{file = "asyncpg.whl", hash = "sha256:dd"}]

[[package]]
name = "uwsgi"
version = "2"
groups = ["prod"]
markers = {prod = "sys_platform == 'linux'"}
files = [{file = "uwsgi.whl", hash = "sha256:ee"}]

[[package]]
name = "iniconfig"
version = "2"
groups = ["dev"]
files = [{file = "iniconfig.whl", hash = "sha256:ff"}]

[[package]]
name = "kit"
version = "1"
groups = ["main"]
files = []
develop = false
[package.source]
type = "directory"
url = "libs/kit"

[[package]]
name = "tool"
version = "1"
groups = ["main"]
files = []
[package.source]
type = "git"
url = "git@git.example.com:team/tool.git"
reference = "main"
resolved_reference = "0123456789abcdef0123456789abcdef01234567"

[extras]
pg = ["asyncpg"]
"""
PROJECT = """
[tool.poetry]
name = "notes"
[tool.poetry.dependencies]
python = "^3.11"
flask = "^3"
asyncpg = {version = "*", optional = true}
[tool.poetry.group.prod.dependencies]
uwsgi = "*"
[tool.poetry.group.dev.dependencies]
iniconfig = "*"
[[tool.poetry.source]]
name = "own"
url = "https://index.example.com/simple"
priority = "supplemental"
[build-system]
requires = ["poetry-core"]
"""
GIT = "tool @ git+ssh://git@git.example.com/team/tool.git@0123456789abcdef0123456789abcdef01234567"
FLASK = "flask==3.1.3 --hash=sha256:aa --hash=sha256:bb"
INDEX = "--extra-index-url https://index.example.com/simple"


def said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lock: str, project: str, *chosen: str, kind: str = "poetry"
) -> Any:
    (tmp_path / "lock").write_text(lock)
    (tmp_path / "pyproject.toml").write_text(project)
    pins.main(kind, str(tmp_path / "lock"), str(tmp_path / "pyproject.toml"), *chosen)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("chosen", "more"),
    [
        ([], []),
        (["extra=pg"], ["asyncpg==0.30 --hash=sha256:dd"]),
        (["group=prod"], ["uwsgi==2 --hash=sha256:ee"]),
        (["group=dev"], ["iniconfig==2 --hash=sha256:ff"]),
    ],
)
def test_what_poetry_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: list[str], more: list[str]
) -> None:
    (tmp_path / "notes").mkdir()
    told = said(tmp_path, capsys, POETRY, PROJECT, *chosen)
    assert told == {
        "options": [INDEX],
        "hashed": sorted([FLASK, *more]),
        "git": [GIT],
        "local": [["libs/kit", False]],
        "builds": True,
    }


OLDER = (
    "poetry.lock is older than pyproject.toml, since it has no new: `poetry lock` in the project, commit it, and run "
    "again."
)


@pytest.mark.parametrize(
    ("lock", "project", "chosen", "error"),
    [
        (POETRY, PROJECT, ["extra=x"], "The project has no extra x; it has pg: correct dependencies.extras."),
        (POETRY, PROJECT, ["group=x"], "The project has no group x; it has dev, prod: correct dependencies.groups."),
        (
            POETRY,
            PROJECT.replace('flask = "^3"', 'flask = "^3"\nnew = "*"'),
            [],
            OLDER,
        ),
        (
            POETRY.replace('files = [{file = "uwsgi.whl", hash = "sha256:ee"}]', ""),
            PROJECT,
            ["group=prod"],
            "poetry.lock has no hash of uwsgi: make it anew by `poetry lock`.",
        ),
        ("[[package]]\nversion = 1\n", PROJECT, [], "lock isn't as poetry writes it (KeyError: 'name')."),
    ],
)
def test_a_lock_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lock: str, project: str, chosen: list[str], error: str
) -> None:
    told = said(tmp_path, capsys, lock, project, *chosen)
    assert told["error"].replace(f"{tmp_path}/", "") == error


def test_a_project_that_poetry_does_not_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = PROJECT.replace('name = "notes"', "package-mode = false")
    assert said(tmp_path, capsys, POETRY, project)["builds"] is False


OLD = f"""
[[package]]
name = "flask"
version = "3"
python-versions = ">=3.8"
files = [{{file = "flask.whl", hash = "sha256:aa"}}]
[package.dependencies]
click = ">=8"
colorama = {{version = "*", markers = "sys_platform == 'win32'"}}
dotenv = {{version = "*", optional = true}}
[package.extras]
dotenv = ["dotenv (>=1)"]

[[package]]
name = "click"
version = "8"
python-versions = ">=3.8"
files = [{{file = "click.whl", hash = "sha256:bb"}}]

[[package]]
name = "colorama"
version = "1"
python-versions = "*"
files = [{{file = "colorama.whl", hash = "sha256:cc"}}]

[[package]]
name = "dotenv"
version = "1"
python-versions = "*"
files = [{{file = "dotenv.whl", hash = "sha256:dd"}}]

[[package]]
name = "numpy"
version = "1"
python-versions = "<{HERE}"
files = [{{file = "numpy1.whl", hash = "sha256:ee"}}]

[[package]]
name = "numpy"
version = "2"
python-versions = ">={HERE}"
files = [{{file = "numpy2.whl", hash = "sha256:ff"}}]

[[package]]
name = "pytest"
version = "8"
python-versions = "*"
files = [{{file = "pytest.whl", hash = "sha256:11"}}]
"""
OLD_PROJECT = """
[tool.poetry]
name = "notes"
[tool.poetry.dependencies]
python = ">=3.11,<4"
flask = {version = "^3", extras = ["dotenv"]}
numpy = "*"
pytest = {version = "*", python = "<3.8"}
"""


def test_what_an_older_poetry_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It doesn't say what is of which group: the dependencies lead to it."""
    assert said(tmp_path, capsys, OLD, OLD_PROJECT)["hashed"] == [
        "click==8 --hash=sha256:bb",
        "dotenv==1 --hash=sha256:dd",
        "flask==3 --hash=sha256:aa",
        "numpy==2 --hash=sha256:ff",
    ]


PDM = """
[metadata]
groups = ["default", "prod", "signed"]
strategy = ["inherit_metadata"]

[[package]]
name = "flask"
version = "3"
groups = ["default"]
files = [{file = "flask.whl", hash = "sha256:aa"}]

[[package]]
name = "flask"
version = "3"
extras = ["dotenv"]
groups = ["default"]
files = [{file = "flask.whl", hash = "sha256:aa"}]

[[package]]
name = "colorama"
version = "1"
groups = ["default"]
marker = "sys_platform == 'win32'"
files = [{file = "colorama.whl", hash = "sha256:bb"}]

[[package]]
name = "simplejson"
version = "4"
groups = ["signed"]
files = [{file = "simplejson.whl", hash = "sha256:cc"}]

[[package]]
name = "kit"
version = "1"
groups = ["default"]
path = "./kit"
editable = true

[[package]]
name = "tool"
version = "1"
groups = ["prod"]
git = "https://git.example.com/tool.git"
ref = "main"
revision = "0123456789abcdef0123456789abcdef01234567"
"""
PDM_PROJECT = """
[project]
name = "notes"
dependencies = ["flask[dotenv]>=3", "colorama; sys_platform == 'win32'"]
[project.optional-dependencies]
signed = ["simplejson"]
[build-system]
requires = ["pdm-backend"]
"""


def test_what_pdm_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(tmp_path, capsys, PDM, PDM_PROJECT, "extra=signed", "group=prod", kind="pdm")
    assert told == {
        "options": [],
        "hashed": ["flask==3 --hash=sha256:aa", "simplejson==4 --hash=sha256:cc"],
        "git": ["tool @ git+https://git.example.com/tool.git@0123456789abcdef0123456789abcdef01234567"],
        "local": [["./kit", True]],
        "builds": True,
    }
    assert said(tmp_path, capsys, PDM, PDM_PROJECT, kind="pdm")["hashed"] == ["flask==3 --hash=sha256:aa"]


@pytest.mark.parametrize(
    ("asked", "inside", "outside"),
    [
        ("^3.11", "3.13.1", "4.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("~3.11", "3.11.9", "3.12.0"),
        ("~3", "3.12", "4.0"),
        (">=3.11,<3.13", "3.12.5", "3.13.0"),
        ("3.11.* || >=3.13", "3.13.0", "3.12.0"),
        ("~=3.11.2", "3.11.9", "3.12.0"),
        ("3.11", "3.11", "3.11.1"),
    ],
)
def test_ranges_of_versions(asked: str, inside: str, outside: str) -> None:
    assert pins.within(asked, inside) and not pins.within(asked, outside)


POETRY_1 = """
[tool.poetry.dependencies]
python = "^3.11"
kit = "*"
[tool.poetry.group.prod.dependencies]
uwsgi = "*"
"""
POETRY_2 = """
[project]
name = "notes"
requires-python = ">=3.11"
dependencies = ["kit"]
[project.optional-dependencies]
pg = ["asyncpg"]
[dependency-groups]
prod = ["uwsgi"]
"""
PDM_2 = """
[project]
name = "notes"
requires-python = ">=3.11"
dependencies = ["kit"]
[dependency-groups]
prod = ["uwsgi"]
[tool.pdm.dev-dependencies]
Test_It = ["pytest"]
[tool.pdm.resolution.overrides]
kit = "1"
"""


@pytest.mark.parametrize(
    ("kind", "version", "told", "project"),
    [  # as these made them
        pytest.param(
            *("poetry", "2.0", "4799de5cc93a5e012d4f805fec8f2ac682d1d4ab26355fed7d5ed0932b077da4", POETRY_1),
            id="Poetry 1.8.5, and 2.5.1 for such a project",
        ),
        pytest.param(
            *("poetry", "2.1", "898c90fcb21b267c074a0f0a075e64c38c97780f3d538686f9cb259071920731", POETRY_2),
            id="Poetry 2.1.4",
        ),
        pytest.param(
            *("poetry", "2.1", "520a72c01557a73898e8825c34a5609640cb696ab4207ce8c14c83fa14f57e56", POETRY_2),
            id="Poetry 2.5.1",
        ),
        pytest.param(
            *("pdm", "4.4.1", "sha256:a09fc1db291bfa196b6a4273a18dbc71d385fd3a7b8e32f85de75feb6047cec8", PDM_2),
            id="PDM 2.15.4",
        ),
        pytest.param(
            *("pdm", "4.5.1", "sha256:d306365433ddeb3ea1139589f6d335f349280bd5e4cf3ebbe6cef331bc80a82d", PDM_2),
            id="PDM 2.20.1 and 2.29.4",
        ),
    ],
)
def test_whether_a_lock_file_fits_its_project(kind: str, version: str, told: str, project: str) -> None:
    between = "-" if kind == "poetry" else "_"
    lock = {"metadata": {f"content{between}hash": told, f"lock{between}version": version}}
    assert not pins.outdated(kind, lock, tomllib.loads(project))
    for new in (project.replace("kit", "cat"), project.replace("3.11", "3.12")):
        assert pins.outdated(kind, lock, tomllib.loads(new))
    newer = {"metadata": {**lock["metadata"], f"lock{between}version": "5.0"}}
    assert not pins.outdated(kind, newer, tomllib.loads(project.replace("kit", "cat"))), "nobody knows how that is made"
    assert not pins.outdated(kind, {}, tomllib.loads(project))


def test_a_workspace_of_pdm_is_not_judged() -> None:
    lock = {"metadata": {"content_hash": f"sha256:{'0' * 64}", "lock_version": "4.5.1"}}
    project = tomllib.loads(PDM_2)
    assert pins.outdated("pdm", lock, project)
    project["tool"]["pdm"]["workspace"] = {"members": ["libs/*"]}
    assert not pins.outdated("pdm", lock, project)


def test_an_outdated_lock_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = f'{POETRY}\n[metadata]\nlock-version = "2.1"\ncontent-hash = "{"0" * 64}"\n'
    assert said(tmp_path, capsys, lock, PROJECT)["error"] == (
        "poetry.lock is older than pyproject.toml: `poetry lock` in the project, commit it, and run again."
    )


def test_a_python_that_the_project_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(tmp_path, capsys, POETRY, PROJECT.replace("^3.11", "~3.8"))["error"]
    here = ".".join(map(str, sys.version_info[:3]))
    assert told == (
        f"The project takes Python ~3.8 ([tool.poetry.dependencies] python), but gets {here}: set python to another "
        "version."
    )


@pytest.mark.parametrize(
    "project", ["project = 3", "tool = 3", "[tool]\npoetry = 3\npdm = 3", "[project]\nx = 1979-05-27"]
)
def test_a_project_of_another_form(project: str) -> None:
    """Others tell what is wrong with it."""
    parsed, told = tomllib.loads(project), "0" * 64
    for kind, between in (("poetry", "-"), ("pdm", "_")):
        lock = {"metadata": {f"content{between}hash": told, f"lock{between}version": "2.1"}}
        assert pins.outdated(kind, lock, parsed) in (True, False)
        assert not pins.outdated(kind, {"metadata": 3}, parsed)
    assert pins.required_python(parsed)[0] is None


OLDEST = """
[[package]]
name = "Flask_Cors"
version = "3"
category = "main"
optional = false
python-versions = ">=3.6"

[[package]]
name = "flake8"
version = "4"
category = "dev"
optional = false
python-versions = ">=3.6"

[metadata]
lock-version = "1.1"

[metadata.files]
flake8 = [{file = "flake8.whl", hash = "sha256:bb"}]
flask-cors = [{file = "Flask_Cors.whl", hash = "sha256:aa"}]
"""


def test_hashes_at_the_end_of_an_older_file_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = '[tool.poetry]\nname = "notes"\n[tool.poetry.dependencies]\nflask-cors = "^3"\n'
    told = said(tmp_path, capsys, OLDEST, project)
    assert told.get("hashed") == ["Flask_Cors==3 --hash=sha256:aa"], told


def test_hashes_of_pdm_stand_by_name_and_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = OLDEST.replace("flask-cors =", '"flask-cors 3" =').replace("flake8 =", '"flask-cors 2" =')
    told = said(tmp_path, capsys, lock, '[project]\nname = "notes"\ndependencies = ["flask-cors"]\n', kind="pdm")
    assert told.get("hashed") == ["Flask_Cors==3 --hash=sha256:aa"], told


@pytest.mark.parametrize(
    ("more", "file", "builds"),
    [
        ("", "", False),
        ("", "notes/__init__.py", True),
        ("", "src/notes.py", True),
        ('packages = [{include = "x"}]\n', "", True),
    ],
)
def test_a_project_of_poetry_without_its_module_is_no_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, file: str, builds: bool
) -> None:
    if file:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    project = f'[tool.poetry]\nname = "notes"\n{more}[build-system]\nrequires = ["poetry-core"]\n'
    assert said(tmp_path, capsys, "", project)["builds"] is builds
