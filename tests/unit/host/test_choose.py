"""Which release a rollback goes back to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from slipway_host.release import target

from tests.unit.host.running import IDS, Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.fixture
def many(host: Host) -> Host:
    """A host with a history; the fifth release serves."""
    for each in (IDS[0], IDS[1], IDS[3]):
        host.add(each)
    host.add(IDS[2], "failed")
    host.add(IDS[4], units=True, current=True, previous=IDS[3])
    host.add(IDS[5])
    host.app.write_record(IDS[6], kind="release", state="good")
    host.app.write_record(IDS[7], kind="rollback", state="good")
    return host


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, 3),
        (IDS[0], 0),
        ("20260102", 1),
        ("aaaaaa2", 1),
        (IDS[5], 5),  # forward again
    ],
)
def test_the_release_to_go_back_to(many: Host, named: str | None, found: int) -> None:
    assert target.choose(many.app, IDS[4], named) == IDS[found]


GOABLE = ", ".join((IDS[0], IDS[1], IDS[3], IDS[4], IDS[5]))
AGAIN = f"Releases that can serve again: {GOABLE}."


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (IDS[2], f"{IDS[2]} never went live. Nearest: {{}}. {AGAIN}"),
        (
            IDS[6],
            f"{IDS[6]} isn't on this host any more (keep_releases). Nearest: {{}}. {AGAIN}",
        ),
        (
            "20260105T000000Z-bbbbbbb",
            f"There is no release 20260105T000000Z-bbbbbbb. Nearest: {IDS[4]}. {AGAIN}",
        ),
        ("zzz", f"There is no release zzz. Nearest: {IDS[5]}. {AGAIN}"),
        (IDS[7], f"There is no release {IDS[7]}. Nearest: {{}}. {AGAIN}"),
        ("2026010", f"2026010 is the beginning of {GOABLE}: name one of them."),
        ("aaaaaa", f"aaaaaa is the beginning of {GOABLE}: name one of them."),
    ],
)
def test_a_release_that_one_cannot_go_back_to(many: Host, named: str, message: str) -> None:
    told = failure(target.choose, many.app, IDS[4], named)
    nearest = told.partition("Nearest: ")[2].partition(".")[0]
    assert told == message.format(nearest) and (not nearest or nearest in GOABLE)


def test_an_ambiguous_name_lists_the_newest(host: Host) -> None:
    ids = [f"20261121T23000{second}Z-aaaaaa{second}" for second in range(7)]
    for each in ids:
        host.add(each, current=each == ids[-1])
    listed = f"{', '.join(ids[2:])} and 2 older ones: name one of them."
    for named in ("20261121T23", "2026112123"):  # with and without the T
        told = failure(target.choose, host.app, ids[-1], named)
        assert told == f"{named} is the beginning of {listed}"
        assert target.target(host.app, named) == {"release": None, "error": told}
    assert target.target(host.app, "20261121230003") == {"release": ids[3], "error": None}


def test_a_commit_is_named_by_its_beginning(host: Host) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    host.add(IDS[0], commit=commit)
    host.add(IDS[1], commit="f" * 40, current=True)
    for named in ("0123", commit[:7], commit[:12], commit):
        assert target.choose(host.app, IDS[1], named) == IDS[0]
    other = commit[:20] + "f" * 20
    assert failure(target.choose, host.app, IDS[1], other).startswith(f"There is no release {other}")


def test_a_commit_that_was_released_several_times(host: Host) -> None:
    """The newest that isn't bad: it differs in its environment alone."""
    for each in IDS[:3]:
        host.add(each, commit="abcdef0" * 5)
    host.add(IDS[3], commit="f" * 40, current=True)
    assert target.choose(host.app, IDS[3], "abcdef0") == IDS[2]
    host.app.write_record(IDS[2], bad={"by": "bob"})
    assert target.choose(host.app, IDS[3], "abcdef0") == IDS[1]
    for each in IDS[:2]:
        host.app.write_record(each, bad={"by": "bob"})
    assert target.choose(host.app, IDS[3], "abcdef0") == IDS[2], "it was named, after all"


def test_a_bad_release_is_skipped(many: Host) -> None:
    many.app.write_record(IDS[3], bad={"by": "bob"})
    assert target.choose(many.app, IDS[4], None) == IDS[1]
    assert target.choose(many.app, IDS[4], IDS[3]) == IDS[3], "unless it is named"


@pytest.mark.parametrize("lost", ["environment", "wanted", "folder"])
def test_a_release_that_is_not_whole_is_skipped(many: Host, lost: str) -> None:
    if lost == "environment":
        many.at.env(IDS[3]).unlink()
    elif lost == "wanted":
        many.app.write_record(IDS[3], wanted=None)  # of an older Slipway
    else:
        shutil.rmtree(many.at.folder(IDS[3]))
    assert target.choose(many.app, IDS[4], None) == IDS[1]


def test_nothing_to_go_back_to(host: Host) -> None:
    assert failure(target.choose, host.app, None, None) == ("No release serves yet, so there is nothing to roll back.")
    host.add(IDS[2], current=True)
    message = f"There is no good release before {IDS[2]} on this host."
    assert failure(target.choose, host.app, IDS[2], None) == message
    host.add(IDS[0], bad={"by": "bob"})
    host.add(IDS[1], bad={"by": "bob"})
    host.add(IDS[3])  # newer than the one that serves: not to be gone back to unless named
    assert failure(target.choose, host.app, IDS[2], None) == (
        f"{message} Marked as bad, and used only if named: {IDS[0]}, {IDS[1]}."
    )


def test_a_name_where_no_release_is_whole(host: Host) -> None:
    """All are of an older Slipway, say."""
    host.add(IDS[0], current=True, wanted=None)
    assert failure(target.choose, host.app, IDS[0], "x") == (
        "There is no release x, and no release on this host can serve again: release anew."
    )


def test_what_was_before_is_told_by_numbers(host: Host) -> None:
    """The host's clock was set back between any two: the newest has the oldest id."""
    for number, each in enumerate(reversed(IDS[:3]), start=1):
        host.add(each, number=number, current=number == 3)
    assert target.choose(host.app, IDS[0], None) == IDS[1]


def test_of_records_without_a_number_the_ids_tell(host: Host) -> None:
    """No run has taken this host over yet: all of them are older than any that has a number."""
    for each in IDS[:3]:
        host.add(each)
        path = host.at.record(each)
        record = host.system.json(path)
        del record["number"], record["format"]
        host.system.replace(path, json.dumps(record))
    host.add("20250101T000000Z-bbbbbbb", number=1, current=True)
    assert target.choose(host.app, "20250101T000000Z-bbbbbbb", None) == IDS[2]
