"""What the database and a release know of each other, and how the one is brought to the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import database
from slipway_host.release.app import App
from slipway_host.system import Done, Failed, System, Undecided

from tests.unit.host.prepared import COMMIT, IDS, Place, failure, place_at, revision, seen


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_at(tmp_path, monkeypatch)


# ── the schema program ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_look(place: Place) -> None:
    """With the release's own migrations, environment and Python; the mark is told where nothing else reads."""
    folder = place.migrating()
    place.schema_says("look", **seen())
    assert database.look(place.app, "r1") == seen()
    (call,) = place.system.calls
    assert call.endswith(f" -- {folder}/.venv/bin/python {place.layout.schema_program} look")
    assert "--unit notes-schema " in call and "--property RuntimeMaxSec=120 " in call
    assert "--setenv SLIPWAY_MARKED=1 " in call and place.system.said == ["slipway-schema: \n"]


def test_a_look_at_what_has_no_migrations(place: Place) -> None:
    place.migrating(None)
    assert database.look(place.app, "r1") is None and place.system.calls == []


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [(1, "OperationalError: no such host", "OperationalError: no such host"), (0, "odd", "odd"), (0, "", "")],
)
def test_a_schema_that_tells_nothing(place: Place, code: int, output: str, told: str) -> None:
    place.migrating()
    (place.system.failing if code else place.system.printing)[place.schema("look")] = output
    assert failure(database.look, place.app, "r1") == f"The database's schema can't be looked at:\n{told}"


def test_an_answer_is_told_from_what_a_migration_prints(tmp_path: Path) -> None:
    """It begins with what only the schema program was told, on its standard input."""
    app = App("notes", System())
    assert re.fullmatch(r"slipway-schema [0-9a-f]{32}: ", app.mark)
    forged = 'slipway-schema: {"heads": []}\nslipway-schema 0: {"heads": []}\n'
    printed = f'{app.mark}{{"heads": ["r1"]}}\n{forged}'
    assert database.answer(app, Done((), 0, printed), "read") == {"heads": ["r1"]}
    with pytest.raises(Failed, match="can't be read"):
        database.answer(app, Done((), 0, forged), "read")
    with pytest.raises(Failed, match="can't be read"):
        database.answer(app, Done((), 1, printed), "read")
    assert App("notes", System()).mark != app.mark
    echoed = app.system.run("sh", "-c", "read -r line; echo got $line; cat", said=f"{app.mark}\n")
    assert echoed.output == f"got {app.mark.strip()}\n"


