"""Healing: what `current` says stays, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_host.proxy import sockets
from slipway_host.release import heal, retire
from slipway_host.release.app import App
from slipway_host.release.processes import web

from tests.unit.host.running import IDS, SWITCH, Host, host_at, tree


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def answering(monkeypatch: pytest.MonkeyPatch, *, ready: bool = True) -> None:
    """Let every release answer so."""

    def probe(app: App, release: str) -> tuple[bool, str]:
        there = app.at.socket(release).exists()
        return ready and there, "200" if ready else "503"

    monkeypatch.setattr(web, "probe", probe)


def test_tidying_keeps_what_serves_what_did_and_the_newest(host: Host) -> None:
    for each in IDS:
        host.add(each)
    host.add("20260110T000000Z-failed0", "failed")
    host.add("20260111T000000Z-killed0", "started")
    host.add("20260112T000000Z-serving", units=True, current=True, previous=IDS[1])
    heal.tidy(host.app)
    # Three of the good ones, as keep says, and the one that served before, however old it is.
    assert host.releases == [IDS[1], IDS[7], IDS[8], "20260112T000000Z-serving"]
    assert sorted(path.stem for path in host.at.environments.iterdir()) == host.releases
    left = {path.stem for path in host.at.records.iterdir()}
    assert left >= {*IDS, "20260110T000000Z-failed0", "20260111T000000Z-killed0"}, "all of it is history"
    assert host.switched() == []


def test_tidying_keeps_what_serves_however_old_it_is(host: Host) -> None:
    for each in IDS[1:]:
        host.add(each)
    host.add(IDS[0], units=True, current=True)
    heal.tidy(host.app)
    assert host.releases == [IDS[0], *IDS[-3:]]
    assert host.app.installed() == {IDS[0]}


def test_the_newest_are_told_by_their_numbers(host: Host) -> None:
    """The host's clock was set back: the last ones have the oldest ids."""
    for number, each in enumerate(reversed(IDS[:6]), start=1):
        host.add(each, number=number)
    host.add(IDS[6], units=True, current=True, number=7)
    heal.tidy(host.app)
    assert host.releases == [*IDS[:2], IDS[6]]


def test_tidying_keeps_what_is_warm(host: Host) -> None:
    host.warm(IDS[0])
    for each in IDS[1:5]:
        host.add(each)
    host.add(IDS[5], units=True, current=True)
    heal.tidy(host.app)
    assert host.releases == [IDS[0], *IDS[3:6]]
    assert host.app.installed() == {IDS[0], IDS[5]}
    assert host.system.done_to(IDS[0]) == [], "it must not be touched"


@pytest.mark.parametrize("why", ["over", "stopped"])
def test_tidying_takes_away_what_is_warm_no_more(host: Host, why: str) -> None:
    """Its timer went with a reboot, or it crashed."""
    host.add(IDS[1], units=True, current=True)
    host.warm(IDS[0], seconds=-1 if why == "over" else 100)
    if why == "stopped":
        host.system.states[f"notes@{IDS[0]}.service"] = {"ActiveState": "inactive"}
    heal.tidy(host.app)
    assert host.app.installed() == {IDS[1]} and host.releases == IDS[:2]
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in host.system.calls
    assert host.system.matching("SIGKILL") == [], "it may have requests"
    assert list(host.layout.warm_units.iterdir()) == []


def test_tidying_leaves_what_is_about_to_be_ended(host: Host) -> None:
    """What ends it waits for this very run, say."""
    host.add(IDS[1], units=True, current=True)
    host.warm(IDS[0], seconds=-1, pending=True)
    heal.tidy(host.app)
    assert host.app.installed() == set(IDS[:2]) and host.system.done_to(f"notes@{IDS[0]}") == []


def test_tidying_takes_every_trace_of_an_unfinished_release_away(host: Host) -> None:
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], "started", units=True)
    host.answering(IDS[1])
    (host.at.releases / "20260109T000000Z-norecor").mkdir()  # killed before its record was written
    (host.at.environments / "20260108T000000Z-nofolde.env").write_text("SECRET=1")
    for path in (
        host.at.srv / ".current.partial",
        host.at.etc / ".release.json.partial",
        host.at.environments / f".{IDS[1]}.env.partial",
        host.at.records / f".{IDS[1]}.json.partial",
        host.layout.units / f".notes@{IDS[1]}.service.partial",
    ):
        path.write_text("half")
    heal.tidy(host.app)
    gone = (IDS[1], "partial", "norecor", "nofolde")
    left = [name for name in tree(host.root) if any(part in name for part in gone)]
    assert left == [f"var/lib/slipway/notes/{IDS[1]}.json"]
    assert host.app.installed() == {IDS[0]}
    for verb in ("disable --quiet --no-reload", "kill --signal=SIGKILL", "stop", "reset-failed"):
        assert [call for call in host.system.calls if f"systemctl {verb} notes@{IDS[1]}.s" in call], verb
    assert host.system.done_to(IDS[0]) == [], "what serves must not be touched"


