"""Jobs by arq."""

import asyncio
import os
from typing import Any

import job
from arq import create_pool
from arq.connections import RedisSettings

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


async def do(context: Any, name: str, seconds: float) -> None:
    """A job."""
    job.note("began", name)
    await asyncio.sleep(seconds)
    job.note("ended", name)


async def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    pool = await create_pool(REDIS)
    await pool.enqueue_job("do", name, seconds)
    await pool.aclose()


class WorkerSettings:
    """What `arq work.WorkerSettings` runs."""

    redis_settings = REDIS
    functions = (do,)
    max_jobs = 2
    job_completion_wait = 60
