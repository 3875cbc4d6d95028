"""A release that is asked for: what already serves, what was gone back from, what is damaged, what is remembered."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path

import pytest
from slipway_host.release import transaction
from slipway_host.system import Failed

from tests.unit.host.running import IDS, STEPS, SWITCH, Host, Story, failure, host_at, story_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.fixture
def story(host: Host, monkeypatch: pytest.MonkeyPatch) -> Story:
    return story_at(host, monkeypatch)


# ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_released_is_what_the_host_wants_from_then_on(host: Host, story: Story) -> None:
    host.app.wanted["keep"] = 7
    before: list[int] = []
    story.before["commit"] = lambda: before.append(host.remembered()["keep"])
    transaction.release(host.app)
    assert before == [3] and host.remembered() == host.app.wanted
    assert stat.S_IMODE(host.at.wanted.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fetch", "switch", "watch"])
def test_what_failed_is_not_what_the_host_wants(host: Host, story: Story, step: str) -> None:
    host.add(IDS[0], units=True, current=True)
    host.app.wanted["keep"] = 7
    story.fails = step
    failure(transaction.release, host.app)
    assert host.remembered()["keep"] == 3


@pytest.mark.parametrize("held", [False, True])
def test_settings_that_need_no_release_are_kept(host: Host, story: Story, held: bool) -> None:
    if held:
        hold(host)
    else:
        host.serve_what_is_wanted()
    host.app.wanted["keep"] = 7
    transaction.release(host.app)
    assert story.steps == ["prove"] and host.remembered()["keep"] == 7


def test_what_is_held_is_not_what_the_next_release_is_made_from(host: Host, story: Story) -> None:
    """Another release serves that was asked for since: `release` on the host goes on with what that was made from."""
    hold(host)
    before = host.remembered()
    before |= {"python": "3.12", "inputs": before["inputs"] | {"source": "newer"}}
    before["readiness"] |= {"path": "/newer"}
    host.at.wanted.write_text(json.dumps(before))
    host.app.wanted["keep"] = 7
    host.app.wanted["readiness"]["timeout"] = 6
    transaction.release(host.app)
    assert story.steps == ["prove"]
    readiness = before["readiness"] | {"timeout": 6}
    assert host.remembered() == before | {"keep": 7, "readiness": readiness}


@pytest.mark.parametrize("broken", ["", "{}", '{"inputs": {}}'])
def test_what_cannot_be_read_is_written_anew(host: Host, story: Story, broken: str) -> None:
    hold(host)
    host.at.wanted.write_text(broken)
    transaction.release(host.app)
    assert host.remembered() == host.app.wanted


def test_the_secrets_of_a_build_are_kept_for_the_next_one(host: Host, story: Story) -> None:
    host.app.request["build"] = {"PASSWORD": "s3cr3t"}
    transaction.release(host.app)
    path = host.at.build_environment
    assert json.loads(path.read_text()) == {"PASSWORD": "s3cr3t"} and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cr3t" not in host.at.wanted.read_text()
    del host.app.request["build"]  # on the host, by hand
    transaction.release(host.app)
    assert json.loads(path.read_text()) == {"PASSWORD": "s3cr3t"}


# ── what already serves ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_that_is_what_is_wanted_is_not_made_again(host: Host, story: Story) -> None:
    host.serve_what_is_wanted()
    transaction.release(host.app)
    assert story.steps == ["prove"] and host.releases == [IDS[0]] and host.app.record_id is None
    assert f"systemctl start notes@{IDS[0]}.service" in host.system.calls
    assert host.system.calls[-1] == f"{SWITCH}{IDS[0]}"
    assert host.said == [f"notes: {IDS[0]} serves, and is what is wanted"]


def test_a_fresh_one_is_made_all_the_same(host: Host, story: Story) -> None:
    host.serve_what_is_wanted()
    host.app.request["fresh"] = True
    transaction.release(host.app)
    assert story.steps == STEPS


def test_a_run_with_nothing_to_do_leaves_a_warm_release_warm(host: Host, story: Story) -> None:
    host.serve_what_is_wanted()
    host.warm(IDS[1])
    transaction.release(host.app)
    assert host.system.done_to(IDS[1]) == []


def test_units_that_somebody_took_away_are_written_again(host: Host, story: Story) -> None:
    host.serve_what_is_wanted()
    (host.layout.units / f"notes@{IDS[0]}.service").unlink()
    transaction.release(host.app)
    assert (host.layout.units / f"notes@{IDS[0]}.service").read_text() == f"# {IDS[0]} service\n"
    assert (host.layout.units / f"notes@{IDS[0]}.socket").read_text() == f"# {IDS[0]} socket\n"
    calls = host.system.calls
    assert calls.index("systemctl daemon-reload") < calls.index(f"systemctl start notes@{IDS[0]}.service")


@pytest.mark.parametrize("spoil", ["damaged", "start", "prove", "switch"])
def test_a_release_that_cannot_be_brought_back_is_made_anew(host: Host, story: Story, spoil: str) -> None:
    host.serve_what_is_wanted()
    if spoil == "damaged":
        (host.at.venv(IDS[0]) / "bin/python").unlink()
    elif spoil == "prove":
        story.fails = "prove"
    else:
        host.system.failing = {f"start notes@{IDS[0]}.service" if spoil == "start" else SWITCH: "no"}
    with contextlib.suppress(Failed):
        transaction.release(host.app)
    assert "fetch" in story.steps and host.newest["id"] != IDS[0]
    reason = {"start": "The app doesn't start:\n", "prove": "prove is broken", "switch": "no"}.get(spoil)
    told = f"notes: {IDS[0]} doesn't serve again.\n{reason}"
    damaged = f"notes: {IDS[0]} is damaged: .venv/bin/python is missing\nnotes: no other release can replace it\n"
    assert host.told().startswith(told if reason else damaged)


# ── what was gone back from ──────────────────────────────────────────────────────────────────────────────────────


def hold(host: Host) -> None:
    """The operator went back from what is wanted."""
    bad = {"since": "2026-01-02T03:04:05Z", "by": "bob@desk", "why": f"rolled back to {IDS[0]}"}
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], inputs=host.app.wanted["inputs"], bad=bad)


TOLD = f"{IDS[1]} was made from exactly this, and bob@desk rolled back from it at 2026-01-02T03:04:05Z"


def test_what_was_gone_back_from_is_held(host: Host, story: Story) -> None:
    hold(host)
    host.system.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    transaction.release(host.app)
    assert (story.steps, host.app.serving(), host.app.record_id) == (["prove"], IDS[0], None)
    assert host.told() == (
        f"notes: notes@{IDS[0]}.service didn't run: starting again\n"
        f"notes: {TOLD}; {IDS[0]} serves. For a release, change the code, or use --again.\n"
    )


def test_what_was_gone_back_from_is_held_even_if_nothing_serves(host: Host, story: Story) -> None:
    hold(host)
    story.fails = "prove"
    assert failure(transaction.release, host.app) == (f"{IDS[0]} doesn't serve, and {TOLD}: --again releases it again.")


@pytest.mark.parametrize("why", ["again", "new code"])
def test_what_was_gone_back_from_is_released_when_told(host: Host, story: Story, why: str) -> None:
    hold(host)
    if why == "again":
        host.app.request["again"] = True
    else:
        host.app.wanted["inputs"] = host.app.wanted["inputs"] | {"source": "new"}
    transaction.release(host.app)
    assert story.steps == STEPS and host.app.serving() not in IDS
    assert host.app.record(IDS[1])["bad"], "it is history"
    host.app.request["again"] = False
    transaction.release(host.app)
    assert story.steps == [*STEPS, "prove"], "what serves is what is wanted"


def test_what_was_released_again_is_not_held_later(host: Host, story: Story) -> None:
    """Back to its code, with the code of another release in between."""
    hold(host)
    wanted = host.app.wanted["inputs"]
    host.app.request["again"] = True
    transaction.release(host.app)
    host.app.request["again"] = False
    for source in ("new", wanted["source"]):
        host.app.wanted["inputs"] = wanted | {"source": source}
        transaction.release(host.app)
    assert story.steps == STEPS * 3 and host.app.record(host.app.serving())["inputs"] == wanted
