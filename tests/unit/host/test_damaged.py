"""A release that a power cut has damaged: the last whole one serves until it is made anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from slipway_host.release import database, heal, manifest, proof, rollback, start, status, target, transaction
from slipway_host.release.app import App
from slipway_host.release.processes import web
from slipway_host.system import Interrupted

from tests.unit.host.running import IDS, Host, Story, failure, host_at, story_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with two releases with a file each; the newer one is what is wanted, and serves."""
    host = host_at(tmp_path, monkeypatch)
    for each in IDS[:2]:
        host.add(each, previous=IDS[0])
        (host.at.folder(each) / "main.py").write_text("app = 1\n")
        host.app.describe(each)
    host.install(IDS[1])
    host.app.write_record(IDS[1], inputs=host.app.wanted["inputs"], previous=IDS[0])
    host.system.link(host.at.current, f"releases/{IDS[1]}")
    host.name(IDS[1])
    return host


@pytest.fixture(autouse=True)
def story(host: Host, monkeypatch: pytest.MonkeyPatch) -> Story:
    return story_at(host, monkeypatch)


def after_a_power_cut(host: Host) -> None:
    """Nothing is known any more of what was found right, and the app's file of the release that serves is empty."""
    shutil.rmtree(host.at.seen, ignore_errors=True)
    (host.at.folder(IDS[1]) / "main.py").write_text("")


def answers(monkeypatch: pytest.MonkeyPatch, *ready: str) -> None:
    """Which releases answer that they are ready; None of them: all but the damaged one."""
    monkeypatch.setattr(web, "probe", lambda app, each: (each in ready if ready else each != IDS[1], "200"))


@pytest.mark.parametrize("alive", [False, True])
def test_a_release_that_a_power_cut_has_damaged_is_made_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """The last whole one serves until then, unless the damaged one still answers."""
    after_a_power_cut(host)
    assert status.status(host.app)["faults"][0].endswith(f"{IDS[1]} is damaged: main.py is empty")
    assert status.releases(host.app)[0]["outcome"] == "good, damaged"
    monkeypatch.setattr(web, "probe", lambda app, each: (alive or each != IDS[1], "200"))
    host.answering(IDS[1])
    transaction.release(host.app)
    assert host.said[0] == f"notes: {IDS[1]} is damaged: main.py is empty"
    assert (IDS[0] in host.switched()) != alive
    assert (f"notes: {IDS[0]} serves instead" in host.said) != alive
    assert host.newest["id"] == host.app.serving() not in IDS[:2]
    assert not host.app.record(IDS[1]).get("bad"), "nobody went back from it: the same is released again"


