"""What a run says while it works, and a sign of life in a step that takes long."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from slipway_host.events import for_people
from slipway_host.release.progress import Progress, printed

from tests.unit.host.fakes import FakeSystem


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def progress(tmp_path: Path, events: list[Any]) -> Progress:
    return Progress("notes", FakeSystem(tmp_path), events.append)


def test_a_step_that_takes_long_gives_a_sign_of_life(
    progress: Progress, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, clock = [0], [100.0]

    def sleep(seconds: float) -> None:
        slept[0] += 1
        clock[0] += seconds
        if slept[0] == 3:
            progress.heard("x" * 200)
            progress.heard('{"hashed": ["fastapi==1"]}')
        if slept[0] == 4:
            progress.end()
        if slept[0] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.system, "sleep", sleep)
    monkeypatch.setattr(progress.system, "clock", lambda: clock[0])
    progress.begin("build", 2, 9)
    clock[0] += 1
    with pytest.raises(KeyboardInterrupt):
        progress.beat()
    assert [for_people(event) for event in events] == [
        "notes: 2/9 build, 6 s so far",
        "notes: 2/9 build, 11 s so far",
        f"notes: 2/9 build, 16 s so far: {'x' * 150}",
    ]


def test_nothing_of_an_event_is_secret_or_steers_a_terminal(progress: Progress, events: list[Any]) -> None:
    """Each text by itself: one that is cut at its end stands at no line's end in JSON."""
    progress.system.hidden.hide(["s3cr3t-value-of-some-length"])
    progress.begin("migrate", 4, 9)
    progress.say("it is s3cr3t-value-of-some-length\x1b[2J")
    progress.step(1.25, "s3cr3t-value-of-so")
    ended = progress.ended(1, None, "by s3cr3t-value-of-some-length")
    assert [for_people(event) for event in (*events, ended)] == [
        "notes: it is ***\\x1b[2J",
        "notes: 4/9 migrate 1.2 s (***)",
        "by ***",
    ]


def test_an_event_is_a_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Progress("notes", FakeSystem(tmp_path)).say("two\nlines")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"event": "said", "app": "notes", "text": "two\nlines"}


def test_a_run_that_went_well_ends_without_a_word(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    printed(progress.ended(0, "r1", None))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("write", [None, printed])
def test_nobody_who_listens_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    Progress("notes", FakeSystem(tmp_path), write).say("lost")
