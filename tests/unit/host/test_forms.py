"""Records and release.json that another Slipway, or somebody's hand, has written: nothing of them ends in a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_host.cli import drain
from slipway_host.cli.facts import facts
from slipway_host.protocol import PROTOCOL
from slipway_host.release import forms, retire, status, target, transaction, work

from tests.unit.host.running import IDS, Host, went_back

ODD: dict[str, Any] = {"missing": ..., "null": None, "text": "x", "number": 7, "list": [1], "object": {"x": 1}}
FACTS = (
    *("format", "id", "number", "kind", "app", "state", "started", "finished", "committed", "switched", "by", "to"),
    *("commit", "subject", "inputs", "wanted", "environment", "manifest", "steps", "took", "step", "error", "previous"),
    *("bad", "left", "warm_until", "stopped_first", "heads", "pending", "revisions", "hook"),
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a release that serves, and a warm one that somebody went back from."""
    host = went_back(tmp_path, monkeypatch)
    host.app.write_record(IDS[1], steps={"fetch": 1.5}, revisions={"before": ["r1"]})
    monkeypatch.setattr(host.app.progress, "beat", lambda: None)  # no sign of life
    return host


def change(path: Path, fact: str, odd: str) -> None:
    """Give a fact of a file another value, or take it out."""
    known = json.loads(path.read_text())
    known.pop(fact, None)
    path.write_text(json.dumps(known if odd == "missing" else known | {fact: ODD[odd]}))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("release", IDS[:2])
def test_whatever_a_record_says_questions_are_answered(host: Host, release: str, odd: str) -> None:
    path = host.at.record(release)
    kept = path.read_text()
    for fact in FACTS:
        change(path, fact, odd)
        host.app.history()
        assert status.table(host.app).startswith("RELEASE"), fact
        told = facts(host.system, {"apps": ["notes"], "targets": {"notes": release}})
        assert "faults" in told["apps"]["notes"], (fact, told["apps"]["notes"])
        error = str(told["targets"]["notes"]["error"])
        assert not [each for each in ("KeyError", "TypeError", "AttributeError") if each in error], (fact, error)
        for named in (None, "aaaaaa", release):
            target.target(host.app, named)
        path.write_text(kept)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("fact", FACTS)
def test_whatever_a_record_says_a_release_ends_well(host: Host, fact: str, odd: str) -> None:
    for each in IDS[:2]:
        change(host.at.record(each), fact, odd)
    transaction.release(host.app)
    serving = host.app.serving()
    assert serving not in (None, *IDS) and host.app.history()[-1]["id"] == serving


def test_what_is_as_it_should_be_stays() -> None:
    whole = {
        "number": 3,
        "state": "good",
        "took": 1.5,
        "bad": None,
        "wanted": {"source": {"subdir": ""}, "readiness": {"path": "/"}},
        "revisions": {"before": [], "after": ["r1"]},
        "added later": [1],
    }
    assert forms.record(whole) == whole
    assert forms.record({"number": "3", "took": True, "wanted": {}}) == {"took": True}
    left = {"since": "unknown", "by": "ann", "why": "unknown"}
    assert forms.record({"bad": {"by": "ann"}}) == {"bad": left}, "it stays a bad one"
    assert forms.record({"bad": "x"}) == {"bad": left | {"by": "somebody"}}


# ── release.json ─────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(host: Host, verb: str) -> str:
    """How a run ends that is asked for on the host itself."""
    folder = host.at.runs / "t1"
    folder.mkdir(parents=True)
    request = {"protocol": PROTOCOL, "verb": verb, "by": "ann@desk", "wait": 0, "to": None}
    (folder / "request.json").write_text(json.dumps(request))
    host.app.wanted = {}
    told: list[Any] = []
    host.app.progress.write = told.append
    assert work.work(host.app, "t1") == 1
    return str(told[-1]["error"])


@pytest.mark.parametrize("odd", ["missing", "null", "text"])
@pytest.mark.parametrize("verb", ["release", "rollback"])
@pytest.mark.parametrize("fact", ["source", "migration", "hooks", "units", "sandbox", "keep_warm", "inputs"])
def test_what_is_wanted_says_too_little(host: Host, verb: str, fact: str, odd: str) -> None:
    change(host.at.wanted, fact, odd)
    assert asked(host, verb) == (
        f"{host.at.wanted} was written by another Slipway, or by hand: it lacks {fact}, which a {verb} needs. "
        "`slipway apply` writes it anew."
    )


def test_a_rollback_needs_nothing_that_builds() -> None:
    """What an earlier Slipway wrote will do for it."""
    names = ("source", "migration", "hooks", "readiness", "units", "inputs")
    times = ("watch", "drain_timeout", "graceful_timeout", "keep_warm", "keep")
    wanted = {**{name: {} for name in names}, **dict.fromkeys(times, 1), "sandbox": []}
    assert forms.lacking(wanted, "rollback") == []
    assert forms.lacking(wanted, "release") == ["app", "python", "uv_env", "build"]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"keep_warm": "x"}'])
def test_a_release_ends_whatever_is_wanted_now(host: Host, text: str | None) -> None:
    """By what was wanted when it was made; without that, at once."""
    host.app.write_record(IDS[1], wanted={**host.app.wanted, "drain_timeout": 7})
    host.at.wanted.write_text(text) if text is not None else host.at.wanted.unlink()
    assert retire.goes_by(host.app, IDS[1])["drain_timeout"] == 7
    assert retire.goes_by(host.app, "nobody") == {"drain_timeout": 0, "keep_warm": 0}


def test_a_drain_goes_by_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.at.wanted.unlink()
    host.app.write_record(IDS[1], wanted={**host.app.wanted, "keep_warm": 0})
    drain._does(host.system, type("Given", (), {"app": "notes", "release": IDS[1], "json": True})())
    assert host.app.installed() == {IDS[0]}
