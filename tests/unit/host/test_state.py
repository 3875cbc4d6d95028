"""The forms of what a host keeps: an older one is taken over, a newer one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slipway_host import VERSION
from slipway_host.release import state

from tests.unit.host.running import IDS, Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def old_record(host: Host, record_id: str, **facts: Any) -> None:
    """A record of an earlier Slipway."""
    host.at.record(record_id).write_text(json.dumps({"id": record_id, "state": "good", **facts}))


def numbers(host: Host) -> dict[str, Any]:
    """Id → number, in their order."""
    return {record["id"]: record.get("number") for record in host.app.history()}


def test_a_host_without_a_form_is_of_the_first_one(host: Host) -> None:
    assert state.known(host.system)[0] == 1
    state.require(host.system)


def test_a_newer_host_is_refused(host: Host) -> None:
    host.layout.format.write_text('{"format": 3, "slipway": "9.9.9"}')
    message = (
        f"This host has the format of Slipway 9.9.9 (format 3). This is Slipway {VERSION}, which knows formats "
        "up to 2: upgrade it to 9.9.9 or newer."
    )
    assert failure(state.require, host.system) == message
    old_record(host, IDS[0])
    assert failure(state.take_over, host.app) == message
    assert numbers(host) == {IDS[0]: None}, "nothing was changed"


def test_records_get_numbers_in_the_order_of_their_ids(host: Host) -> None:
    for each in (IDS[2], IDS[0], IDS[1]):
        old_record(host, each, commit=each[-1])
    state.take_over(host.app)
    assert numbers(host) == {IDS[0]: 1, IDS[1]: 2, IDS[2]: 3}
    assert [record["format"] for record in host.app.history()] == [2, 2, 2]
    assert host.app.record(IDS[1])["commit"] == "2", "all else stays"
    wanted = json.loads(host.at.wanted.read_text())
    assert wanted["format"] == 2 and wanted["app"] == "notes.main:app"
    assert json.loads(host.layout.format.read_text()) == {"format": 2, "slipway": VERSION}
    host.app.write_record("20250101T000000Z-newest", state="good")
    assert list(numbers(host).values()) == [1, 2, 3, 4]


def test_once_is_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    old_record(host, IDS[0])
    state.take_over(host.app)
    written: list[Path] = []
    monkeypatch.setattr(host.system, "replace", lambda path, *_: written.append(path))
    state.take_over(host.app)
    assert written == []


@pytest.mark.parametrize("killed_after", range(6))
def test_a_killed_run_leaves_the_order_as_it_was(
    host: Host, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    """And the next one ends what it began."""
    for each in IDS[:5]:
        old_record(host, each)
    write, written = host.app.write_record, [0]

    class Killed(BaseException):
        pass

    def killed(record_id: str, **facts: Any) -> None:
        if written[0] == killed_after:
            raise Killed
        written[0] += 1
        write(record_id, **facts)

    monkeypatch.setattr(host.app, "write_record", killed)
    try:
        state.take_over(host.app)
    except Killed:
        assert killed_after < 5
    assert list(numbers(host)) == IDS[:5]
    monkeypatch.setattr(host.app, "write_record", write)
    state.take_over(host.app)
    assert numbers(host) == {each: number for number, each in enumerate(IDS[:5], start=1)}


def test_what_has_a_number_already_is_newer_than_what_has_none(host: Host) -> None:
    """A record that an earlier Slipway made after this one had been here, say."""
    host.add(IDS[8], number=1)
    host.add(IDS[0], number=2)
    for each in IDS[3:6]:
        old_record(host, each)
    before = list(numbers(host))
    assert before == [*IDS[3:6], IDS[8], IDS[0]]
    state.take_over(host.app)
    assert list(numbers(host)) == before and list(numbers(host).values()) == [1, 2, 3, 4, 5]


def test_an_app_without_anything_is_taken_over_all_the_same(host: Host) -> None:
    host.at.wanted.unlink()
    state.take_over(host.app)
    assert not host.at.wanted.exists() and state.known(host.system) == (2, VERSION)
