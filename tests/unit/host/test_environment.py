"""A release's environment: what uv is told, what becomes of a damaged cache, and what another release's is good for."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import builder, environment
from slipway_host.release.locks import Lock
from slipway_host.system import Done, System

from tests.unit.host.prepared import IDS, PYTHONS, Place, RealCommands, failure, place_at, tree

LOCK = b"version = 1\n"


def lock_of(content: bytes = LOCK, kind: str = "uv", path: str = "uv.lock") -> Lock:
    return Lock(kind, path, [content], builds=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return fetched(place_at(tmp_path, monkeypatch))


def fetched(place: Place) -> Place:
    """The release r1 was fetched, and uv installs what it is to have."""
    place.at.folder("r1").mkdir()

    def sync(line: str) -> None:
        for name in ("gunicorn", "python"):
            path = place.at.venv("r1") / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o755)

    place.system.doing["uv sync"] = sync
    place.system.printing["du -sm"] = f"7\t{place.at.uv_cache}\n"
    return place


def sync(place: Place) -> None:
    environment.sync(place.app, "r1", lock_of())


def given_to_uv(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], list[str]]]:
    """Environment and secrets of each command of the build."""
    given: list[tuple[dict[str, str], list[str]]] = []
    run = builder.run

    def noted(app: Any, release: str, argv: Any, environment: dict[str, str], **options: Any) -> Done:
        given.append((environment, list(options.get("secrets", ()))))
        return run(app, release, argv, environment, **options)

    monkeypatch.setattr(builder, "run", noted)
    return given


# ── uv ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_uv_is_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given = given_to_uv(place, monkeypatch)
    place.at.build_environment.write_text(json.dumps({"PASSWORD": "s3cr3t"}))
    place.app.wanted["uv_env"]["UV_INDEX_URL"] = "https://index.example.com"
    sync(place)
    assert given[0] == (
        {
            "PASSWORD": "s3cr3t",
            "UV_CACHE_DIR": f"{place.at.cache}/uv",
            "UV_INDEX_URL": "https://index.example.com",
            "UV_LINK_MODE": "copy",
            "UV_NO_PROGRESS": "1",
            "UV_PROJECT_ENVIRONMENT": f"{place.at.folder('r1')}/.venv",
            "UV_PYTHON_INSTALL_DIR": PYTHONS,
            "XDG_CONFIG_DIRS": f"{place.at.cache}/config",
            "XDG_CONFIG_HOME": f"{place.at.cache}/config",
        },
        ["s3cr3t"],
    )
    assert "s3cr3t" not in "".join(place.system.calls)
    assert (place.at.cache / "config/uv/uv.toml").read_bytes() == b"", "a builder's own settings don't count"


def test_only_what_is_listed_is_built(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (
        b'version = 1\n\n[[package]]\nname = "web-kit"\nversion = "1"\ndependencies = [\n    { name = "idna" },\n]\n\n'
        b'[[package]]\nname = "idna"\nversion = "3"\n\n[[package]]\nname = "notes"\nsource = { editable = "." }\n'
    )
    given = given_to_uv(place, monkeypatch)
    for only, refused in ((None, None), ([], "idna notes web-kit"), (["Web_Kit", "notes"], "idna")):
        place.app.wanted["build"]["only"] = only
        given.clear()
        environment.sync(place.app, "r1", lock_of(lock))
        assert given[0][0].get("UV_NO_BUILD_PACKAGE") == refused


def test_a_failed_build_hides_its_secrets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"PASSWORD": "s3cr3t", "LONGER": "s3cr3t-and-more", "EMPTY": ""}
    place.at.build_environment.write_text(json.dumps(secrets))
    fails = "echo '401 for https://u:s3cr3t-and-more@x and s3cr3t'; exit 2"
    monkeypatch.setattr(
        place.system, "run", lambda *argv, **given: System.run(place.system, "/bin/sh", "-c", fails, **given)
    )
    assert failure(sync, place) == "The dependencies of uv.lock can't be installed:\n401 for https://u:***@x and ***"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.",
            "uv.lock is older than pyproject.toml: `uv lock` in the project, commit it, and run again.",
        ),
        (
            "error: No interpreter found for Python 3.13 in managed installations",
            "Python 3.13 isn't installed on this host: `slipway apply` installs it.",
        ),
        (
            "hint: Wheels are required because building from source is disabled (i.e., with `--no-build`)",
            "The package has no wheel for this host: add it to build_only, if its code may run in the build.",
        ),
        ("error: no such host", None),
    ],
)
def test_what_to_do_about_a_failed_build(place: Place, said: str, advice: str | None) -> None:
    place.system.failing = {"uv sync": said}
    assert failure(sync, place).splitlines()[1:] == [said, *([advice] if advice else [])]


def test_an_environment_without_what_the_server_needs(place: Place) -> None:
    place.app.wanted["programs"] = ["granian"]
    told = "The environment has no granian: see what the packages of the app's server install."
    assert failure(sync, place) == told
    (place.at.venv("r1") / "bin/python").unlink()
    del place.system.doing["uv sync"]
    del place.app.wanted["programs"]
    assert failure(sync, place).startswith("The environment has no python: ")


def test_any_environment_has_a_python(place: Place) -> None:
    del place.app.wanted["programs"]
    sync(place)


# ── caches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("size", "cleaned"), [("2048", False), ("2049", True), ("odd", True)])
@pytest.mark.parametrize("name", ["uv", "home"])
def test_a_cache_does_not_grow_for_ever(place: Place, size: str, cleaned: bool, name: str) -> None:
    folder = place.at.cache / name
    (folder / "left").mkdir(parents=True)
    said = "du: cannot access '/x/9\t9': Structure needs cleaning\n"
    place.system.printing = {f"du -sm {folder}": f"{said}{size}\t{folder}\n", "du -sm": "7\tx\n"}
    sync(place)
    assert folder.is_dir() and (folder / "left").exists() is not cleaned


def test_uvs_locks_are_closed(place: Place) -> None:
    """It lets everybody write to them."""
    sync(place)
    (closed,) = place.system.matching(" -- find ")
    assert closed.endswith(f" -- find {place.at.uv_cache} -type f -perm -o+w -exec chmod o-w {{}} +")


def test_a_build_from_a_damaged_cache_is_made_once_more_without_it(place: Place) -> None:
    """Once: what differs from its own RECORD even then says something wrong of itself, and is let be."""
    plain = place.system.doing["uv sync"]

    def damaged(line: str) -> None:
        plain(line)
        record = place.at.venv("r1") / "lib/python3.13/site-packages/web_kit-1.0.dist-info/RECORD"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()

    place.system.doing["uv sync"] = damaged
    sync(place)
    ran = place.system.matching("bin/uv ")
    told = [call.partition("bin/uv ")[2].partition(" --")[0] for call in ran]
    assert told == ["sync", "sync", "sync"], "and no clean"
    assert ran[1].endswith(" --no-cache"), "the cache may be right: web_kit differs without it"
    assert ran[2].endswith(" --only-install-local")
    assert place.said() == [
        "web_kit differs from its RECORD; the dependencies are installed once more, without uv's cache"
    ]


def test_a_cache_that_uv_cannot_read_is_cleaned(place: Place) -> None:
    class Failing(dict[str, str]):
        def items(self) -> Any:
            done = place.system.matching("--no-cache")
            return [] if done else super().items()

    place.system.failing = Failing({"--python 3.13": "error: The wheel is invalid: Metadata field Name not found"})
    sync(place)
    assert place.system.matching("uv cache clean")


def test_an_environment_that_is_a_link_is_not_read(place: Place) -> None:
    place.at.venv("r1").symlink_to("/")
    assert environment.unlike_records(place.app, "r1") == []


# ── the standard library ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def library(place: Place, tmp_path: Path) -> Path:
    """The standard library of a Python that uv has installed."""
    folder = tmp_path / "python/cpython-3.13.1/lib/python3.13"
    folder.mkdir(parents=True)
    for name in ("abc", "zipimport"):
        (folder / f"{name}.py").touch()
    place.app.wanted["uv_env"] = {"UV_PYTHON_INSTALL_DIR": str(tmp_path / "python")}
    return folder


def test_the_standard_library_is_compiled_once(place: Place, library: Path) -> None:
    """The app may not write there, so that each of its starts would do it."""
    python = str(library.parents[1] / "bin/python3.13")

    def compiled() -> int:
        place.system.calls.clear()
        environment.compile_library(place.app, python)
        return len(place.system.matching(f"{python} -IS -m compileall "))

    assert compiled() == 1 and place.system.calls[0].endswith(f" {library}")
    (library / "__pycache__").mkdir()
    (library / "__pycache__/abc.cpython-313.pyc").touch()
    assert compiled() == 1, "it was killed before the end"
    (library / "__pycache__/zipimport.cpython-313.pyc").touch()
    assert compiled() == 0
    place.system.failing["compileall"] = "a file that can't be"
    (library / "new.py").touch()
    assert compiled() == 1, "which is slower, and no more"


def test_the_standard_library_of_another_python_is_not_ours(place: Place, library: Path, tmp_path: Path) -> None:
    python = str(library.parents[1] / "bin/python3.13")
    place.app.wanted["uv_env"] = {"UV_PYTHON_INSTALL_DIR": PYTHONS}
    environment.compile_library(place.app, python)
    environment.compile_library(place.app, str(tmp_path / "nowhere/bin/python3.13"))
    place.app.wanted["uv_env"] = {}
    environment.compile_library(place.app, python)
    assert place.system.calls == []


# ── an environment that is there already ─────────────────────────────────────────────────────────────────────────────


def environment_of(place: Place, release: str, made_from: str = "e1") -> Path:
    """A good release with an environment; returns its packages' folder."""
    place.add(release, environment=made_from)
    venv = place.at.venv(release)
    packages = venv / "lib/python3.13/site-packages"
    (packages / "fastapi").mkdir(parents=True)
    (packages / "fastapi/__init__.py").write_text("# fastapi\n")
    (packages / "fastapi-1.dist-info").mkdir()
    (packages / "distutils-precedence.pth").write_text("import os\n")
    (venv / "bin/gunicorn").write_text(f"#!{venv}/bin/python\nmain()\n")
    (venv / "bin/activate").write_text(f"VIRTUAL_ENV='{venv}'\n. {venv}/x\n")
    (venv / "bin/activate").chmod(0o640)
    (venv / "bin/tool").write_text("#!/bin/sh\n")
    (venv / "bin/python").symlink_to(f"{PYTHONS}/bin/python3.13")
    place.app.describe(release)
    return packages


