"""Jobs by SAQ."""

import asyncio
import os
from typing import Any

import job
from saq import Queue

queue = Queue.from_url(os.environ["REDIS_URL"])


async def do(context: Any, *, name: str, seconds: float) -> None:
    """A job."""
    job.note("began", name)
    await asyncio.sleep(seconds)
    job.note("ended", name)


async def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    await queue.enqueue("do", name=name, seconds=seconds, timeout=120)


settings = {"queue": queue, "functions": [do], "concurrency": 2, "shutdown_grace_period_s": 60}
