"""A build leaves room on the host's disks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from slipway_host.release import room


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ((8 << 30, 9_000_000), (513 << 20, 30_000), ""),
        ((8 << 30, 9_000_000), (511 << 20, 30_000), "511 MB were left on the disk of "),
        ((8 << 30, 9_000_000), (8 << 30, 19_999), "19,999 files were left on the disk of "),
        ((400 << 20, 9_000_000), (101 << 20, 30_000), ""),
        ((400 << 20, 9_000_000), (99 << 20, 30_000), "99 MB were left on the disk of "),
        ((60 << 20, 3000), (0, 0), ""),  # hardly anything to begin with
        ((8 << 30, None), (513 << 20, None), ""),
    ],
)
def test_a_build_leaves_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: tuple[int, int], now: tuple[int, int], told: str
) -> None:
    ended: list[int] = []
    left = [then]
    monkeypatch.setattr(room, "free", lambda path: left[-1])
    monkeypatch.setattr(room, "EVERY", 0.01)
    with room.Guard([tmp_path, tmp_path], lambda: ended.append(1)) as guard:
        left.append(now)
        time.sleep(0.1)
    assert guard.short == (told and f"{told}{tmp_path}")
    assert len(ended) == bool(told)


def test_the_largest_file_leaves_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    for megabytes in (8192, 400, 60):
        monkeypatch.setattr(room, "free", lambda path, size=megabytes: (size << 20, None))
        told.append(room.largest(tmp_path))
    assert told == [7680 << 20, 300 << 20, "infinity"]


def test_what_is_free(tmp_path: Path) -> None:
    size, files = room.free(tmp_path)
    assert size > 0 and (files is None or files > 0)
