"""Tells how many notes there are."""

import os
from pathlib import Path

from advanced_alchemy.extensions.litestar import AlembicAsyncConfig, SQLAlchemyAsyncConfig, SQLAlchemyPlugin
from litestar import Litestar, MediaType, get
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

config = SQLAlchemyAsyncConfig(
    connection_string=os.environ["DATABASE_URL"],
    alembic_config=AlembicAsyncConfig(script_location=str(Path(__file__).parent / "db/migrations")),
)


@get("/", media_type=MediaType.TEXT)
async def count(db_session: AsyncSession) -> str:
    """The number of notes."""
    return str((await db_session.execute(text("SELECT count(*) FROM notes"))).scalar())


app = Litestar([count], plugins=[SQLAlchemyPlugin(config=config)])
