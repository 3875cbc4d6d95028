"""The database: its address, engine and tables."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from advanced_alchemy.base import IdentityBase
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import URL, Text, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column


def database_url() -> URL:
    """Address of the database, with the async driver.

    `DATABASE_URL` where it is set (PostgreSQL or SQLite, with any driver or none), else the file litestar-notes.db in
    `STATE_DIRECTORY` (systemd's name for the folder a service may write to) or in the current folder.
    """
    given = os.environ.get("DATABASE_URL")
    if not given:
        folder = os.environ.get("STATE_DIRECTORY", ".").split(":")[0]
        return URL.create("sqlite+aiosqlite", database=str(Path(folder, "litestar-notes.db")))
    url = make_url(given)
    match url.drivername.partition("+")[0]:
        case "sqlite":
            return url.set(drivername="sqlite+aiosqlite")
        case "postgres" | "postgresql":
            # Providers write libpq's parameters into the URL; asyncpg calls the first one ssl and has no second.
            ssl = {"ssl": url.query["sslmode"]} if "sslmode" in url.query else {}
            url = url.difference_update_query(["sslmode", "channel_binding"]).update_query_dict(ssl)
            return url.set(drivername="postgresql+asyncpg")
        case other:
            raise ValueError(f"DATABASE_URL: scheme {other!r} is not supported; use postgresql:// or sqlite://")


def create_engine() -> AsyncEngine:
    """Make an engine for `database_url()`; it connects on first use."""
    url = database_url()
    if url.get_backend_name() == "sqlite":
        # Several workers share the file: a writer waits up to 10 s for its turn.
        engine = create_async_engine(url, connect_args={"timeout": 10})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    # Every worker has a pool of its own, 10 connections at most, and two releases overlap while one replaces the
    # other: keep 20 per worker under the server's max_connections (100 by default).
    return create_async_engine(url, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args={"timeout": 5})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # sqlite3 opens a transaction before the first write only, which leaves a failed migration half applied:
    # switch that off, `create_engine` begins transactions itself.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer don't block each other
    cursor.execute("PRAGMA synchronous = FULL")  # with NORMAL, what was stored last is lost with the power
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


class Note(IdentityBase):
    """One note."""

    __tablename__ = "notes"

    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC, default=lambda: datetime.now(UTC), index=True)
