"""Ctrl-C ends a run at once, and gevent prints nothing about it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import gevent

from slipway.engine.pyinfra_api import pools

PATIENCE = 2.0
"""Seconds that disconnecting from the hosts may take; after that the run ends without it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and ends what waits for a host. What runs on the host continues.

    Python would raise it in the greenlet that runs at that moment: most often gevent's hub, which prints it, or one of
    paramiko's. And pyinfra disconnects in a pool where each command under way has a place: it would wait for them.
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
        if any(current in pool for pool in working):  # a prompt for a password, which gevent can't end
            raise gevent.GreenletExit

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        late.close()
        signal.signal(signal.SIGINT, before)
