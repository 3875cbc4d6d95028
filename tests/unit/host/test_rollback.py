"""A whole rollback: nothing is fetched and nothing built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import database, retire, rollback, transaction
from slipway_host.release.app import App
from slipway_host.system import Done, Failed, Interrupted

from tests.unit.host.running import IDS, Host, Story, failure, host_at, story_at

BACK = ["schema", "start", "prove", "switch", "commit"]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a release that serves, and one that served before."""
    host = host_at(tmp_path, monkeypatch)
    host.add(IDS[0])
    host.add(IDS[1], units=True, current=True, previous=IDS[0], committed="2026-01-02T00:00:00Z")
    host.app.request |= {"verb": "rollback", "to": None, "schema": None}
    host.system.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    return host


@pytest.fixture
def story(two: Host, monkeypatch: pytest.MonkeyPatch) -> Story:
    return story_at(two, monkeypatch)


def make_warm(two: Host) -> None:
    """The one before is warm."""
    del two.system.states[f"notes@{IDS[0]}.service"]
    two.app.write_record(IDS[0], warm_until=two.system.time() + 100, left=two.system.time())
    two.install(IDS[0], two.layout.warm_units)


def test_the_steps_of_a_rollback() -> None:
    assert [name for name, _ in rollback.steps()] == BACK
    assert [name for name, _ in rollback.steps(stop_first=True)] == ["stop", *BACK]


def test_a_rollback(two: Host, story: Story) -> None:
    rollback.rollback(two.app)
    assert (two.app.serving(), two.app.proxied()) == (IDS[0], IDS[0])
    assert two.system.matching("start notes@") == [
        f"systemctl start notes@{IDS[0]}.socket",
        f"systemctl start notes@{IDS[0]}.service",
    ]
    record = two.app.record(two.app.record_id)
    assert (record["kind"], record["state"], record["to"]) == ("rollback", "good", IDS[0])
    assert (record["previous"], record["by"]) == (IDS[1], "ann@desk") and "revisions" not in record
    assert record["id"].endswith("Z-rollback") and list(record["steps"]) == BACK
    left = two.app.record(IDS[1])
    assert left["state"] == "good" and left["bad"] and left["bad"]["by"] == "ann@desk"
    assert left["bad"]["why"] == f"rolled back to {IDS[0]}" and left["bad"]["since"]
    assert two.app.warm() == {IDS[1]} and two.releases == IDS[:2]
    assert two.said[0] == "notes: 1/5 schema 0.0 s (no migrations)"
    assert two.said[-1] == f"notes: {IDS[0]} serves again (0.0 s), instead of {IDS[1]}"


def test_a_rollback_to_a_warm_release_starts_nothing(two: Host, story: Story) -> None:
    """That is what it is kept for."""
    make_warm(two)
    rollback.rollback(two.app)
    assert two.app.serving() == IDS[0]
    assert two.system.matching("start notes@") == [] and two.system.matching("SIGKILL") == []
    assert f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service" in two.system.calls
    for kind in ("socket", "service"):
        assert (two.layout.units / f"notes@{IDS[0]}.{kind}").read_text() == f"# {IDS[0]} {kind}\n"
        assert not (two.layout.warm_units / f"notes@{IDS[0]}.{kind}").exists(), "it stays after a reboot"


def test_a_release_that_is_about_to_end_is_waited_for(two: Host, story: Story) -> None:
    """A start would wait for its end, without a limit of ours."""
    two.system.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "deactivating"}
    rollback.rollback(two.app)
    stopped = two.system.calls.index(f"systemctl stop notes@{IDS[0]}.service")
    assert stopped < two.system.calls.index(f"systemctl start notes@{IDS[0]}.service")


def test_a_rollback_uses_what_the_release_was_made_from(two: Host, story: Story) -> None:
    made: dict[str, Any] = {
        **two.app.record(IDS[0])["wanted"],
        "app": "old:app",
        "static": "old",
        "deaths": "^dying",
        "readiness": {"path": "/old", "timeout": 1, "host": "old.example.com", "scheme": "http"},
        "keep": 99,
        "drain_timeout": 99,
    }
    two.app.write_record(IDS[0], wanted=made)
    rollback.rollback(two.app)
    wanted = two.app.wanted
    assert (wanted["app"], wanted["static"], wanted["deaths"]) == ("old:app", "old", "^dying")
    now = {"timeout": 5, "interval": 1, "host": "notes.example.com", "scheme": "https"}
    assert wanted["readiness"] == now | {"path": "/old", "strict": True}, "of before 0.2, when all were asked strictly"
    assert (wanted["keep"], wanted["drain_timeout"]) == (3, 0), "settings of the host"
    assert json.loads(two.at.wanted.read_text())["app"] == "notes.main:app", "what is wanted stays"


