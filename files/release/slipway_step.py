"""Commands that end in time, whoever holds what they write to, and what is said of how they ended.

What a release runs of an app is foreign: it may hand its output on to a process that never ends, ignore what asks it
to end, and be killed by another process of its user. Managed by Slipway (roles/release.py).
"""

import collections
import contextlib
import os
import re
import select
import signal
import subprocess
import time

LINGER = 1.0  # seconds for what is still written when a command has ended, by what it started
LOOK_EVERY = 0.05  # seconds, where the kernel can't tell of an end
READ = 65_536  # bytes at once
NOT_RUN = range(200, 244)  # exit statuses with which systemd says that it couldn't run a program (systemd.exec(5))
KILLED = re.compile(r"Main process exited, code=(?:killed|dumped), status=\d+/([A-Z0-9]+)")  # systemd's words
SECONDS = {"y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3}

live = set()  # commands under way that run something of an app's: see `end_all`


def start(argv, **options):
    """Start a command whose output can be followed, both streams.

    In a session of its own, so that what it started ends with it, and nothing can ask at a terminal.
    """
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options)


def end(process):
    """Kill a command and all that is in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all():
    """Kill what runs something of an app's: a run that was told to stop waits for none of it."""
    for process in list(live):
        end(process)


def follow(process, seconds, take):
    """Hand on what a command writes until it has ended, and kill it after so many seconds; returns whether it was.

    Who else holds its output by then, because it was given away, isn't waited for.

    + take: called with each piece, as bytes
    """
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


def _has_ended(process):
    """Whether it has; it is left as it is, so that its number is nobody else's yet."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return True


def forget(process):
    """Let go of a command that was followed; what is left in its session is killed."""
    end(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LINGER)
    process.stdout.close()


class Kept:
    """The last of what a command writes."""

    def __init__(self, most, longest):
        """So many bytes of it, and so many of a line."""
        self.most, self.longest = most, longest
        self.lines, self.size, self.written, self.begun = collections.deque(), 0, 0, b""

    def take(self, piece):
        """Keep a piece; returns the last whole line in it that isn't blank, or None."""
        self.written += len(piece)
        told, text, at = None, self.begun + piece, 0
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

    def _keep(self, line):
        self.lines.append(line)
        self.size += len(line)
        while self.size > self.most:
            self.size -= len(self.lines.popleft())

    def text(self):
        """All that is kept, once the command has ended."""
        if self.begun:
            self._keep(self.begun)
            self.begun = b""
        return b"".join(self.lines).decode(errors="replace")


class End:
    """How a unit ended, as systemd tells it: its result, and the exit status or the signal of its main process."""

    def __init__(self, result="", code="", status=""):
        """As systemd.exec(5) describes SERVICE_RESULT, EXIT_CODE and EXIT_STATUS."""
        self.result = result
        self.signal = (f"SIG{status}" if status else "a signal") if code in ("killed", "dumped") else None
        self.status = int(status) if code == "exited" and status.isdecimal() else None


def noting(path):
    """The line of a unit that writes down how it ended: systemd-run doesn't tell, and takes some signals for success.

    Root writes it, outside of the unit's sandbox but for what is mounted in it.
    """
    return f"ExecStopPost=+-/bin/sh -c 'echo \"$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS\" >{path}'"


def noted(path, status):
    """How a unit ended, which `noting` wrote down; None where it didn't come to that. The note is taken away.

    + status: exit status of systemd-run
    """
    with contextlib.suppress(FileNotFoundError):
        told = path.read_text().split()
        path.unlink()
        return End(*told[:3])
    # What writes it was killed as well: systemd lends it the user for a moment. 255 is what systemd-run makes of a
    # signal, and 0 of one that it takes for success.
    return End("signal", "killed") if status in (0, 255) else None


def killed_by(name, user):
    """What to say of a program of an app's that a signal ended.

    + name: of the signal
    """
    return (
        f"It was killed by {name}, which Slipway didn't send: another process of the user {user} may have "
        f"(`ps -u {user}`), or the kernel for want of memory (`journalctl -k`). If what serves was taken over, --data "
        f"stop_first=true (on the host: --stop-first) ends every process of {user} before the new release is tried; "
        "requests are lost until it serves."
    )


def killed_in(journal, user):
    """The same for a service, by what its journal says; empty if that says nothing of it."""
    found = KILLED.findall(journal)
    return f"\n{killed_by(f'SIG{found[-1]}', user)}" if found else ""


def in_seconds(text, most):
    """A span of time as systemctl shows it ("1min 30s"), in seconds: at most so many, where it is longer or endless."""
    parts = re.findall(r"([\d.]+)(y|month|w|d|h|min|ms|s)\b", text)
    return min(most, sum(float(number) * SECONDS[unit] for number, unit in parts)) if parts else most
