"""The unit that a run is: one at a time, started, waited for, followed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host.events import readable
from slipway_host.release import runs
from slipway_host.release.app import App
from slipway_host.system import Failed, System

from tests.unit.host.hardened import SHUT_OFF
from tests.unit.host.running import Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


# ── one run at a time ────────────────────────────────────────────────────────────────────────────────────────────


def test_only_one_run_of_an_app_at_a_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    held = (
        "Another run of notes is under way (release by ann, process 4711, since 2026-01-01T00:00:00Z) and didn't end "
        f"within 0 s. Follow it with `{host.layout.program} follow notes`, or wait, then run again."
    )
    with runs.locked(host.app, "release by ann", 0):
        with pytest.raises(Failed) as told, runs.locked(host.app, "drain", 0):
            pass
        assert str(told.value) == held
    with runs.locked(host.app, "drain", 9):
        assert stat.S_IMODE(host.at.lock.stat().st_mode) == 0o600, "nobody else can open it, and so hold it"
        assert host.at.lock.read_text().startswith("drain, process 4711, since 2026-01-01T00:00:")
    assert host.at.lock.read_text() == ""


def test_a_run_waits_for_another(host: Host) -> None:
    app = App("notes", System(host.layout))
    with host.at.lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.15, fcntl.flock, (other, fcntl.LOCK_UN))
        began = time.monotonic()
        timer.start()
        with runs.locked(app, "release by ann", 60):
            assert time.monotonic() - began >= 0.15
        timer.join()


def test_what_fails_under_the_lock_fails_in_its_own_words(host: Host) -> None:
    with pytest.raises(Failed, match=r"^in itself$"), runs.locked(host.app, "release", 0):
        raise Failed("in itself")
    assert host.at.lock.read_text() == ""


def test_a_lock_ends_with_its_holder_whatever_it_left_written(host: Host) -> None:
    host.at.lock.write_text("release, process 1, since 1970, which was killed and had a long name")
    host.at.lock.chmod(0o644)
    with runs.locked(host.app, "drain", 0):
        assert host.at.lock.read_text().startswith("drain, process ") and "1970" not in host.at.lock.read_text()
    with host.at.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ── which one is under way ───────────────────────────────────────────────────────────────────────────────────────


def under_way(host: Host, token: str | None, state: str = "active", **about: Any) -> Path:
    """Let the app's run be that of a folder."""
    host.system.states["notes-release.service"] = {
        "ActiveState": state,
        "Description": f"Slipway: release of notes, run {token}" if token else "",
    }
    folder = host.at.runs / str(token)
    if token:
        folder.mkdir(parents=True)
        (folder / "log").write_text("")
        known = {"verb": "release", "by": "bob", "since": "noon"}
        (folder / "about.json").write_text(json.dumps(known | about))
    return folder


@pytest.mark.parametrize(
    ("state", "there"), [("active", True), ("deactivating", True), ("inactive", False), ("failed", False)]
)
def test_the_run_that_is_under_way(host: Host, state: str, there: bool) -> None:
    """One that was told to stop still takes back what it did."""
    folder = under_way(host, "t1", state)
    assert runs.under_way(host.app) == (folder if there else None)
    assert host.system.calls == ["systemctl show --property=ActiveState,Description notes-release.service"]
    about: Any = runs.about(host.app, folder)
    assert about == {"verb": "release", "by": "bob", "since": "noon"}


def test_a_unit_of_that_name_that_is_no_run_of_ours(host: Host) -> None:
    under_way(host, None)
    assert runs.under_way(host.app) is None


# ── to start one ─────────────────────────────────────────────────────────────────────────────────────────────────


def ask_for(host: Host, **other: Any) -> Any:
    """A request for a release."""
    made = {"protocol": 1, "verb": "release", "by": "ann@desk", "wait": 0, "build": {"PASSWORD": "s3cr3t"}}
    return made | {"wanted": host.app.wanted} | other


def run_of(host: Host) -> Path:
    """The folder of the one run that there is."""
    (folder,) = host.at.runs.iterdir()
    return folder


def ended(code: int, error: str | None = None) -> str:
    """The last line of a log."""
    return json.dumps({"event": "ended", "app": "notes", "code": code, "release": None, "error": error}) + "\n"


def said(text: str) -> str:
    """A line of a log."""
    return json.dumps({"event": "said", "app": "notes", "text": text}) + "\n"


