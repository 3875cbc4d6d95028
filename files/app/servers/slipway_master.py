"""Keeps the workers of a server on one socket. Managed by Slipway (roles/release).

The master serves nothing and imports nothing of the app. It takes the socket that systemd made, which stays when it is
restarted, and replaces a worker that dies, that gives no sign of life, or that has had its requests; the new one serves
before the old one is told to stop.

The servers' own masters lose requests, which was measured with Uvicorn 0.54 (`uvicorn --fd 3 --workers 2`) and
Hypercorn 0.18 (`hypercorn -b fd://3 -w 2`), 8 kept connections and a request on each every 60 ms:

- told to stop, each lost a request on all 8, since they close kept connections at once; Hypercorn also cut a request of
  3 seconds.
- where workers end after a number of requests and streams are open, both serve nothing for 12 to 18 seconds.
- of Hypercorn's workers one was killed: for 10 seconds and longer no request was answered.

Granian's takes no socket of systemd's.
"""

import argparse
import contextlib
import faulthandler
import logging
import mmap
import os
import random
import signal
import socket
import struct
import sys
import time

import slipway_journal
import slipway_served

STARTING, SERVING, LEAVING = range(3)
SLOT = struct.Struct("=dq")  # the last sign of life, and one of these
FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
HEARD = {*STOPS, signal.SIGCHLD}
LOOK_EVERY = 1.0  # seconds
LAST_WORDS = 1.0  # seconds for a stuck worker to write where it is stuck
STARTS = 10  # times the time without a sign of life that a start may take: some apps load much
LONGEST_PAUSE = 30.0  # seconds between two tries to start a worker while others serve
BOOT_FAILED = 3  # exit code, as Gunicorn's


def say(text):
    """Write an error to the journal."""
    slipway_journal.say(text, logging.ERROR)


class Worker:
    """What a worker knows of itself, and tells its master."""

    def __init__(self, options, listener, table, slot):
        self.options = options
        self.socket = listener
        self._table, self._at = table, slot * SLOT.size
        self._master = os.getppid()
        self._state = STARTING
        self._most = 0
        if options.max_requests:
            self._most = options.max_requests + random.randint(0, options.max_requests_jitter)

    def serves(self):
        """From now on it answers, and gives signs of life."""
        if self._state == STARTING:
            self._state = SERVING
        self.tick()

    def tick(self, requests=0):
        """Give a sign of life; at least one every second.

        + requests: how many it has answered
        """
        if self._most and requests >= self._most:
            self._state = LEAVING
        SLOT.pack_into(self._table, self._at, time.monotonic(), self._state)
        if os.getppid() != self._master:
            os.kill(os.getpid(), signal.SIGTERM)


class Child:
    """A worker, as its master sees it."""

    def __init__(self, pid, slot):
        self.pid, self.slot = pid, slot
        self.born = time.monotonic()
        self.told = None
        """When it was told to stop."""
        self.stuck = None
        """When it was found to give no sign of life."""