def test_a_damaged_release_that_cannot_be_made_anew_leaves_the_last_whole_one(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_power_cut(host)
    answers(monkeypatch)
    story.fails = "fetch"
    assert f"\n{IDS[0]} keeps serving." in failure(transaction.release, host.app)
    assert host.app.serving() == host.app.proxied() == IDS[0]


def test_a_damaged_release_is_not_said_to_serve(host: Host, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(host.at.folder(IDS[0]))
    after_a_power_cut(host)
    answers(monkeypatch, "none")
    story.fails = "fetch"
    told = failure(transaction.release, host.app)
    assert f"{IDS[1]} should serve, but is damaged and doesn't answer." in told and "keeps serving" not in told


def test_a_rollback_from_a_damaged_release_ends_with_the_last_whole_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_power_cut(host)
    answers(monkeypatch)
    rollback.rollback(host.app)
    assert host.app.serving() == host.app.proxied() == IDS[0]


def test_a_release_is_read_once_a_boot(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when a file of it changes, or what it is compared with."""
    read: list[str] = []
    compare = manifest.compare

    def counted(folder: Path, wanted: manifest.Manifest) -> dict[str, str]:
        read.append(folder.name)
        return compare(folder, wanted)

    monkeypatch.setattr(manifest, "compare", counted)
    shutil.rmtree(host.at.seen)
    assert [host.app.damage(IDS[1]) for _ in range(3)] == [{}, {}, {}] and read == [IDS[1]]
    os.utime(host.at.folder(IDS[1]) / "main.py", ns=(5, 5))
    assert [host.app.damage(IDS[1]) for _ in range(3)] == [{}, {}, {}] and read == [IDS[1]] * 2
    os.utime(host.at.manifest(IDS[1]), ns=(5, 5))
    assert [host.app.damage(IDS[1]) for _ in range(3)] == [{}, {}, {}] and read == [IDS[1]] * 3
    for left in (b"", b"0" * 64, b"\xff\0x"):  # of an earlier Slipway, or of a hand's
        host.app.seen(IDS[1]).write_bytes(left)
        assert host.app.damage(IDS[1]) == {}
    assert read == [IDS[1]] * 6
    host.at.manifest(IDS[1]).write_text("{}")
    assert [*host.app.damage(IDS[1]).values()] == ["is damaged"]
    host.at.manifest(IDS[1]).unlink()
    assert [*host.app.damage(IDS[1]).values()] == ["is damaged"]


def test_a_damaged_release_that_does_not_serve_stays_to_be_seen(host: Host) -> None:
    """Nobody goes back to it, nor builds on it; it goes when its time has come, as others do."""
    (host.at.folder(IDS[0]) / "main.py").unlink()
    told = failure(target.choose, host.app, IDS[1], None)
    assert told == f"There is no good release before {IDS[1]} on this host. Damaged: {IDS[0]}."
    shutil.rmtree(host.at.seen)
    heal.heal(host.app)
    assert host.releases == IDS[:2]
    assert [row["outcome"] for row in status.releases(host.app)] == ["good", "good, damaged"]


@pytest.mark.parametrize("why", ["went back from", "its revision"])
def test_what_takes_the_place_of_a_damaged_release_is_what_one_would_choose(
    host: Host, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    after_a_power_cut(host)
    answers(monkeypatch)
    if why == "went back from":
        host.app.write_record(IDS[0], bad={"since": "2026-01-01T00:00:00Z", "by": "ann", "why": "slow"})
    else:
        monkeypatch.setattr(database, "look", lambda app, each: {"pending": [], "unknown": ["r9"]})
    assert heal.replace_damaged(host.app) is None
    assert host.said[-1] == "notes: no other release can replace it" and host.app.serving() == IDS[1]
    other = f"{IDS[0]} can't replace it: the database isn't at its revision"
    assert (other in host.told()) == (why == "its revision")


def test_one_that_does_not_come_up_in_the_place_of_a_damaged_release_is_stopped_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_power_cut(host)
    answers(monkeypatch, "none")
    monkeypatch.setattr(heal, "bring_back", lambda app, each: False)
    assert heal.replace_damaged(host.app) is None
    assert host.system.matching(f"systemctl stop notes@{IDS[0]}.service")


def test_one_bad_answer_of_a_damaged_release_is_no_reason_to_replace_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_power_cut(host)
    host.answering(IDS[1])
    given = iter([(False, "503"), (True, "200")])
    monkeypatch.setattr(web, "probe", lambda app, each: next(given))
    assert heal.replace_damaged(host.app) is None and host.app.serving() == IDS[1]


def test_a_damaged_release_that_was_gone_back_to_says_the_ways_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, *IDS)
    host.app.write_record(IDS[1], inputs={"source": "other"})
    host.add(IDS[2], inputs=host.app.wanted["inputs"], bad={"since": "now", "by": "ann", "why": "slow"})
    host.answering(IDS[1])
    (host.at.folder(IDS[1]) / "main.py").write_text("")
    told = failure(transaction.release, host.app)
    assert told.startswith(f"{IDS[1]} is damaged: main.py is empty. {IDS[2]} was made from exactly this")
    assert told.endswith("Roll back to another release (--to), or release it again (--again).")


def test_a_broken_release_of_an_earlier_slipway_is_not_taken_for_whole(host: Host) -> None:
    for each in IDS[:2]:
        host.app.write_record(each, manifest=None)
    (host.at.venv(IDS[0]) / "bin/python").unlink()
    heal.heal(host.app)
    assert not host.app.record(IDS[0]).get("manifest") and host.app.record(IDS[1])["manifest"]


@pytest.mark.parametrize("spoil", ["gone", "cut off"])
def test_a_release_without_its_manifest_is_not_trusted(host: Host, spoil: str) -> None:
    path = host.at.manifest(IDS[1])
    path.unlink() if spoil == "gone" else path.write_text(path.read_text()[:9])
    shutil.rmtree(host.at.seen)
    assert host.app.damage(IDS[1]) == {str(path): "is damaged"}


def test_a_release_of_an_earlier_slipway_is_described(host: Host) -> None:
    host.app.write_record(IDS[0], manifest=None)
    host.at.manifest(IDS[0]).unlink()
    heal.heal(host.app)
    assert host.at.manifest(IDS[0]).exists() and host.app.damage(IDS[0]) == {}


# ── a run that is told to stop while it heals ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", [transaction.release, rollback.rollback])
@pytest.mark.parametrize("at", ["start", "prove"])
def test_a_run_that_is_told_to_stop_makes_no_release_after_all(
    host: Host, story: Story, monkeypatch: pytest.MonkeyPatch, verb: object, at: str
) -> None:
    """It isn't taken for a release that can't be brought back, and another one made."""

    def stopped(app: App, release: str) -> None:
        raise Interrupted("told to stop.")

    host.app.request["to"] = IDS[1]
    monkeypatch.setattr(*((start, "launch") if at == "start" else (proof, "prove")), stopped)
    with pytest.raises(Interrupted):
        verb(host.app)  # type: ignore[operator]
    assert story.steps == [] and host.app.record_id is None and host.releases == IDS[:2]


def test_what_a_run_began_that_is_told_to_stop_is_taken_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release was about to serve in the place of a damaged one."""

    def stopped(app: App, release: str) -> None:
        raise Interrupted("told to stop.")

    after_a_power_cut(host)
    answers(monkeypatch)
    monkeypatch.setattr(proof, "prove", stopped)
    with pytest.raises(Interrupted):
        transaction.release(host.app)
    assert host.app.installed() == set(IDS[:2])
    assert heal.take_back(host.app) == ""
    assert host.app.installed() == {IDS[1]} and host.app.serving() == IDS[1]
    assert f"systemctl stop notes@{IDS[0]}.service notes@{IDS[0]}.socket" in host.system.calls
