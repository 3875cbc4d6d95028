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
    manifest = program.take(folder)
    assert manifest == {
        "notes/main.py": [8, False, sha(b"app = 1\n")],
        "notes/empty.py": [0, False, sha(b"")],
        "run": [10, True, sha(b"#!/bin/sh\n")],
        "python": "/usr/bin/python3",
    }
    assert json.loads(program.dump(manifest)) == manifest
    assert program.stamps(folder, [*manifest, "none"]).keys() == manifest.keys()


@pytest.mark.parametrize(
    ("damage", "path", "what"),
    [
        (lambda folder: (folder / "run").unlink(), "run", "is missing"),
        (lambda folder: (folder / "run").write_bytes(b""), "run", "is empty"),
        (lambda folder: (folder / "run").write_bytes(b"#!/b"), "run", "has 4 of 10 bytes"),
        (lambda folder: (folder / "run").write_bytes(b"\0" * 10), "run", "has other content"),
        (lambda folder: (folder / "run").chmod(0o640), "run", "can't be started any more"),
        (lambda folder: (folder / "python").unlink(), "python", "is missing"),
    ],
)
def test_what_is_wrong_is_found_by_content(program: Any, folder: Path, damage: Any, path: str, what: str) -> None:
    manifest = program.take(folder)
    before = program.stamps(folder, manifest)
    assert program.compare(folder, manifest) == {}
    damage(folder)
    assert load(MANIFEST).compare(folder, manifest) == {path: what}
    assert program.stamps(folder, manifest) != before, "so that it is looked at again"


def test_who_may_read_a_file_is_no_damage(program: Any, folder: Path) -> None:
    manifest = program.take(folder)
    (folder / "run").chmod(0o755)
    (folder / "notes/main.py").chmod(0o644)
    assert program.compare(folder, manifest) == {}


def test_what_cannot_be_read_is_damage(program: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a file system that is damaged itself."""
    manifest = program.take(folder)
    fresh = load(MANIFEST)

    def broken(path: str, told: os.stat_result) -> str:
        raise OSError(117, "Structure needs cleaning")

    monkeypatch.setattr(fresh, "sha256", broken)
    assert fresh.compare(folder, manifest)["run"] == "can't be read (Structure needs cleaning)"


def test_a_link_that_leads_elsewhere(program: Any, folder: Path) -> None:
    manifest = program.take(folder)
    (folder / "python").unlink()
    (folder / "python").symlink_to("/bin/sh")
    assert program.compare(folder, manifest) == {"python": "has other content"}


def test_what_has_come_beside_is_nobody_s_damage(program: Any, folder: Path) -> None:
    manifest = program.take(folder)
    (folder / "core").write_text("x")
    assert program.compare(folder, manifest) == {}


def test_what_is_shared_by_hard_links_is_not_read_again(
    program: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = program.take(folder)
    fresh = load(MANIFEST)
    monkeypatch.setattr(fresh, "sha256", lambda path, told: pytest.fail(f"{path} was read"))
    (folder.parent / "next").mkdir()
    for path in ("run", "python"):
        os.link(folder / path, folder.parent / "next" / path, follow_symlinks=False)
    taken = fresh.take(folder.parent / "next", manifest, fresh.stamps(folder, manifest))
    assert taken == {path: manifest[path] for path in ("run", "python")}


def test_another_file_of_that_name_is_read(program: Any, folder: Path) -> None:
    manifest = program.take(folder)
    (folder.parent / "next").mkdir()
    (folder.parent / "next/run").write_text("#!/bin/ba\n")
    taken = program.take(folder.parent / "next", manifest, program.stamps(folder, manifest))
    assert taken["run"][2] == sha(b"#!/bin/ba\n")


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


def row(path: str, content: bytes) -> str:
    """A line of a RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


def installed(folder: Path, name: str = "web_kit", content: bytes = b"import os\n", record: str | None = None) -> None:
    """A distribution as an installer leaves it: two of them have a file of one name."""
    packages = folder / "lib/python3.13/site-packages"
    about = packages / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "tests").mkdir(exist_ok=True)
    (packages / "tests/__init__.py").write_bytes(content)
    (about / "METADATA").write_bytes(b"Name: x\n")
    (about / "WHEEL").touch()
    rows = row("tests/__init__.py", content) + row(f"{about.name}/METADATA", b"Name: x\n")
    rows += f'{row(f"{about.name}/WHEEL", b"")}"../../../bin/web,kit",,\n{about.name}/RECORD,,\n'
    (about / "RECORD").write_text(rows if record is None else record)


def test_what_is_installed_is_as_it_says(program: Any, folder: Path) -> None:
    installed(folder)
    installed(folder, "another", b"import sys\n")
    assert program.unlike_records(folder, program.take(folder)) == [], "of two files of one name the later one is there"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("tests/__init__.py", b""),
        ("tests/__init__.py", None),
        ("tests/__init__.py", b"\0" * 10),
        ("web_kit-1.0.dist-info/METADATA", b""),
        ("web_kit-1.0.dist-info/RECORD", b""),
        ("web_kit-1.0.dist-info/RECORD", b"\0" * 200_000),
        # As uv goes on with an empty one.
        ("web_kit-1.0.dist-info/RECORD", b"web_kit-1.0.dist-info/INSTALLER,,2\n"),
    ],
)
def test_what_a_damaged_cache_has_left_is_found(program: Any, folder: Path, path: str, content: bytes | None) -> None:
    installed(folder)
    file = folder / "lib/python3.13/site-packages" / path
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert program.unlike_records(folder, program.take(folder)) == ["web_kit"]


@pytest.mark.parametrize("what", ["device", "pipe", "outside", "large"])
def test_a_record_that_is_no_file_is_not_opened(program: Any, folder: Path, what: str) -> None:
    """A build made it: root would read without end, or wait for ever."""
    installed(folder)
    record = folder / "lib/python3.13/site-packages/web_kit-1.0.dist-info/RECORD"
    (folder.parent / "outside").write_bytes(record.read_bytes())
    record.unlink()
    if what == "pipe":
        os.mkfifo(record)
    elif what == "large":
        with record.open("w") as file:
            os.truncate(file.fileno(), 64_000_001)
    else:
        record.symlink_to("/dev/zero" if what == "device" else folder.parent / "outside")
    manifest = program.take(folder) if what != "large" else {str(record.relative_to(folder)): [0, False, ""]}
    assert program.unlike_records(folder, manifest) == ["web_kit"]


def test_a_record_of_any_bytes(program: Any, folder: Path) -> None:
    installed(folder, record="tests/__init__.py,sha256=é,9\n\udcff,\x00\n".replace("\udcff", "ÿ"))
    assert program.unlike_records(folder, program.take(folder)) == ["web_kit"]


def test_sync_knows_that_option() -> None:
    """As on every host: coreutils has had it since 8.24 (2015)."""
    assert subprocess.run(["sync", "--file-system", "/"], check=False).returncode == 0
