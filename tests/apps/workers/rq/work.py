"""Jobs by RQ."""

import os

import job
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))


def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    queue.enqueue(job.do, name, seconds)
