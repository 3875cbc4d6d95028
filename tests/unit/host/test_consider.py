"""The database and the release that one goes back to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import database, rollback
from slipway_host.system import Done

from tests.unit.host.running import IDS, Host, failure, host_at

RECORD = "20260103T000000Z-rollback"
AHEAD = f"The database is ahead of {IDS[0]} by:\n  r4 does r4\n  r3 does r3\n"
ALONE = f"To roll back only the code, if {IDS[0]} works with this database: --schema code-only."


def seen(**other: Any) -> dict[str, Any]:
    """What is seen of a database that is up to date."""
    return {"heads": ["r2"], "current": ["r2"], "unknown": [], "pending": []} | other


def revision(name: str, *, downgrade: bool = True) -> dict[str, Any]:
    """A revision as it is told."""
    return {"revision": name, "doc": f"does {name}", "contract": [], "downgrade": downgrade}


class Alembic:
    """A host whose serving release is two revisions ahead of the one before it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.looked: list[str] = []
        """Releases that were asked what they know of the database."""
        self.asked: list[tuple[str, ...]] = []
        """What the schema program was told, behind the release that ran it."""
        self.seen = seen(current=["r4"], unknown=["r4"])
        self.undone = [revision("r4"), revision("r3")]
        host.app.wanted["migration"]["command"] = "auto"
        for each in IDS[:2]:
            host.add(each)
        host.system.link(host.at.current, f"releases/{IDS[1]}")
        host.app.record_id = RECORD

    def look(self, app: object, release: str) -> dict[str, Any]:
        self.looked.append(release)
        return self.seen

    def schema(self, app: object, release: str, *argv: str, **options: Any) -> Done:
        self.asked.append((release, *argv, options.get("what", "schema")))
        return Done(argv, 0, "")

    def downgrades(self) -> list[tuple[str, ...]]:
        """What was told to it of that kind."""
        return [each for each in self.asked if "downgrade" in each]


@pytest.fixture
def alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alembic:
    made = Alembic(host_at(tmp_path, monkeypatch))
    monkeypatch.setattr(database, "look", made.look)
    monkeypatch.setattr(database, "schema", made.schema)
    monkeypatch.setattr(database, "migrator", lambda app: IDS[1])
    monkeypatch.setattr(database, "answer", lambda app, done, doing: {"undone": made.undone})
    monkeypatch.setattr(database, "patient", lambda app, name, command: command(60) and "")
    return made


@pytest.mark.parametrize("missing", ["environment", "python"])
def test_a_damaged_release_is_not_gone_back_to(alembic: Alembic, missing: str) -> None:
    at = alembic.host.at
    lost = at.env(IDS[0]) if missing == "environment" else at.venv(IDS[0]) / "bin/python"
    lost.unlink()
    what = lost if missing == "environment" else ".venv/bin/python"
    assert failure(rollback.consider, alembic.host.app, IDS[0]) == (
        f"{IDS[0]} is damaged: {what} is missing. Name another one, or release its commit anew."
    )


@pytest.mark.parametrize(
    ("command", "note"),
    [
        (None, "no migrations"),
        (["own", "tool"], "its schema can't be looked at: no Alembic"),
    ],
)
def test_a_schema_that_cannot_be_looked_at(
    alembic: Alembic, monkeypatch: pytest.MonkeyPatch, command: Any, note: str
) -> None:
    monkeypatch.setattr(database, "look", lambda app, release: None)
    alembic.host.app.wanted["migration"]["command"] = command
    assert rollback.consider(alembic.host.app, IDS[0]) == note and alembic.host.system.calls == []


def test_a_database_that_fits_the_release(alembic: Alembic) -> None:
    alembic.seen = seen()
    assert rollback.consider(alembic.host.app, IDS[0]) is None
    assert alembic.host.app.record(RECORD)["revisions"] == {"before": ["r2"], "after": ["r2"]}
    assert alembic.looked == [IDS[0]], "with its own migrations"


def test_a_database_that_is_behind_the_release(alembic: Alembic) -> None:
    alembic.seen = seen(current=["r0"], pending=[revision("r1"), revision("r2")])
    assert failure(rollback.consider, alembic.host.app, IDS[0]) == (
        f"The database is behind {IDS[0]}: it lacks r1, r2. Release its commit anew, which migrates."
    )


def test_a_database_that_is_ahead_needs_a_word(alembic: Alembic) -> None:
    assert failure(rollback.consider, alembic.host.app, IDS[0]) == (
        f"{AHEAD}{ALONE}\nTo downgrade the database first, and lose the data in what it added: --schema downgrade."
    )
    assert alembic.asked == [(IDS[1], "undone", "--to", "r2", "schema")], "by who knows these revisions"


def test_the_code_alone_goes_back(alembic: Alembic) -> None:
    alembic.host.app.request["schema"] = "code-only"
    assert rollback.consider(alembic.host.app, IDS[0]) == "code only"
    assert alembic.host.told() == f"notes: {AHEAD}Only the code is rolled back, as requested.\n"
    assert alembic.downgrades() == []


def test_the_database_goes_back_too(alembic: Alembic) -> None:
    alembic.host.app.request["schema"] = "downgrade"
    assert rollback.consider(alembic.host.app, IDS[0]) == "downgraded to r2"
    assert alembic.downgrades() == [(IDS[1], "downgrade", "--to", "r2", "migrate")]
    assert alembic.host.app.record(RECORD)["revisions"] == {"before": ["r4"], "after": ["r2"]}
    assert alembic.host.app.migrator == IDS[1], "who can make it good if the rollback fails"


def test_a_database_goes_back_to_nothing(alembic: Alembic) -> None:
    alembic.host.app.request["schema"] = "downgrade"
    alembic.seen = seen(heads=[], current=["r4"], unknown=["r4"])
    assert rollback.consider(alembic.host.app, IDS[0]) == "downgraded to base"


def test_a_migration_that_cannot_be_taken_back(alembic: Alembic) -> None:
    alembic.host.app.request["schema"] = "downgrade"
    alembic.undone = [revision("r4"), revision("r3", downgrade=False)]
    assert failure(rollback.consider, alembic.host.app, IDS[0]) == (f"{AHEAD}{ALONE}\nr3 has no downgrade.")
    assert alembic.downgrades() == []


@pytest.mark.parametrize("told", [None, "downgrade", "code-only"])
def test_a_database_that_no_release_here_knows(alembic: Alembic, monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    """One that failed after it had migrated, say: the code alone can go back, and nothing is in the way."""
    monkeypatch.setattr(database, "migrator", lambda app: None)
    alembic.host.app.request["schema"] = told
    if told == "code-only":
        assert rollback.consider(alembic.host.app, IDS[0]) == "code only"
    else:
        assert failure(rollback.consider, alembic.host.app, IDS[0]) == (
            f"The database is ahead of {IDS[0]} by:\n  r4 (no release on this host has it)\n{ALONE}\n"
            "It can't be downgraded from here: release code that has r4, and roll back from that."
        )
    assert alembic.asked == []
