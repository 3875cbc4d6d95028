"""What a release would change, without making one."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import plan, source

from tests.unit.host.prepared import IDS, Place, RealCommands, place_at, revision, seen


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_at(tmp_path, monkeypatch)


def planned(place: Place) -> Any:
    """The plan of a release of what is wanted."""
    placeholders = {"URL": "x://localhost/placeholder", "ALEMBIC_CONFIG": "a.ini"}
    found = plan.plan(place.app, {"wanted": place.app.wanted, "placeholders": placeholders})
    assert not list(place.layout.plans.iterdir()), "nothing is left"
    return found


def unpacks(monkeypatch: pytest.MonkeyPatch, **links: str) -> None:
    """Let the source have a configuration of Alembic, or these links in its place: name → target."""

    def unpack(app: Any, folder: Path, archive: Path | None) -> None:
        folder.mkdir(parents=True)
        for name, target in links.items():
            (folder / name.replace("_", ".")).symlink_to(target)
        if not links:
            (folder / "a.ini").write_text("")

    monkeypatch.setattr(source, "unpack", unpack)


def test_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_at(tmp_path / "host", monkeypatch, RealCommands)
    monkeypatch.setattr(source, "as_builder", lambda app: [])
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "repository")]
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "repository")], check=True)
    commits = []
    for subject in ("First", "Second: größer"):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", subject], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        commits.append(done.stdout.strip())
    url = f"file://{tmp_path}/repository"
    place.app.wanted["source"] = {"kind": "git", "url": url, "ssh": "", "subdir": "", "commit": commits[1]}
    place.add(IDS[0], current=True, commit=commits[0])
    assert planned(place) == {
        "commits": [f"{commits[1][:7]} Second: größer"],
        "notes": [
            "it gets Python 3.13",
            (
                "its build would fail: There is no pyproject.toml and no requirements.txt in the root of the source: "
                "set source.subdir to the app's folder, or dependencies.lock to its lock file."
            ),
        ],
        "pending": [],
        "error": None,
        "sql_error": None,
    }
    assert [path.name for path in place.at.releases.iterdir()] == [IDS[0]]


def test_a_plan_reads_with_the_app_that_serves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where settings name none, and the new source isn't built yet."""

    def unpack(app: Any, folder: Path, archive: Path | None) -> None:
        (folder / "migrations").mkdir(parents=True)
        (folder / "migrations/alembic.ini").write_text("[alembic]\n")
        (folder / "migrations/env.py").write_text("from flask import current_app\n")

    place.app.wanted["app"] = ""
    place.migrates()
    place.add(IDS[0], current=True, served={"app": "notes:create_app()", "interface": "wsgi", "where": None})
    monkeypatch.setattr(source, "unpack", unpack)
    place.schema_says("read", **seen())
    assert plan.plan(place.app, {"wanted": place.app.wanted})["error"] is None
    (read,) = place.system.matching(place.schema("read"))
    assert read.endswith(" --tool=flask --config=migrations/alembic.ini --app=notes:create_app()"), read


def test_a_plan_of_what_is_no_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.migrates()
    place.add(IDS[0], current=True)
    unpacks(monkeypatch, a_ini="/dev/zero")
    assert planned(place)["error"] == "a.ini: a link leads out of the folder."
    assert place.system.calls == []


def test_a_plan_of_a_source_that_is_not_there(place: Place) -> None:
    assert str(planned(place)["error"]).startswith("[Errno 2] No such file or directory: ")


