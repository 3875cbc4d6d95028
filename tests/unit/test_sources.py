"""slipway_sources and slipway_room: a source is measured before it is unpacked, and a build leaves room."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.programs import ROOM, SOURCES, load


@pytest.fixture
def program() -> Any:
    """The module."""
    return load(SOURCES)


@pytest.fixture
def git(tmp_path: Path) -> list[str]:
    """The beginning of a command line, of a repository with a file of 3 MB."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "big").write_bytes(bytes(3 << 20))
    return git


def commit(git: list[str], entries: str = "") -> str:
    """Commit all, or entries as `git update-index --index-info` takes them."""
    subprocess.run([*git, "add", "--all"], check=True)
    if entries:
        subprocess.run([*git, "update-index", "--index-info"], input=entries.encode(), check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    return "HEAD"


def blob(git: list[str]) -> str:
    """What the file is, for such entries."""
    return subprocess.run([*git, "hash-object", "big"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_that_fits(program: Any, git: list[str]) -> None:
    assert program.survey(git, commit(git)) is True
    assert program.survey(git, "none") is False, "git can't list it"


@pytest.mark.parametrize(
    ("paths", "limit", "told"),
    [
        (["x/" + str(number) for number in range(3)], {"MOST_MB": 10}, "The source is larger than 10 MB."),
        (["x/" + str(number) for number in range(9)], {"MOST_FILES": 9}, "The source has more than 9 files."),
        (["d/" * 101 + "x"], {}, "Folders lie deeper than 100 below each other: d/d/"),
        (["x" * 5000], {"LONGEST": 4000, "CHUNK": 100}, "The source has a path of more than 4,000 bytes"),
    ],
)
def test_a_commit_without_measure(
    program: Any, git: list[str], monkeypatch: pytest.MonkeyPatch, paths: list[str], limit: dict[str, int], told: str
) -> None:
    made = commit(git, "".join(f"100644 {blob(git)}\t{path}\n" for path in paths))
    for name, value in limit.items():
        monkeypatch.setattr(program, name, value)
    with pytest.raises(program.Strange) as error:
        program.survey(git, made)
    assert str(error.value).startswith(told) and len(str(error.value)) < 500


def test_as_many_as_may_be(program: Any, git: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = commit(git, "".join(f"100644 {blob(git)}\t{path}\n" for path in ["d/" * 100 + "x", "y"]))
    monkeypatch.setattr(program, "MOST_FILES", 3 + 100)
    monkeypatch.setattr(program, "MOST_MB", 9)
    assert program.survey(git, made) is True


def test_a_commit_of_folders_without_files(program: Any, git: list[str]) -> None:
    """Of a few kilobytes, and without end: each folder has itself ten times, 25 deep."""

    def told(*argv: str, stdin: str = "") -> str:
        return subprocess.run([*git, *argv], input=stdin, check=True, capture_output=True, text=True).stdout.strip()

    tree = told("hash-object", "-t", "tree", "-w", "--stdin")
    for _ in range(25):
        tree = told("mktree", stdin="".join(f"040000 tree {tree}\td{number}\n" for number in range(10)))
    with pytest.raises(program.Strange, match=r"^The source has more than 200,000 files\.$"):
        program.survey(git, told("commit-tree", tree, "-m", "x"))


def exported(program: Any, git: list[str], made: str, folder: Path) -> dict[str, str]:
    """Path → text of what is unpacked of a commit."""
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/attributes").write_text(program.ATTRIBUTES)
    (folder / "out").mkdir()
    with program.exported(git, made) as reading:
        subprocess.run(["tar", "-x", "-C", folder / "out"], stdin=reading, check=True)
    return {path.name: path.read_text() for path in (folder / "out").iterdir()}


def test_a_commit_is_unpacked_as_it_was_committed(program: Any, git: list[str], tmp_path: Path) -> None:
    """Though its attributes say otherwise: by these, 30 bytes would become 100,000."""
    files = {
        "a.txt": "$Format:%<(100000)%h$ $Id$\nb\n",
        ".gitattributes": "a.txt export-subst ident eol=crlf text working-tree-encoding=UTF-32\n",
    }
    (tmp_path / "big").unlink()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        subprocess.run([*git, "add", name], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    assert exported(program, git, "HEAD", tmp_path) == files


def test_a_commit_that_grows_while_it_is_unpacked(
    program: Any, git: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(git)
    monkeypatch.setattr(program, "MOST_MB", 2)
    with pytest.raises(program.Strange, match=r"^The source is larger than 2 MB\.$"):
        exported(program, git, made, tmp_path)
    with (
        pytest.raises(program.Incomplete, match=r"^`git archive` of none ended with 128\.$"),
        program.exported(git, "none") as reading,
    ):
        assert os.read(reading, 10) == b""


def packed(folder: Path, size: int) -> Path:
    """An archive of a file of that size."""
    (folder / "file").write_bytes(os.urandom(size // 2) + bytes(size - size // 2))
    with tarfile.open(folder / "x.tar.gz", "w:gz") as archive:
        archive.add(folder / "file", "file")
    return folder / "x.tar.gz"


@pytest.mark.parametrize("size", [0, 100, 3_000_001])
def test_an_archive_is_plain(program: Any, tmp_path: Path, size: int) -> None:
    archive = packed(tmp_path, size)
    (tmp_path / "out").mkdir()
    with program.plain(archive) as reading:
        subprocess.run(["tar", "-x", "-C", tmp_path / "out"], stdin=reading, check=True)
    assert (tmp_path / "out/file").read_bytes() == (tmp_path / "file").read_bytes()


def test_an_archive_without_measure(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path, 3 << 20)
    monkeypatch.setattr(program, "MOST_MB", 2)

    def unpack() -> None:
        with program.plain(archive) as reading:
            taken = subprocess.run(["cat"], stdin=reading, check=True, capture_output=True).stdout
            assert len(taken) <= 2 << 20
            raise ValueError("which says less")

    with pytest.raises(program.Strange, match=r"^The source is larger than 2 MB\.$"):
        unpack()


def test_an_archive_that_is_damaged(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(1000))[:10] + b"\xff" * 90)
    with pytest.raises(program.Strange, match=r"x\.tar\.gz is damaged: "), program.plain(tmp_path / "x.tar.gz") as read:
        assert os.read(read, 10) == b""
    with pytest.raises(FileNotFoundError), program.plain(tmp_path / "none"):
        pass


def test_who_reads_a_part_of_it_is_not_waited_for(program: Any, tmp_path: Path) -> None:
    with program.plain(packed(tmp_path, 3 << 20)) as reading:
        assert os.read(reading, 10)


# ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    program, ended = load(ROOM), []
    left = [then]
    monkeypatch.setattr(program, "free", lambda path: left[-1])
    monkeypatch.setattr(program, "EVERY", 0.01)
    with program.Guard([tmp_path, tmp_path], lambda: ended.append(1)) as guard:
        left.append(now)
        time.sleep(0.1)
    assert guard.short == (told and f"{told}{tmp_path}")
    assert len(ended) == bool(told)


def test_the_largest_file_leaves_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(ROOM)
    told = []
    for megabytes in (8192, 400, 60):
        monkeypatch.setattr(program, "free", lambda path, size=megabytes: (size << 20, None))
        told.append(program.largest(tmp_path))
    assert told == [7680 << 20, 300 << 20, "infinity"]


def test_what_is_free(tmp_path: Path) -> None:
    size, files = load(ROOM).free(tmp_path)
    assert size > 0 and (files is None or files > 0)