def test_tidying_stops_what_outlived_its_run(host: Host) -> None:
    heal.tidy(host.app)
    assert host.system.matching("systemctl stop") == [] == host.system.matching("reset-failed"), "there is none"
    host.system.states["notes-check.service"] = {"ActiveState": "active"}
    host.system.states["notes-hook.service"] = {"ActiveState": "failed"}
    host.system.states["notes-migrate.service"] = {"ActiveState": "inactive", "Job": "start"}
    heal.tidy(host.app)
    left = "notes-check.service notes-hook.service notes-migrate.service"
    assert host.system.matching(left) == [f"systemctl stop {left}", f"systemctl reset-failed {left}"]


@pytest.mark.parametrize("named", [None, IDS[1]])
def test_tidying_brings_nginx_back_to_what_current_says(host: Host, named: str | None) -> None:
    """The upstream was lost, or names a release that doesn't run."""
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], "started", units=True)
    host.name(named)
    heal.tidy(host.app)
    calls = host.system.calls
    switched = calls.index(f"{SWITCH}{IDS[0]}")
    started = calls.index(f"systemctl start notes@{IDS[0]}.service")
    stopped = next(at for at, call in enumerate(calls) if call.startswith(f"systemctl stop notes@{IDS[1]}"))
    assert started < switched < stopped, "one that serves at every instant"
    assert host.app.serving() == IDS[0] and host.releases == [IDS[0]]
    killed = host.system.matching("SIGKILL")
    assert bool(killed) is (named is None), "one that nginx named may have requests"


def test_tidying_waits_for_the_requests_of_the_one_that_nginx_named(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[str, float]] = []

    def drained(app: App, each: str, until: float) -> None:
        waited.append((each, until - app.system.time()))
        assert f"{SWITCH}{IDS[0]}" in host.system.calls and not host.system.matching(f"stop notes@{IDS[1]}")

    host.app.wanted["drain_timeout"] = 30
    monkeypatch.setattr(retire, "drained", drained)
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], "started", units=True)
    host.name(IDS[1])
    heal.tidy(host.app, forward=False)
    assert waited == [(IDS[1], 30)]


