"""The application: its page, its health and the notes API."""

import asyncio
import html
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Annotated

from advanced_alchemy.extensions.litestar import AsyncSessionConfig, SQLAlchemyAsyncConfig, SQLAlchemyPlugin
from litestar import Litestar, MediaType, Response, delete, get, post, route
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.params import Parameter
from litestar.static_files import create_static_files_router
from litestar.types import Scope
from msgspec import Meta, Struct
from sqlalchemy import delete as sql_delete
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from litestar_notes import diagnostics
from litestar_notes.db import Note, create_engine
from litestar_notes.shutdown import stop_event

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
log = logging.getLogger("litestar_notes")

RELEASE = os.environ.get("RELEASE_ID", "development")
FOLDER = Path(__file__).parent.parent
# The release is part of the addresses of style sheet and script, so browsers may keep both.
PAGE = Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
    title="Notes", framework="Litestar", release=html.escape(RELEASE)
)
# The page loads its own files and asks its own API, nothing else: a script that somebody gets into a note doesn't run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

NoteId = Annotated[int, Parameter(ge=1, le=2**63 - 1)]


class NewNote(Struct):
    """A note to be stored."""

    text: Annotated[str, Meta(max_length=2000)]

    def __post_init__(self) -> None:
        """Strip the text and check what is left."""
        self.text = self.text.strip()
        if not self.text or "\0" in self.text:  # PostgreSQL can't store NUL
            raise ValueError("text must not be blank or contain NUL")


@route(
    "/",
    http_method=["GET", "HEAD"],
    media_type=MediaType.HTML,
    response_headers={"Content-Security-Policy": POLICY},
    include_in_schema=False,
)
async def page() -> str:
    """Show the page; its script does the rest through the API."""
    return PAGE


@route("/healthz", http_method=["GET", "HEAD"], include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Liveness: the process answers. Asks nothing else, so that a slow database restarts no worker."""
    return {"status": "ok"}


@get("/readyz", include_in_schema=False)
async def readyz(db_session: AsyncSession) -> Response[dict[str, str | None]]:
    """Readiness: the database answers within 5 s and is migrated; 503 if not."""
    try:
        async with asyncio.timeout(5):
            await db_session.execute(select(Note.id).limit(1))
            revision = await db_session.scalar(text("SELECT version_num FROM alembic_version"))
    except Exception as error:  # whatever it is, this worker can't serve
        log.warning("not ready: %s: %s", type(error).__name__, error)
        return Response({"status": "not ready"}, status_code=503)
    return Response({"status": "ready", "revision": revision})


@get("/api/notes")
async def list_notes(db_session: AsyncSession, limit: Annotated[int, Parameter(ge=1, le=500)] = 100) -> Sequence[Note]:
    """List the newest notes."""
    return (await db_session.scalars(select(Note).order_by(Note.created_at.desc(), Note.id.desc()).limit(limit))).all()


@post("/api/notes")
async def create_note(data: NewNote, db_session: AsyncSession) -> Note:
    """Store a note."""
    note = Note(text=data.text)
    db_session.add(note)
    await db_session.commit()
    return note


@get("/api/notes/{note_id:int}")
async def get_note(note_id: NoteId, db_session: AsyncSession) -> Note:
    """Show one note."""
    note = await db_session.get(Note, note_id)
    if note is None:
        raise NotFoundException(f"There is no note {note_id}.")
    return note


@delete("/api/notes/{note_id:int}")
async def delete_note(note_id: NoteId, db_session: AsyncSession) -> None:
    """Delete one note."""
    deleted = await db_session.scalar(sql_delete(Note).where(Note.id == note_id).returning(Note.id))
    if deleted is None:
        raise NotFoundException(f"There is no note {note_id}.")
    await db_session.commit()


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Start and end of one worker process; the plugin closes the engine."""
    log.info("release %s, database %s", RELEASE, engine.url.render_as_string(hide_password=True))
    async with stop_event() as app.state.stopping:
        yield


async def log_error(error: Exception, scope: Scope) -> None:
    """Log what is answered with 500: outside its debug mode Litestar doesn't."""
    if not isinstance(error, HTTPException) or error.status_code >= 500:
        log.error("%s failed", scope["path"], exc_info=error)


engine = create_engine()

# The handlers commit themselves: with before_send_handler="autocommit" a failed commit is answered as a success.
database = SQLAlchemyAsyncConfig(engine_instance=engine, session_config=AsyncSessionConfig(expire_on_commit=False))

app = Litestar(
    [
        page,
        healthz,
        readyz,
        list_notes,
        create_note,
        get_note,
        delete_note,
        *diagnostics.handlers,
        # In production nginx answers these files and the request never gets here.
        create_static_files_router("/static", directories=[FOLDER / "static"], include_in_schema=False),
    ],
    plugins=[SQLAlchemyPlugin(database)],
    lifespan=[lifespan],
    after_exception=[log_error],
    logging_config=None,
    openapi_config=OpenAPIConfig(title="Notes", version=RELEASE),
)