def ending(host: Host, text: str) -> Callable[[str], None]:
    """A run that says this, which is all."""

    def end(line: str) -> None:
        (host.at.runs / line.split()[-1] / "log").write_text(text)

    return end


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_is_a_unit_of_its_own(host: Host, capsys: pytest.CaptureFixture[str], code: int) -> None:
    host.system.doing["systemd-run"] = ending(host, said("begun") + ended(code, "broken" if code else None))
    assert runs.submit(host.app, ask_for(host), 0) == code
    folder = run_of(host)
    (started,) = host.system.calls
    assert started == (
        "systemd-run --quiet --collect --unit notes-release.service "
        f"--description=Slipway: release of notes, run {folder.name} "
        f"--property StandardOutput=append:{folder}/log --property StandardError=append:{folder}/log "
        "--property KillMode=mixed --property TimeoutStopSec=180 --property MemoryMax=75% "
        + "".join(f"--property {each} " for each in SHUT_OFF)
        + f"{host.layout.program} run notes {folder.name}"
    )
    assert "s3cr3t" not in started
    begun = "notes: runs on the host as notes-release, even if you leave (`systemctl stop notes-release` ends it)"
    assert host.said == [begun]
    assert capsys.readouterr().out == ("notes: begun\nbroken\n" if code else "notes: begun\n")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    request = folder / "request.json"
    assert stat.S_IMODE(request.stat().st_mode) == 0o600 and json.loads(request.read_text()) == ask_for(host)
    about = json.loads((folder / "about.json").read_text())
    assert about.pop("since") and about == {
        "protocol": 1,
        "verb": "release",
        "inputs": host.app.wanted["inputs"],
        "to": None,
        "by": "ann@desk",
    }


ALREADY = "Failed to start transient service unit: Unit notes-release.service was already loaded.\n"


