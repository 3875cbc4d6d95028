"""^C: it ends a run at once, whatever that waits for, and without a word of gevent's about it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import gevent

from slipway.engine.pyinfra_api import pools

PATIENCE = 2.0
"""Seconds that saying goodbye to the hosts may take; one that doesn't answer any more is left without."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here, and ends what runs for a host; what runs on the host is left to itself.

    Python would raise it in whichever greenlet runs: most often in gevent's hub, which prints it, or in one of
    paramiko's. And pyinfra disconnects in a pool in which each command under way holds a place: it would wait for them.
    """
    hub = gevent.get_hub()
    main = hub.parent
    late = hub.loop.timer(PATIENCE)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        working = pools()
        for pool in working:
            pool.kill(block=False)
        if not late.active:
            late.start(main.throw, KeyboardInterrupt)
        current = gevent.getcurrent()
        if current is main:
            raise KeyboardInterrupt
        hub.loop.run_callback(main.throw, KeyboardInterrupt)
        if any(current in pool for pool in working):  # maybe at the prompt for a password, where gevent can't end it
            raise gevent.GreenletExit

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        late.close()
        signal.signal(signal.SIGINT, before)
