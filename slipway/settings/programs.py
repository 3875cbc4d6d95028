"""What an app runs besides the process that answers requests: processes that keep running, and jobs."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import Field

from slipway.settings import types as t
from slipway.settings.base import Model

SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")


class ProcessSettings(Model):
    """A program of each release that keeps running, such as a worker that takes jobs from a queue.

    It has the release's code and environment, and the app's sandbox and limits. It is started after the migration,
    beside those of the old release, and must keep running before the release serves. Once the new release serves, the
    old ones are told to stop. A rollback starts them again. One that ends is started again after a second.
    """

    command: Annotated[t.HookCommand, Field(examples=["celery -A notes worker"])]
    """Command that runs it, in the app's folder, with the release's bin folder first in PATH, without a shell. It must
    stay in the foreground."""
    count: Annotated[int, t.whole(1, 64, "processes")] = 1
    """How many of them run."""
    stop_signal: Annotated[str, t.one_of(*SIGNALS)] = "SIGTERM"
    """Signal that tells it to take no more work, to finish what it has, and to end. It goes to the main process
    alone."""
    stop_timeout: Annotated[int, t.whole(1, 86_400, "seconds")] = 60
    """Seconds it has for that; then it is killed. Make it longer than the longest job. No release and no rollback waits
    for it, except a rollback's own workers, which start when they have ended."""
    alive: Annotated[int, t.whole(0, 600, "seconds")] = 3
    """Seconds it must have run without ending before the release counts as working. One that connects to a broker first
    and then fails needs more."""
    alone: t.Switch = False
    """True for a scheduler: the old release's is ended before the new one starts, so that never two run. Between the
    two none runs for a moment."""
    memory_mb: Annotated[int, t.whole(16, 10_000_000, "MB")] | None = None
    """MB of memory that each of them may take, within the app's limits. None: those alone."""

    @property
    def argv(self) -> list[str]:
        """The words of its command."""
        return shlex.split(self.command)


class JobSettings(Model):
    """A program of the release that serves, which starts at a time and ends.

    It has that release's code and environment, and the app's sandbox and limits. It never runs twice at once: while it
    runs, a time that comes is passed over. A release doesn't wait for it: it goes on with the code that it was started
    with. `slipway status <app>` on the host shows how each job went, and hooks.on_job_failure is told of one that
    failed.
    """

    command: Annotated[t.HookCommand, Field(examples=["python -m notes.cleanup"])]
    """Command that runs it, in the app's folder, with the release's bin folder first in PATH, without a shell."""
    schedule: Annotated[t.Schedule, Field(examples=["30 3 * * *"])]
    """When it starts, by the host's clock and time zone: cron's five fields ("*/15 * * * *"; "@daily" and the like), or
    a calendar expression of systemd ("Mon..Fri 03:30", "hourly", "*-*-01 04:00 UTC")."""
    timeout: Annotated[int, t.whole(1, 604_800, "seconds")] = 3600
    """Seconds it may take (at most a week); then it is told to stop, and counts as failed."""
    stop_timeout: Annotated[int, t.whole(1, 86_400, "seconds")] = 30
    """Seconds it has to end when it is told to stop; then it is killed."""
    jitter: Annotated[int, t.whole(0, 86_400, "seconds")] = 0
    """Up to so many seconds later, at random, so that not all jobs of all hosts start at once."""
    catch_up: t.Switch = True
    """True: if the host was off when it should have started, it starts as soon as the host is up. False: it waits for
    the next time."""

    @property
    def argv(self) -> list[str]:
        """The words of its command."""
        return shlex.split(self.command)

    @property
    def calendars(self) -> list[str]:
        """When it starts, as systemd has it."""
        return t.calendars(self.schedule)
