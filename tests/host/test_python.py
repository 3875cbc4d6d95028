"""roles/python.py: uv as pinned, and Pythons that services can read and nobody can change."""

from __future__ import annotations

import json

import pytest

from tests.host._hosts import OUTSIDER, App, Target

FOLDER = "/opt/slipway/python"
NOT_UV_S = f"-not -path '{FOLDER}/.*'"
"""For `find`: without uv's own lock and scratch folders, which no interpreter reads."""


def test_uv_is_the_pinned_release(target: Target) -> None:
    """uv answers, with the version of the settings."""
    assert target.run("/opt/slipway/bin/uv --version").split()[:2] == ["uv", target.settings.python.uv.version]


def test_uv_is_root_s(target: Target) -> None:
    """Nobody else may change what builds every release."""
    programs = "/opt/slipway/bin /opt/slipway/host /opt/slipway/uv"
    assert target.run(rf"find -L {programs} \( -not -user root -o -perm /022 \)") == ""


def test_pythons_are_readable_by_services(target: Target) -> None:
    """Each file for all, each folder enterable."""
    closed = r"\( -type d -not -perm -005 -o -type f -not -perm -004 \)"
    assert target.run(f"find {FOLDER} {closed} {NOT_UV_S} -print -quit") == ""


def test_pythons_are_root_s(target: Target) -> None:
    """An app that could change its interpreter could change every other app."""
    open_ = r"-not -type l \( -not -user root -o -perm /022 \)"
    assert target.run(f"find {FOLDER} {open_} {NOT_UV_S} -print -quit") == ""


@pytest.fixture(scope="session")
def found(app: App) -> dict[str, str]:
    """What the app's interpreter says of itself when the app's own user runs it."""
    code = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.base_prefix, sys.prefix]))"
    printed = app.target.run_as(app.settings.user, "%s -I -B -c %s", app.python, code)
    return dict(zip(("version", "base", "prefix"), json.loads(printed), strict=True))


def test_app_has_its_python_version(app: App, found: dict[str, str]) -> None:
    """The version of the settings, to the parts that it names."""
    wanted = app.settings.python_version.split(".")
    assert found["version"].split(".")[: len(wanted)] == wanted


def test_app_runs_on_a_managed_python(found: dict[str, str]) -> None:
    """Not on the distribution's, which an upgrade of the system could change."""
    assert found["base"].startswith(f"{FOLDER}/")


def test_app_has_an_environment_of_its_own(app: App, found: dict[str, str]) -> None:
    """The release's, not one that releases share."""
    assert found["prefix"] == f"{app.folder}/.venv"


def test_managed_python_runs_for_any_service(app: App) -> None:
    """Another unprivileged user can run the interpreter too, with its libraries."""
    program = app.target.run("readlink -f %s", app.python)
    printed = app.target.run_as(OUTSIDER, "%s -I -B -c %s", program, "import ssl, sqlite3, sys; print(sys.base_prefix)")
    assert printed.startswith(f"{FOLDER}/")
