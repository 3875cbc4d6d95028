"""What serves, the history of it, and what an attempt said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import status

from tests.unit.host.running import IDS, Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("nothing", None),
        ("notes@r1.socket inactive", "notes@r1.socket isn't running"),
        ("notes@r1.service failed", "notes@r1.service isn't running"),
        ("notes@r1.service reloading", None),
        ("enabled", "notes@r1.service isn't enabled"),
        ("masked", "notes@r1.socket isn't enabled"),
        ("proxied", "nginx's upstream names r0"),
        ("unproxied", "nginx's upstream names no release"),
        ("units", "units of other releases are there: r2, r3"),
        ("warm", None),
        ("folder", "unfinished releases are there: r2"),
        ("python", "{releases}/r1 is damaged: .venv/bin/python is no longer executable"),
        ("wanted", "{etc}/release.json is missing"),
    ],
)
def test_what_is_wrong_with_the_release_that_serves(host: Host, spoil: str, fault: str | None) -> None:
    host.add("r1", units=True, current=True)
    host.enable("r1")
    unit, _, state = spoil.partition(" ")
    if state:
        host.system.states[unit] = {"ActiveState": state}
    if spoil == "enabled":
        (host.layout.units / "multi-user.target.wants/notes@r1.service").unlink()
    if spoil == "masked":
        (host.layout.units / "notes@r1.socket").unlink()
        (host.layout.units / "notes@r1.socket").symlink_to("/dev/null")
    host.name({"proxied": "r0", "unproxied": None}.get(spoil, "r1"))
    if spoil == "units":
        for name in ("notes@r3.service", "notes@r2.socket"):
            (host.layout.units / name).write_text("")
    if spoil == "warm":
        host.warm("r2")
    if spoil == "folder":
        host.add("r2", "started")
    if spoil == "python":
        (host.at.venv("r1") / "bin/python").chmod(0o644)
    if spoil == "wanted":
        host.at.wanted.unlink()
    expected = fault.format(releases=host.at.releases, etc=host.at.etc) if fault else None
    assert status.status(host.app)["faults"] == ([expected] if expected else [])


def test_the_status_of_an_app(host: Host) -> None:
    host.system.states["notes-release.service"] = {"ActiveState": "inactive", "Description": ""}
    none: Any = status.status(host.app)
    assert none == {
        "release": None,
        "commit": None,
        "inputs": {},
        "faults": ["no release serves yet"],
        "steps": {},
        "warm": [],
        "rolled_back": [],
        "run": None,
        "jobs": {},
        "wanted": host.app.wanted,
    }
    bad = {"since": "2026-01-01T00:00:00Z", "by": "bob@desk", "why": "slow"}
    host.add(IDS[0], units=True, current=True, steps={"fetch": 1.5})
    host.enable(IDS[0])
    host.warm(IDS[1])
    host.app.write_record(IDS[1], bad=bad)
    found = status.status(host.app)
    assert (found["release"], found["commit"], found["faults"]) == (IDS[0], IDS[0][-7:], [])
    assert found["inputs"] == {"source": IDS[0], "folder": ""} and found["steps"] == {"fetch": 1.5}
    assert found["warm"] == [IDS[1]]
    assert [{**each} for each in found["rolled_back"]] == [
        {"id": IDS[1], "inputs": {"source": IDS[1], "folder": ""}, **bad}
    ]
    assert json.dumps(found), "it is printed as JSON"
    host.add(IDS[2], inputs=host.app.record(IDS[1])["inputs"])
    assert status.status(host.app)["rolled_back"] == [], "the same was released again, and is good"
    host.system.calls.clear()
    status.status(host.app)
    assert len(host.system.calls) == 1, "one question, however much of it there is to know"


def test_the_run_that_is_under_way_is_told(host: Host) -> None:
    known = {"protocol": 1, "verb": "release", "inputs": None, "to": None, "by": "bob", "since": "noon"}
    folder = host.at.runs / "t1"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps(known))
    host.system.states["notes-release.service"] = {"ActiveState": "active", "Description": "a run t1"}
    told = status.status(host.app)
    assert told["run"] == known
    assert status.summary(host.app, told) == (
        "notes: No release serves yet.\nnotes: Under way: release by bob since noon."
    )


def test_a_status_for_a_person(host: Host) -> None:
    host.add(IDS[0], units=True, current=True, commit="0123456789abcdef")
    host.enable(IDS[0])
    host.warm(IDS[1])
    host.system.states[f"notes@{IDS[0]}.socket"] = {"ActiveState": "failed"}
    assert status.summary(host.app, status.status(host.app)) == (
        f"notes: {IDS[0]} serves (commit 0123456789ab).\nnotes: Wrong: notes@{IDS[0]}.socket isn't running.\n"
        f"notes: Warm: {IDS[1]}."
    )


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-7_200, "0 s"),  # the clock was set back
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "60 min"),
        (3_600, "1 h"),
        (86_399, "24 h"),
        (86_400, "1 d"),
        (864_000, "10 d"),
    ],
)
def test_an_age(host: Host, seconds: float, words: str) -> None:
    stamp = host.system.stamp()
    host.system.at += seconds
    assert status.age(host.app, stamp) == words


def write_history(host: Host) -> None:
    """A release of each kind that there is."""
    stamp = host.system.stamp()
    common: dict[str, Any] = {"by": "ann@desk", "started": stamp, "commit": "a" * 40}
    bad = {"since": stamp, "by": "bob", "why": f"went rollback to {IDS[2]}"}
    steps = {"fetch": 1.25, "build": 2.5}
    host.add(IDS[0], **common, subject="pruned since", revisions={"before": [], "after": ["r1"]}, steps=steps)
    shutil.rmtree(host.at.folder(IDS[0]))
    host.app.write_record(IDS[1], kind="release", state="failed", step="check", revisions={"before": ["r1"]}, **common)
    host.add(
        IDS[2],
        current=True,
        **common,
        subject="Good",
        revisions={"before": ["r1"], "after": ["r1"]},
        steps=steps,
    )
    host.warm(IDS[3])
    host.app.write_record(IDS[3], **common, subject="w" * 80, bad=bad, revisions={"before": ["r1"], "after": ["r2"]})
    host.app.write_record(IDS[4], kind="rollback", state="good", to=IDS[2], **common)
    host.at.log(IDS[2]).write_text("said\n")
    sizes = [f"{size}\t{host.at.folder(each)}" for each, size in ((IDS[2], 120), (IDS[3], 4))]
    host.system.printing["du -sm"] = "\n".join(sizes) + "\n"


def test_the_history(host: Host) -> None:
    write_history(host)
    rows = status.releases(host.app)
    assert [row["id"] for row in rows] == IDS[4::-1], "the newest first"
    assert host.system.matching("du") == [f"du -sm {host.at.folder(IDS[2])} {host.at.folder(IDS[3])}"]
    told = [(row["outcome"], row["now"], row["schema"], row["size_mb"], row["seconds"], row["what"]) for row in rows]
    assert told == [
        ("good", "", "", None, 0, f"rollback to {IDS[2]}"),
        ("bad", "warm", "r1 -> r2", 4, 0, "w" * 80),
        ("good", "serves", "r1", 120, 3.8, "Good"),
        ("failed at check", "", "r1", None, 0, ""),
        ("good, removed", "", "none -> r1", None, 3.8, "pruned since"),
    ]
    assert rows[2]["log"] == str(host.at.log(IDS[2])) and rows[1]["log"] is None
    assert rows[2]["steps"] == {"fetch": 1.25, "build": 2.5} and rows[2]["commit"] == "a" * 12
    assert json.dumps(rows)


def test_a_hook_that_failed_is_part_of_the_outcome(host: Host) -> None:
    host.add(IDS[0], hook="after_switch failed")
    assert status.releases(host.app)[0]["outcome"] == "good, after_switch failed"


def test_the_history_is_in_the_order_of_numbers(host: Host) -> None:
    """The host's clock was set back; and records without a number are older than all that have one."""
    host.add(IDS[0], number=3)
    host.add(IDS[1], number=2)
    host.at.record(IDS[8]).write_text(json.dumps({"id": IDS[8]}))
    host.at.record(IDS[7]).write_text(json.dumps({"id": IDS[7]}))
    assert [row["id"] for row in status.releases(host.app)] == [IDS[0], IDS[1], IDS[8], IDS[7]]


