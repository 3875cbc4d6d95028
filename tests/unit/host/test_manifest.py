"""What a release consists of, and what a power cut has left of it: on folders of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import manifest as manifests


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


def test_a_manifest_names_each_file_and_link(folder: Path) -> None:
    manifest = manifests.take(folder)
    assert manifest == {
        "notes/main.py": [8, False, sha(b"app = 1\n")],
        "notes/empty.py": [0, False, sha(b"")],
        "run": [10, True, sha(b"#!/bin/sh\n")],
        "python": "/usr/bin/python3",
    }
    assert json.loads(manifests.dump(manifest)) == manifest
    assert manifests.stamps(folder, [*manifest, "none"]).keys() == manifest.keys()


@pytest.mark.parametrize(
    ("damage", "path", "what"),
    [
        (lambda folder: (folder / "run").unlink(), "run", "is missing"),
        (lambda folder: (folder / "run").write_bytes(b""), "run", "is empty"),
        (lambda folder: (folder / "run").write_bytes(b"#!/b"), "run", "has 4 of 10 bytes"),
        (lambda folder: (folder / "run").write_bytes(b"\0" * 10), "run", "has other content"),
        (lambda folder: (folder / "run").chmod(0o640), "run", "is no longer executable"),
        (lambda folder: (folder / "python").unlink(), "python", "is missing"),
    ],
)
def test_what_is_wrong_is_found_by_content(folder: Path, damage: Any, path: str, what: str) -> None:
    manifest = manifests.take(folder)
    before = manifests.stamps(folder, manifest)
    assert manifests.compare(folder, manifest) == {}
    damage(folder)
    assert manifests.compare(folder, manifest) == {path: what}
    assert manifests.stamps(folder, manifest) != before, "so that it is looked at again"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "run").unlink(),
        lambda folder: (folder / "run").write_bytes(b"#!/bin/sx\n"),
        lambda folder: (folder / "run").chmod(0o640),
        lambda folder: (folder / "notes/main.py").replace(folder / "run"),
        lambda folder: (folder / "python").unlink(),
    ],
)
def test_a_look_tells_whether_a_file_was_changed(folder: Path, change: Any) -> None:
    paths = [os.fsencode(path) for path in manifests.take(folder)]
    look = manifests.look(folder, paths, "m1")
    assert manifests.looked_at(look) == paths
    (folder / "notes/other.py").touch()  # it isn't part of it
    assert manifests.look(folder, paths, "m1") == look
    assert manifests.look(folder, paths, "m2") != look != manifests.look(folder, paths[1:], "m1")
    os.utime(folder / "run", ns=(1, (folder / "run").stat().st_mtime_ns - 1))
    assert manifests.look(folder, paths, "m1") != look
    look = manifests.look(folder, paths, "m1")
    change(folder)
    assert manifests.look(folder, paths, "m1") != look


def test_a_file_may_have_any_name(folder: Path) -> None:
    odd = b"\xff\n x"
    (folder / os.fsdecode(odd)).touch()
    assert odd in manifests.looked_at(manifests.look(folder, [*map(os.fsencode, manifests.take(folder))]))


def test_who_may_read_a_file_is_no_damage(folder: Path) -> None:
    manifest = manifests.take(folder)
    (folder / "run").chmod(0o755)
    (folder / "notes/main.py").chmod(0o644)
    assert manifests.compare(folder, manifest) == {}


def test_what_cannot_be_read_is_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a file system that is damaged itself."""
    manifest = manifests.take(folder)
    manifests._digests.clear()

    def broken(path: str, told: os.stat_result) -> str:
        raise OSError(117, "Structure needs cleaning")

    monkeypatch.setattr(manifests, "sha256", broken)
    assert manifests.compare(folder, manifest)["run"] == "can't be read (Structure needs cleaning)"


def test_a_link_that_leads_elsewhere(folder: Path) -> None:
    manifest = manifests.take(folder)
    (folder / "python").unlink()
    (folder / "python").symlink_to("/bin/sh")
    assert manifests.compare(folder, manifest) == {"python": "has other content"}


def test_what_has_come_beside_is_nobody_s_damage(folder: Path) -> None:
    manifest = manifests.take(folder)
    (folder / "core").write_text("x")
    assert manifests.compare(folder, manifest) == {}


def test_what_is_shared_by_hard_links_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifests.take(folder)
    manifests._digests.clear()
    monkeypatch.setattr(manifests, "sha256", lambda path, told: pytest.fail(f"{path} was read"))
    (folder.parent / "next").mkdir()
    for path in ("run", "python"):
        os.link(folder / path, folder.parent / "next" / path, follow_symlinks=False)
    taken = manifests.take(folder.parent / "next", manifest, manifests.stamps(folder, manifest))
    assert taken == {path: manifest[path] for path in ("run", "python")}


def test_another_file_of_that_name_is_read(folder: Path) -> None:
    manifest = manifests.take(folder)
    (folder.parent / "next").mkdir()
    (folder.parent / "next/run").write_text("#!/bin/ba\n")
    taken = manifests.take(folder.parent / "next", manifest, manifests.stamps(folder, manifest))
    assert taken["run"][2] == sha(b"#!/bin/ba\n")


def test_few_files_are_named() -> None:
    assert manifests.listed({"b": "is empty", "a": "is missing"}) == "a is missing, b is empty"
    many = {f"{number}.py": "is empty" for number in range(5)}
    assert manifests.listed(many) == "0.py is empty, 1.py is empty, 2.py is empty, and 2 more"


def test_each_file_system_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda argv, check: calls.append(argv))
    manifests.flush(tmp_path, tmp_path.parent, Path("/proc"))
    assert calls == [["sync", "--file-system", str(tmp_path.parent), "/proc"]]
    monkeypatch.undo()
    manifests.flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        manifests.flush(tmp_path / "none")


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


def test_what_is_installed_is_as_it_says(folder: Path) -> None:
    installed(folder)
    installed(folder, "another", b"import sys\n")
    assert manifests.unlike_records(folder, manifests.take(folder)) == [], (
        "of two files of one name the later one is there"
    )


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
def test_what_a_damaged_cache_has_left_is_found(folder: Path, path: str, content: bytes | None) -> None:
    installed(folder)
    file = folder / "lib/python3.13/site-packages" / path
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert manifests.unlike_records(folder, manifests.take(folder)) == ["web_kit"]


@pytest.mark.parametrize("what", ["device", "pipe", "outside", "large"])
def test_a_record_that_is_no_file_is_not_opened(folder: Path, what: str) -> None:
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
    large: manifests.Manifest = {str(record.relative_to(folder)): [0, False, ""]}
    manifest = large if what == "large" else manifests.take(folder)
    assert manifests.unlike_records(folder, manifest) == ["web_kit"]


def test_a_record_of_any_bytes(folder: Path) -> None:
    installed(folder, record="tests/__init__.py,sha256=é,9\n\udcff,\x00\n".replace("\udcff", "ÿ"))
    assert manifests.unlike_records(folder, manifests.take(folder)) == ["web_kit"]


def test_sync_knows_that_option() -> None:
    """As on every host: coreutils has had it since 8.24 (2015)."""
    assert subprocess.run(["sync", "--file-system", "/"], check=False).returncode == 0
