"""The app's own commands of a build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slipway_host.release import commands

from tests.unit.host.prepared import IDS, Place, failure, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A release whose dependencies are installed."""
    made = place_at(tmp_path, monkeypatch)
    made.add("r1", "started")
    made.app.wanted["build"] |= {"commands": [["npm", "ci"], ["A=b c", "npm", "run", "build"]], "env": {"LEVEL": "3"}}
    made.at.build_environment.write_text(json.dumps({"TOKEN": "s3cr3tToken"}))
    return made


def test_they_run_in_order_as_the_builder(place: Place) -> None:
    given = []
    file = Path(place.app.request["folder"]) / "build.env"
    place.system.doing["/usr/bin/env"] = lambda line: given.append(file.read_text())
    commands.run(place.app, "r1", None)
    ran = place.system.matching("/usr/bin/env")
    assert [call.partition("/usr/bin/env ")[2].partition("\n")[0] for call in ran] == ["npm ci", "A=b c npm run build"]
    assert all("--property=User=_notes" in call or "User=_notes" in call for call in ran)
    bin_folder = place.at.programs("r1")
    assert given[0].splitlines() == [
        'CI="1"',
        f'HOME="{place.at.cache}/home"',
        'LC_ALL="C.UTF-8"',
        'LEVEL="3"',
        f'PATH="{bin_folder}:/usr/local/bin:/usr/bin:/bin"',
        'TOKEN="s3cr3tToken"',
        f'VIRTUAL_ENV="{place.at.venv("r1")}"',
    ]
    assert not any("s3cr3tToken" in call for call in place.system.calls)
    assert not any("SupplementaryGroups" in call for call in ran)


def test_a_shared_environment_is_seen_and_nothing_else_of_the_group(place: Place) -> None:
    commands.run(place.app, "r1", IDS[0])
    [first, _] = place.system.matching("/usr/bin/env")
    venv = place.at.venv(IDS[0])
    of_group = ("SupplementaryGroups=notes", f"InaccessiblePaths=-{place.at.etc} -{place.at.home}")
    bound = f"BindReadOnlyPaths={venv} {venv}:{place.at.venv('r1')}"
    assert all(line in first for line in (bound, *of_group))
    commands.run(place.app, "r1", IDS[0], rebuilt=True)
    [*_, last] = place.system.matching("/usr/bin/env")
    assert all(line in last for line in of_group) and bound not in last, "it has its environment already"


def test_without_any_nothing_runs(place: Place) -> None:
    del place.app.wanted["build"]["commands"]
    commands.run(place.app, "r1", None)
    assert place.system.calls == []


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["npm", "ci"], 1, "build: `npm ci` ended with 1:\nboom"),
        (["A=1", "npm", "ci"], 127, "Set node to True"),
        (
            ["sass", "x"],
            127,
            "Name a program of the release's environment, of the app's folder (./sass), or of the host",
        ),
    ],
)
def test_one_that_fails_ends_the_build(place: Place, argv: list[str], code: int, told: str) -> None:
    place.app.wanted["build"]["commands"] = [argv, ["never"]]
    place.system.failing["/usr/bin/env"], place.system.codes["/usr/bin/env"] = "boom", code
    assert told in failure(commands.run, place.app, "r1", None)
    assert place.system.matching("never") == []


def test_those_that_come_first(place: Place) -> None:
    place.app.wanted["build"]["first"] = [["make", "pages"]]
    commands.run(place.app, "r1", None, first=True)
    [ran] = place.system.matching("/usr/bin/env")
    assert ran.partition("/usr/bin/env ")[2].startswith("make pages")
    place.system.failing["make pages"] = "no rule"
    assert failure(lambda: commands.run(place.app, "r1", None, first=True)).startswith("build_first: `make pages` ")