def test_a_run_that_asks_for_the_same_follows_the_first(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Two people, or one whose connection was lost."""
    host.system.failing["systemd-run"] = ALREADY
    other = under_way(host, "t1", inputs=host.app.wanted["inputs"])
    (other / "log").write_text(said("what it says") + ended(1))
    assert runs.submit(host.app, ask_for(host), 0) == 1
    assert host.said == ["notes: bob began this very release at noon; following it"]
    assert capsys.readouterr().out == "notes: what it says\n"
    assert run_of(host) == other, "its secrets are gone"


@pytest.mark.parametrize("other", [{"verb": "rollback"}, {"inputs": {"source": "other"}}, {"inputs": None}])
def test_a_run_that_asks_for_something_else_waits_and_gives_up(host: Host, other: dict[str, Any]) -> None:
    host.system.failing["systemd-run"] = ALREADY
    folder, began = under_way(host, "t1", **other), host.system.clock()
    verb = other.get("verb", "release")
    assert failure(runs.submit, host.app, ask_for(host), 3) == (
        f"Another run of notes is under way ({verb} by bob since noon) and didn't end within 3 s. "
        f"Follow it with `{host.layout.program} follow notes`, or wait, then run again."
    )
    assert host.said == [f"notes: waiting for another run ({verb} by bob since noon), 3 s at most"]
    assert 3 < host.system.clock() - began < 3.5 and run_of(host) == folder


def test_a_run_waits_its_turn(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    began = host.system.clock()
    under_way(host, "t1", verb="rollback")
    host.system.failing["systemd-run"] = ALREADY
    host.system.doing["systemd-run"] = ending(host, said("done") + ended(0))

    def end(line: str) -> None:
        if host.system.clock() > began + 1:
            host.system.failing.clear()

    host.system.doing["systemctl show"] = end
    assert runs.submit(host.app, ask_for(host), 3) == 0
    assert capsys.readouterr().out == "notes: done\n"


@pytest.mark.parametrize("words", ["Failed to connect to bus\n", ALREADY])
def test_a_run_that_cannot_be_started(host: Host, words: str) -> None:
    """What systemd says of its unit tells that, whatever its words are: none is under way."""
    host.system.failing["systemd-run"] = words
    under_way(host, None, "inactive")
    assert failure(runs.submit, host.app, ask_for(host), 9) == (
        f"notes-release.service can't be started:\n{words.strip()}"
    )
    assert list(host.at.runs.iterdir()) == [] and host.system.slept == [0.1]


def test_a_run_that_has_just_ended_is_no_reason_to_fail(host: Host) -> None:
    """It was in the way, and is gone when systemd is asked."""
    under_way(host, None, "inactive")
    host.system.failing["systemd-run"] = "whatever it says"
    host.system.doing["systemd-run"] = ending(host, ended(0))
    host.system.doing["systemctl show"] = lambda line: host.system.failing.clear()
    assert runs.submit(host.app, ask_for(host), 9) == 0


def test_somebody_elses_unit_of_that_name_is_waited_for(host: Host) -> None:
    under_way(host, None)
    host.system.failing["systemd-run"] = "whatever it says"
    began = host.system.clock()
    assert failure(runs.submit, host.app, ask_for(host), 3).startswith("notes-release.service can't be started:\n")
    assert 3 < host.system.clock() - began < 3.5


# ── to follow one ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("as_json", [False, True])
def test_all_that_a_run_says_is_shown(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """What is no event is systemd's or Python's own word, and is shown as it is."""
    folder = under_way(host, "t1")
    text = said("one") + "Traceback (most recent call last):\n{half\n[1]\n" + said("two\nlines") + ended(7, "broken")
    parts = [text[:20], text[20:31], "", text[31:]]

    def sleep(seconds: float) -> None:
        with (folder / "log").open("a") as log:
            log.write(parts.pop(0))

    monkeypatch.setattr(host.system, "sleep", sleep)
    assert runs.follow(host.app, folder, as_json) == 7
    shown = "notes: one\nTraceback (most recent call last):\n{half\n[1]\nnotes: two\nlines\nbroken\n"
    assert capsys.readouterr().out == (text if as_json else shown)


def test_an_event_of_another_slipway_is_shown_as_it_is() -> None:
    for line in ('{"event": "moved"}', '{"event": "step", "app": "notes"}', '{"event": ["odd"], "text": 1}'):
        assert readable(line) == line


def test_a_run_that_was_killed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    folder, began = under_way(host, "t1", "failed"), host.system.clock()
    (folder / "log").write_text(said("3/9 check") + "half a li")
    assert failure(runs.follow, host.app, folder) == (
        "The run ended without a result: it was killed, or the host ran out of memory "
        "(`journalctl -u notes-release.service`). Run again: the next run puts the host in order first."
    )
    assert capsys.readouterr().out == "notes: 3/9 check\nhalf a li\n" and host.system.clock() - began < 2


def test_a_run_whose_unit_is_anothers_by_now_was_killed(host: Host) -> None:
    folder = under_way(host, "t1")
    under_way(host, "t2")
    assert failure(runs.follow, host.app, folder).startswith("The run ended without a result")


def test_a_run_of_an_earlier_slipway_is_followed_to_its_end(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """It was under way when the host got this one."""
    folder = under_way(host, "t1", "inactive")
    (folder / "log").write_text("notes: 1/9 fetch 0.1 s\n")
    (folder / "result.json").write_text('{"code": 1}')
    assert runs.follow(host.app, folder) == 1
    assert capsys.readouterr().out == "notes: 1/9 fetch 0.1 s\n"


def test_a_run_that_is_told_to_stop_is_followed_to_its_end(host: Host) -> None:
    """It takes back what it did, which may take a while."""
    folder, began = under_way(host, "t1", "deactivating"), host.system.clock()

    def end(line: str) -> None:
        if host.system.clock() > began + 20:
            (folder / "log").write_text(ended(1))

    host.system.doing["systemctl show"] = end
    assert runs.follow(host.app, folder) == 1


def test_the_run_that_is_there_is_followed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(runs.follow_any, host.app) == (
        f"There was no run of notes since the host booted; `{host.layout.program} releases notes` shows all."
    )
    for name, code in (("t1", 1), ("t2", 0)):
        folder = under_way(host, name)
        (folder / "about.json").write_text(json.dumps({"since": "noon"}))
        (folder / "log").write_text(said(name) + ended(code))
    shutil.copytree(host.at.runs / "t1", host.at.runs / "t0")
    host.system.states["notes-release.service"] = {"ActiveState": "active", "Description": "run t1"}
    assert runs.follow_any(host.app) == 1 and capsys.readouterr().out == "notes: t1\n"
    host.system.states["notes-release.service"] = {"ActiveState": "inactive", "Description": "run t1"}
    assert runs.follow_any(host.app) == 0 and capsys.readouterr().out == "notes: t2\n"
    assert host.said == ["notes: no run is under way; this is the log of the last one, begun at noon"]


def test_the_last_run_is_the_last_whatever_the_clock_said(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's clock is set back between two runs; an earlier Slipway has made one before them."""
    under_way(host, "20260101T000000000000-1", "inactive")
    for uptime, clock in ((1000.25, 1_767_225_600), (1001.5, 1_767_139_200)):
        monkeypatch.setattr(host.system, "uptime", lambda seconds=uptime: seconds)
        host.system.at = clock
        host.system.doing["systemd-run"] = ending(host, said(f"up for {uptime} s") + ended(0))
        runs.submit(host.app, ask_for(host), 0)
    names = sorted(path.name.rpartition("-")[0] for path in host.at.runs.iterdir())
    assert names == ["20260101T000000000000", "run-0000001000250000", "run-0000001001500000"]
    capsys.readouterr()
    host.system.states["notes-release.service"] = {"ActiveState": "inactive", "Description": "x"}
    assert runs.follow_any(host.app) == 0 and capsys.readouterr().out == "notes: up for 1001.5 s\n"


def test_a_dry_runs_folder_is_no_run_to_follow(host: Host) -> None:
    """It was killed and left its folder."""
    (host.at.runs / "plan-4194999").mkdir(parents=True)
    assert failure(runs.follow_any, host.app).startswith("There was no run of notes")
