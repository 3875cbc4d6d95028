"""What a local folder becomes as a release's source: the same files, and the same bytes each time."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from roles._source import pack


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder`, apart from the settings of whoever runs the tests."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


def write(folder: Path, *names: str) -> None:
    """Files whose content is their name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """Name → entry of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        return {info.name: info for info in opened}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is in no repository."""
    made = tmp_path / "project"
    write(made, "pyproject.toml", "notes/main.py", "static/app.js")
    return made


@pytest.fixture
def repository(folder: Path) -> Path:
    """The same as a git repository, with nothing committed yet."""
    git(folder, "init", "--quiet")
    return folder


def test_every_file_is_packed_with_its_content(folder: Path) -> None:
    archive = pack(folder)
    assert list(members(archive)) == ["notes/main.py", "pyproject.toml", "static/app.js"]
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        for name in opened.getnames():
            content = opened.extractfile(name)
            assert content is not None and content.read() == name.encode()


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    before = pack(folder)
    other = tmp_path / "elsewhere"
    write(other, "static/app.js", "pyproject.toml", "notes/main.py")  # made in another order
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert pack(other) == before


def test_the_time_of_packing_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(folder)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert pack(folder) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "new"])
def test_every_change_gives_other_bytes(folder: Path, change: str) -> None:
    before = pack(folder)
    path = folder / "notes/main.py"
    if change == "content":
        path.write_text("notes/main.Py")
    elif change == "name":
        path.rename(folder / "notes/other.py")
    elif change == "mode":
        path.chmod(0o755)
    else:
        write(folder, "another")
    assert pack(folder) != before


def test_nothing_of_the_operator_is_packed(folder: Path) -> None:
    for info in members(pack(folder)).values():
        assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0), info.name


def test_the_executable_bit_is_kept(folder: Path) -> None:
    write(folder, "run.sh")
    (folder / "run.sh").chmod(0o744)
    (folder / "pyproject.toml").chmod(0o606)
    modes = {name: info.mode for name, info in members(pack(folder)).items()}
    assert (modes["run.sh"], modes["pyproject.toml"]) == (0o755, 0o644)


LEFT_OUT = (
    ".env",
    ".venv/bin/python",
    "notes/__pycache__/main.cpython-311.pyc",
    "node_modules/x/index.js",
    ".ruff_cache/x",
    "notes/.DS_Store",
)


@pytest.mark.parametrize("tracked", [False, True])
def test_what_is_never_part_of_a_release(folder: Path, tracked: bool) -> None:
    before = pack(folder)
    write(folder, *LEFT_OUT)
    git(folder, "init", "--quiet")
    if tracked:
        git(folder, "add", "--force", ".")
    assert list(members(pack(folder))) == list(members(before))
    assert pack(folder) == before


def test_what_is_never_part_of_a_release_outside_of_git(folder: Path) -> None:
    before = pack(folder)
    write(folder, *LEFT_OUT)
    assert pack(folder) == before


def test_names_that_only_look_like_it_are_kept(folder: Path) -> None:
    write(folder, ".env.example", ".gitignore", "environment/.envrc", "venv.py")
    assert {".env.example", ".gitignore", "environment/.envrc", "venv.py"} <= members(pack(folder)).keys()


def test_ignored_files_stay_behind_and_new_ones_come_along(repository: Path) -> None:
    write(repository, "notes.sqlite", "build/out.js", "notes/new.py")
    (repository / ".gitignore").write_text("*.sqlite\nbuild/\n")
    git(repository, "add", "pyproject.toml")
    assert list(members(pack(repository))) == [
        ".gitignore",
        "notes/main.py",
        "notes/new.py",
        "pyproject.toml",
        "static/app.js",
    ]


def test_the_working_copy_counts_and_not_the_commit(repository: Path) -> None:
    git(repository, "add", ".")
    write(repository, "staged-and-gone")
    git(repository, "add", ".")
    (repository / "staged-and-gone").unlink()
    before = pack(repository)
    assert "staged-and-gone" not in members(before)
    (repository / "pyproject.toml").write_text("edited")
    assert pack(repository) != before


def test_a_subfolder_of_a_repository(repository: Path) -> None:
    write(repository, "apps/notes/pyproject.toml", "apps/notes/debug.log", "apps/wiki/pyproject.toml")
    (repository / ".gitignore").write_text("*.log\n")
    assert list(members(pack(repository / "apps/notes"))) == ["pyproject.toml"]


def test_a_name_with_spaces_and_letters_outside_ascii(repository: Path) -> None:
    write(repository, "static/größe 1.txt")
    assert "static/größe 1.txt" in members(pack(repository))


@pytest.mark.parametrize("in_git", [False, True])
def test_symbolic_links_stay_links(folder: Path, tmp_path: Path, in_git: bool) -> None:
    write(tmp_path, "outside/secret.txt")
    (folder / "inside").symlink_to("notes/main.py")
    (folder / "of-a-folder").symlink_to("notes")
    (folder / "escaping").symlink_to("../outside/secret.txt")
    (folder / "escaping-folder").symlink_to(tmp_path / "outside")
    (folder / "dangling").symlink_to("nowhere")
    if in_git:
        git(folder, "init", "--quiet")
    found = members(pack(folder))
    links = {name: info.linkname for name, info in found.items() if info.issym()}
    assert links == {
        "inside": "notes/main.py",
        "of-a-folder": "notes",
        "escaping": "../outside/secret.txt",
        "escaping-folder": str(tmp_path / "outside"),
        "dangling": "nowhere",
    }
    assert "secret" not in "".join(found), "what a link leads to must not come along"


def test_pipes_and_sockets_are_left_out(folder: Path) -> None:
    before = pack(folder)
    os.mkfifo(folder / "pipe")
    assert pack(folder) == before


def test_without_git_every_file_is_packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(folder)
    monkeypatch.setenv("PATH", "")
    assert pack(folder) == before


def test_an_empty_folder(tmp_path: Path) -> None:
    assert members(pack(tmp_path)) == {}
