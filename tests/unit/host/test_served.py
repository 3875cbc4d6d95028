"""Which application a release serves: what its own code answers is checked before it stands in a unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import check, sandbox, served

from tests.unit.host.prepared import Place, failure, place_at

UNIT = '"SLIPWAY_APP=@APP@" SLIPWAY_INTERFACE=@INTERFACE@ of @RELEASE@\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = place_at(tmp_path, monkeypatch)
    made.add("r1", "started")
    made.app.wanted["server"] = {
        "name": "one",
        "interfaces": ["asgi"],
        "others": {"asgi": ["one", "two"], "wsgi": ["two", "three"]},
        "modules": {"asgi": ["one"]},
        "versions": {"one": ">=2"},
    }
    return made


def test_what_is_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    run = sandbox.as_app

    def as_app(*words: Any, **options: Any) -> Any:
        asked.update(options)
        return run(*words, **options)

    monkeypatch.setattr(sandbox, "as_app", as_app)
    place.app.wanted |= {"app": "", "factory": True}
    served.find(place.app, "r1")
    mark, question, _ = asked["said"].split("\n")
    assert mark == place.app.mark
    assert json.loads(question) == {
        "app": "",
        "interface": None,
        "factory": True,
        "server": "one",
        "modules": {"asgi": ["one"]},
        "versions": {"one": ">=2"},
    }


def test_what_is_found_stands_in_the_record_and_the_units(place: Place) -> None:
    place.app.wanted["units"]["service"] = UNIT
    place.found("notes:make('production')", where="notes/__init__.py")
    check.check(place.app, "r1")
    assert place.app.record("r1")["served"] == {
        "app": "notes:make('production')",
        "interface": "asgi",
        "where": "notes/__init__.py",
        "health": [],
    }
    unit = (place.layout.units / "notes@r1.service").read_text()
    assert unit == "\"SLIPWAY_APP=notes:make('production')\" SLIPWAY_INTERFACE=asgi of r1\n"
    assert place.said() == [
        "the application is notes:make('production') (ASGI), found in notes/__init__.py; one serves it"
    ]


def test_of_what_the_settings_name_nothing_is_said(place: Place) -> None:
    served.find(place.app, "r1")
    assert place.said() == []


@pytest.mark.parametrize(("strict", "said"), [(True, []), (False, ["/readyz (or /healthz)"])])
def test_a_path_that_tells_whether_it_is_ready_is_proposed(place: Place, strict: bool, said: list[str]) -> None:
    """Unless the settings name one."""
    place.app.wanted["readiness"]["strict"] = strict
    place.found(health=["/readyz", "/healthz", "/a b", "x" * 100])
    assert served.find(place.app, "r1")["health"] == ["/readyz", "/healthz"]
    assert [line.split(":")[0] for line in place.said()] == [f"it has {each}" for each in said]
    assert all('with readiness_path "/readyz" a release serves only once' in line for line in place.said())


def test_a_configuration_of_its_server_that_is_not_there(place: Place) -> None:
    place.app.wanted["server"]["config"] = "conf/gunicorn.py"
    assert failure(served.find, place.app, "r1") == (
        "server_config: there is no conf/gunicorn.py in the app's folder: commit it, or correct the setting."
    )
    file = place.app.work("r1") / "conf/gunicorn.py"
    file.parent.mkdir(parents=True)
    file.touch()
    assert served.find(place.app, "r1")["app"] == "notes.main:app"


def test_an_interface_that_its_server_has_not(place: Place) -> None:
    place.found("notes:app", "wsgi")
    assert failure(served.find, place.app, "r1") == (
        'notes:app is a WSGI application, which one doesn\'t serve: set server to "two" or "three".'
    )


@pytest.mark.parametrize(
    "name",
    [
        'notes:app" User=root',
        "notes:app\nUser=root",
        "notes:app('%h')",
        "notes:app('$A')",
        "notes:app(\\)",
        "notes",
        f"notes:{'a' * 300}",
    ],
)
def test_a_name_that_would_say_more_in_a_unit(place: Place, name: str) -> None:
    """The app's own code answers: it may say anything."""
    place.found(name)
    told = failure(served.find, place.app, "r1")
    assert told.startswith("An application can't be called ") and told.endswith(": set app to module:attribute.")
    assert "served" not in place.app.record("r1")
    place.app.write_record("r1", served={"app": name, "interface": "asgi"})
    place.app.wanted["units"]["service"] = UNIT
    check.write_units(place.app, "r1", place.app.wanted["units"])
    assert "@APP@" in (place.layout.units / "notes@r1.service").read_text()


@pytest.mark.parametrize("answer", ["{}", "[]", "nonsense", '{"app": 1, "interface": "asgi"}'])
def test_an_answer_that_is_none(place: Place, answer: str) -> None:
    place.system.printing[str(place.layout.look_program)] = f"{place.app.mark}{answer}\n"
    assert failure(served.find, place.app, "r1") == ("The app answered for Slipway's own program when it was imported.")


def test_an_interface_that_is_none(place: Place) -> None:
    place.found("notes:app", "rsgi")
    assert failure(served.find, place.app, "r1").startswith("An application can't be called 'notes:app'")


def test_what_it_says_of_the_place_is_only_shown(place: Place) -> None:
    place.found(where="\x1b]52;main.py [tool]\n")
    assert served.find(place.app, "r1")["where"] == "?]52?main.py [tool]?"


def test_folders_of_modules_are_in_the_environment_of_all(place: Place) -> None:
    place.app.wanted["python_path"] = ["src", "lib/more"]
    place.app.wanted["source"]["subdir"] = "web"
    place.app.write_record("r1", wanted=place.app.wanted)
    check.prepare(place.app, "r1")
    folder = place.at.folder("r1") / "web"
    assert place.at.env("r1").read_text() == f'RELEASE_ID="r1"\nPYTHONPATH="{folder}/src:{folder}/lib/more"\n'