def test_the_history_for_a_person(host: Host) -> None:
    write_history(host)
    head, *lines = status.table(host.app).splitlines()
    assert head.split() == ["RELEASE", "NOW", "OUTCOME", "AGE", "TOOK", "BY", "SCHEMA", "SIZE", "WHAT"]
    assert len(lines) == 5 and all(line == line.rstrip() for line in lines)
    at = head.index("WHAT")
    assert [line[at:] for line in lines] == [f"rollback to {IDS[2]}", "w" * 50, "Good", "", "pruned since"]
    assert f"{IDS[2]}  serves  good " in lines[2] and "3.8 s  ann@desk  r1 " in lines[2] and "120 MB" in lines[2]


def test_no_row_of_the_history_can_forge_another(host: Host) -> None:
    host.add(IDS[0], subject="good\nFORGED\r\u2028row\x1b[1A", by="ann\n20990101T000000Z-forged  serves  good")
    _, *lines = status.table(host.app).splitlines()
    (line,) = lines
    assert "ann\\x0a20990101" in line and line.endswith("good\\x0aFORGED\\x0d\\u2028row\\x1b[1A")


def test_no_history_yet(host: Host) -> None:
    assert status.table(host.app).splitlines()[1:] == ["no release yet"]
    assert host.system.calls == []


# ── what an attempt said ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_an_attempt_said(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for each in IDS[:2]:
        host.at.log(each).write_text(f"{each} said\n")
    for named, found in (("", IDS[1]), (IDS[0], IDS[0]), ("20260101", IDS[0])):
        status.log(host.app, named)
        assert capsys.readouterr().out == f"{found} said\n"
    assert failure(status.log, host.app, "2025") == f"There is no log of 2025; there are: {IDS[0]}, {IDS[1]}."


def test_the_newest_log_is_told_by_numbers(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for number, each in enumerate(reversed(IDS[:2])):
        host.add(each, number=number)
        host.at.log(each).write_text(f"{each} said\n")
    status.log(host.app)
    assert capsys.readouterr().out == f"{IDS[0]} said\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_is_read_by_people_and_by_programs(host: Host, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    step = {"event": "step", "app": "notes", "step": "fetch", "number": 1, "of": 9, "seconds": 1.25, "note": None}
    good = {"event": "ended", "app": "notes", "code": 0, "release": None, "error": None}
    lines = [json.dumps(step), "", "Traceback (most recent call last):", json.dumps(good)]
    host.at.log(IDS[0]).write_text("\n".join(lines) + "\n")
    status.log(host.app, as_json=as_json)
    shown = "notes: 1/9 fetch 1.2 s\n\nTraceback (most recent call last):\n"
    assert capsys.readouterr().out == ("\n".join(lines) + "\n" if as_json else shown)