def test_going_back_and_forth(two: Host, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going forward again, by name, makes a bad release a good one; what served before it stays known."""
    ids = iter(f"2026020{day}T000000Z-rollback" for day in range(1, 9))
    monkeypatch.setattr(transaction, "new_id", lambda app, name: next(ids))
    rollback.rollback(two.app)
    two.app.request["to"] = IDS[1]
    rollback.rollback(two.app)
    record = two.app.record(IDS[1])
    assert two.app.serving() == IDS[1] and record["bad"] is None and record["previous"] == IDS[0]
    assert not two.app.record(IDS[0]).get("bad"), "only what one goes back from is bad"
    two.app.request["to"] = None
    rollback.rollback(two.app)
    assert two.app.serving() == IDS[0]


def test_a_rollback_to_what_serves(two: Host, story: Story) -> None:
    two.app.request["to"] = IDS[1]
    rollback.rollback(two.app)
    assert two.said == [f"notes: {IDS[1]} serves already"]
    assert story.steps == ["prove"] and two.app.record_id is None and two.app.record(IDS[1]).get("bad") is None


def test_a_rollback_to_what_should_serve(two: Host, story: Story) -> None:
    """Somebody stopped it: it is started, and that is said."""
    for unit in (f"notes@{IDS[1]}.service", "nginx.service"):
        two.system.states[unit] = {"ActiveState": "inactive"}
    two.app.request["to"] = IDS[1]
    rollback.rollback(two.app)
    down = f"notes: notes@{IDS[1]}.service, nginx.service didn't run: starting again"
    assert two.said == [down, f"notes: {IDS[1]} serves already"]
    story.fails = "prove"
    assert failure(rollback.rollback, two.app) == (
        f"{IDS[1]} should serve, but doesn't: roll back to another release, or release anew."
    )


@pytest.mark.parametrize("step", ["prove", "switch"])
def test_a_rollback_that_fails(two: Host, story: Story, step: str) -> None:
    before = two.on_disk()
    story.fails = step
    assert failure(rollback.rollback, two.app).splitlines() == [
        f"rollback to {IDS[0]} failed at {step} ({BACK.index(step) + 1} of 5).",
        f"{step} is broken",
        f"{IDS[1]} keeps serving. Correct the cause and run again.",
    ]
    assert (two.app.serving(), two.on_disk()) == (IDS[1], before)
    record = two.app.record(two.app.record_id)
    assert (record["state"], record["step"], record["to"]) == ("failed", step, IDS[0])
    assert two.app.record(IDS[0])["state"] == "good", "it can be tried again"
    assert not two.app.record(IDS[1]).get("bad")


@pytest.mark.parametrize(
    ("before", "after", "failing", "told"),
    [
        (["r4"], ["r4"], "", ""),
        (["r4"], ["r2"], "", " The database was downgraded and is at r4 again; data in what was removed is lost."),
        (
            ["r4"],
            ["r2"],
            "no disk",
            " The database stays at r2, and can't be migrated to r4 again:\nno disk\n",
        ),
        (["r4"], [], "no disk", " The database stays at base, and can't be migrated to r4 again:\nno disk\n"),
    ],
)
def test_a_downgrade_is_made_good_if_the_rollback_fails(
    two: Host,
    story: Story,
    monkeypatch: pytest.MonkeyPatch,
    before: list[str],
    after: list[str],
    failing: str,
    told: str,
) -> None:
    upgrades: list[tuple[object, ...]] = []

    def schema(app: object, release: str, *argv: str, **options: Any) -> Done:
        upgrades.append((release, *argv, options["what"], options["seconds"]))
        return Done(argv, 1 if failing else 0, failing)

    def downgraded() -> None:
        two.app.write_record(str(two.app.record_id), revisions={"before": before, "after": after})

    monkeypatch.setattr(database, "schema", schema)
    two.app.migrator = IDS[1]
    story.fails, story.before["prove"] = "prove", downgraded
    message = failure(rollback.rollback, two.app)
    assert message.endswith(f"\n{IDS[1]} keeps serving.{told} Correct the cause and run again.")
    by_who_knows_how = (IDS[1], "upgrade", "migrate", 60)
    assert upgrades == ([by_who_knows_how] if before != after else [])


@pytest.mark.parametrize(
    "error", [Failed("it can't be let go"), Interrupted("notes-release.service was told to stop.")]
)
def test_a_rollback_that_ends_after_the_commit_stands(
    two: Host, story: Story, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its record says so, and the database stays where the release wants it."""

    def let_go(app: App, each: str) -> None:
        raise error

    def downgraded() -> None:
        two.app.write_record(str(two.app.record_id), revisions={"before": ["r4"], "after": ["r2"]})

    monkeypatch.setattr(retire, "let_go", let_go)
    monkeypatch.setattr(database, "schema", lambda *_, **__: pytest.fail("the database is right"))
    two.app.migrator, story.before["prove"] = IDS[1], downgraded
    told = failure(rollback.rollback, two.app).splitlines()
    assert told[1] == str(error) and told[2].startswith(f"{IDS[0]} keeps serving.")
    assert two.app.serving() == IDS[0] and two.app.record(two.app.record_id)["state"] == "good"


@pytest.mark.parametrize("step", ["prove", "switch"])
def test_a_rollback_to_a_warm_release_that_fails(two: Host, story: Story, step: str) -> None:
    """It was about to serve, so that nothing would end it any more: it must not run on, nor start with the host."""
    make_warm(two)
    story.fails = step
    failure(rollback.rollback, two.app)
    assert two.app.installed() == {IDS[1]} and two.releases == IDS[:2]
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in two.system.calls


def test_nothing_to_go_back_from(two: Host, story: Story) -> None:
    """The link was deleted: no name is made of that."""
    two.at.current.unlink()
    two.name(None)
    message = "No release serves yet, so there is nothing to roll back."
    assert failure(rollback.rollback, two.app) == message
    assert not [call for call in two.system.calls if "None" in call]
