"""The application: its page, its health and the notes API."""

import asyncio
import html
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from notes import diagnostics
from notes.db import Note, create_engine
from notes.shutdown import stop_event

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
log = logging.getLogger("notes")

RELEASE = os.environ.get("RELEASE_ID", "development")
FOLDER = Path(__file__).parent.parent
# The release is part of the addresses of style sheet and script, so browsers may keep both.
PAGE = Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
    title="Notes", framework="FastAPI", release=html.escape(RELEASE)
)
# The page loads its own files and asks its own API, nothing else: a script that somebody gets into a note doesn't run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

engine = create_engine()
sessions = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start and end of one worker process."""
    log.info("release %s, database %s", RELEASE, engine.url.render_as_string(hide_password=True))
    async with stop_event() as app.state.stopping:
        yield
    await engine.dispose()


async def get_session() -> AsyncIterator[AsyncSession]:
    """A database session for one request; what isn't committed is rolled back."""
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
NoteId = Annotated[int, PathParameter(ge=1, lt=2**63)]


class NewNote(BaseModel):
    """A note to be stored."""

    # Any text but the character NUL, which PostgreSQL can't store.
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]


class StoredNote(BaseModel):
    """A note as the API shows it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    text: str
    created_at: datetime


app = FastAPI(title="Notes", version=RELEASE, lifespan=lifespan)
app.include_router(diagnostics.router)
# In production nginx answers these files and the request never gets here.
app.mount("/static", StaticFiles(directory=FOLDER / "static"))


@app.exception_handler(RequestValidationError)
async def refuse(_request: Request, error: RequestValidationError) -> Response:
    """Say where and what is wrong. FastAPI's own handler repeats the input, and fails on NaN or half a character."""
    detail = [{"loc": problem["loc"], "msg": problem["msg"]} for problem in error.errors()]
    return JSONResponse({"detail": detail}, status_code=422)


@app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """Show the page; its script does the rest through the API."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Liveness: the process answers. Asks nothing else, so that a slow database restarts no worker."""
    return {"status": "ok"}


@app.get("/readyz", include_in_schema=False)
async def readyz(session: Session) -> Response:
    """Readiness: the database answers within 5 s and is migrated; 503 if not."""
    try:
        async with asyncio.timeout(5):
            await session.execute(select(Note.id).limit(1))
            revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
    except Exception as error:  # whatever it is, this worker can't serve
        log.warning("not ready: %s: %s", type(error).__name__, error)
        return JSONResponse({"status": "not ready"}, status_code=503)
    return JSONResponse({"status": "ready", "revision": revision})


@app.get("/api/notes", response_model=list[StoredNote])
async def list_notes(session: Session, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Sequence[Note]:
    """List the newest notes."""
    return (await session.scalars(select(Note).order_by(Note.created_at.desc(), Note.id.desc()).limit(limit))).all()


@app.post("/api/notes", status_code=201, response_model=StoredNote)
async def create_note(new: NewNote, session: Session) -> Note:
    """Store a note."""
    note = Note(text=new.text)
    session.add(note)
    await session.commit()
    return note


@app.get("/api/notes/{note_id}", response_model=StoredNote)
async def get_note(note_id: NoteId, session: Session) -> Note:
    """Show one note."""
    note = await session.get(Note, note_id)
    if note is None:
        raise HTTPException(404, f"There is no note {note_id}.")
    return note


@app.delete("/api/notes/{note_id}", status_code=204)
async def delete_note(note_id: NoteId, session: Session) -> None:
    """Delete one note."""
    deleted = await session.scalar(delete(Note).where(Note.id == note_id).returning(Note.id))
    if deleted is None:
        raise HTTPException(404, f"There is no note {note_id}.")
    await session.commit()
