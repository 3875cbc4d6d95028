"""A whole release: its steps, and what a failure at each of them leaves."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import heal, retire, transaction
from slipway_host.release.app import App
from slipway_host.system import Failed, Interrupted

from tests.unit.host.running import IDS, RELEASE_ID, STEPS, Host, Story, failure, full_disk, host_at, story_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.fixture
def story(host: Host, monkeypatch: pytest.MonkeyPatch) -> Story:
    return story_at(host, monkeypatch)


def release_fails(host: Host) -> str:
    """The message with which a release fails."""
    return failure(transaction.release, host.app)


def test_the_steps_of_a_release() -> None:
    assert [name for name, _ in transaction.steps()] == STEPS
    stopped = [name for name, _ in transaction.steps(stop_first=True)]
    assert stopped == [*STEPS[:2], "stop", *STEPS[2:]], "as late as can be"


def test_a_release(host: Host, story: Story) -> None:
    transaction.release(host.app)
    (made,) = host.releases
    assert story.steps == STEPS
    assert made.endswith("Z-ccccccc") and RELEASE_ID.fullmatch(made)
    assert (host.app.serving(), host.app.record_id, host.app.proxied()) == (made, made, made)
    record = host.app.record(made)
    assert (record["kind"], record["state"], record["commit"]) == ("release", "good", "c" * 40)
    assert record["inputs"] == host.app.wanted["inputs"] and record["wanted"] == host.app.wanted
    assert (record["app"], record["by"], record["previous"]) == ("notes", "ann@desk", None)
    assert (record["format"], record["number"]) == (2, 1)
    assert list(record["steps"]) == STEPS and record["started"] <= record["committed"] <= record["finished"]
    assert host.said[0] == "notes: 1/9 fetch 0.0 s" and host.said[-1] == f"notes: {made} serves (0.0 s)"
    assert host.said[6] == "notes: 7/9 switch 0.0 s (the public name has no certificate yet)"
    assert not list(host.at.srv.glob(".*")) and (host.root / "folder/record").read_text() == made


def test_what_is_wanted_is_written_down_alike_whoever_writes_it(host: Host, story: Story) -> None:
    """By the commit of a release, and by a run that has none to make: in one order, byte for byte."""
    host.app.wanted = {"format": 2, **host.app.wanted}
    transaction.release(host.app)
    written = host.at.wanted.read_text()
    assert written.splitlines()[1] == ' "format": 2,'
    transaction.release(host.app)
    assert len(host.releases) == 1 and host.at.wanted.read_text() == written


@pytest.mark.parametrize("step", STEPS)
def test_a_release_that_fails_leaves_the_old_one_serving(host: Host, story: Story, step: str) -> None:
    host.add(IDS[0], units=True, current=True)
    before = host.on_disk()
    story.fails = step
    message = release_fails(host)
    number = STEPS.index(step) + 1
    assert story.steps == STEPS[:number]
    first, reason, end = message.splitlines()
    assert first.startswith("release 2") and first.endswith(f"-ccccccc failed at {step} ({number} of 9).")
    assert reason == f"{step} is broken"
    again = "serves again" if number > 7 else "keeps serving"
    assert end == f"{IDS[0]} {again}. Correct the cause and run again."
    assert (host.app.serving(), host.app.proxied(), host.on_disk()) == (IDS[0], IDS[0], before)
    failed = host.newest
    assert (failed["state"], failed["step"], failed["error"]) == ("failed", step, f"{step} is broken")
    assert list(failed["steps"]) == STEPS[: number - 1] and failed["finished"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (subprocess.SubprocessError("odd"), "SubprocessError: odd"),
        (KeyError("heads"), "KeyError: 'heads'"),
    ],
)
def test_whatever_a_step_fails_of_is_undone(host: Host, story: Story, error: Exception, told: str) -> None:
    host.add(IDS[0], units=True, current=True)
    story.fails, story.error = "build", error
    assert release_fails(host).splitlines()[1:] == [
        told,
        f"{IDS[0]} keeps serving. Correct the cause and run again.",
    ]
    assert host.releases == [IDS[0]]


def test_a_first_release_that_fails(host: Host, story: Story) -> None:
    story.fails = "build"
    assert release_fails(host).endswith("\nNo release serves yet. Correct the cause and run again.")
    assert host.releases == []


def test_a_first_release_that_fails_after_the_switch(host: Host, story: Story) -> None:
    story.fails = "watch"
    assert release_fails(host).endswith("\nNo release serves yet. Correct the cause and run again.")
    assert (host.releases, host.app.proxied(), host.app.installed()) == ([], None, set())
    assert host.switched()[-1] == "none"


def test_a_failure_after_the_commit_leaves_the_new_one_serving(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_go(app: App, each: str) -> None:
        raise Failed("it can't be let go")

    host.add(IDS[0], units=True, current=True)
    monkeypatch.setattr(retire, "let_go", let_go)
    message = release_fails(host)
    made = host.app.serving()
    assert message.splitlines()[1:] == [
        "it can't be let go",
        f"{made} keeps serving. Correct the cause and run again.",
    ]
    assert made != IDS[0] and made in host.app.installed(), "the next run ends what is left of the old one"
    record = host.app.record(made)
    assert (record["state"], record["step"], record["error"]) == ("good", "commit", "it can't be let go")


def test_a_migration_that_was_made_is_told(host: Host, story: Story) -> None:
    """Migrations aren't taken back: who reads the message must know."""
    host.add(IDS[0], units=True, current=True)

    def migrated() -> None:
        assert host.app.record_id
        host.app.write_record(host.app.record_id, revisions={"before": ["r1"], "after": ["r3", "x3"]})

    story.fails, story.before["migrate"] = "start", migrated
    assert release_fails(host).endswith(
        f"\n{IDS[0]} keeps serving. The database stays at r3, x3: migrations aren't undone. "
        "Correct the cause and run again."
    )


