"""What each job of each app here does: it takes a while, and writes down that it began and that it ended."""

import os
import time
from pathlib import Path


def do(name: str, seconds: float) -> None:
    """A job."""
    note("began", name)
    time.sleep(seconds)
    note("ended", name)


def note(what: str, name: str) -> None:
    """Add a line to the log: what happened to a job, and to which, by which release."""
    with Path(os.environ["STATE_DIRECTORY"], "log").open("a") as file:
        file.write(f"{what} {name} {os.environ.get('RELEASE_ID', '-')}\n")
