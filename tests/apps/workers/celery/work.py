"""Jobs by Celery, and one that its scheduler starts each second."""

import os

import job
from celery import Celery

celery = Celery("work", broker=os.environ["REDIS_URL"])
celery.conf.beat_schedule = {"tick": {"task": "work.do", "schedule": 1.0, "args": ("tick", 0)}}


@celery.task
def do(name: str, seconds: float) -> None:
    """A job."""
    job.do(name, seconds)


def add(name: str, seconds: float) -> None:
    """Add a job to the queue."""
    do.delay(name, seconds)
