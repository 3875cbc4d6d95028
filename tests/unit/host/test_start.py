"""start: the new release beside the old one, or in its place; what doesn't start in its time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from slipway_host.release import guest, retire, start
from slipway_host.release.app import App
from slipway_host.release.processes.web import WEB

from tests.unit.host.running import IDS, Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def test_a_start(host: Host) -> None:
    start.start(host.app, "r1")
    assert host.system.calls == ["systemctl start notes@r1.socket", "systemctl start notes@r1.service"]


def test_a_start_that_fails(host: Host) -> None:
    host.system.failing["start notes@r1.service"] = ""
    host.system.printing["journalctl"] = "the last line\n"
    assert failure(start.start, host.app, "r1") == "The app doesn't start:\nthe last line"


def test_what_is_warm_makes_room_for_a_new_release(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for two releases is needed, not for three; its last requests are waited for all the same."""
    waited: list[tuple[str, float]] = []
    host.app.wanted["drain_timeout"] = 7
    host.add(IDS[1], current=True, units=True)
    host.warm(IDS[0])
    host.app.write_record(IDS[0], left=1000)
    monkeypatch.setattr(retire, "drained", lambda app, each, until: waited.append((each, until)))
    start.start(host.app, IDS[2])
    assert waited == [(IDS[0], 1007)]
    assert host.system.calls == [
        f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service",
        f"systemctl stop --no-block notes@{IDS[0]}.service",
        f"systemctl start notes@{IDS[2]}.socket",
        f"systemctl start notes@{IDS[2]}.service",
    ]


GUNICORN = r"Worker exiting \(pid|Worker \(pid:\d+\) (exited with code|was sent SIG(?!TERM))"


@pytest.mark.parametrize(
    ("words", "lines", "told"),
    [
        (GUNICORN, ["one", "two"], ["one", "two"]),
        (
            GUNICORN,
            ["Traceback", "ValueError: no database", "[INFO] Worker exiting (pid: 7)", "[INFO] Shutting down: Master"],
            ["Traceback", "ValueError: no database", "[INFO] Worker exiting (pid: 7)"],
        ),
        (
            GUNICORN,
            ["died", "[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "[INFO] Booting worker"],
            ["died", "[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?"],
        ),
        (
            GUNICORN,
            ["x", "[ERROR] Worker (pid:7) was sent SIGTERM!", "y"],
            ["x", "[ERROR] Worker (pid:7) was sent SIGTERM!", "y"],
        ),
        (GUNICORN, [f"line {number}" for number in range(40)], [f"line {number}" for number in range(10, 40)]),
        ("^dying", ["ValueError", "dying", "the end"], ["ValueError", "dying"]),
        (None, ["a", "[INFO] Worker exiting (pid: 7)", "b"], ["a", "[INFO] Worker exiting (pid: 7)", "b"]),
    ],
)
def test_the_journals_last_lines(host: Host, words: str | None, lines: list[str], told: list[str]) -> None:
    """Up to its server's dying words, where these are known."""
    if words:
        host.app.wanted["deaths"] = words
    host.system.printing["journalctl --namespace=+notes -u notes@r1.service"] = "\n".join(lines) + "\n"
    assert WEB.journal(host.app, "r1").splitlines() == told


# ── what doesn't start in its time ───────────────────────────────────────────────────────────────────────────────


def test_a_release_that_does_not_start_is_killed(host: Host) -> None:
    host.system.printing |= {"systemctl show": "TimeoutStartUSec=infinity", "journalctl": "still loading"}
    host.system.slow.append("systemctl start notes@r1.service")
    told = failure(start.launch, host.app, "r1")
    assert told == "The app didn't start within the time of its unit (TimeoutStartSec):\nstill loading"
    assert "systemctl kill --signal=SIGKILL notes@r1.service" in host.system.calls


def test_a_release_that_a_signal_ended_is_told(host: Host) -> None:
    """Of what was before it was started, Slipway itself may be the reason."""
    host.system.printing["journalctl"] = "notes@r1.service: Main process exited, code=killed, status=9/KILL"
    assert "which Slipway didn't send" not in WEB.journal(host.app, "r1")
    host.system.failing["systemctl start notes@r1.service"] = "no"
    told = failure(start.launch, host.app, "r1")
    assert "It was killed by SIGKILL, which Slipway didn't send" in told and "--stop-first" in told
    assert host.system.matching("journalctl")[-1].partition(" --since=@")[2] == f"{host.system.at:.6f}"


# ── what is stopped first ────────────────────────────────────────────────────────────────────────────────────────


def test_what_serves_is_stopped_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its units before its processes, or systemd would start them anew; those outside of its slice as well."""
    host.add(IDS[0], units=True, current=True)
    host.warm(IDS[1])
    left: list[list[int]] = [[17, 4711], [4711], []]
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(guest, "processes", lambda user: left.pop(0))
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append((process, number)))
    host.app.wanted["sandbox"].append("Slice=app-notes.slice")
    assert start.make_way(host.app, IDS[2]) is None
    calls = host.system.matching("systemctl")
    stopped = next(at for at, call in enumerate(calls) if call.startswith("systemctl stop --no-block"))
    assert all(f"notes@{each}.{kind}" in calls[stopped] for each in IDS[:2] for kind in ("socket", "service"))
    assert calls[stopped + 1] == "systemctl kill --signal=SIGKILL app-notes.slice"
    assert killed == [(17, 9), (4711, 9), (4711, 9)]
    assert f"{IDS[0]} is stopped first, as requested: requests are lost" in host.told()
    assert host.app.record(IDS[0])["stopped_first"]


def test_processes_that_do_not_end_are_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    began = host.system.clock()
    monkeypatch.setattr(guest, "processes", lambda user: [17])
    monkeypatch.setattr(os, "kill", lambda process, number: None)
    message = "Processes of notes don't end (17): see `ps -u notes`."
    assert failure(start.make_way, host.app, IDS[0]) == message
    assert 20 < host.system.clock() - began < 20.2


def test_what_was_stopped_first_is_started_again(host: Host) -> None:
    host.add(IDS[0], units=True, current=True, stopped_first="2026-01-01T00:00:00Z")
    assert start.start_again(host.app) == f"{IDS[0]}, which was stopped first, was started again."
    assert f"systemctl start notes@{IDS[0]}.service" in host.system.calls
    assert start.start_again(host.app) == "", "once"


def test_what_was_stopped_first_and_does_not_start_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(app: App, release: str) -> None:
        raise OSError(5, "Input/output error")

    host.add(IDS[0], units=True, current=True, stopped_first="2026-01-01T00:00:00Z")
    monkeypatch.setattr(start, "ensure_running", broken)
    told = f"{IDS[0]}, which was stopped first, can't be started again: [Errno 5] Input/output error"
    assert start.start_again(host.app) == told and host.app.record(IDS[0])["stopped_first"]


def test_what_was_stopped_first_is_not_kept_warm(host: Host) -> None:
    host.add(IDS[0], units=True, stopped_first="2026-01-01T00:00:00Z")
    retire.let_go(host.app, IDS[0])
    assert host.app.installed() == set() and host.system.matching("systemd-run") == []
    assert not host.app.record(IDS[0])["stopped_first"]
