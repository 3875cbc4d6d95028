"""Build: what its commands are, what is reused, and who may read the release in the end."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import build, environment, guest
from slipway_host.release.trees import Strange

from tests.unit.host.prepared import GROUP, IDS, PYTHONS, Place, failure, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_at(tmp_path, monkeypatch)


@pytest.fixture
def project(place: Place) -> Path:
    """A release that was fetched: a project with its lock file."""
    folder = place.at.folder("r1")
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "uv.lock").write_text("version = 1\n")

    def sync(line: str) -> None:
        for name in ("gunicorn", "python"):
            path = place.at.venv("r1") / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o755)

    place.system.doing["uv sync"] = sync
    place.system.printing["du -sm"] = f"7\t{place.at.uv_cache}\n"
    return folder


def test_a_build(place: Place, project: Path) -> None:
    """Each command in a unit of its own; nothing of it is left when root takes the files over."""
    assert build.build(place.app, "r1") is None
    sync, own, closed, *_, compiled, owned = place.system.calls
    assert " -- find " in closed and "--property PrivateNetwork=yes " in closed
    for unit in (sync, compiled):
        assert unit.startswith("systemd-run --quiet --wait --pipe --collect --unit notes-build ")
    uv = place.layout.uv
    words = "sync --locked --no-default-groups --inexact --compile-bytecode --python 3.13"
    assert sync.endswith(f" -- {uv} {words} --no-install-local")
    assert own.endswith(f" -- {uv} {words} --only-install-local")
    assert "--property ExecStartPre=+nft -f " in sync and "PrivateNetwork" not in sync
    assert compiled.endswith(f" -- {project}/.venv/bin/python -ISm compileall -q -x /\\.venv/ {project}")
    assert "--property PrivateNetwork=yes " in compiled
    assert owned == f"take over {project} 0 {GROUP} ['{PYTHONS}']"
    record = place.app.record("r1")
    assert re.fullmatch(r"[0-9a-f]{64}", record["environment"])
    assert place.app.damage("r1") == {} and record["manifest"], "it is described as it is"


@pytest.mark.parametrize("path", ["pyproject.toml", "uv.lock"])
def test_a_source_whose_files_are_links(place: Place, project: Path, path: str) -> None:
    """Those that stay in it are followed."""
    (project / path).rename(project / "real")
    (project / path).symlink_to("./real")
    build.build(place.app, "r1")
    (project / path).unlink()
    (project / path).symlink_to("/dev/zero")
    assert failure(build.build, place.app, "r1") == f"{path}: a link leads out of the folder."
    (project / path).unlink()
    os.mkfifo(project / path)
    assert failure(build.build, place.app, "r1") == f"{path} is no regular file."


def test_what_is_not_over_is_not_taken_over(place: Place, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "processes", lambda user: [17])
    assert failure(build.build, place.app, "r1").startswith("Processes of the build are left (17)")
    assert place.system.matching("take over") == []


def test_what_has_no_place_in_a_release(place: Place, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(*_: Any) -> None:
        raise Strange("pipe is a pipe.")

    monkeypatch.setattr(guest, "take_over", unfit)
    assert failure(build.build, place.app, "r1") == "pipe is a pipe."


@pytest.mark.parametrize("output", ["Failed to start transient service unit: Access denied", ""])
def test_a_compiling_that_was_not_run_is_told(place: Place, project: Path, output: str) -> None:
    place.system.failing["compileall"] = output
    place.system.codes["compileall"] = 1 if output else 226
    told = failure(build.build, place.app, "r1")
    assert told.endswith(f"couldn't be run in notes-build.service:\n{output}")
    assert place.system.matching("take over") == []


def test_what_cannot_be_compiled_is_only_slower(place: Place, project: Path) -> None:
    place.system.failing["compileall"] = "*** Error compiling 'template.py'...\nFailed to start transient service unit"
    build.build(place.app, "r1")
    assert place.system.matching("take over")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "pyproject.toml",
            "There is no pyproject.toml in the root of the source: set source.subdir to the app's folder.",
        ),
        (
            "uv.lock",
            (
                "The source has no uv.lock: `uv lock` in the project, commit it, and run again; or set "
                "dependencies.hashes to False, and the first build pins what the project names."
            ),
        ),
        ("gunicorn", "The environment has no gunicorn: see what the packages of the app's server install."),
    ],
)
def test_a_build_that_cannot_be(place: Place, project: Path, spoil: str, message: str) -> None:
    if spoil == "gunicorn":
        place.system.doing.clear()
    else:
        (project / spoil).unlink()
    assert failure(build.build, place.app, "r1") == message


def test_a_member_of_a_workspace(place: Place, project: Path) -> None:
    """Its lock file lies above it, and is part of what its environment is made from."""
    place.app.wanted["source"]["subdir"] = "apps/notes"
    assert "There is no pyproject.toml in apps/notes of" in failure(build.build, place.app, "r1")
    (project / "apps/notes").mkdir(parents=True)
    (project / "apps/notes/pyproject.toml").write_text("[project]\n")
    build.build(place.app, "r1")
    before = place.app.record("r1")["environment"]
    (project / "pyproject.toml").write_text("[tool.uv]\n")
    build.build(place.app, "r1")
    assert place.app.record("r1")["environment"] != before


def test_a_lock_file_outside_the_source_does_not_count(place: Place, project: Path) -> None:
    (project / "uv.lock").rename(place.at.releases / "uv.lock")
    assert failure(build.build, place.app, "r1").startswith("The source has no uv.lock")


# ── what is reused ───────────────────────────────────────────────────────────────────────────────────────────────────


def environment_of(place: Place, release: str, made_from: str) -> None:
    """A good release whose environment can be taken along."""
    place.add(release, environment=made_from)
    venv = place.at.venv(release)
    (venv / "lib/python3.13/site-packages").mkdir(parents=True)
    (venv / "bin/python").symlink_to(f"{PYTHONS}/bin/python3.13")
    place.app.describe(release)


def test_a_build_from_empty_caches(place: Place, project: Path) -> None:
    """Whatever an earlier build left: caches, home, the copy of the repository, and other releases' environments."""
    build.build(place.app, "r1")
    shutil.rmtree(project / ".venv")
    environment_of(place, IDS[0], place.app.record("r1")["environment"])
    folders = [place.at.uv_cache / "archive", place.at.builder_home / ".config", place.at.mirror]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    other = place.layout.mirrors / "other.git"
    other.mkdir()
    place.system.calls.clear()
    place.app.request["fresh"] = True
    assert build.build(place.app, "r1") is None
    assert place.system.matching("uv sync") and not any(folder.exists() for folder in folders) and other.exists()
    for folder in (place.at.uv_cache, place.at.builder_home):
        assert place.system.owners[folder.name] == ("_notes", "_notes")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("change", [None, "uv.lock", "pyproject.toml", "python", "index"])
