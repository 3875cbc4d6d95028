"""Jobs by taskiq."""

import asyncio
import os

import job
from taskiq_redis import ListQueueBroker

# Since redis 8 a read ends after 5 s by default, and with it taskiq's worker: it waits for a job without end.
broker = ListQueueBroker(os.environ["REDIS_URL"], socket_timeout=None)


@broker.task
async def do(name: str, seconds: float) -> None:
    """A job."""
    job.note("began", name)
    await asyncio.sleep(seconds)
    job.note("ended", name)


async def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    await do.kiq(name, seconds)
