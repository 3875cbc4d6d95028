"""Commands end in their time, whoever holds what they write to; and how a unit ended is told."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_host import commands, systemd
from slipway_host.system import Late, System


@pytest.fixture(params=["pidfd", "old kernel"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> System:
    """This machine, whose kernel tells of a process's end, or not."""
    if request.param == "old kernel":

        def missing(*_: Any) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", missing)
    return System()


@pytest.fixture
def grab() -> Iterator[str]:
    """The name of a socket whose listener keeps what descriptors it is sent."""
    held: list[int] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")
        listening.listen()
        name = str(listening.getsockname(), errors="surrogateescape")

        def take() -> None:
            while True:
                try:
                    each, _ = listening.accept()
                except OSError:
                    return
                with each:
                    _, told, *_ = each.recvmsg(9, socket.CMSG_SPACE(2 * array.array("i").itemsize))
                    for *_, data in told:
                        numbers = array.array("i")
                        numbers.frombytes(data)
                        held.extend(numbers)

        threading.Thread(target=take, daemon=True).start()
        yield name
        listening.shutdown(socket.SHUT_RDWR)
    for each in held:
        os.close(each)


def give(name: str) -> str:
    """A program that gives its output away to the listener of that name."""
    return f"""
import socket, sys
with socket.socket(socket.AF_UNIX) as grab:
    grab.connect({name.encode(errors="surrogateescape")!r})
    socket.send_fds(grab, [b"x"], [1, 2])
print("given away", flush=True)
"""


def test_who_holds_the_output_of_a_command_is_not_waited_for(system: System, grab: str) -> None:
    began = time.monotonic()
    done = system.run(sys.executable, "-c", f"{give(grab)}sys.exit(3)", check=False)
    assert (done.code, done.output) == (3, "given away\n")
    assert time.monotonic() - began < 5


def test_its_limit_holds_whoever_has_its_output(system: System, grab: str) -> None:
    began = time.monotonic()
    with pytest.raises(Late, match=r"was ended after 2 s\. given away$"):
        system.run(sys.executable, "-c", f"{give(grab)}import time; time.sleep(60)", seconds=2)
    assert time.monotonic() - began < 5


def test_all_that_a_command_wrote_is_kept(system: System) -> None:
    text = system.run("sh", "-c", "seq 1 100000; printf end").output
    assert text.startswith("1\n2\n") and text.endswith("\n100000\nend") and text.count("\n") == 100_000


def test_what_a_command_left_running_is_ended(system: System, tmp_path: Path) -> None:
    began = time.monotonic()
    system.run("sh", "-c", f"sleep 60 & echo $! >{tmp_path}/left")
    assert time.monotonic() - began < 5
    process = int((tmp_path / "left").read_text())
    until = time.monotonic() + 5
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]:
        assert time.monotonic() < until, "it goes on"
        time.sleep(0.02)


def test_a_run_that_is_told_to_stop_waits_for_none_of_its_steps(system: System) -> None:
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(system.run("sleep", "60", check=False, heard=print).code))
    thread.start()
    until = time.monotonic() + 5
    while not commands.live:
        assert time.monotonic() < until
        time.sleep(0.01)
    commands.end_all()
    thread.join(5)
    assert ended == [-signal.SIGKILL] and not commands.live


@pytest.mark.parametrize(
    ("note", "status", "result", "by"),
    [
        ("success exited 0\n", 0, "success", None),
        ("exit-code exited 3\n", 3, "exit-code", None),
        ("exit-code exited 226\n", 226, "exit-code", None),
        ("signal killed KILL\n", 255, "signal", "SIGKILL"),
        ("success killed TERM\n", 0, "success", "SIGTERM"),
        ("core-dump dumped ABRT\n", 1, "core-dump", "SIGABRT"),
        ("resources\n", 1, "resources", None),
        ("", 1, "", None),
        (None, 255, "signal", "a signal"),
        (None, 0, "signal", "a signal"),
    ],
)
def test_how_a_unit_ended(tmp_path: Path, note: str | None, status: int, result: str, by: str | None) -> None:
    path = tmp_path / "note"
    if note is not None:
        path.write_text(note)
    end = systemd._noted(path, status)
    assert end and (end.result, end.signal) == (result, by)
    assert not path.exists()


def test_a_unit_that_was_never_started(tmp_path: Path) -> None:
    assert systemd._noted(tmp_path / "note", 1) is None


def test_the_note_of_a_unit_is_a_line_that_a_shell_takes(tmp_path: Path) -> None:
    line = systemd._noting(tmp_path / "note").removeprefix("ExecStopPost=+-/bin/sh -c '").removesuffix("'")
    told = {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    subprocess.run(["sh", "-c", line.replace("$$", "$")], check=True, env=told)
    assert (end := systemd._noted(tmp_path / "note", 0)) and end.signal == "SIGKILL"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("35s", 35), ("1min 30s", 90), ("2h", 900), ("infinity", 900), ("500ms", 0.5), ("", 900), ("1month", 900)],
)
def test_a_span_of_time(text: str, seconds: float) -> None:
    assert systemd.in_seconds(text, 900) == seconds


def test_a_service_that_a_signal_ended_is_told() -> None:
    journal = "x\nnotes@r1.service: Main process exited, code=killed, status=9/KILL\nlast"
    assert systemd.killed_in(journal) == "SIGKILL"
    assert systemd.killed_in("notes@r1.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED") is None
