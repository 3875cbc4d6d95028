"""What the unit of a run runs: one request, under the lock, and how it ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import heal, rollback, runs, transaction, work
from slipway_host.release.app import App
from slipway_host.release.progress import Progress
from slipway_host.system import Failed, Interrupted

from tests.unit.host.running import IDS, Host, host_at

TOKEN = "20260101T000000000000-1"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A run that was just started, with a release that works."""
    host = host_at(tmp_path, monkeypatch)
    folder = host.at.runs / TOKEN
    folder.mkdir(parents=True)
    request = {"protocol": 1, "verb": "release", "by": "ann@desk", "wait": 0, "build": {"PASSWORD": "s3cr3t"}}
    (folder / "request.json").write_text(json.dumps(request | {"wanted": host.app.wanted}))
    log = folder / "log"
    log.write_text('{"event": "said", "app": "notes", "text": "begun"}\n')

    def write(event: object) -> None:
        log.write_text(log.read_text() + json.dumps(event) + "\n")

    host.app.progress = Progress("notes", host.system, write)

    def release(app: App) -> None:
        app.record_id = IDS[0]
        assert app.at.lock.read_text().startswith("release by ann@desk, process ")

    monkeypatch.setattr(transaction, "release", release)
    monkeypatch.setattr(host.app.progress, "beat", lambda: None)  # no sign of life
    monkeypatch.setattr(work, "DRAIN_END_SECONDS", 0)
    return host


def events(path: Path) -> list[dict[str, Any]]:
    """What a log has."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def result(host: Host) -> tuple[int, str | None]:
    """How the run ended: its exit status, and the error."""
    last = events(host.at.runs / TOKEN / "log")[-1]
    assert last["event"] == "ended" and last["app"] == "notes"
    return last["code"], last["error"]


def test_the_work_of_a_run(host: Host) -> None:
    wanted, host.app.wanted = host.app.wanted, {}
    host.add(IDS[1], current=True)
    assert work.work(host.app, TOKEN) == 0
    folder = host.at.runs / TOKEN
    assert not (folder / "request.json").exists(), "it held secrets"
    assert result(host) == (0, None) and events(folder / "log")[-1]["release"] == IDS[1]
    log = host.at.log(IDS[0])
    assert log.read_text() == (folder / "log").read_text() and stat.S_IMODE(log.stat().st_mode) == 0o600
    assert host.app.wanted == wanted and "wanted" not in host.app.request
    assert host.app.request["build"] == {"PASSWORD": "s3cr3t"}
    assert host.system.json(host.layout.format)["format"] == 2, "the host is taken over first"


def test_a_run_that_nobody_described_is_about_what_is_wanted(host: Host) -> None:
    """`slipway release notes` on the host."""
    request = {"verb": "release", "by": "ann@desk", "wait": 0}
    (host.at.runs / TOKEN / "request.json").write_text(json.dumps(request))
    host.app.wanted = {}
    work.work(host.app, TOKEN)
    assert host.app.wanted["app"] == "notes.main:app"


FULL = "The disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Failed("no"), "no"),
        (OSError(errno.ENOSPC, "No space left on device"), f"[Errno 28] No space left on device\n{FULL}"),
        (OSError(errno.EACCES, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
    ],
)
def test_a_run_that_fails(host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def release(app: App) -> None:
        app.record_id = IDS[0]
        raise error

    monkeypatch.setattr(transaction, "release", release)
    assert work.work(host.app, TOKEN) == 1
    assert result(host) == (1, said) and host.at.log(IDS[0]).exists()


def test_how_a_run_ends_is_told_without_secrets(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def release(app: App) -> None:
        app.system.hidden.hide(["s3cr3t-value"])
        raise Failed("it said s3cr3t-value\x1b[2J")

    monkeypatch.setattr(transaction, "release", release)
    work.work(host.app, TOKEN)
    assert result(host) == (1, "it said ***\\x1b[2J")


def test_a_run_that_ends_by_what_nobody_foresaw_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows it isn't left waiting."""

    def release(app: App) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(transaction, "release", release)
    with pytest.raises(KeyError):
        work.work(host.app, TOKEN)
    assert result(host) == (1, "KeyError: 'odd'")


def test_a_run_that_made_no_attempt_has_no_log(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "release", lambda app: None)
    assert work.work(host.app, TOKEN) == 0
    assert list(host.at.records.iterdir()) == []


def test_a_log_that_cannot_be_kept_is_no_failure(host: Host) -> None:
    host.at.log(IDS[0]).mkdir()
    assert work.work(host.app, TOKEN) == 0 and result(host) == (0, None)


