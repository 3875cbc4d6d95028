"""Words for a failure, and whether it is only a lock that somebody else holds."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

from slipway_host.schema.contract import first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHOWN_FRAMES = 4
SHOWN_SQL = 400  # characters
LOCKED = {"55P03", "40P01", "40001", 1205, 1213, 3572}
"""SQLSTATEs of PostgreSQL and numbers of MySQL: a lock, a deadlock, a concurrent change."""
LOCKED_TABLES = {"55P03", "40P01"}
"""The ones of PostgreSQL for a lock on a table."""
LATE = {"57014", 1969}
"""A statement was ended by a time-out of PostgreSQL or MariaDB, or by request."""


TELLING = ("alembic.", "django.core.management.", "django.db.migrations.")
"""Modules whose errors say what is wrong in the project."""


class Failed(Exception):
    """The message says why and what to do."""


class Locked(Exception):
    """Somebody else holds a lock that is needed. The message says who; it may continue the cause's message."""


def chain(error: BaseException | None) -> list[BaseException]:
    """An error, its causes, and the errors of the driver."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        orig = getattr(error, "orig", None)
        if isinstance(orig, BaseException) and orig not in seen:
            seen.append(orig)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return seen


def state_of(error: BaseException) -> Any:
    """SQLSTATE of PostgreSQL, or error number of MySQL, or None."""
    for one in chain(error):
        first = one.args[0] if one.args else None
        driver = re.match(r"(pymysql|MySQLdb|aiomysql|asyncmy|mysql|mariadb)\b", type(one).__module__)
        if driver and isinstance(first, int):  # their SQLSTATE is "general error"
            return first
        if isinstance(first, dict) and "C" in first:  # pg8000
            return first["C"]
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if state:
            return state
    return None


def is_lock(error: BaseException) -> bool:
    """Whether only a lock, a deadlock or a concurrent change ended it."""
    if state_of(error) in LOCKED:
        return True
    return any(
        type(one).__module__.partition(".")[0] in {"sqlite3", "aiosqlite"}
        and re.search(r"(database|table|schema).* is locked", str(one))
        for one in chain(error)
    )


def first_words(error: BaseException) -> str:
    """An error's message: the driver's, without SQLAlchemy's additions and without parameters."""
    orig = getattr(error, "orig", None)
    own = orig if isinstance(orig, BaseException) else error
    text = re.sub(r"^<class '[\w.]+'>: ", "", str(own).strip())  # SQLAlchemy's adapters of async drivers
    adapted = own.__cause__ if type(own).__module__.startswith("sqlalchemy.") else None
    return f"{type(adapted or own).__name__}: {text}".removesuffix(": ")


def told(error: BaseException, at: Any = None) -> str:
    """Why it failed: the place in the project's own code, then the cause.

    + at: the revision that ran (Alembic's Script), or None
    """
    if isinstance(error, Failed) or type(error).__module__.startswith(TELLING):
        return f"FAILED: {error}"
    lines = [f"FAILED in revision {at.revision} ({first_line(at)}):" if at else "FAILED:"]
    here = Path.cwd()
    ours = Path(__file__).parent
    others = [Path(path).resolve() for path in (ours, sys.prefix, Path(traceback.__file__).parent)]
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_absolute() and not any(path.resolve().is_relative_to(other) for other in others):
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            lines.append(f"  {shown}:{frame.lineno}, in {frame.name}: {frame.line}")
    lines[1:] = lines[1:][-SHOWN_FRAMES:]
    statement = " ".join((getattr(error, "statement", None) or "").split())
    if statement:
        lines.append(f"  SQL: {statement[:SHOWN_SQL]}{'…' if len(statement) > SHOWN_SQL else ''}")
    drivers = {"asyncpg", "psycopg", "sqlite3"}  # SQLAlchemy's error has said it
    lines += [
        f"  after {first_words(one)}"
        for one in chain(error)[1:]
        if one is not getattr(error, "orig", None) and type(one).__module__.partition(".")[0] not in drivers
    ]
    return "\n".join([*lines, first_words(error)])
