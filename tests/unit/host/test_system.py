"""What programs ask of the machine: of this one, with its own commands, files and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from slipway_host import system as system_module
from slipway_host.layout import Layout
from slipway_host.system import Busy, Failed, Late, System, tail
from typing_extensions import override


class Here(System):
    """This machine, on which nobody has root's rights, and no power fails."""

    def __init__(self, root: Path) -> None:
        super().__init__(Layout(root))
        self.given: list[tuple[int, str, str]] = []
        """Mode that a file had when it was given away, and to whom."""

    @override
    def chown(self, path: Path, user: str, group: str) -> None:
        self.given.append((stat.S_IMODE(path.stat().st_mode), user, group))


@pytest.fixture
def system(tmp_path: Path) -> Here:
    return Here(tmp_path)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_is_run(system: Here) -> None:
    done = system.run("sh", "-c", "echo out; echo err >&2; cat; exit 3", check=False)
    assert (done.code, done.output) == (3, "out\nerr\n"), "both streams, and nothing on standard input"
    with pytest.raises(Failed, match=r"^`sh` ended with 3:\nline 11\n(line \d\d\n){28}line 40$"):
        system.run("sh", "-c", "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; exit 3")


def test_a_command_that_prints_without_end_takes_no_memory(system: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, or one that never ends; the last of them are what a message needs."""
    monkeypatch.setattr(system_module, "KEPT_BYTES", 1000)
    monkeypatch.setattr(system_module, "LONGEST_LINE", 100)
    done = system.run("sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x; seq 1 400; echo the end")
    assert 900 <= len(done.output) <= 1000 and done.output.endswith("\n399\n400\nthe end\n")
    done = system.run("sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x", most=60_000)
    assert len(done.output) == 50_000, "an answer is whole"
    with pytest.raises(Failed, match=r"^`sh` was ended: it wrote more than 400 bytes\.$"):
        system.run("sh", "-c", "seq 1000", most=400)


def test_a_command_that_takes_too_long_is_ended(system: Here) -> None:
    with pytest.raises(Late, match=r"^`sh` was ended after 0\.4 s\. so far$") as late:
        system.run("sh", "-c", "echo so far; exec sleep 9", seconds=0.4, check=False)
    assert late.value.output == "so far\n"


def test_what_a_command_says_last_is_heard(system: Here) -> None:
    heard: list[str] = []
    system.run("printf", "one\ntwo\n\n", heard=heard.append)
    assert heard[-1] == "two"


@pytest.mark.parametrize("size", [3, 300_000])
def test_what_a_command_reads(system: Here, size: int) -> None:
    assert system.run("cat", said="x" * size).output == "x" * size
    assert system.run("cat", said=b"\xc3\xbc").output == "ü"


@pytest.mark.parametrize("why", ["no such call", "refused", "not of this Python"])
def test_what_it_reads_comes_from_the_disk_where_memory_has_no_files(
    system: System, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.ENOSYS if why == "no such call" else errno.EPERM, why)

    if why == "not of this Python":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert system.run("cat", said="x" * 200_000).output == "x" * 200_000
    seen = system.run("sh", "-c", "readlink /proc/self/fd/0; stat -Lc %a /proc/self/fd/0", said="secret").output
    assert seen.split()[-2:] == ["(deleted)", "600"] and list(tmp_path.iterdir()) == []


def test_no_secret_is_shown(system: Here) -> None:
    system.hidden.hide(["s3cr3t-of-app"])
    heard: list[str] = []
    line = "s3cr3t-of-app and pa55word-of-build"
    done = system.run("echo", line, secrets=["pa55word-of-build"], heard=heard.append)
    assert (done.output, heard) == ("*** and ***\n", ["*** and ***"])
    assert system.run("echo", line, raw=True).output == f"{line}\n", "who asks for it shows it otherwise"
    with pytest.raises(Failed) as failed:
        system.run("sh", "-c", f"echo {line}; exit 1", secrets=["pa55word-of-build"])
    assert str(failed.value) == "`sh` ended with 1:\n*** and ***"


def test_a_message_has_room_for_the_end_of_it() -> None:
    text = "\n".join(f"{number} " + "x" * 5000 for number in range(50))
    lines = tail(text).splitlines()
    assert len(lines) == 30 and lines[-1].startswith("49 xxx") and max(map(len, lines)) < 2010
    assert tail("a\nb\n\n", 1) == "b"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_is_replaced_in_one_step(system: Here, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    (tmp_path / ".file.partial").write_text("a killed run's")
    system.replace(path, "after", mode, "notes")
    assert path.read_text() == "after" and stat.S_IMODE(path.stat().st_mode) == mode
    assert system.given == [(0o600, "root", "notes")], "nobody else can read it before"
    system.replace(path, b"\xff")
    assert path.read_bytes() == b"\xff" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_on_a_full_disk_the_old_one_stays(system: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(system, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        system.replace(tmp_path / "file", "after")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"file": "before"}


def test_what_can_be_read_as_json(system: Here, tmp_path: Path) -> None:
    for text, found in (('{"a": 1}', {"a": 1}), ("", {}), ("[1]", {}), ('{"a"', {})):
        (tmp_path / "file").write_text(text)
        assert system.json(tmp_path / "file") == found
    assert system.json(tmp_path / "none") == {} == system.json(tmp_path / "file/below")


def test_names_in_a_folder(system: Here, tmp_path: Path) -> None:
    for name in ("app.job-b.timer", "app.job-a.service", "app1.job-a.timer", "xapp.job-a.timer", ".app.job-a.timer"):
        (tmp_path / name).touch()
    assert system.like(tmp_path, "app.job-*.*") == [tmp_path / "app.job-a.service", tmp_path / "app.job-b.timer"]
    assert system.like(tmp_path, "*.timer")[0] == tmp_path / ".app.job-a.timer"
    assert system.names(tmp_path / "none") == system.names(tmp_path / "app.job-a.service") == []


def test_what_is_read_once_for_a_question(system: Here, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text('{"a": 1}')
    with system.looking():
        system.json(file)["a"] = "changed by the caller"
        system.names(tmp_path).clear()
        (tmp_path / "later").touch()
        file.write_text('{"a": 2}')
        assert (system.json(file), system.names(tmp_path)) == ({"a": 1}, ["record.json"])
    assert (system.json(file), system.names(tmp_path)) == ({"a": 2}, ["later", "record.json"])


def test_a_link_is_pointed_elsewhere(system: Here, tmp_path: Path) -> None:
    (tmp_path / ".link.partial").symlink_to("a killed run's")
    for target in ("one", "two"):
        system.link(tmp_path / "link", target)
        assert str((tmp_path / "link").readlink()) == target


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def taken(path: Path) -> bool:
    """Whether somebody has a lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_lock_is_one_s_alone_and_says_whose(system: Here, tmp_path: Path) -> None:
    path = tmp_path / "run/lock"
    with system.locked(path, 5, "release by ann"):
        assert taken(path) and stat.S_IMODE(path.stat().st_mode) == 0o600, "whoever can open it can hold it"
        with pytest.raises(Busy) as busy, system.locked(path, 0.1):
            pass
        assert busy.value.holder.startswith(f"release by ann, process {os.getpid()}, since 20")
        with system.locked(path, 0.1, patient=False):
            assert path.read_text().startswith("release by ann"), "who goes on without it takes nothing away"
        assert taken(path)
    assert not taken(path) and path.read_text() == ""


def test_a_lock_is_waited_for(system: Here, tmp_path: Path) -> None:
    path, got = tmp_path / "lock", threading.Event()

    def hold() -> None:
        with system.locked(path, 5):
            got.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    assert got.wait(5)
    with system.locked(path, 5):
        holder.join(1)
        assert not holder.is_alive()


def test_a_lock_of_before_is_shut(system: Here, tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o644)
    with system.locked(tmp_path / "lock", 1):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_the_time_of_records(system: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "time", lambda: 1_767_225_600.9)
    assert system.stamp() == "2026-01-01T00:00:00Z"
