"""What Gunicorn's workers and its master do more here. Managed by Slipway (roles/release)."""

import contextlib
import fcntl
import logging
import mmap
import os
import runpy
import signal
import struct
import sys
import threading
import time

import slipway_journal
import slipway_served

IDLE, ASKED, STARTING = range(3)
STATE = struct.Struct("=Bd")  # one of these, and since when
LOST_SECONDS = 30
"""After which a request for another worker has got lost: the master answers within one."""
END_SECONDS = 2
"""For hooks when a worker ends."""
IDLE_SECONDS = 2
"""That idle connections of a worker that leaves stay open, if its Gunicorn answers on them."""
HOOKS = (
    *("on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort"),
    *("pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed", "on_exit"),
)
LOGS = (
    *("loglevel", "logconfig", "logconfig_dict", "logconfig_json", "logger_class", "access_log_format"),
    *("statsd_host", "statsd_prefix", "dogstatsd_tags"),
)
"""With `HOOKS`, what counts of an app's own configuration."""


class Turns:
    """Lets workers that have had their requests be replaced one after another.

    By itself, a worker of Gunicorn's leaves when it has had them, and another is started once it has gone: until then
    there is one less, and none where all get there together. Here the master is asked for one more (SIGTTIN). When that
    one serves, it is asked for one less (SIGTTOU): it tells its oldest worker to stop, which usually is the one that
    has had most.
    """

    def __init__(self):
        self._shared = mmap.mmap(-1, STATE.size)
        self._file = os.memfd_create("slipway")

    @contextlib.contextmanager
    def _locked(self):
        """Of all workers one alone; if it dies meanwhile, the next."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _change(self, before, after):
        """Whether it was so, and is otherwise now."""
        with self._locked():
            state, since = STATE.unpack_from(self._shared)
            lost = state == ASKED == after and time.monotonic() > since + LOST_SECONDS
            if state != before and not lost:
                return False
            STATE.pack_into(self._shared, 0, after, time.monotonic())
            return True

    def ask(self):
        """A worker has had its requests."""
        if self._change(IDLE, ASKED):
            os.kill(os.getppid(), signal.SIGTTIN)

    def heard(self):
        """The master starts another one."""
        self._change(ASKED, STARTING)

    def serves(self):
        """A worker serves from now on."""
        if self._change(STARTING, IDLE):
            os.kill(os.getppid(), signal.SIGTTOU)


turns = Turns()


class Replaced:
    """A worker that serves until another one does in its place, whatever it has had."""

    _serves = False
    told = False
    """Whether it was told to stop."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._most, self.max_requests = self.max_requests, sys.maxsize

    def notify(self):
        super().notify()
        if not self._serves:
            self._serves = True
            turns.serves()
        if self.answered() >= self._most and not self.told:
            turns.ask()

    def answered(self):
        """How many requests it has answered."""
        return self.nr


class Patient:
    """A worker of threads that answers what is on its way on kept connections before it closes them.

    Gunicorn up to 25.1 closes those that are idle at once, and up to 27.0.0 it waits for them as long as for requests.
    """

    _since = None

    def run(self):
        super().run()
        # A thread that is at it still has had its time; Python would wait for it when it ends.
        end = threading.Timer(END_SECONDS, os._exit, (0,))
        end.daemon = True
        end.start()

    def handle_request(self, req, conn):
        if self._since is not None:
            req.force_close()  # the answer is the last of its connection
        return super().handle_request(req, conn)

    def handle_exit(self, sig, frame):
        now = time.monotonic()
        if self._since is None:
            self._since, self.told = now, True
            timer = threading.Timer(slipway_served.LAST_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            timer.daemon = True
            timer.start()
        elif now >= self._since + slipway_served.LAST_SECONDS:  # the master says it again and again
            for each in (*getattr(self, "keepalived_conns", ()), *getattr(self, "pending_conns", ())):
                each.timeout = min(each.timeout, now + IDLE_SECONDS)
            super().handle_exit(sig, frame)


# ── hooks, and an app's own ──────────────────────────────────────────────────────────────────────────────────────────


def child_exit(server, worker):
    """A worker has ended."""
    slipway_served.ended(worker.pid)


def nworkers_changed(server, new_value, old_value):
    """The master is to have more workers, or less."""
    if old_value is not None and new_value > old_value:
        turns.heard()


OURS = {each.__name__: each for each in (child_exit, nworkers_changed)}


def both(first, second):
    """Two hooks in one."""

    def called(*args):
        first(*args)
        second(*args)

    # Gunicorn counts the arguments.
    return {1: lambda a: called(a), 2: lambda a, b: called(a, b), 3: lambda a, b, c: called(a, b, c)}[
        first.__code__.co_argcount
    ]


def settings(file):
    """Hooks and settings of a configuration.

    + file: an app's own, from whose `HOOKS` and `LOGS` count; None for none
    """
    found = runpy.run_path(file) if file else {}
    from gunicorn.config import KNOWN_SETTINGS

    known = {each.name for each in KNOWN_SETTINGS}
    if ignored := sorted(name for name in found if name in known and name not in (*HOOKS, *LOGS)):
        slipway_journal.say(
            f"{file}: of {', '.join(ignored)} nothing counts here; the settings of the inventory do. Hooks count, and "
            f"{', '.join(LOGS)}.",
            logging.WARNING,
        )
    counts = {name: value for name, value in found.items() if name in (*HOOKS, *LOGS)}
    return {**counts, **{name: both(hook, counts[name]) if name in counts else hook for name, hook in OURS.items()}}
