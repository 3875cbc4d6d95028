"""Granian on the socket of a release. Managed by Slipway (roles/release).

Its own master would make a socket of its own, and waits for ever when a worker dies: it is used for what a worker does.
"""

import asyncio
import os
import signal
import socket
import threading
import time
from pathlib import Path

import slipway_master

NO_SOCKET = Path("/nonexistent/slipway")
"""Its socket is there already; it only has to know that it is none of TCP's."""
LEAST = 128  # of a backlog, to Granian
HEAD_BYTES = 512 * 1024
IDLE_MS = 3_600_000
"""Milliseconds after which it would close an idle connection: nginx does it long before, so that no request meets a
closing one."""


def serve(worker):
    """Serve in a worker until it is told to stop."""
    import slipway_served
    from granian import Granian
    from granian._granian import SocketHolder
    from granian.http import HTTP1Settings

    options = worker.options
    interface = os.environ["SLIPWAY_INTERFACE"]

    class Here(Granian):
        """Does the work of a worker in this process."""

        def _init_shared_socket(self):
            self._ssp, self._shd = None, SocketHolder(os.dup(worker.socket.fileno()), True, self.backlog)
            self._sfd = self._shd.get_fd()
            self._sso = socket.socket(fileno=os.dup(self._sfd))

        def _spawn_worker(self, idx, target, callback_loader):
            made = super()._spawn_worker(idx, target, callback_loader)
            target, arguments = made.inner._target, made.inner._args
            made.start = lambda: target(*arguments)
            return made

        def _spawn_workers(self, spawn_target, target_loader):
            self._spawn_worker(0, spawn_target, target_loader).start()
            self.interrupt_signal = True
            self.main_loop_interrupt.set()

    def loaded(_):
        app = slipway_served.load(os.environ["SLIPWAY_APP"])
        if interface == "wsgi":
            patient(slipway_served)
            threading.Thread(target=beating, args=(worker, slipway_served), daemon=True).start()
            return slipway_served.wsgi(app)
        loop = asyncio.get_event_loop()

        def beat():
            worker.tick(slipway_served.count)
            loop.call_later(slipway_master.LOOK_EVERY, beat)

        def leave():
            told = loop.create_task(slipway_served.say_goodbye())
            told.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGINT))

        def started():
            worker.serves()
            beat()
            # Granian hears both; the WebSockets hear of the first.
            loop.call_soon(loop.add_signal_handler, signal.SIGTERM, leave)

        return slipway_served.asgi(app, started)

    threads = {"blocking_threads": options.threads} if interface == "wsgi" else {}
    Here(
        "slipway_served:app",
        uds=NO_SOCKET,
        interface=interface,
        workers=1,
        backlog=max(LEAST, options.backlog),
        backpressure=options.concurrency or None,
        http="1",
        http1_settings=HTTP1Settings(max_buffer_size=HEAD_BYTES, header_read_timeout=IDLE_MS),
        log_access=options.access_log,
        **threads,
    ).serve(target_loader=loaded)


def patient(served):
    """Let a worker of threads answer what is on its way on kept connections before Granian closes them."""
    from granian import _signals

    hears = _signals.set_sync_signals

    def leave(*_):
        served.leaving = True
        threading.Timer(served.LAST_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()

    def set_sync_signals():
        made = hears()
        signal.signal(signal.SIGTERM, leave)
        return made

    _signals.set_sync_signals = set_sync_signals


def beating(worker, served):
    """Signs of life of a worker whose main thread waits."""
    worker.serves()
    while True:
        worker.tick(served.count)
        time.sleep(slipway_master.LOOK_EVERY)


if __name__ == "__main__":
    slipway_master.main(serve, __doc__)
