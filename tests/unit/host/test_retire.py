"""The old release: let go, drained, warm for a while, and ended at a time that nothing moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from slipway_host.proxy import sockets
from slipway_host.proxy.nginx import Nginx
from slipway_host.release import processes, retire, status

from tests.unit.host.hardened import SHUT_OFF
from tests.unit.host.running import IDS, Host, failure, host_at, tree

LEFT = 1_767_225_600
"""When it is let go, by the clock of a FakeSystem."""
TIMED = "--timer-property=AccuracySec=1s"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("grace", "warm", "stays", "timers"),
    [
        (30, 300, 300, ["drain", f"{TIMED} --on-active=300 --on-calendar=@{LEFT + 300} retire"]),
        (30, 0, 70, ["drain"]),  # as long as it may take to stop
        (60, 20, 100, ["drain", f"{TIMED} --on-active=60 --on-calendar=@{LEFT + 60} retire"]),
    ],
)
def test_the_old_one_is_let_go(host: Host, grace: int, warm: int, stays: int, timers: list[str]) -> None:
    host.app.wanted["drain_timeout"], host.app.wanted["keep_warm"] = grace, warm
    host.add(IDS[0], units=True)
    retire.let_go(host.app, IDS[0])
    record = host.app.record(IDS[0])
    assert record["left"] == LEFT and round(record["warm_until"] - record["left"]) == stays
    # A reboot ends it, since its units are in /run alone; nothing else does before its time.
    assert list(host.layout.units.iterdir()) == []
    assert tree(host.layout.warm_units) == {
        f"notes@{IDS[0]}.service": f"# {IDS[0]} service\n",
        f"notes@{IDS[0]}.socket": f"# {IDS[0]} socket\n",
    }
    units = f"notes@{IDS[0]}.socket notes@{IDS[0]}.service"
    expected = []
    for timer in timers:
        *options, what = timer.split()
        unit = f"--unit=notes-{what}-{IDS[0]}"
        shut_off = [f"--property={each}" for each in SHUT_OFF]
        program = str(host.layout.program)
        words = ["systemd-run --quiet --collect", *shut_off, unit, *options, program, what, "notes", IDS[0]]
        expected.append(" ".join(words))
    assert sorted(host.system.calls) == sorted([f"systemctl disable --quiet --no-reload {units}", *expected])
    assert host.app.warm() == {IDS[0]}


def test_the_end_of_a_warm_release_is_a_whole_second_and_never_before_its_time(host: Host) -> None:
    """That of the calendar, which no daemon-reload moves; the span beside it ends it where the clock was set back."""
    host.system.at += 0.25
    host.app.wanted["keep_warm"] = 5
    host.add(IDS[0], units=True)
    retire.let_go(host.app, IDS[0])
    (timer,) = host.system.matching("--on-calendar")
    assert f" --on-active=5 --on-calendar=@{LEFT + 6} " in timer


@pytest.mark.parametrize(("left", "end"), [(LEFT, LEFT + 30), (LEFT - 20, LEFT + 10), (LEFT + 86_400, LEFT + 30)])
def test_a_drain_has_its_time_whatever_the_clock_says(host: Host, left: float, end: float) -> None:
    """The last one was let go before the clock was set back by a day."""
    host.app.wanted["drain_timeout"] = 30
    host.add(IDS[0], left=left)
    assert retire.drain_end(host.app, IDS[0]) == end


def test_an_old_one_that_a_killed_run_began_to_let_go(host: Host) -> None:
    """What that run left to end it has its name still: it makes room."""
    host.app.wanted["drain_timeout"], host.app.wanted["keep_warm"] = 30, 300
    host.add(IDS[0], units=True)
    drain = f"--unit=notes-drain-{IDS[0]} "
    forget = f"systemctl stop notes-retire-{IDS[0]}.timer notes-drain-{IDS[0]}.service"
    host.system.failing[drain] = "Unit notes-drain was already loaded"
    host.system.doing[forget] = lambda line: host.system.failing.clear()
    retire.let_go(host.app, IDS[0])
    after = host.system.calls[host.system.calls.index(forget) + 1 :]
    assert [each.split("--unit=notes-")[1].split("-")[0] for each in after] == ["drain", "retire"]
    assert host.app.warm() == {IDS[0]}


def test_an_old_one_that_nothing_is_there_to_end_is_not_warm(host: Host) -> None:
    host.add(IDS[0], units=True)
    host.system.failing["systemd-run"] = "Failed to connect to bus"
    host.system.states |= {unit: {"ActiveState": "inactive"} for unit in host.at.ends(IDS[0])}
    assert failure(retire.let_go, host.app, IDS[0]) == "Failed to connect to bus"
    (host.layout.units / f"notes@{IDS[0]}.service").unlink()
    (host.layout.units / f"notes@{IDS[0]}.socket").unlink()
    assert host.app.warm() == set()


def test_an_old_one_without_units_is_let_go_all_the_same(host: Host) -> None:
    """Somebody took them away: the new release is no worse for it."""
    host.add(IDS[0])
    (host.layout.units / f"notes@{IDS[0]}.service").write_text("")
    retire.let_go(host.app, IDS[0])
    assert host.app.installed() == set()
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in host.system.calls
    assert host.system.matching("systemd-run") == []


def test_workers_that_are_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = retire.leaving
    host = host_at(tmp_path, monkeypatch)
    titles = {10: "nginx: worker process", 11: "nginx: worker process"}
    monkeypatch.setattr(Nginx, "workers", lambda self: titles)
    assert leaving(host.app) is False
    titles[10] += " is shutting down"
    assert leaving(host.app) is True
    titles.clear()
    assert leaving(host.app) is False


@pytest.mark.parametrize(
    ("leaving", "busy", "looks"),
    [
        ([False], [0], 1),
        ([True, True, False], [0], 3),  # a request may be between nginx and the app
        ([False], [2, 1, 0], 3),
        ([False], [1], 10),  # until the time is over
    ],
)
def test_the_wait_for_the_last_request(
    host: Host, monkeypatch: pytest.MonkeyPatch, leaving: list[bool], busy: list[int], looks: int
) -> None:
    looked = [0]
    host.system.at = 1000

    def left(app: object) -> bool:
        looked[0] += 1
        return leaving[min(looked[0], len(leaving)) - 1]

    monkeypatch.setattr(retire, "leaving", left)
    monkeypatch.setattr(sockets, "connections", lambda path: busy[min(looked[0], len(busy)) - 1])
    retire.drained(host.app, "r1", until=1000.95)
    assert looked[0] == looks
    retire.drained(host.app, "r1", until=999)
    assert looked[0] == looks, "it was too late already"


@pytest.mark.parametrize(
    ("state", "keep_warm", "busy", "does"),
    [
        ("left", 0, 0, "remove"),
        ("left", 300, 0, None),
        ("left", 300, 2, "restart"),  # WebSockets get a clean close, and the release stays warm
        ("serves again", 0, 2, None),
        ("serves again", 300, 2, None),
        ("removed", 300, 2, None),
    ],
)
def test_a_drain(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: str, keep_warm: int, busy: int, does: str | None
) -> None:
    waited: list[float] = []
    host.app.wanted["keep_warm"], host.app.wanted["drain_timeout"] = keep_warm, 7
    host.warm(IDS[0])
    host.app.write_record(IDS[0], left=1000)
    if state == "serves again":
        host.install(IDS[0])
        host.at.current.symlink_to(f"releases/{IDS[0]}")
    if state == "removed":
        shutil.rmtree(host.layout.warm_units)
    monkeypatch.setattr(retire, "drained", lambda app, each, until: waited.append(until))
    monkeypatch.setattr(sockets, "connections", lambda path: busy)
    retire.drain(host.app, IDS[0])
    assert waited == [1007]
    unit = f"notes@{IDS[0]}.service"
    assert host.system.calls[0] == "systemctl daemon-reload", "let_go moved the units"
    expected = {"remove": f"systemctl stop {unit} notes@{IDS[0]}.socket", "restart": f"systemctl restart {unit}"}
    assert [call for call in host.system.calls if call in expected.values()] == ([expected[does]] if does else [])
    assert (IDS[0] in host.app.installed()) is (does != "remove" and state != "removed")


def test_a_warm_release_retires(host: Host) -> None:
    host.warm(IDS[0])
    host.add(IDS[1], units=True, current=True)
    retire.retire(host.app, IDS[1])
    assert host.system.calls == [], "it serves again"
    retire.retire(host.app, IDS[0])
    assert host.app.installed() == {IDS[1]} and host.releases == IDS[:2], "its folder stays"
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in host.system.calls
    assert host.system.matching("notes-retire") == [], "that is the unit that this runs in"


@pytest.mark.parametrize("known", ["not-found", "loaded"])
def test_systemd_reads_its_units_anew_where_it_still_knows_what_is_gone(host: Host, known: str) -> None:
    """It takes longer than all the rest of taking a release away."""
    host.warm(IDS[0])
    host.system.states[f"notes@{IDS[0]}.socket"] = {"LoadState": "not-found"}
    host.system.states[f"notes@{IDS[0]}.service"] = {"LoadState": known}
    retire.take_away(host.app, IDS[0])
    reloaded = [call == "systemctl daemon-reload" for call in host.system.calls]
    assert sum(reloaded) == (known == "loaded") == reloaded[-1], "after the files are gone"


# ── what doesn't end in its time ─────────────────────────────────────────────────────────────────────────────────


def test_a_release_that_does_not_stop_is_killed(host: Host) -> None:
    host.warm(IDS[0])
    host.system.printing["systemctl show"] = "TimeoutStopUSec=1min 5s"
    host.system.doing["systemctl kill"] = lambda line: host.system.slow.clear()
    host.system.slow.append("systemctl stop notes@")
    retire.take_away(host.app, IDS[0])
    units = f"notes@{IDS[0]}.service notes@{IDS[0]}.socket"
    stop, kill = f"systemctl stop {units}", f"systemctl kill --signal=SIGKILL {units}"
    assert host.system.done_to(units)[:4] == [stop, stop, kill, stop], "what systemd is about is joined"
    assert host.app.installed() == set()


def test_a_warm_release_that_does_not_restart_is_taken_away(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.app.wanted["keep_warm"] = 300
    host.warm(IDS[0])
    monkeypatch.setattr(retire, "drained", lambda *_, **__: None)
    monkeypatch.setattr(sockets, "connections", lambda path: 2)
    host.system.slow.append("systemctl restart")
    retire.drain(host.app, IDS[0])
    assert host.app.installed() == set()
    assert f"systemctl kill --signal=SIGKILL notes@{IDS[0]}.service" in host.system.calls


# ── whose end is late ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_release_whose_end_is_late_is_warm_as_long_as_it_is_to_come(host: Host, at: int) -> None:
    """Its timer, its drain, or what ends it and waits for a run: each is no drift."""
    host.warm(IDS[0], seconds=-5)
    host.add(IDS[1], units=True, current=True)
    host.enable(IDS[1])
    states = host.app.systemd.states(processes.units(host.app, IDS[1]), "ActiveState")
    assert host.app.warm() == set()
    assert status.faults(host.app, IDS[1], states) == [f"units of other releases are there: {IDS[0]}"]
    unit = host.at.ends(IDS[0])[at]
    assert unit == f"notes-{('retire', 'drain', 'retire')[at]}-{IDS[0]}.{('timer', 'service', 'service')[at]}"
    host.system.states[unit] = {"ActiveState": "activating" if at else "active"}
    assert host.app.warm() == {IDS[0]} and status.faults(host.app, IDS[1], states) == []


def test_systemd_is_not_asked_of_what_is_warm_in_its_time(host: Host) -> None:
    host.warm(IDS[0])
    assert host.app.warm() == {IDS[0]} and host.system.calls == []
