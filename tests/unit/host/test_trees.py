"""Folders of this machine that strangers could have made: read, measured and removed unharmed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slipway_host.release import trees
from slipway_host.text import described, short


@contextmanager
def few_descriptors(number: int = 40) -> Iterator[None]:
    """So many more files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + number, hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def deep(folder: Path, levels: int, name: str = "d") -> None:
    """Folders below each other, deeper than any path leads."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)


# ── to read ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "apps/tiny").mkdir(parents=True)
    (tmp_path / "uv.lock").write_bytes(b"\xff lock")
    (tmp_path / "apps/tiny/uv.lock").symlink_to("../../uv.lock")
    (tmp_path / "app").symlink_to("apps/tiny/")
    (tmp_path / "folder").mkdir()
    for path in ("uv.lock", "./uv.lock", "apps/tiny/uv.lock", "app/uv.lock", "/uv.lock", "app/../../uv.lock"):
        assert trees.read(tmp_path, path) == b"\xff lock", path
    for path in ("none", "apps/none/uv.lock", "uv.lock/below"):
        assert trees.read(tmp_path, path) is None, path


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/dev/zero", "a link leads out of the folder"),
        ("../../outside", "a link leads out of the folder"),
        ("folder/up/up/outside", "a link leads out of the folder"),
        ("file", "a link leads out of the folder"),  # to itself
        ("folder", "is no regular file"),
        ("pipe", "is no regular file"),
        ("large", "is larger than 1,000 bytes"),
    ],
)
def test_what_is_no_file_of_the_folder_is_not_opened(tmp_path: Path, target: str, why: str) -> None:
    folder = tmp_path / "source"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside").write_text("of the host")
    (folder / "folder/up").symlink_to("..")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("w") as file:
        os.truncate(file.fileno(), 2**40)
    (folder / "file").symlink_to(target)
    with few_descriptors(), pytest.raises(trees.Strange, match=f"^file.*{why}"):
        trees.read(folder, "file", 1000)


def test_a_way_without_end(tmp_path: Path) -> None:
    deep(tmp_path, 200)
    with pytest.raises(trees.Strange, match="lies deeper than 100 folders"):
        trees.read(tmp_path, "d/" * 200 + "file")


# ── to measure ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to("/")
    told = trees.measure(tmp_path, "The release")
    assert (told.size, told.files) == (100, 4)
    trees.measure(tmp_path, "The release", most_files=4)
    with pytest.raises(trees.Strange, match=r"^The release has more than 3 files\.$"):
        trees.measure(tmp_path, "The release", most_files=3)
    with (tmp_path / "hole").open("w") as file:
        os.truncate(file.fileno(), 2**21 + 1)
    with pytest.raises(trees.Strange, match=r"^The release is larger than 2 MB\.$"):
        trees.measure(tmp_path, "The release", most_mb=2)


def test_a_folder_without_end_is_not_walked_through(tmp_path: Path) -> None:
    deep(tmp_path, 1500, "d" * 200)
    with pytest.raises(trees.Strange) as told:
        trees.measure(tmp_path, "The release")
    assert "deeper than 100 below each other: ddd" in str(told.value) and len(str(told.value)) < 400
    trees.remove(tmp_path)


# ── to remove ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whatever_is_in_a_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what links lead to, in whatever order."""
    monkeypatch.setattr(trees, "AT_ONCE", 3)
    folder, kept = tmp_path / "release", tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    (kept / "inner/file").write_text("kept")
    for number in range(10):
        (folder / f"f{number}/g/h").mkdir(parents=True)
        (folder / f"f{number}/file").touch()
        (folder / f"f{number}/link").symlink_to(kept)
    (folder / "link").symlink_to(kept)
    os.mkfifo(folder / "pipe")
    os.close(os.open(os.fsencode(folder) + b"/\xff\n", os.O_CREAT))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xfe\n")).mkdir()
    trees.remove(folder)
    assert not folder.exists() and (kept / "inner/file").read_text() == "kept"
    (tmp_path / "away").symlink_to(kept)
    trees.remove(tmp_path / "away")
    assert not (tmp_path / "away").is_symlink() and (kept / "inner/file").exists()
    trees.remove(kept / "inner/file")
    for path in ("none", "none/below"):
        trees.remove(tmp_path / path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "kept"]


def test_folders_without_end_are_removed_by_few_descriptors(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    deep(folder, 3000)
    with few_descriptors(10):
        trees.remove(folder)
    assert not folder.exists()


def test_a_folder_that_is_moved_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back would be another one: nothing there is touched."""
    (tmp_path / "release/a/b").mkdir(parents=True)
    (tmp_path / "elsewhere/b").mkdir(parents=True)
    emptied = trees._emptied

    def moved(descriptor: int) -> list[str]:
        found: list[str] = emptied(descriptor)
        if not found:
            (tmp_path / "release/a/b").rename(tmp_path / "elsewhere/c")
        return found

    monkeypatch.setattr(trees, "_emptied", moved)
    with pytest.raises(OSError, match="moved while it was removed"):
        trees.remove(tmp_path / "release")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["b", "c"]


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").mkdir()
    monkeypatch.setattr(os, "rmdir", lambda *_, **__: (_ for _ in ()).throw(OSError(16, "Busy", "release")))
    with pytest.raises(OSError, match="Busy"):
        trees.remove(tmp_path / "release")
    assert not [each for each in Path("/proc/self/fd").iterdir() if _leads_to(each, tmp_path)]


def _leads_to(descriptor: Path, folder: Path) -> bool:
    try:
        return str(folder) in str(descriptor.readlink())
    except FileNotFoundError:
        return False


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_said_of_an_error_is_short() -> None:
    told = described(OSError(24, "Too many open files", "/srv/x/" + "d/" * 2000))
    assert told.startswith("[Errno 24] Too many open files: '/srv/x/d/d/") and len(told) < 400
    assert described(OSError(28, "No space left on device")) == "[Errno 28] No space left on device"
    assert described(OSError(2, "No such file", b"/\xff")) == "[Errno 2] No such file: '/\\udcff'"
    assert described(OSError("cannot read")) == "cannot read"
    with pytest.raises(UnicodeDecodeError) as error:
        (b"x" * 10_000 + b"\xff").decode()
    assert described(error.value) == "UnicodeDecodeError: at byte 10000, invalid start byte"
    assert len(described(ValueError("x" * 10_000))) < 400
    assert described(KeyError("heads")) == "KeyError: 'heads'"
    assert short("x" * 300) == "x" * 300
