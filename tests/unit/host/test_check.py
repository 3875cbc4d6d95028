"""Check: what is written, what is asked, and what ends a release before anything changes."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import check, manifest

from tests.unit.host.prepared import IDS, Place, failure, place_at, revision, seen


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_at(tmp_path, monkeypatch)


def test_a_check_writes_the_environment_and_the_units(place: Place) -> None:
    place.at.environment.write_text('A="1"\n')
    place.add("r1", "started")
    place.at.env("r1").unlink()
    assert failure(check.check, place.app, "r1") == (
        f"{place.at.environment} isn't the environment this release was asked for: somebody changed it meanwhile."
    )
    assert not place.at.env("r1").exists()
    place.app.wanted["inputs"]["environment"] = hashlib.sha256(b'A="1"\n').hexdigest()
    check.check(place.app, "r1")
    assert place.at.env("r1").read_text() == 'A="1"\nRELEASE_ID="r1"\n'
    assert stat.S_IMODE(place.at.env("r1").stat().st_mode) == 0o640
    assert place.system.owners[".r1.env.partial"] == ("root", "notes")
    assert place.system.owners["releases"] == ("root", "notes")
    assert (place.layout.units / "notes@r1.service").read_text() == "# r1 service\n"
    assert (place.layout.units / "notes@r1.socket").read_text() == "# r1 socket\n"
    (imported,) = place.system.matching("systemd-run")
    assert "--unit notes-check " in imported and imported.endswith("/bin/python " + str(place.layout.look_program))
    for line in (*place.app.wanted["sandbox"], f"EnvironmentFile={place.at.env('r1')}", "RuntimeMaxSec=120"):
        assert f"--property {line} " in imported
    assert place.system.matching("nginx check") == ["nginx check"]
    (verified,) = place.system.matching("systemd-analyze verify ")
    assert verified.count("notes@r1.") == 2
    at = place.at
    assert place.system.matching("flush") == [f"flush {at.srv} {at.etc} {at.records} {place.layout.units}"]
    assert place.system.matching("daemon-reload") == [], "systemd knows neither unit yet, and will read its file"


HEADS = "slipway-schema: " + json.dumps(seen(heads=["a", "b"], forked=["a", "b"]))


@pytest.mark.parametrize(
    ("failing", "printing", "message"),
    [
        (
            {"notes-check": "ModuleNotFoundError: No module named 'notes'"},
            {},
            "The app can't be served:\nModuleNotFoundError: No module named 'notes'",
        ),
        ({"nginx check": "nginx refuses"}, {}, "nginx refuses"),
        (
            {},
            {"systemd-analyze": "/etc/x: notes@r1.service:3: Unknown key\nother.service: y"},
            "systemd refuses the unit:\n/etc/x: notes@r1.service:3: Unknown key",
        ),
        ({"schema/__main__.py": "no database"}, {}, "The database's schema can't be looked at:\nno database"),
        (
            {},
            {"schema/__main__.py": HEADS},
            "The migrations have 2 heads (a, b): `alembic merge heads`, and run again.",
        ),
    ],
)
def test_a_check_that_fails(place: Place, failing: dict[str, str], printing: dict[str, str], message: str) -> None:
    place.migrating()
    place.system.failing = failing
    place.system.printing |= printing
    place.schema_says("look", **seen())
    assert failure(check.check, place.app, "r1") == message


def test_a_bad_unit_of_a_worker_is_refused(place: Place) -> None:
    place.app.write_record("r1", wanted={**place.app.wanted, "units": {"worker.service": ""}})
    place.system.printing["systemd-analyze"] = "/etc/x: notes.worker@r1.service:3: Unknown key\nother.service: y"
    told = "systemd refuses the unit:\n/etc/x: notes.worker@r1.service:3: Unknown key"
    assert failure(check.valid_units, place.app, "r1") == told


JOB = {"service": "[Service]\nExecStart=/usr/bin/env true # @RELEASE@\n", "timer": "[Timer]\nOnCalendar=daily\n"}


def test_a_bad_unit_of_a_job_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't among systemd's yet, where that of the serving release may be."""
    jobs = {"clean": {"command": ["true"], "calendar": ["daily"], "units": JOB}}
    place.app.write_record("r1", wanted={**place.app.wanted, "jobs": jobs})
    seen: dict[str, str] = {}
    run = place.system.run

    def noting(*argv: str, **options: Any) -> Any:
        seen.update(
            {each: Path(each).read_text() for each in argv if Path(each).name.startswith(place.at.job("clean", ""))}
        )
        return run(*argv, **options)

    monkeypatch.setattr(place.system, "run", noting)
    check.valid_units(place.app, "r1")
    names = {place.at.job("clean", kind): text.replace("@RELEASE@", "r1") for kind, text in JOB.items()}
    assert {Path(path).name: text for path, text in seen.items()} == names
    assert not any(Path(path).exists() or Path(path).is_relative_to(place.layout.units) for path in seen)
    timer = place.at.job("clean", "timer")
    place.system.printing["systemd-analyze"] = f"/tmp/x/{timer}:2: Failed to parse calendar specification"
    told = f"systemd refuses the unit:\n/tmp/x/{timer}:2: Failed to parse calendar specification"
    assert failure(check.valid_units, place.app, "r1") == told


