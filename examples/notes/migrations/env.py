"""Alembic's environment: runs the migrations over the application's own async engine."""

import asyncio
import logging

from alembic import context
from sqlalchemy import Connection

from notes.db import Base, create_engine, database_url

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


def run(connection: Connection) -> None:
    """Run the revisions asked for, all in the transaction that `connection` is in."""
    if connection.dialect.name == "postgresql":
        # Waiting for a lock blocks every query that queues up behind it: better to fail and be run again.
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Connect and migrate: all revisions are applied, or none."""
    engine = create_engine()
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def run_offline() -> None:
    """Write the migrations as SQL (`alembic upgrade head --sql`)."""
    context.configure(url=database_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
