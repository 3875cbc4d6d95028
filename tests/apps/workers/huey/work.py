"""Jobs by Huey."""

import os

import job
from huey import RedisHuey

huey = RedisHuey("work", url=os.environ["REDIS_URL"])


@huey.task()
def do(name: str, seconds: float) -> None:
    """A job."""
    job.do(name, seconds)


def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    do(name, seconds)
