"""What a release has besides its source: links to what outlives releases, and the operator's files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import sqlite3
import stat
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slipway_host.release import shared

from tests.unit.host.prepared import IDS, Place, RealCommands, failure, place_at, tree

ME = os.getuid()
OWN = ("media", "data", "db.sqlite3", "state.json")
"""Folders that are the app's."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where the app's folders are whoever's runs this."""
    made = place_at(tmp_path, monkeypatch, RealCommands)
    monkeypatch.setattr(shared, "belongs", lambda path, user: path.name in OWN)
    plain = made.system.run
    monkeypatch.setattr(
        made.system, "run", lambda *argv, **o: plain("true", *argv) if argv[0] == "chown" else plain(*argv, **o)
    )
    made.at.folder("r1").mkdir()
    return made


def link(place: Place, release: str = "r1", **wanted: Any) -> dict[str, str]:
    """Link into a release, and tell what it has then; paths of the host begin with @."""
    place.app.wanted["shared"] = wanted  # type: ignore[typeddict-item]
    shared.link(place.app, release)
    root = str(place.layout.root)
    return {path: text.replace(root, "@") for path, text in tree(place.at.folder(release)).items()}


def test_a_release_without_any_is_left_alone(place: Place) -> None:
    shared.link(place.app, "r1")
    assert link(place) == {}
    assert not place.at.shared.exists()


def test_folders_are_made_for_the_app_and_linked(place: Place) -> None:
    found = link(place, folders=["media", "var/data"])
    assert found == {"media": "-> @/srv/notes/shared/media", "var/data": "-> @/srv/notes/shared/var/data"}
    modes = {each: stat.S_IMODE((place.at.shared / each).stat().st_mode) for each in ("", "media", "var", "var/data")}
    assert modes == {"": 0o755, "media": 0o750, "var": 0o755, "var/data": 0o750}
    given = [call for call in place.system.calls if call.startswith("true chown")]
    assert given == [
        f"true chown -hR notes:notes {place.at.shared}/.media.partial",
        f"true chown -hR notes:notes {place.at.shared}/var/.data.partial",
    ]


def test_what_the_source_has_there_is_copied_once(place: Place) -> None:
    for release, text in (("r1", "first"), ("r2", "second")):
        folder = place.at.folder(release) / "media/deep"
        folder.mkdir(parents=True)
        (folder / "logo.txt").write_text(text)
        found = link(place, release, folders=["media"])
        assert found == {"media": "-> @/srv/notes/shared/media"}
    assert tree(place.at.shared) == {"media/deep/logo.txt": "first"}


def test_what_the_app_wrote_stays_with_every_release(place: Place) -> None:
    link(place, folders=["media"])
    (place.at.folder("r1") / "media/cat.txt").write_text("meow")
    place.at.folder("r2").mkdir()
    link(place, "r2", folders=["media"])
    assert (place.at.folder("r2") / "media/cat.txt").read_text() == "meow"


def test_a_copy_that_was_killed_is_begun_anew(place: Place) -> None:
    (place.at.folder("r1") / "media").mkdir()
    (place.at.folder("r1") / "media/a").write_text("whole")
    partial = place.at.shared / ".media.partial"
    partial.mkdir(parents=True)
    (partial / "a").write_text("wh")
    (partial / "b").write_text("left")
    link(place, folders=["media"])
    assert tree(place.at.shared) == {"media/a": "whole"}


def test_a_file_that_the_app_writes_lies_in_a_folder_of_its_own(place: Place) -> None:
    """SQLite writes beside its file, and finds out where that really is."""
    found = link(place, files=["db.sqlite3"])
    assert found == {"db.sqlite3": "-> @/srv/notes/shared/db.sqlite3/db.sqlite3"}
    base = sqlite3.connect(place.at.folder("r1") / "db.sqlite3")
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE note (text)")
    base.commit()
    assert {"db.sqlite3", "db.sqlite3-wal"} <= {path.name for path in (place.at.shared / "db.sqlite3").iterdir()}
    assert [path.name for path in place.at.folder("r1").iterdir()] == ["db.sqlite3"]
    base.close()


def test_a_file_of_the_source_is_its_first_content(place: Place) -> None:
    (place.at.folder("r1") / "state.json").write_text("{}")
    assert link(place, files=["state.json"]) == {"state.json": "-> @/srv/notes/shared/state.json/state.json"}
    assert (place.at.folder("r1") / "state.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"folders": ["file"]}, "shared: file is no folder in the app's source. For a file, set shared_files."),
        ({"folders": ["link"]}, "shared: link is no folder in the app's source. For a file, set shared_files."),
        ({"files": ["folder"]}, "shared_files: folder is no file in the app's source. For a folder, set shared."),
        ({"folders": ["file/x"]}, "file/x can't be put into the release: file is a file in the source."),
        ({"folders": ["out/x"]}, "out/x can't be put into the release: a link on the way leads out of it."),
    ],
)
def test_what_is_there_otherwise_is_told(place: Place, wanted: dict[str, Any], message: str) -> None:
    folder = place.at.folder("r1")
    (folder / "folder").mkdir()
    (folder / "file").write_text("")
    (folder / "link").symlink_to("folder")
    (folder / "out").symlink_to("/")
    assert failure(lambda: link(place, **wanted)) == message