def test_a_build_uses_the_environment_unless_something_of_it_changed(
    place: Place, project: Path, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    build.build(place.app, "r1")
    made_from = place.app.record("r1")["environment"]
    place.system.calls.clear()
    shutil.rmtree(project / ".venv")
    environment_of(place, IDS[0], made_from)
    adopted: list[tuple[str, str]] = []

    def adopt(app: Any, base: str, release: str) -> Path:
        adopted.append((base, release))
        partial = place.at.partial(release)
        partial.mkdir()
        return partial

    monkeypatch.setattr(environment, "adopt", adopt)
    if change == "python":
        place.app.wanted["python"] = "3.12"
    elif change == "index":
        place.app.wanted["uv_env"]["UV_INDEX_URL"] = "https://other.example.com"
    elif change:
        (project / change).write_text("# changed\n")
    note = build.build(place.app, "r1")
    if change:
        assert note is None and adopted == [] and place.system.matching("uv sync")
    else:
        assert note == f"the environment of {IDS[0]}" and adopted == [(IDS[0], "r1")]
        assert place.system.matching("uv sync") == [] and place.at.venv("r1").is_dir()
        compiled = place.system.matching("compileall")[0]
        assert f"{PYTHONS}/bin/python3.13 -ISm compileall" in compiled, "the environment isn't there yet"
        assert place.app.record("r1")["environment"] == made_from, "the next one may take it from this one"


# ── who may read a release ───────────────────────────────────────────────────────────────────────────────────────────


def test_nginx_may_read_the_static_files_and_nothing_else(place: Place) -> None:
    folder = place.at.folder("r1")
    (folder / "web/static").mkdir(parents=True)
    for path in (folder, folder / "web"):
        path.chmod(0o750)
    place.app.wanted["static"] = "web/static"
    place.at.releases.chmod(0o750)
    build.own(place.app, "r1")
    assert place.system.calls == [
        f"take over {folder} 0 {GROUP} ['{PYTHONS}']",
        f"chmod -R o=rX {folder}/web/static",
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "web")] == [0o751, 0o751]
    assert stat.S_IMODE(place.at.releases.stat().st_mode) == 0o750


@pytest.mark.parametrize("static", ["none", "file", "outside", "../../../.."])
def test_static_files_are_a_folder_of_the_release(place: Place, static: str) -> None:
    folder = place.at.folder("r1")
    folder.mkdir()
    (folder / "file").write_text("")
    (folder / "outside").symlink_to(place.at.etc)
    place.app.wanted["static"] = static
    message = failure(build.own, place.app, "r1")
    assert re.fullmatch(r"static\.path: .* is no folder inside the app's source\. If .*", message)
    assert len(place.system.calls) == 1
