"""A path that the app couldn't write: the failure ends with the setting that cures it."""

# ruff: noqa: E501  (a table: one message a line)

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.release import denied

from tests.unit.host.prepared import Place, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A release of a project in a folder of its repository."""
    made = place_at(tmp_path, monkeypatch)
    made.app.wanted["source"]["subdir"] = "web"
    made.add("r1", "started")
    code = made.at.folder("r1") / "web/pkg"
    code.mkdir(parents=True)
    (code / "main.py").write_text("")
    (code.parent / "state.json").write_text("")
    return made


LIES = "lies in the release, which the app can't change."
OUTLIVES = "what is there outlives releases."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("OSError: [Errno 30] Read-only file system: 'logs'", f'logs {LIES} Set shared to ["logs"]: {OUTLIVES}'),
        ("OSError: [Errno 30] Read-only file system: '{work}/logs/app.log'", f'logs/app.log {LIES} Set shared to ["logs"]: {OUTLIVES}'),
        ("PermissionError: [Errno 13] Permission denied: 'state.json'", f'state.json {LIES} Set shared_files to {{"state.json": {{"writable": True}}}}.'),
        ("OSError: [Errno 30] Read-only file system: 'pkg/cache.db'", f'pkg/cache.db {LIES} Set shared_files to {{"pkg/cache.db": {{"writable": True}}}}.'),
        ("FileNotFoundError: [Errno 2] No such file or directory: '{work}/logs/app.log'", f'logs/app.log {LIES} Set shared to ["logs"]: {OUTLIVES}'),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'pkg/missing.toml'", ""),
        ("Error: EROFS: read-only file system, mkdir '{work}/cache'", f'cache {LIES} Set shared to ["cache"]: {OUTLIVES}'),
        ("mkdir: cannot create directory 'tmp': Read-only file system", f'tmp {LIES} Set shared to ["tmp"]: {OUTLIVES}'),
        ("  File \"<frozen os>\", line 5, in makedirs\nOSError: [Errno 30] Read-only file system: '.data'", f'.data {LIES} Set shared to [".data"]: {OUTLIVES}'),
        ("OSError: [Errno 30] Read-only file system: '.secret'", f'.secret {LIES} Set shared_files to {{".secret": {{"writable": True}}}}.'),
        ("mkdir: cannot create directory \u2018tmp\u2019: Permission denied", f'tmp {LIES} Set shared to ["tmp"]: {OUTLIVES}'),
        ("OSError: [Errno 30] Read-only file system: '{folder}/other/x'", "{folder}/other/x lies in the release, but outside of the app's folder: give the app another path."),
        ("OSError: [Errno 30] Read-only file system: '/data/x'", "/data/x is read-only for the app, which may write to {home} (its STATE_DIRECTORY), TMPDIR, and what shared and shared_files name in its folder."),
        ("PermissionError: [Errno 13] Permission denied: '/etc/shadow'", ""),
        ("OSError: [Errno 30] Read-only file system: 'first'\nOSError: [Errno 30] Read-only file system: 'last'", f'last {LIES} Set shared to ["last"]: {OUTLIVES}'),
        ("ModuleNotFoundError: No module named 'x'", ""),
        (f"OSError: [Errno 30] Read-only file system: 'logs'\nNo such file or directory: '{'a' * 5000}/b'", f'logs {LIES} Set shared to ["logs"]: {OUTLIVES}'),
        (f"Read-only file system: 'pkg/{'a' * 5000}'", ""),
    ],
)  # fmt: skip
def test_the_setting_that_cures_it_is_named(place: Place, text: str, told: str) -> None:
    names = {"work": place.app.work("r1"), "folder": place.at.folder("r1"), "home": place.at.home}
    for name, path in names.items():
        text, told = text.replace(f"{{{name}}}", str(path)), told.replace(f"{{{name}}}", str(path))
    assert denied.advice(place.app, "r1", text, built=True) == (f"\n{told}" if told else "")


def test_folders_that_are_shared_already_stay(place: Place) -> None:
    place.app.wanted["shared"] = {"folders": ["media"]}
    told = denied.advice(place.app, "r1", "[Errno 30] Read-only file system: 'logs'", built=True)
    assert 'Set shared to ["media", "logs"]' in told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite+aiosqlite:///./data/app.db", 'Set shared to ["data"]'),
        ("sqlite:///app.db", 'Set shared_files to {"app.db": {"writable": True}}.'),
        ("postgresql://db/notes", 'name it in shared_files, as {"db.sqlite3": {"writable": True}}'),
        ("sqlite:////elsewhere/app.db", "or let it lie in "),
    ],
)
def test_a_database_is_found_by_its_url(place: Place, url: str, told: str) -> None:
    place.at.env("r1").write_text(f'DATABASE_URL="{url}"\n')
    text = "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file"
    assert told in denied.advice(place.app, "r1", text, built=True)


def test_a_build_may_write_to_the_release(place: Place) -> None:
    told = denied.advice(place.app, "r1", "EROFS: read-only file system, mkdir '/opt/x'", built=False)
    assert told == "\n/opt/x is read-only for a build, which may write to its folder, HOME and TMPDIR."
    assert denied.advice(place.app, "r1", "[Errno 13] Permission denied: 'dist'", built=False) == ""