def test_a_folder_of_the_app_is_never_taken_for_root_s(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the app could lead root out of it."""
    link(place, folders=["media"])
    monkeypatch.setattr(shared, "belongs", lambda path, user: path.name == "media")
    place.at.folder("r2").mkdir()
    media = place.at.shared / "media"
    told = failure(lambda: link(place, "r2", folders=["media/new"]))
    assert told == f"{media}/new can't be made: {media} is the app's own. {shared.MOVE}"
    monkeypatch.setattr(shared, "belongs", lambda path, user: False)
    told = failure(lambda: link(place, "r2", folders=["media"]))
    assert told == f"{media} isn't the app's: it has folders that were shared before. {shared.MOVE}"


# ── what nginx serves ────────────────────────────────────────────────────────────────────────────────────────────────


def acl(path: Path, name: str = "access") -> dict[tuple[int, int], int]:
    """Tag and id → permissions, of an access control list."""
    content = os.getxattr(path, f"system.posix_acl_{name}")
    entries = struct.iter_unpack("<HHI", content[4:])
    return {(tag, number): permissions for tag, permissions, number in entries}


@pytest.mark.skipif(sys.platform != "linux", reason="access control lists are Linux's here")
def test_nginx_reads_what_the_app_puts_there_whatever_its_umask(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        os.setxattr(place.at.srv, "system.posix_acl_default", struct.pack("<I", 2))
    except OSError:
        pytest.skip("this disk has no access control lists")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={"www-data": 33, "notes": ME}[name]))
    link(place, folders=["media"])
    media = place.at.shared / "media"
    (media / "before").mkdir()
    (media / "before/old.txt").write_text("")
    (media / "before/out").symlink_to("/etc/passwd")
    (media / "before/old.txt").chmod(0o640)
    place.at.folder("r2").mkdir()
    link(place, "r2", folders=["media"], served=["media"])
    old = os.umask(0o077)
    (media / "before/new").mkdir()
    (media / "before/new/file.txt").write_text("")
    os.umask(old)
    reads = {(0x02, 33): 4}
    assert acl(media / "before/old.txt").items() >= reads.items()
    assert acl(media / "before/new/file.txt").items() >= {(0x02, 33): 5, (0x10, 0xFFFFFFFF): 4}.items()
    assert acl(media / "before/new", "default").items() >= {(0x02, 33): 5}.items()
    place.at.folder("r3").mkdir()
    link(place, "r3", folders=["media"])
    lists = [name for path in (media, media / "before", media / "before/old.txt") for name in os.listxattr(path)]
    assert [name for name in lists if "acl" in name] == [], "nobody serves it any more"


@pytest.mark.skipif(sys.platform != "linux", reason="access control lists are Linux's here")
def test_nginx_reads_what_the_app_writes_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        os.setxattr(place.at.srv, "system.posix_acl_default", struct.pack("<I", 2))
    except OSError:
        pytest.skip("this disk has no access control lists")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={"www-data": 33, "notes": ME}[name]))
    link(place, folders=["media"])
    media, scandir = place.at.shared / "media", os.scandir

    @contextlib.contextmanager
    def scan(path: Any) -> Any:
        with scandir(path) as found:
            listed = list(found)
        if isinstance(path, int):  # an open folder
            (media / "upload.txt").write_text("")
        yield listed

    monkeypatch.setattr(os, "scandir", scan)
    place.at.folder("r2").mkdir()
    link(place, "r2", folders=["media"], served=["media"])
    assert "system.posix_acl_access" in os.listxattr(media / "upload.txt")


# ── the operator's files ─────────────────────────────────────────────────────────────────────────────────────────────


def give(place: Place, **files: str) -> None:
    """Put files where the operator's side puts them, and note what is asked for."""
    place.at.secret_files.mkdir(exist_ok=True)
    digests = {}
    for name, text in files.items():
        place.at.secret_file(name.replace("__", "/")).write_text(text)
        digests[name.replace("__", "/")] = hashlib.sha256(text.encode()).hexdigest()
    told = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    place.app.wanted["inputs"]["secret files"] = told


def test_a_release_has_a_copy_of_the_operators_files(place: Place) -> None:
    give(place, env="A=1\n", config__local="[mail]\n")
    (place.at.folder("r1") / "env").write_text("of the source")
    stale = place.at.secret_files / "stale"
    stale.write_text("")
    assert link(place, secrets=["config/local", "env"]) == {"config/local": "[mail]\n", "env": "A=1\n"}
    assert stat.S_IMODE((place.at.folder("r1") / "env").stat().st_mode) == 0o640
    assert place.system.owners[".env.partial"] == ("root", "notes")
    assert not stale.exists(), "no secret stays that nobody asks for"
    assert place.at.secret_file("config/local").name == "config@local"


def test_other_files_than_were_asked_for_are_refused(place: Place) -> None:
    give(place, env="A=1\n")
    place.at.secret_file("env").write_text("A=2\n")
    told = failure(lambda: link(place, secrets=["env"]))
    assert told.endswith("doesn't have the secret files this release was asked for: somebody changed them meanwhile.")


def test_a_folder_is_no_secret_file(place: Place) -> None:
    give(place, env="A=1\n")
    (place.at.folder("r1") / "env").mkdir()
    assert failure(lambda: link(place, secrets=["env"])) == "shared_files: env is a folder in the app's source."


def test_they_are_part_of_its_manifest(place: Place) -> None:
    place.add(IDS[0])
    link(place, IDS[0], folders=["media"])
    place.app.describe(IDS[0])
    assert place.app.damage(IDS[0]) == {}
    (place.at.folder(IDS[0]) / "media").unlink()
    assert place.app.damage(IDS[0]) == {"media": "is missing"}
