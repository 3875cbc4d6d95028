"""Run commands that always end in time.

A release runs an app's own code. That code may ignore a signal, or pass its output to a process that never ends.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LINGER = 1.0  # seconds to read on after a command has ended: its children may still write
LOOK_EVERY = 0.05  # seconds, where the kernel doesn't report that a process has ended
READ = 65_536  # bytes at once

live: set[subprocess.Popen[bytes]] = set()  # commands under way that run an app's code: see `end_all`


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command with both output streams in one pipe.

    It gets a session of its own: its children can be ended with it, and none can ask at a terminal.
    """
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and everything in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """Kill all commands in `live`: a run that was told to stop doesn't wait for an app's code."""
    for process in list(live):
        end(process)


def follow(process: subprocess.Popen[bytes], seconds: float, take: Callable[[bytes], None]) -> bool:
    """Pass on a command's output until the command has ended. Returns whether it was killed for taking too long.

    Other processes may still hold its output then; they aren't waited for.

    + seconds: after which it is killed
    + take: called with each piece of output
    """
    assert process.stdout is not None
    pipe, until = process.stdout.fileno(), time.monotonic() + seconds
    is_open, ended, killed = True, False, False
    os.set_blocking(pipe, False)
    with contextlib.ExitStack() as stack:
        watch, descriptor = select.poll(), None
        watch.register(pipe, select.POLLIN)
        with contextlib.suppress(OSError, AttributeError):  # an old kernel
            descriptor = os.pidfd_open(process.pid)
            stack.callback(os.close, descriptor)
            watch.register(descriptor, select.POLLIN)
        while True:
            if not ended and _has_ended(process):
                ended, until = True, time.monotonic() + LINGER
                if descriptor is not None:
                    watch.unregister(descriptor)
            left = until - time.monotonic()
            if ended and not is_open:
                break
            if left <= 0:
                if ended or killed:  # killed, but it may still wait for a disk
                    break
                end(process)
                killed, until = True, time.monotonic() + LINGER
                continue
            wait = left if ended or descriptor is not None else min(left, LOOK_EVERY)
            for found, _ in watch.poll(wait * 1000):
                if found == pipe:
                    piece = os.read(pipe, READ)
                    if piece:
                        take(piece)
                    else:
                        watch.unregister(pipe)
                        is_open = False
    return killed


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. It isn't reaped: its process id stays taken."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return True


def forget(process: subprocess.Popen[bytes]) -> None:
    """Reap a command after `follow`, and kill the rest of its session."""
    end(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LINGER)
    if process.stdout is not None:
        process.stdout.close()


class Kept:
    """The end of a command's output."""

    def __init__(self, most: int, longest: int) -> None:
        """`most`: bytes to keep; `longest`: bytes of a line."""
        self.most, self.longest = most, longest
        self.lines: collections.deque[bytes] = collections.deque()
        self.size, self.written, self.begun = 0, 0, b""

    def take(self, piece: bytes) -> bytes | None:
        """Keep a piece of output. Returns the last whole line in it that isn't blank, or None."""
        self.written += len(piece)
        told: bytes | None = None
        text, at = self.begun + piece, 0
        while at < len(text):
            # In bytes: a carriage return ends no line here, unlike in str.splitlines().
            found = text.find(b"\n", at, at + self.longest) + 1 or min(at + self.longest, len(text))
            line = text[at:found]
            if len(line) < self.longest and not line.endswith(b"\n"):
                break
            self._keep(line)
            told, at = line if line.strip() else told, found
        self.begun = text[at:]
        return told

    def _keep(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)
        while self.size > self.most:
            self.size -= len(self.lines.popleft())

    def text(self) -> str:
        """Everything kept, once the command has ended."""
        if self.begun:
            self._keep(self.begun)
            self.begun = b""
        return b"".join(self.lines).decode(errors="replace")