def test_a_run_on_a_host_where_nothing_was_ever_released(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"verb": "rollback", "by": "ann@desk", "wait": 0}
    (host.at.runs / TOKEN / "request.json").write_text(json.dumps(request))
    host.at.wanted.unlink()
    monkeypatch.setattr(rollback, "rollback", lambda app: pytest.fail("it has nothing to go by"))
    assert work.work(host.app, TOKEN) == 1
    assert result(host) == (1, f"{host.at.wanted} is missing: nothing was ever released here. Run `slipway apply`.")


def test_a_run_that_does_not_get_the_lock(host: Host) -> None:
    with runs.locked(host.app, "drain", 0):
        assert work.work(host.app, TOKEN) == 1
    code, error = result(host)
    assert code == 1 and "Another run of notes is under way (drain, process " in str(error)


def test_a_host_of_a_newer_slipway_is_left_alone(host: Host) -> None:
    host.layout.format.write_text('{"format": 3, "slipway": "9.9.9"}')
    assert work.work(host.app, TOKEN) == 1 and "Slipway 9.9.9 (format 3)" in str(result(host)[1])


# ── a run that is told to stop ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def handlers(host: Host, monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Signal → what is done about it."""
    known: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", lambda number, handler: known.update({number: handler}))
    return known


def test_a_run_that_is_told_to_stop(host: Host, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it made an attempt: what it began is taken back, and nothing ends that."""
    monkeypatch.setattr(transaction, "release", lambda app: handlers[signal.SIGTERM](signal.SIGTERM, None))
    taken: list[object] = []

    def take_back(app: App) -> str:
        taken.append(handlers[signal.SIGTERM])
        assert app.at.lock.read_text(), "still under the lock"
        return "\nnotes was started again."

    monkeypatch.setattr(heal, "take_back", take_back)
    assert work.work(host.app, TOKEN) == 1
    assert result(host) == (1, "notes-release.service was told to stop.\nnotes was started again.")
    assert taken == [signal.SIG_IGN]


def test_a_run_that_waits_for_the_lock_can_be_stopped(
    host: Host, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun nothing."""
    monkeypatch.setattr(heal, "take_back", lambda app: pytest.fail("that isn't its to do"))
    monkeypatch.setattr(host.system, "sleep", lambda seconds: handlers[signal.SIGTERM](signal.SIGTERM, None))
    monkeypatch.setattr(work, "DRAIN_END_SECONDS", 60)
    with runs.locked(host.app, "drain", 0):
        assert work.work(host.app, TOKEN) == 1
    assert result(host) == (1, "notes-release.service was told to stop.")


@pytest.mark.parametrize("swallows", [heal.bring_back, heal.fits_database, heal.undo])
def test_nothing_swallows_that(host: Host, monkeypatch: pytest.MonkeyPatch, swallows: Callable[..., Any]) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("told to stop.")

    for name in ("start.ensure_running", "database.look", "heal.tidy"):
        monkeypatch.setattr(f"slipway_host.release.{name}", stopped)
    with pytest.raises(Interrupted):
        swallows(host.app, IDS[0])


# ── earlier runs ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_earlier_runs_are_forgotten(host: Host) -> None:
    gone, alive = 4_194_305, os.getpid()
    (host.layout.proc / str(alive)).mkdir()
    names = [f"2025010{day}T000000000000-{gone}" for day in range(1, 9)]
    waiting = f"20240101T000000000000-{alive}"
    for name in (*names, waiting, f"plan-{gone}", f"plan-{alive}"):
        (host.at.runs / name).mkdir()
        (host.at.runs / name / "request.json").write_text("s3cr3t")
    runs.sweep_runs(host.app, host.at.runs / TOKEN)
    left = sorted(path.name for path in host.at.runs.iterdir())
    assert waiting in left and f"plan-{alive}" in left and TOKEN in left and f"plan-{gone}" not in left
    assert names[0] not in left and names[-1] in left
    asked = {path.parent.name for path in host.at.runs.glob("*/request.json")}
    assert asked == {waiting, f"plan-{alive}", TOKEN}, "the questions of those who died hold secrets"


@pytest.mark.parametrize("end", [None, "ended", "result.json"])
def test_what_a_killed_run_said_is_kept(host: Host, end: str | None) -> None:
    """It couldn't do that itself; one that came to its end has."""
    folder = host.at.runs / "20250101T000000000000-4194305"
    folder.mkdir()
    (folder / "record").write_text(IDS[3])
    (folder / "log").write_text('{"event": "said", "text": "3/9 check"}\n')
    if end == "ended":
        (folder / "log").write_text('{"event": "ended", "code": 0}\n')
    elif end:
        (folder / end).write_text('{"code": 0}')
    runs.sweep_runs(host.app, host.at.runs / TOKEN)
    assert host.at.log(IDS[3]).exists() is (end is None) is not (folder / "record").exists()