def test_the_newest_release_of_the_same_environment_is_used(place: Place) -> None:
    assert environment.reusable(place.app, "e1") is None
    for each in IDS[:2]:
        environment_of(place, each)
    environment_of(place, IDS[2], "e2")
    place.add(IDS[3], "failed", environment="e1")
    assert environment.reusable(place.app, "e1") == IDS[1]
    assert environment.reusable(place.app, "e2") == IDS[2]
    assert environment.reusable(place.app, "e3") is None


def test_a_damaged_environment_is_not_used(place: Place) -> None:
    for each in IDS[:2]:
        environment_of(place, each)
    (place.at.venv(IDS[1]) / "bin/gunicorn").unlink()
    assert environment.reusable(place.app, "e1") == IDS[0]


def test_an_environment_without_packages_is_not_taken_along(place: Place) -> None:
    """Somebody removed them."""
    place.add(IDS[0], environment="e1")
    assert environment.reusable(place.app, "e1") is None


@pytest.mark.parametrize(
    "file",
    ["_notes.pth", "__editable__.notes-1.0.pth", "__editable___notes_finder.py", "notes-1.dist-info/direct_url.json"],
)
def test_an_environment_that_names_its_release_is_not_used(place: Place, file: str) -> None:
    """A project that is installed as a package would be that of the release before."""
    packages = environment_of(place, IDS[0])
    (packages / file).parent.mkdir(exist_ok=True)
    (packages / file).write_text(f'{{"url": "file://{place.at.folder(IDS[0])}"}}')
    place.app.describe(IDS[0])
    assert environment.reusable(place.app, "e1") is None
    (packages / file).write_text('{"url": "https://example.com/fastapi.whl"}')
    place.app.describe(IDS[0])
    assert environment.reusable(place.app, "e1") == IDS[0]