def test_who_knows_what_the_database_has(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release that serves, else the newest that does; one that can't be asked doesn't."""
    for each in IDS[:4]:
        place.add(each, current=each == IDS[1])
    lacks: dict[str, list[str]] = {IDS[0]: [], IDS[1]: ["r4"], IDS[2]: []}

    def look(app: Any, each: str) -> dict[str, Any]:
        if each not in lacks:
            raise Failed("it can't be looked at")
        return seen(unknown=lacks[each])

    monkeypatch.setattr(database, "look", look)
    assert database.migrator(place.app) == IDS[2]
    lacks[IDS[1]] = []
    assert database.migrator(place.app) == IDS[1]
    lacks.clear()
    assert database.migrator(place.app) is None


# ── whether they fit ─────────────────────────────────────────────────────────────────────────────────────────────────

LATER = ["drops the table old", "renames the column a to b"]


def test_migrations_that_fit(place: Place) -> None:
    place.add(IDS[0], current=True)
    database.fits(place.app, seen(pending=[revision("r2")]))


def test_several_heads(place: Place) -> None:
    database.fits(place.app, seen(heads=["r2", "x2"], forked=[]))
    assert failure(database.fits, place.app, seen(heads=["r2", "x2"], forked=["r2", "x2"])) == (
        "The migrations have 2 heads (r2, x2): `alembic merge heads`, and run again."
    )


def test_code_that_is_older_than_the_database(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add(IDS[0], current=True)
    monkeypatch.setattr(database, "migrator", lambda app: IDS[0])
    message = (
        "The database is at revision r4, x4, which this release doesn't have: it is older than the database, "
        "which another release has migrated. Release code that has that too."
    )
    ahead = seen(unknown=["r4", "x4"])
    assert failure(database.fits, place.app, ahead) == message
    # Just another environment for code that serves so already, since it went back by "code-only".
    place.app.write_record(IDS[0], inputs={"source": COMMIT, "folder": "", "environment": "other"})
    database.fits(place.app, ahead)
    place.app.write_record(IDS[0], inputs={"source": COMMIT, "folder": "sub"})
    assert failure(database.fits, place.app, ahead) == message


def test_a_first_release_that_is_older_than_the_database(place: Place) -> None:
    """Or an app wrote there what no release ever had, and would block the release that mends it."""
    assert failure(database.fits, place.app, seen(unknown=["r4"])) == (
        "The database is at revision r4, which this release doesn't have: no release on this host has it either. "
        "Release code that has it; or, if it was never one of the app's, set the database right: "
        "`alembic stamp --purge REVISION`, with the app's environment."
    )


def test_migrations_that_the_old_release_may_not_bear(place: Place) -> None:
    found = seen(pending=[revision("r1"), revision("r2", *LATER)])
    database.fits(place.app, found)  # nothing serves that could break
    place.add(IDS[0], current=True)
    with pytest.raises(Undecided) as told:
        database.fits(place.app, found)
    assert str(told.value) == (
        "The release that serves may not survive these migrations:\n"
        "  r2 drops the table old\n  r2 renames the column a to b\n"
        "If it no longer uses what they change, consent: --contract."
    )
    place.app.request["contract"] = True
    database.fits(place.app, found)


# ── migrate ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["alembic.ini", "pyproject.toml"])
def test_pending_migrations(place: Place, file: str) -> None:
    before = {"heads": ["r2"], "pending": [revision("r1"), revision("r2")], "revisions": {"before": ["r0"]}}
    folder = place.migrating(file=file, **before)
    assert database.migrate(place.app, "r1") == "r1, r2"
    (ran,) = place.system.calls
    assert ran.startswith("systemd-run --quiet --wait --pipe --collect --unit notes-migrate --property User=notes ")
    limits = "--lock-timeout 5 --statement-timeout 60"
    assert ran.endswith(f" -- {folder}/.venv/bin/python {place.layout.schema_program} upgrade {limits}")
    assert "--property RuntimeMaxSec=60 " in ran and f"--property WorkingDirectory={folder} " in ran
    assert f"--setenv PATH={folder}/.venv/bin:" in ran and f"EnvironmentFile={place.at.env('r1')} " in ran
    assert place.app.record("r1")["revisions"] == {"before": ["r0"], "after": ["r2"]}


def test_nothing_to_migrate(place: Place) -> None:
    place.migrating(heads=["r2"], pending=[], revisions={"before": ["r2"]})
    assert database.migrate(place.app, "r1") == "nothing pending" and place.system.calls == []
    assert place.app.record("r1")["revisions"] == {"before": ["r2"], "after": ["r2"]}


def test_a_database_that_is_ahead_stays_so(place: Place) -> None:
    place.migrating(heads=["r2"], pending=[], revisions={"before": ["r4"]})
    database.migrate(place.app, "r1")
    assert place.app.record("r1")["revisions"] == {"before": ["r4"], "after": ["r4"]}


@pytest.mark.parametrize(("command", "file"), [("auto", None), (None, "alembic.ini")])
def test_no_migration(place: Place, command: Any, file: str | None) -> None:
    place.migrating(command, file)
    assert database.migrate(place.app, "r1") == "no migration" and place.system.calls == []
    assert "revisions" not in place.app.record("r1")


@pytest.mark.parametrize("own", [False, True])
def test_a_migration_by_a_command_of_the_users_own(place: Place, own: bool) -> None:
    folder = place.migrating(["migrate", "--all"])
    if own:
        (folder / ".venv/bin/migrate").touch(0o755)
    assert database.migrate(place.app, "r1") == ""
    (ran,) = place.system.calls
    assert ran.endswith(f" -- {folder}/.venv/bin/migrate --all" if own else " -- migrate --all")
    assert "--unit notes-migrate " in ran and "--property RuntimeMaxSec=60 " in ran


def test_hooks_around_a_migration(place: Place) -> None:
    place.migrating(heads=["r2"], pending=[revision("r1"), revision("r2")], revisions={"before": []})
    place.app.wanted["hooks"] |= {"before_migrate": ["bin/before", "x"], "after_migrate": ["after"], "timeout": 7}
    database.migrate(place.app, "r1")
    before, migration, after = place.system.calls
    assert before.endswith("/releases/r1/bin/before x") and after.endswith(" -- after") and "upgrade" in migration
    for call, name in ((before, "before_migrate"), (after, "after_migrate")):
        assert f"--setenv SLIPWAY_HOOK={name} --setenv SLIPWAY_PENDING=r1,r2 " in call
        assert "--unit notes-hook " in call and "--property RuntimeMaxSec=7 " in call
    assert place.said() == ["hook before_migrate 0.0 s", "hook after_migrate 0.0 s"]


def test_hooks_run_without_a_migration(place: Place) -> None:
    place.migrating(None)
    place.app.wanted["hooks"] |= {"before_migrate": ["before"], "after_migrate": ["after"]}
    assert database.migrate(place.app, "r1") == "no migration"
    assert [call.split(" -- ")[1] for call in place.system.calls] == ["before", "after"]
    assert all("--setenv SLIPWAY_PENDING= " in call for call in place.system.calls)


@pytest.mark.parametrize(("failing", "ran"), [("-- before", 1), (" upgrade ", 2), ("-- after", 3)])
def test_what_fails_ends_the_migration(place: Place, failing: str, ran: int) -> None:
    place.migrating(heads=["r2"], pending=[revision("r2")], revisions={"before": []})
    place.app.wanted["hooks"] |= {"before_migrate": ["before"], "after_migrate": ["after"]}
    place.system.failing = {failing: "no"}
    failure(database.migrate, place.app, "r1")
    assert len(place.system.calls) == ran
    assert ("after" in place.app.record("r1")["revisions"]) is (ran == 3), "what became of the database"


# ── a migration that meets a lock ────────────────────────────────────────────────────────────────────────────────────


def tries(*codes: int, output: str = "LockNotAvailable") -> Callable[[int], Done]:
    """A migration that ends so, one try after the other."""
    given = iter(codes)
    return lambda limit: Done((), next(given), f"noise\n{output}\n")


@pytest.mark.parametrize(
    ("codes", "note"),
    [((0,), ""), ((75, 0), " (tried 2 times, for a lock)"), ((75, 75, 0), " (tried 3 times, for a lock)")],
)
def test_a_migration_is_tried_again_for_a_lock(place: Place, codes: tuple[int, ...], note: str) -> None:
    assert database.patient(place.app, "alembic", tries(*codes)) == note
    line = "the migration met a lock; it is tried again. LockNotAvailable"
    assert place.said() == [line] * (len(codes) - 1) and place.system.slept == [2] * (len(codes) - 1)


@pytest.mark.parametrize(
    ("codes", "retries", "how"),
    [
        ((1,), 2, "failed"),
        ((75, 1), 2, "failed"),
        ((75, 75, 75), 2, "met a lock 3 times (migrate_retries), and waited for migrate_lock_timeout"),
        ((75,), 0, "met a lock once, and waited for migrate_lock_timeout"),
    ],
)
def test_a_migration_that_fails(place: Place, codes: tuple[int, ...], retries: int, how: str) -> None:
    place.app.wanted["migration"]["retries"] = retries
    message = failure(database.patient, place.app, "alembic", tries(*codes))
    assert message == f"The migration `alembic` {how}:\nnoise\nLockNotAvailable"


def test_only_the_end_of_what_a_migration_said_is_told(place: Place) -> None:
    lines = "\n".join(f"line {number}" for number in range(40))
    message = failure(database.patient, place.app, "own tool", tries(1, output=lines))
    assert message.splitlines() == ["The migration `own tool` failed:", *(f"line {n}" for n in range(10, 40))]


def test_a_migration_that_says_nothing(place: Place) -> None:
    message = failure(database.patient, place.app, "own tool", lambda limit: Done((), 3, "\n"))
    assert message == "The migration `own tool` failed:\nIt printed nothing, and ended with 3."


def test_the_time_of_a_migration_is_for_all_tries(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    def command(limit: int) -> Done:
        limits.append(limit)
        place.system.at += 25
        return Done((), 75, "lock")

    monkeypatch.setattr(place.system, "sleep", lambda seconds: None)
    place.app.wanted["migration"]["retries"] = 9
    assert failure(database.patient, place.app, "alembic", command) == (
        "The migration `alembic` was ended after migrate_timeout (60 s):\nlock"
    )
    assert limits == [60, 35, 10]