def test_a_source_that_comes_with_a_plan_is_its_own(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that ends meanwhile takes nothing of it away, and nothing is left of it."""
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        source,
        "unpack",
        lambda app, folder, archive: seen.append((archive.name, archive.read_bytes() == b"\x1f\x8b\0")),
    )
    request: Any = {"wanted": place.app.wanted, "archive": base64.b64encode(b"\x1f\x8b\0").decode()}
    assert plan.plan(place.app, request)["error"] is None
    assert seen == [("source.tar.gz", True)]
    assert list(place.layout.sources.iterdir()) == [] == list(place.layout.plans.iterdir())


def test_a_plan_before_the_first_release(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its migrations can be read with nobody's packages."""
    place.migrates()
    unpacks(monkeypatch)
    assert planned(place) == {"commits": [], "pending": [], "error": None, "sql_error": None}
    assert place.system.calls == []


def test_what_a_killed_plan_left_is_removed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of those that go on, nor of other apps or other users."""
    gone, alive = 4_194_305, os.getpid()
    names = [f"slipway-plan-notes-x.{gone}", f"slipway-plan-notes-y.{alive}", f"slipway-plan-other-x.{gone}", "mine.9"]
    for name in names:
        (place.layout.plans / name / "source/d").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 12345)
        plan.sweep_plans(place.app)
    assert sorted(path.name for path in place.layout.plans.iterdir()) == sorted(names)
    plan.sweep_plans(place.app)
    assert sorted(path.name for path in place.layout.plans.iterdir()) == sorted(names[1:])


LATER = ["drops the table old", "renames the column a to b"]


@pytest.fixture
def migrations(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A source with two migrations that the database lacks."""
    place.migrates()
    place.add(IDS[0], current=True)
    unpacks(monkeypatch)
    (place.at.folder(IDS[0]) / "alembic.ini").write_text("")
    place.schema_says("look", current=["r1", "x1"], dialect="postgresql", heads=["r1", "x1"])
    place.schema_says("read", heads=["r3"], unknown=[], pending=[revision("r2"), revision("r3", *LATER)])
    place.schema_says("render", sql={"r2": "ALTER TABLE x\x1b[2J", "r3": None, "r9": "forged"}, heads=["forged"])
    return place


def test_a_plan_of_migrations(migrations: Place) -> None:
    place = migrations
    told = planned(place)
    assert told["pending"] == [
        revision("r2") | {"sql": "ALTER TABLE x\\x1b[2J"},
        revision("r3", *LATER) | {"sql": ""},
    ]
    assert (told["current"], told["heads"], told["sql_error"]) == (["r1", "x1"], ["r3"], None)
    owned, looked, read, _, rendered, _ = place.system.calls
    assert owned.startswith("chown -hR root:notes ")
    # Who serves asks the database, with its own code and environment.
    assert f"--unit notes-plan-look-{os.getpid()} " in looked and f"EnvironmentFile={place.at.env(IDS[0])} " in looked
    assert f"--property WorkingDirectory={place.at.folder(IDS[0])} " in looked
    assert read.endswith(f"{place.layout.schema_program} read --at=r1,x1 --config=a.ini")
    assert rendered.endswith(f"{place.layout.schema_program} render --at=r1,x1 --dialect=postgresql --config=a.ini")
    (folder,) = set(re.findall(rf"RootDirectory=({place.layout.plans}/slipway-plan-notes-\w+\.\d+)/root", read))
    for shut_off in (read, rendered):
        assert "EnvironmentFile" not in shut_off and "User=notes" not in shut_off
        assert f" --property RootDirectory={folder}/root " in shut_off and " --property DynamicUser=yes " in shut_off
        assert f" {folder}/source:/source " in shut_off and " --property WorkingDirectory=/source/ " in shut_off
        assert " --property PrivateNetwork=yes " in shut_off and " --setenv SLIPWAY_MARKED=1 " in shut_off
        assert f"/{IDS[0]}/.venv/bin/python {place.layout.schema_program} " in shut_off
    assert "--setenv URL=x://localhost/placeholder " in rendered and "--setenv URL" not in read
    assert place.system.said == [f"{place.app.mark}\n"] * 3


def test_migrations_whose_sql_cannot_be_written(migrations: Place) -> None:
    migrations.system.failing[migrations.schema("render")] = "os.environ: KeyError"
    told = planned(migrations)
    assert told["error"] is None and [each["sql"] for each in told["pending"]] == [None, None]
    assert told["sql_error"] == "The database's schema can't be written as SQL:\nos.environ: KeyError"


def test_migrations_that_cannot_be_read(migrations: Place) -> None:
    migrations.system.failing[migrations.schema()] = "ModuleNotFoundError: new"
    assert planned(migrations)["error"] == "The database's schema can't be looked at:\nModuleNotFoundError: new"


def test_the_first_migrations_of_an_app(migrations: Place) -> None:
    """What serves has no Alembic yet, so that nobody asks the database; the plan begins with nothing."""
    (migrations.at.folder(IDS[0]) / "alembic.ini").unlink()
    migrations.schema_says("read", **seen(pending=[]))
    told = planned(migrations)
    assert told["pending"] == [] and told["error"] is None
    assert migrations.system.matching(migrations.schema("look")) == []
    assert migrations.system.matching(" read ")[0].endswith(" read --at=base --config=a.ini")
    assert migrations.system.matching(migrations.schema("render")) == []
