"""Jobs by Dramatiq."""

import os

import dramatiq
import job
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))


@dramatiq.actor
def do(name: str, seconds: float) -> None:
    """A job."""
    job.do(name, seconds)


def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    do.send(name, seconds)
