"""slipway_manifest on folders of this machine: what a release consists of, and what a power cut has left of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.programs import MANIFEST, load


@pytest.fixture
def program() -> Any:
    """The module, that has read nothing yet."""
    return load(MANIFEST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release."""
    (tmp_path / "release/notes").mkdir(parents=True)
    (tmp_path / "release/notes/main.py").write_text("app = 1\n")
    (tmp_path / "release/notes/empty.py").touch()
    (tmp_path / "release/run").write_text("#!/bin/sh\n")
    (tmp_path / "release/run").chmod(0o750)
    (tmp_path / "release/python").symlink_to("/usr/bin/python3")
    (tmp_path / "release/notes/main.py").chmod(0o640)
    (tmp_path / "release/notes/empty.py").chmod(0o640)
    return tmp_path / "release"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_manifest_names_each_file_and_link(program: Any, folder: Path) -> None:
    manifest, stamps = program.take(folder)
    assert manifest == {
        "notes/main.py": [8, "0640", sha(b"app = 1\n")],
        "notes/empty.py": [0, "0640", sha(b"")],
        "run": [10, "0750", sha(b"#!/bin/sh\n")],
        "python": "/usr/bin/python3",
    }
    assert stamps.keys() == manifest.keys()
    assert json.loads(program.dump(manifest)) == manifest and json.loads(program.dump(stamps)) == stamps


@pytest.mark.parametrize(
    ("damage", "path", "what"),
    [
        (lambda folder: (folder / "run").unlink(), "run", "is missing"),
        (lambda folder: (folder / "run").write_bytes(b""), "run", "is empty"),
        (lambda folder: (folder / "run").write_bytes(b"#!/b"), "run", "has 4 of 10 bytes"),
        (lambda folder: (folder / "run").write_bytes(b"\0" * 10), "run", "has other content"),
        (lambda folder: (folder / "run").chmod(0o640), "run", "has mode 0640 instead of 0750"),
        (lambda folder: (folder / "python").unlink(), "python", "is missing"),
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["after a boot", "looked at before"])
def test_what_is_wrong_is_found_by_content(
    program: Any, folder: Path, damage: Any, path: str, what: str, again: bool
) -> None:
    manifest, stamps = program.take(folder)
    assert program.compare(folder, manifest, {}) == ({}, stamps)
    damage(folder)
    wrong, right = load(MANIFEST).compare(folder, manifest, stamps if again else {})
    assert wrong == {path: what}
    assert right.keys() == stamps.keys() - {path}
    assert not program.unchanged(folder, stamps)


def test_a_link_that_leads_elsewhere(program: Any, folder: Path) -> None:
    manifest, _ = program.take(folder)
    (folder / "python").unlink()
    (folder / "python").symlink_to("/bin/sh")
    assert program.compare(folder, manifest, {})[0] == {"python": "has other content"}


def test_what_has_come_beside_is_nobody_s_damage(program: Any, folder: Path) -> None:
    manifest, stamps = program.take(folder)
    (folder / "core").write_text("x")
    assert program.compare(folder, manifest, {})[0] == {} and program.unchanged(folder, stamps)


def test_what_was_right_is_not_read_again(program: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, stamps = program.take(folder)
    fresh = load(MANIFEST)
    monkeypatch.setattr(fresh, "sha256", lambda path, told: pytest.fail(f"{path} was read"))
    assert fresh.compare(folder, manifest, stamps)[0] == {}
    # What is shared by hard links is as the other folder's manifest says.
    (folder.parent / "next").mkdir()
    for path in ("run", "python"):
        os.link(folder / path, folder.parent / "next" / path, follow_symlinks=False)
    assert fresh.take(folder.parent / "next", manifest, stamps)[0] == {
        path: manifest[path] for path in ("run", "python")
    }


def test_another_file_of_that_name_is_read(program: Any, folder: Path) -> None:
    manifest, stamps = program.take(folder)
    (folder.parent / "next").mkdir()
    (folder.parent / "next/run").write_text("#!/bin/ba\n")
    assert program.take(folder.parent / "next", manifest, stamps)[0]["run"][2] == sha(b"#!/bin/ba\n")


def test_few_files_are_named(program: Any) -> None:
    assert program.listed({"b": "is empty", "a": "is missing"}) == "a is missing, b is empty"
    many = {f"{number}.py": "is empty" for number in range(5)}
    assert program.listed(many) == "0.py is empty, 1.py is empty, 2.py is empty, and 2 more"


def test_each_file_system_is_written_once(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(program.subprocess, "run", lambda argv, check: calls.append(argv))
    program.flush(tmp_path, tmp_path.parent, "/proc")
    assert calls == [["sync", "--file-system", str(tmp_path.parent), "/proc"]]
    monkeypatch.undo()
    program.flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        program.flush(tmp_path / "none")


def installed(folder: Path, record: str | None = None) -> None:
    """A distribution as an installer leaves it."""
    packages = folder / "lib/python3.13/site-packages"
    (packages / "web_kit-1.0.dist-info").mkdir(parents=True)
    (packages / "web_kit").mkdir()
    (packages / "web_kit/__init__.py").write_bytes(b"import os\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"import os\n").digest()).rstrip(b"=").decode()
    rows = f'web_kit/__init__.py,sha256={digest},10\n"../../../bin/web,kit",,\nweb_kit-1.0.dist-info/RECORD,,\n'
    (packages / "web_kit-1.0.dist-info/RECORD").write_text(rows if record is None else record)


def test_what_is_installed_is_as_it_says(program: Any, folder: Path) -> None:
    installed(folder)
    assert program.unlike_records(folder, program.take(folder)[0]) == []


@pytest.mark.parametrize("damage", ["empty", "gone", "other", "record", "broken record"])
def test_what_a_damaged_cache_has_left_is_found(program: Any, folder: Path, damage: str) -> None:
    broken = {"record": "", "broken record": "web_kit/__init__.py,sha256=x,10\n"}.get(damage)
    installed(folder, broken)
    path = folder / "lib/python3.13/site-packages/web_kit/__init__.py"
    if damage == "gone":
        path.unlink()
    elif damage in ("empty", "other"):
        path.write_bytes(b"" if damage == "empty" else b"\0" * 10)
    assert program.unlike_records(folder, program.take(folder)[0]) == ["web_kit"]


def test_sync_knows_that_option() -> None:
    """As on every host: coreutils has had it since 8.24 (2015)."""
    assert subprocess.run(["sync", "--file-system", "/"], check=False).returncode == 0