def test_an_environment_is_taken_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_at(tmp_path, monkeypatch, RealCommands)
    packages = environment_of(place, IDS[0])
    before = place.at.venv(IDS[0])
    place.at.folder(IDS[1]).mkdir()
    untouched = tree(before)
    after = place.at.venv(IDS[1])
    environment.adopt(place.app, IDS[0], IDS[1]).rename(after)
    path = (packages / "fastapi/__init__.py").relative_to(before)
    assert (after / path).stat().st_ino == (before / path).stat().st_ino, "a hard link takes no room"
    assert (after / "bin/tool").stat().st_ino == (before / "bin/tool").stat().st_ino
    assert (after / "bin/gunicorn").read_text() == f"#!{after}/bin/python\nmain()\n"
    assert (after / "bin/activate").read_text() == f"VIRTUAL_ENV='{after}'\n. {after}/x\n"
    modes = {name: stat.S_IMODE((after / "bin" / name).stat().st_mode) for name in ("gunicorn", "activate")}
    assert modes == {"gunicorn": stat.S_IMODE((before / "bin/gunicorn").stat().st_mode), "activate": 0o640}
    assert place.system.owners["gunicorn"] == ("root", "notes") and "tool" not in place.system.owners
    assert (after / "bin/python").readlink() == Path(f"{PYTHONS}/bin/python3.13")
    assert tree(before) == untouched, "the release before it may serve"
