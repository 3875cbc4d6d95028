"""The first app of a framework's own manual, after `uv init` and `uv add`: its domain and its source are all it needs.

Everything else is found, and said: the application, its interface and the server that serves it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest

from tests.e2e._driver import ROOT, Host
from tests.e2e.apps import LEFT_OUT
from tests.e2e.conftest import MakeHost, systems, variants

pytestmark = pytest.mark.story

APPS = ROOT / "tests/apps/getting_started"


@dataclass(frozen=True)
class First:
    """An app of tests/apps/getting_started."""

    file: str
    found: str
    """What a release says of it."""
    word: str
    """A word of its answer."""


FIRST = {
    "fastapi-app": First("main.py", "main:app (ASGI), found in main.py", "Hello"),
    "litestar-app": First("app.py", "app:app (ASGI), found in app.py", "Hello"),
    "starlette-app": First("main.py", "main:app (ASGI), found in main.py", "world"),
    "quart-app": First("app.py", "app:app (ASGI), found in app.py", "hello"),
    "flask-app": First("app.py", "app:app (WSGI), found in app.py", "Hello"),
}
APP = pytest.mark.parametrize("name", variants(FIRST, ("fastapi-app",)))


@pytest.fixture(scope="module", params=systems("debian13"))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host without an app. It can't resolve the names of apps; the ACME server can."""
    made = make_host("first", request.param, ())
    made.slipway["acme"]["check"] = False
    return made


def answered(host: Host, name: str) -> str:
    """What the app answers."""
    answer = host.get("/", domain=f"{name}.test")
    assert answer.status_code == 200, answer.text[:300]
    return answer.text


@APP
def test_two_settings_are_enough(host: Host, name: str) -> None:
    shutil.copytree(APPS / name, host.folder / name, ignore=LEFT_OUT)
    host.slipway["apps"][name] = {"domains": [f"{name}.test"], "source": {"path": name}}
    host.deploy().says(f"the application is {FIRST[name].found}; gunicorn serves it")
    assert FIRST[name].word in answered(host, name)


@APP
def test_the_next_release_loses_no_request(host: Host, name: str) -> None:
    code = host.folder / name / FIRST[name].file
    before, _, after = code.read_text().rpartition(FIRST[name].word)
    code.write_text(f"{before}Good-bye{after}")
    host.task("tasks/release.py", app=name, prove=True).says(" 0 failed")
    assert "Good-bye" in answered(host, name)


@APP
def test_it_goes_back(host: Host, name: str) -> None:
    host.task("tasks/rollback.py", app=name, prove=True).says(" 0 failed")
    assert FIRST[name].word in answered(host, name)


def test_a_second_run_changes_nothing(host: Host) -> None:
    """Once what was taken back is the newest again."""
    host.task("tasks/release.py", again=True)
    host.converged()