def test_a_hook_that_is_missing_ends_it_first(place: Place) -> None:
    place.migrating()
    place.app.wanted["hooks"]["after_switch"] = ["no-such-thing"]
    assert failure(check.check, place.app, "r1").startswith("hooks.after_switch: there is no program no-such-thing")
    assert place.system.calls == []


def test_a_command_of_ones_own_that_is_missing_ends_it_first(place: Place) -> None:
    place.migrating(["aerch", "upgrade"], file=None)
    (place.at.venv("r1") / "bin/aerich").touch(0o755)
    told = "migrate: there is no program aerch in the release, nor in the PATH; there is aerich."
    assert failure(check.check, place.app, "r1") == told
    assert place.system.calls == []


def test_what_a_check_finds_of_the_database_is_written_down(place: Place) -> None:
    place.migrating()
    place.schema_says("look", **seen(current=["r1"], pending=[revision("r2")]))
    check.check(place.app, "r1")
    record = place.app.record("r1")
    assert (record["heads"], record["revisions"]) == (["r2"], {"before": ["r1"]})
    assert [each["revision"] for each in record["pending"]] == ["r2"]


def test_what_the_app_configures_is_looked_at_once_the_app_is_found(place: Place) -> None:
    """Where the settings name none."""
    place.app.wanted["app"] = ""
    at = place.migrating(file=None) / "migrations"
    at.mkdir()
    (at / "alembic.ini").write_text("[alembic]\n")
    (at / "env.py").write_text("from flask import current_app\n")
    place.found("notes:create_app()", "wsgi", "notes.py")
    place.schema_says("look", **seen())
    check.check(place.app, "r1")
    (looked,) = place.system.matching(place.schema("look"))
    assert looked.endswith(" look --tool=flask --config=migrations/alembic.ini --app=notes:create_app()"), looked


def test_a_check_asks_for_consent_before_anything_starts(place: Place) -> None:
    place.migrating()
    place.add(IDS[0], current=True)
    place.schema_says("look", **seen(pending=[revision("r2", "drops the table old")]))
    assert failure(check.check, place.app, "r1").startswith("The release that serves may not survive")
    assert place.system.matching("start notes@") == []


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(1, ["sync"]), OSError(5, "Input/output error")])
def test_what_cannot_be_written_to_the_disk_fails(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def flush(*_: Any) -> None:
        raise error

    monkeypatch.setattr(manifest, "flush", flush)
    told = failure(check.flush, place.app)
    assert told == f"The release can't be written to the disk ({error}): see `dmesg` and `df -h`."