class Master:
    """Starts, watches and ends workers.

    + serve: called in each worker with a Worker; returns when it has stopped
    """

    def __init__(self, serve, options, listener):
        self.serve, self.options, self.listener = serve, options, listener
        self.table = mmap.mmap(-1, SLOT.size * (2 * options.workers + 1))
        self.children = {}
        self.pause = self.not_before = 0.0

    def run(self):
        """Serve until a signal says stop. Returns the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        failed = False
        while not failed:
            self.fill()
            heard = signal.sigtimedwait(HEARD, LOOK_EVERY)
            if heard and heard.si_signo in STOPS:
                return self.stop(0)
            failed = self.reap()
            self.watch()
        say("No worker serves, and one failed to start.")
        return self.stop(BOOT_FAILED)

    def look(self, child):
        """When a child gave its last sign of life, and its state."""
        return SLOT.unpack_from(self.table, child.slot * SLOT.size)

    def state(self, child):
        return self.look(child)[1]

    def fill(self):
        """Start the workers that are missing; replace those that have had their requests, one after another."""
        at_work = [child for child in self.children.values() if child.told is None]
        leaving = [child for child in at_work if self.state(child) == LEAVING]
        wanted = self.options.workers + bool(leaving)
        if len(at_work) < wanted and time.monotonic() >= self.not_before:
            for _ in range(wanted - len(at_work)):
                self.spawn()
        elif leaving and len(at_work) >= wanted and all(self.state(each) != STARTING for each in at_work):
            self.pause = 0.0
            # As many as work may finish what they have begun: more would want memory, and a slot, without end.
            if len(self.children) - len(at_work) < self.options.workers:
                self.tell(leaving[0])
        elif len(at_work) == wanted and all(self.state(each) != STARTING for each in at_work):
            self.pause = 0.0

    def spawn(self):
        slot = min(set(range(2 * self.options.workers + 1)) - {child.slot for child in self.children.values()})
        SLOT.pack_into(self.table, slot * SLOT.size, 0.0, STARTING)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self.children[pid] = Child(pid, slot)
            return
        for number in HEARD:
            signal.signal(number, signal.SIG_DFL)
        # Until its server hears it. What is run at exit is run then, which the default wouldn't do.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        faulthandler.enable(all_threads=True)
        self.serve(Worker(self.options, self.listener, self.table, slot))
        sys.exit(0)

    def reap(self):
        """Take leave of workers that have ended. Returns whether none can be started."""
        failed = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                child = self.children.get(pid)
                if child is None:  # an orphan that the app left
                    continue
                state = self.state(child)
                del self.children[pid]
                slipway_served.ended(pid)
                if child.told is not None:
                    continue
                code = os.waitstatus_to_exitcode(status)
                how = f"was sent {signal.Signals(-code).name}!" if code < 0 else f"exited with code {code}"
                say(f"Worker (pid:{pid}) {how}")
                if state == STARTING:
                    failed = failed or not any(self.state(each) != STARTING for each in self.children.values())
                    self.pause = min(max(1.0, 2 * self.pause), LONGEST_PAUSE)
                    self.not_before = time.monotonic() + self.pause
                elif time.monotonic() - child.born < LOOK_EVERY:
                    self.not_before = time.monotonic() + LOOK_EVERY
        return failed

    def watch(self):
        """End workers that are stuck, and those that take too long to stop."""
        now = time.monotonic()
        for child in self.children.values():
            sign, state = self.look(child)
            if child.told is not None:
                if now > child.told + self.options.graceful_timeout:
                    self.kill(child, signal.SIGKILL)
            elif child.stuck is not None:
                if now > child.stuck + LAST_WORDS:
                    self.kill(child, signal.SIGKILL)
            elif state == STARTING and now > child.born + STARTS * self.options.timeout:
                self.abort(child, f"didn't start within {STARTS * self.options.timeout} s")
            elif state != STARTING and now > sign + self.options.timeout:
                self.abort(child, f"gave no sign of life for {self.options.timeout} s")

    def abort(self, child, why):
        """Let a worker that is stuck say where, and end."""
        say(f"Worker (pid:{child.pid}) {why}:")
        child.stuck = time.monotonic()
        self.kill(child, signal.SIGABRT)

    def tell(self, child):
        child.told = time.monotonic()
        self.kill(child, signal.SIGTERM)

    def kill(self, child, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def stop(self, code):
        """Let all workers finish; end what is left after the time for that. Returns the exit code."""
        self.listener.close()
        for child in self.children.values():
            if child.told is None:
                self.tell(child)
        while self.children:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self.reap()
            self.watch()
        return code


def inherited():
    """The socket that systemd made."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        sys.exit("There is no socket: systemd starts this, with one.")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    listener.setblocking(False)
    return listener


def arguments(description):
    """The options of every server."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("workers", "timeout", "graceful-timeout", "keep-alive", "backlog"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("max-requests", "max-requests-jitter", "concurrency", "threads"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--access-log", action="store_true")
    return parser.parse_args()


def main(serve, description):
    """Run the master of a server."""
    slipway_journal.install()
    slipway_served.enter(os.getcwd())  # noqa: PTH109
    slipway_served.metrics()
    options = arguments(description)
    sys.exit(Master(serve, options, inherited()).run())
