"""Commands that end in time, whoever holds what they write to.

What a release runs of an app is foreign: it may hand its output on to a process that never ends, and ignore what asks
it to end.
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

LINGER = 1.0  # seconds for what is still written when a command has ended, by what it started
LOOK_EVERY = 0.05  # seconds, where the kernel can't tell of an end
READ = 65_536  # bytes at once

live: set[subprocess.Popen[bytes]] = set()  # commands under way that run something of an app's: see `end_all`


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command whose output can be followed, both streams.

    In a session of its own, so that what it started ends with it, and nothing can ask at a terminal.
    """
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and all that is in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """Kill what runs something of an app's: a run that was told to stop waits for none of it."""
    for process in list(live):
        end(process)


def follow(process: subprocess.Popen[bytes], seconds: float, take: Callable[[bytes], None]) -> bool:
    """Hand on what a command writes until it has ended, and kill it after so many seconds; returns whether it was.

    Who else holds its output by then, because it was given away, isn't waited for.

    + take: called with each piece, as bytes
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
                if ended or killed:  # it was killed, and waits for a disk
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
    """Whether it has; it is left as it is, so that its number is nobody else's yet."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return True


def forget(process: subprocess.Popen[bytes]) -> None:
    """Let go of a command that was followed; what is left in its session is killed."""
    end(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LINGER)
    if process.stdout is not None:
        process.stdout.close()


class Kept:
    """The last of what a command writes."""

    def __init__(self, most: int, longest: int) -> None:
        """So many bytes of it, and so many of a line."""
        self.most, self.longest = most, longest
        self.lines: collections.deque[bytes] = collections.deque()
        self.size, self.written, self.begun = 0, 0, b""

    def take(self, piece: bytes) -> bytes | None:
        """Keep a piece; returns the last whole line in it that isn't blank, or None."""
        self.written += len(piece)
        told: bytes | None = None
        text, at = self.begun + piece, 0
        while at < len(text):
            # As bytes: a carriage return doesn't end a line, as it would in Python's texts.
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
        """All that is kept, once the command has ended."""
        if self.begun:
            self._keep(self.begun)
            self.begun = b""
        return b"".join(self.lines).decode(errors="replace")
