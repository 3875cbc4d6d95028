"""The database's address, from the environment as platforms give it."""

import pytest

from litestar_notes.db import database_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p%40ss@db/notes", "postgresql+asyncpg://u:p%40ss@db/notes"),
        ("postgresql://u@db:5433/notes", "postgresql+asyncpg://u@db:5433/notes"),
        ("postgresql+asyncpg://u@db/notes", "postgresql+asyncpg://u@db/notes"),
        ("postgres://u@db/n?sslmode=require&channel_binding=require", "postgresql+asyncpg://u@db/n?ssl=require"),
        ("sqlite:////srv/x.db", "sqlite+aiosqlite:////srv/x.db"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db"),
    ],
)
def test_database_url(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    assert database_url().render_as_string(hide_password=False) == expected


@pytest.mark.parametrize(
    ("folder", "expected"), [("/var/lib/x", "/var/lib/x/litestar-notes.db"), (None, "litestar-notes.db")]
)
def test_default_is_a_file(monkeypatch: pytest.MonkeyPatch, folder: str | None, expected: str) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if folder:
        monkeypatch.setenv("STATE_DIRECTORY", folder)
    else:
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert database_url().database == expected


def test_other_databases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:secret@db/notes")
    with pytest.raises(ValueError, match=r"'mysql' is not supported; use postgresql"):
        database_url()