@pytest.mark.parametrize("revisions", [{"before": ["r1"]}, {"before": ["r1"], "after": ["r1"]}])
def test_a_database_that_did_not_change_is_not_mentioned(
    host: Host, story: Story, revisions: dict[str, list[str]]
) -> None:
    host.add(IDS[0], units=True, current=True)
    story.before["migrate"] = lambda: host.app.write_record(str(host.app.record_id), revisions=revisions)
    story.fails = "start"
    assert "database" not in release_fails(host)


FULL = "The disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError("error: failed to write: No space left on device (os error 28)"), True),
        (OSError("tar: uv.lock: Wrote only 512 of 10240 bytes"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_what_to_do_about_a_full_disk(host: Host, story: Story, error: Exception, told: bool) -> None:
    story.fails, story.error = "build", error
    assert (FULL in release_fails(host).splitlines()) is told


def test_what_cannot_be_undone_is_told_and_written_down(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = heal.tidy

    def tidy(app: App, forward: bool = True) -> None:
        if not forward:
            raise Failed("systemd is stuck")
        real(app)

    host.add(IDS[0], units=True, current=True)
    monkeypatch.setattr(heal, "tidy", tidy)
    story.fails = "start"
    assert release_fails(host).splitlines()[1:] == [
        "start is broken",
        "Not everything could be undone (systemd is stuck); the next run does it.",
        f"{IDS[0]} keeps serving. Correct the cause and run again.",
    ]
    assert (host.newest["state"], host.newest["step"]) == ("failed", "start")


def test_a_failure_that_cannot_be_written_down_is_told(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.add(IDS[0], units=True, current=True)
    story.fails, story.before["start"] = "start", lambda: full_disk(host, monkeypatch)
    assert release_fails(host).endswith(f"{IDS[0]} keeps serving. Correct the cause and run again.")
    assert host.newest["state"] == "started"


def test_a_disk_that_is_full_between_two_steps(host: Host, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The durations can't be written: what was begun is taken back all the same."""
    host.add(IDS[0], units=True, current=True)
    story.before["start"] = lambda: full_disk(host, monkeypatch)
    with pytest.raises((Failed, OSError)):
        transaction.release(host.app)
    assert host.releases == [IDS[0]]


def test_a_run_that_takes_back_is_not_stopped_again(host: Host, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[tuple[Any, ...]] = []
    monkeypatch.setattr(signal, "signal", lambda *given: ignored.append(given))
    host.add(IDS[0], units=True, current=True)
    story.fails, story.error = "start", Interrupted("notes-release.service was told to stop.")
    assert release_fails(host).splitlines()[1:] == [
        "notes-release.service was told to stop.",
        f"{IDS[0]} keeps serving.",
    ]
    assert ignored == [(signal.SIGTERM, signal.SIG_IGN)] and host.releases == [IDS[0]]


def test_a_run_that_failed_is_not_stopped_before_it_takes_back(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written down before it can't be interrupted any more."""
    order: list[str] = []
    write = host.app.write_record
    monkeypatch.setattr(signal, "signal", lambda *_: order.append("ignored"))

    def noted(record_id: str, **facts: Any) -> None:
        order.extend(facts)
        write(record_id, **facts)

    monkeypatch.setattr(host.app, "write_record", noted)
    story.fails = "build"
    release_fails(host)
    assert order.index("ignored") < order.index("took")


def test_the_release_before_is_kept_and_its_units_end_with_a_reboot(host: Host, story: Story) -> None:
    host.add(IDS[0], units=True, current=True)
    transaction.release(host.app)
    made = str(host.app.serving())
    assert host.releases == [IDS[0], made]
    assert {path.name.split("@")[1].split(".")[0] for path in host.layout.units.iterdir()} == {made}
    assert host.app.warm() == {IDS[0]} and host.app.record(made)["previous"] == IDS[0]


@pytest.mark.parametrize("before", ["good", "started"])
def test_what_killed_runs_left_is_healed_first(host: Host, story: Story, before: str) -> None:
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], before, units=True)
    host.app.write_record("20260102T000001Z-rollback", kind="rollback", state="started")
    transaction.release(host.app)
    assert IDS[1] not in host.app.installed()
    assert host.app.record(IDS[1])["state"] == ("good" if before == "good" else "killed")
    assert host.app.record("20260102T000001Z-rollback")["state"] == "killed"
    assert host.app.record("20260102T000001Z-rollback")["finished"]


def test_what_failed_is_written_down_without_secrets(host: Host) -> None:
    """Neither it nor what steers a terminal."""
    host.system.hidden.hide(["s3cr3t-value"])

    def step(app: App, name: str) -> None:
        raise Failed("wrong: s3cr3t-value\x1b[2J\nsecond")

    with pytest.raises(Failed):
        transaction.transact(host.app, "r1", "r1", [("fetch", step)], kind="release")
    assert host.app.record("r1")["error"] == "wrong: ***\\x1b[2J\nsecond"


def test_an_id_is_not_given_twice(host: Host) -> None:
    first = transaction.new_id(host.app, "abc1234")
    host.app.write_record(first, state="failed")
    second = transaction.new_id(host.app, "abc1234")
    assert first == "20260101T000000Z-abc1234" and second == "20260101T000001Z-abc1234"
    assert set(host.system.slept) == {0.1} and RELEASE_ID.fullmatch(second)


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hook_after_the_switch(host: Host, story: Story) -> None:
    host.app.wanted["hooks"]["after_switch"] = ["warm"]
    transaction.release(host.app)
    assert story.hooks == [("after_switch", host.app.serving(), {})]


@pytest.mark.parametrize("error", ["failed", "stopped"])
def test_a_hook_after_the_switch_that_fails(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """The release serves; the run fails."""
    told: Exception = Failed("no") if error == "failed" else Interrupted("told to stop.")

    def hook(app: App, release: str, name: str, **_: str) -> None:
        raise told

    monkeypatch.setattr("slipway_host.release.hooks.hook", hook)
    message = release_fails(host)
    made = host.app.serving()
    assert message == (f"{made} serves. But: {told}\nNo run repeats it: do by hand what it should have done.")
    record = host.app.record(made)
    assert (record["state"], record["hook"]) == ("good", "after_switch failed")


@pytest.mark.parametrize(("step", "at"), [("fetch", "old"), ("build", "old"), ("start", "new")])
def test_the_hook_on_a_failure(host: Host, story: Story, step: str, at: str) -> None:
    """With the new release's environment where it has one, and before it is taken away."""
    host.add(IDS[0], units=True, current=True)
    host.app.wanted["hooks"]["on_failure"] = ["page", "me"]
    story.fails = step
    release_fails(host)
    made = host.app.record_id
    told = {"SLIPWAY_STEP": step, "SLIPWAY_RELEASE": made}
    assert story.hooks == [("on_failure", IDS[0] if at == "old" else made, told)]


def test_a_hook_on_a_failure_that_fails_is_told_and_changes_nothing(host: Host, story: Story) -> None:
    host.add(IDS[0], units=True, current=True)
    host.app.wanted["hooks"]["on_failure"] = ["page"]
    story.fails, story.hook_fails = "start", "The hook on_failure (`page`) ended with 1:\nno network"
    assert release_fails(host).splitlines()[1:] == [
        "start is broken",
        "The hook on_failure (`page`) ended with 1:",
        "no network",
        f"{IDS[0]} keeps serving. Correct the cause and run again.",
    ]
    assert host.releases == [IDS[0]] and host.newest["error"] == "start is broken"


def test_a_hook_on_a_failure_needs_an_environment(host: Host, story: Story) -> None:
    host.app.wanted["hooks"]["on_failure"] = ["page"]
    story.fails = "build"
    assert release_fails(host).splitlines()[1:] == [
        "build is broken",
        "The hook on_failure wasn't run: no release has an environment yet.",
        "No release serves yet. Correct the cause and run again.",
    ]


def test_the_hook_of_a_failure_runs_in_the_release_that_can(host: Host, story: Story) -> None:
    """The failed one's environment is damaged."""
    host.add(IDS[0], units=True, current=True)
    host.app.wanted["hooks"]["on_failure"] = ["page"]
    story.before["start"] = lambda: (host.at.venv(str(host.app.record_id)) / "bin/python").unlink()
    story.fails = "start"
    release_fails(host)
    assert [(name, release) for name, release, _ in story.hooks] == [("on_failure", IDS[0])]


def test_no_release_is_named_none(host: Host, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the releases and `current` were deleted after a rollback: a release heals that."""
    bad = {"since": "2026-01-02T03:04:05Z", "by": "bob@desk", "why": f"rolled back to {IDS[0]}"}
    host.app.write_record(IDS[0], kind="release", state="good", inputs={"source": "old"})
    host.app.write_record(IDS[1], kind="release", state="good", inputs=host.app.wanted["inputs"], bad=bad)
    host.install(IDS[0])
    host.name(IDS[0])
    host.at.releases.rmdir()
    transaction.release(host.app)
    made = str(host.app.serving())
    assert story.steps == STEPS and host.releases == [made] and host.app.installed() == {made}
    assert not [call for call in (*host.system.calls, *host.said) if re.search(r"\bNone\b", call)]
