"""On folders of this machine: what a build leaves becomes root's, or is refused by its path."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from slipway_host.release import guest, trees
from slipway_host.release.trees import Strange

ME, GROUP = os.getuid(), os.getgid()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release as a build leaves it."""
    folder = tmp_path / "release"
    (folder / "notes/static").mkdir(parents=True)
    (folder / "notes/main.py").write_text("app = 1\n")
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o777)
    (folder / "notes/main.py").chmod(0o600)
    (folder / "notes").chmod(0o700)
    (folder / "link").symlink_to("notes/main.py")
    (folder / "around").symlink_to("notes/../run")
    (folder / "nowhere").symlink_to("not-there")
    return folder


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.lstat().st_mode):o}"


def test_it_is_readable_by_one_group_and_by_nobody_else(folder: Path) -> None:
    guest.take_over(folder, ME, GROUP)
    found = {name: mode(folder / name) for name in ("", "notes", "notes/static", "notes/main.py", "run")}
    assert found == {"": "750", "notes": "750", "notes/static": "750", "notes/main.py": "640", "run": "750"}
    assert (folder / "link").readlink() == Path("notes/main.py")


def test_every_file_is_given_by_its_descriptor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, int, int]] = []

    def fchown(descriptor: int, uid: int, gid: int) -> None:
        given.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), uid, gid))

    def chown(name: str, uid: int, gid: int, *, dir_fd: int, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        given.append((str(Path(f"/proc/self/fd/{dir_fd}").readlink() / name), uid, gid))

    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(os, "chown", chown)
    guest.take_over(folder, ME, 4711)
    assert sorted(given) == [(str(path), ME, 4711) for path in sorted([folder, *folder.rglob("*")])]


def test_a_list_of_others_who_may_write_is_taken_off(folder: Path) -> None:
    # Version 2; the owner, user 4711, the group, the mask and others, who all may read and write.
    entries = [(1, 6, 0xFFFFFFFF), (2, 6, 4711), (4, 6, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    value = (2).to_bytes(4, "little")
    for tag, rights, who in entries:
        value += tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little")
    path, name = folder / "notes/main.py", "system.posix_acl_access"
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"this file system has no such lists: {error}")
    assert os.listxattr(path) == [name]
    guest.take_over(folder, ME, GROUP)
    assert os.listxattr(path) == [] and mode(path) == "640"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../secret", "../../../release.other/main.py", "/"])
@pytest.mark.parametrize("where", ["", "notes/static"])
def test_a_link_that_leads_out(folder: Path, where: str, target: str) -> None:
    (folder / where / "out").symlink_to(target)
    with pytest.raises(Strange) as told:
        guest.take_over(folder, ME, GROUP)
    name = f"{where}/out".lstrip("/")
    assert str(told.value).startswith(f"A link leads out of the release: {name} -> {target}. ")


def test_a_link_by_way_of_another(folder: Path) -> None:
    (folder / "away").symlink_to(folder.parent)
    (folder / "further").symlink_to("away/secret")
    with pytest.raises(Strange) as told:
        guest.take_over(folder, ME, GROUP)
    assert "away -> " in str(told.value) and "further -> away/secret" in str(told.value)


def test_a_link_to_the_python_may_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pythons/cpython-3.13.5/bin").mkdir(parents=True)
    (tmp_path / "pythons/cpython-3.13.5/bin/python3.13").touch()
    (tmp_path / "pythons/cpython-3.13").symlink_to("cpython-3.13.5")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(tmp_path / "pythons/cpython-3.13/bin/python3.13")
    guest.take_over(folder, ME, GROUP, [tmp_path / "pythons"])
    with pytest.raises(Strange, match=r"out of the release: \.venv/bin/python -> "):
        guest.take_over(folder, ME, GROUP, [tmp_path / "python"])


def test_a_release_on_another_disk(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").symlink_to(folder.parent)
    (folder / "absolute").symlink_to(tmp_path / "srv/release/run")
    guest.take_over(tmp_path / "srv/release", ME, GROUP)


def test_a_pipe_and_a_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is opened: that would wait for its other end."""
    os.mkfifo(folder / "notes/pipe")
    with pytest.raises(Strange, match=r"^notes/pipe is a device, a socket or a pipe: take it out of the source\.$"):
        guest.take_over(folder, ME, GROUP)
    (folder / "notes/pipe").unlink()
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(Strange, match=r"^socket is a device, "):
            guest.take_over(folder, ME, GROUP)


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6644])
def test_a_file_that_runs_as_its_owner(folder: Path, bits: int) -> None:
    (folder / "run").chmod(bits)
    with pytest.raises(Strange) as told:
        guest.take_over(folder, ME, GROUP)
    assert str(told.value) == f"run would run as its owner or group (mode {bits:o}): take that bit off."


def test_what_is_given_and_still_is_somebody_elses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    with pytest.raises(
        Strange, match=r"^Root doesn't own .*, notes, .* and \d more: something still writes to the release\."
    ):
        guest.take_over(folder, ME + 1, GROUP)


def test_folders_without_end(folder: Path) -> None:
    deep = folder
    for _ in range(150):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(Strange, match=r"^Folders lie deeper than 100 below each other: d/d/"):
        guest.take_over(folder, ME, GROUP)


def test_more_than_a_release_may_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "notes/hole").open("w") as file:
        os.truncate(file.fileno(), 17 << 30)
    with pytest.raises(Strange, match=r"^The release is larger than 16,384 MB\.$"):
        guest.take_over(folder, ME, GROUP)
    (folder / "notes/hole").unlink()
    monkeypatch.setattr(trees, "MOST_FILES", 5)
    with pytest.raises(Strange, match=r"^The release has more than 5 files\.$"):
        guest.take_over(folder, ME, GROUP)


def test_a_long_path_is_told_in_short(folder: Path) -> None:
    deep = folder / "/".join(["d" * 200] * 10)
    deep.mkdir(parents=True)
    (deep / "out").symlink_to("/" + "x" * 3000)
    with pytest.raises(Strange) as told:
        guest.take_over(folder, ME, GROUP)
    assert len(str(told.value)) < 1000


def test_the_processes_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    assert os.getpid() in guest.processes(pwd.getpwuid(ME).pw_name)
    named = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe\\nUid:\\t5', 0, 0, 0); "
    named += "print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", named], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"1\n"
        assert process.pid in guest.processes(pwd.getpwuid(ME).pw_name), "its name is no text"
        process.communicate()
    nobody = next(each for each in pwd.getpwall() if each.pw_name == "games")
    assert guest.processes(nobody.pw_name) == []
