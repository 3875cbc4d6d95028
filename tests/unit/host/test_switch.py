"""switch and commit: it serves, and it is the truth, on the disk, before anything of the old one goes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from slipway_host.release import current, switch
from slipway_host.release.processes import web

from tests.unit.host.running import IDS, SWITCH, Host, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def test_a_switch(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "public", lambda app, each: f"asked for {each}")
    assert switch.switch(host.app, "r1") == "asked for r1"
    assert host.system.calls == [
        "systemctl enable --quiet --no-reload notes@r1.socket notes@r1.service",
        "flush",
        f"{SWITCH}r1",
    ], "a reboot or a power cut at this moment finds both, whole"
    assert host.app.record("r1")["switched"]


def test_what_is_let_go_is_kept_while_the_rest_is_pruned(host: Host) -> None:
    """A commit deletes what is too old before the release that it lets go counts as warm."""
    for number in (0, 1, 2, 3):
        host.add(IDS[number], units=number == 0, current=number == 0, previous=None)
    host.app.wanted["keep"] = 1
    host.name(IDS[3])
    switch.commit(host.app, IDS[3])
    assert host.releases == [IDS[0], IDS[3]]


def test_what_is_committed_is_on_the_disk_before_anything_of_the_old_one_goes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.add(IDS[1], units=True, current=True)
    host.add(IDS[2], units=True)
    seen: list[tuple[str | None, bool]] = []
    unit = host.layout.units / host.at.unit(IDS[1], "service")
    monkeypatch.setattr(
        "slipway_host.release.check.flush", lambda app: seen.append((host.app.serving(), unit.exists()))
    )
    current.settle(host.app, IDS[2])
    assert seen == [(IDS[2], True)] and not unit.exists()


def test_what_was_gone_back_from_is_bad_even_if_somebody_has_edited_it(host: Host) -> None:
    for each in IDS[:2]:
        host.add(each, units=True, current=True)
        (host.at.folder(each) / "main.py").write_text("print('why?')\n")
    current.confirm(host.app, IDS[0])
    bad = host.app.record(IDS[1])["bad"]
    assert bad and bad == {"since": "2026-01-01T00:00:00Z", "by": "ann@desk", "why": f"rolled back to {IDS[0]}"}


@pytest.mark.parametrize("back", [False, True])
def test_which_way_one_went_is_told_by_numbers(host: Host, back: bool) -> None:
    """A host's clock may have been set back: an id says nothing of the order."""
    old, new = "20270101T000000Z-aaaaaaa", "20260101T000000Z-bbbbbbb"
    host.add(old)
    host.add(new)
    left, taken = (new, old) if back else (old, new)
    host.install(left)
    host.system.link(host.at.current, f"releases/{left}")
    current.confirm(host.app, taken)
    assert bool(host.app.record(left).get("bad")) is back and host.app.serving() == taken


def test_what_is_remembered_has_its_form(host: Host) -> None:
    current.remember(host.app, {**host.app.wanted, "keep": 7})
    told = host.system.json(host.at.wanted)
    assert (told["format"], told["keep"]) == (2, 7)
    assert stat.S_IMODE(host.at.wanted.stat().st_mode) == 0o600