def test_tidying_does_not_wait_for_what_the_clock_will_say(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was set back by a day since a release was let go, which a client still has a stream from."""
    host.app.wanted["drain_timeout"] = 30
    host.add(IDS[0], units=True, current=True)
    host.add(IDS[1], units=True, left=host.system.time() + 86_400)
    monkeypatch.setattr(sockets, "connections", lambda path: 1)
    began = host.system.time()
    heal.tidy(host.app)
    assert host.system.time() - began < 31 and host.app.installed() == {IDS[0]}


def named_by_nginx(host: Host, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    """Between switch and commit: nginx names a release that isn't the truth yet, and that answers."""
    if before:
        host.add(before, units=True, current=True)
    host.add(IDS[1], "started", units=True)
    host.answering(IDS[1])
    host.name(IDS[1])
    answering(monkeypatch)


@pytest.mark.parametrize("before", [None, IDS[0]])
def test_tidying_ends_what_was_killed_between_switch_and_commit(
    host: Host, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """nginx names a release only once it was proven: if it still answers, it is the one that serves."""
    named_by_nginx(host, monkeypatch, before)
    heal.tidy(host.app)
    assert host.app.serving() == IDS[1] and host.releases == [*([before] if before else []), IDS[1]]
    assert host.app.warm() == ({before} if before else set()), "it is let go as after any release"
    assert [path.name for path in host.layout.units.glob("*.service")] == [f"notes@{IDS[1]}.service"]
    record = host.app.record(IDS[1])
    assert (record["state"], record["previous"]) == ("good", before) and record["committed"]
    assert not (before and host.app.record(before).get("bad"))
    # Whether it was reloaded isn't known.
    assert host.switched() == [IDS[1]] and not host.system.matching(f"stop notes@{IDS[1]}")


def test_tidying_ends_a_rollback_that_was_killed_between_switch_and_commit(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was gone back from must not be released again by the next run."""
    host.add(IDS[0], units=True, previous="older", committed="2026-01-01T00:00:00Z")
    host.add(IDS[1], units=True, current=True, inputs=host.app.wanted["inputs"])
    host.answering(IDS[0])
    host.name(IDS[0])
    answering(monkeypatch)
    host.app.request = {}
    heal.tidy(host.app)
    assert host.app.serving() == IDS[0] and host.app.record(IDS[0])["previous"] == "older"
    bad: Any = host.app.record(IDS[1])["bad"]
    assert bad.pop("since") and bad == {"by": "a run that was killed", "why": f"rolled back to {IDS[0]}"}
    rolled_back = host.app.rolled_back()
    assert rolled_back and rolled_back["id"] == IDS[1]


def test_what_took_the_place_of_a_damaged_release_was_not_gone_back_to(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was stopped after nginx's switch: the damaged one may be released again by the next."""
    for each in IDS[:2]:
        host.add(each, units=True, current=True)
        host.answering(each)
    (host.at.venv(IDS[1]) / "bin/python").unlink()
    host.name(IDS[0])
    monkeypatch.setattr(web, "probe", lambda app, release: (release == IDS[0], "200"))
    heal.tidy(host.app)
    assert host.app.serving() == IDS[0] and not host.app.record(IDS[1]).get("bad")


def test_a_release_that_failed_after_the_switch_is_gone_back_from(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike one that was killed there, it answers and is not to serve."""
    named_by_nginx(host, monkeypatch, IDS[0])
    heal.tidy(host.app, forward=False)
    assert (host.app.serving(), host.app.proxied(), host.releases) == (IDS[0], IDS[0], [IDS[0]])
    assert host.system.matching("SIGKILL") == [], "it had requests"


def test_the_very_first_release_that_turned_bad_serves_no_more(host: Host) -> None:
    host.add(IDS[0], "started", units=True)
    host.name(IDS[0])
    heal.tidy(host.app, forward=False)
    assert host.switched() == ["none"] and host.releases == []
    host.system.calls.clear()
    heal.tidy(host.app)
    assert host.switched() == [], "once is enough"


@pytest.mark.parametrize("missing", ["socket", "folder", "answer"])
def test_a_release_that_nginx_names_but_that_does_not_answer_is_not_believed(
    host: Host, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    host.add(IDS[0], units=True, current=True)
    if missing != "folder":
        host.add(IDS[1], "started", units=True)
    if missing != "socket":
        host.answering(IDS[1])
    host.name(IDS[1])
    answering(monkeypatch, ready=missing != "answer")
    heal.tidy(host.app)
    assert (host.app.serving(), host.app.proxied()) == (IDS[0], IDS[0])


def test_a_release_whose_record_is_lost_is_settled_all_the_same(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between switch and commit, with half a record."""
    named_by_nginx(host, monkeypatch, IDS[0])
    host.at.record(IDS[1]).write_text("")
    heal.tidy(host.app)
    assert host.app.serving() == IDS[1] and not host.app.record(IDS[0]).get("bad")


def test_tidying_writes_down_what_a_killed_run_could_not(host: Host) -> None:
    host.add(IDS[0], "started", units=True, current=True)
    heal.tidy(host.app)
    assert host.app.record(IDS[0])["state"] == "good" and host.releases == [IDS[0]]


def test_tidying_leaves_a_number_of_records(host: Host) -> None:
    host.add("20240101T000000Z-aaaaaaa", units=True, current=True)  # the oldest of them all, and it serves
    for number in range(60):
        each = f"20250101T0000{number:02}Z-aaaaaaa"
        host.app.write_record(each, state="failed")
        host.at.log(each).write_text("said")
    heal.tidy(host.app)
    left = sorted(path.stem for path in host.at.records.glob("*.json"))
    assert left[:2] == ["20240101T000000Z-aaaaaaa", "20250101T000010Z-aaaaaaa"], "the oldest go"
    assert len(left) == heal.KEEP_RECORDS + 1
    assert sorted(path.stem for path in host.at.records.glob("*.log")) == left[1:]


def test_the_oldest_records_are_told_by_their_numbers(host: Host) -> None:
    """The host's clock was set back: what came last has the oldest ids. What can't be read goes first."""
    ids = [f"20250101T0000{number:02}Z-aaaaaaa" for number in range(52)]
    for each in reversed(ids):
        host.app.write_record(each, state="failed")
    host.at.record("20990101T000000Z-aaaaaaa").write_text("half {")
    heal.tidy(host.app)
    assert sorted(path.stem for path in host.at.records.glob("*.json")) == ids[: heal.KEEP_RECORDS]


def test_tidying_leaves_other_apps_alone(host: Host) -> None:
    host.app.wanted["source"]["commit"] = "new"
    others = [
        host.layout.units / "notes-two@r1.service",
        host.layout.units / "nginx.service",
        host.layout.sources / "notes-two.old.tar.gz",
        host.layout.sources / "notes.new.tar.gz",
    ]
    old = host.layout.sources / "notes.old.tar.gz"
    for path in (*others, old):
        path.write_text("")
    heal.tidy(host.app)
    assert [path for path in others if not path.exists()] == [] and not old.exists()


def test_the_source_of_a_run_that_waits_is_kept(host: Host) -> None:
    """It came with its request, before its turn."""
    for name, known in (("t1", {"verb": "release", "inputs": {"source": "next"}}), ("t2", {"inputs": None})):
        (host.at.runs / name).mkdir(parents=True)
        (host.at.runs / name / "about.json").write_text(json.dumps(known))
    for commit in ("c" * 40, "next", "old"):
        host.at.archive(commit).touch()
    heal.tidy(host.app)
    assert sorted(host.layout.sources.iterdir()) == [host.at.archive("c" * 40), host.at.archive("next")]


def test_what_a_killed_asker_was_storing_is_swept(host: Host) -> None:
    """A source half written to the cache, by a process that is gone; not that of one that is at it."""
    for process in (71, 72):
        (host.layout.sources / f".notes.{'c' * 40}.tar.gz.{process}.partial").touch()
    (host.layout.proc / "72").mkdir()
    heal.tidy(host.app)
    assert [path.name for path in host.layout.sources.iterdir()] == [f".notes.{'c' * 40}.tar.gz.72.partial"]
