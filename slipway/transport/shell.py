"""One shell on a host that runs command after command, so that each costs one round trip.

An SSH channel of its own for every command costs two or three: opening it, asking for the command, sending its input.
"""

from __future__ import annotations

import base64
import gzip
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import gevent
from paramiko import SSHException

# Reads "mark, size of the command, size of its input", then both; each stream of a command ends with a line of its
# own: the mark, and on standard output the exit status. `head -c` takes just as many bytes as it is told to. What a
# command leaves of its input is read all the same, or it would be taken for the next command. Arguments, if there are
# any, are the first command: its mark, itself, and its input (gzip in base64).
AGENT = r"""
if [ $# = 3 ]; then
    printf %s "$3" | base64 -d | gzip -dc | sh -c "$2"
    printf '\n%s %d\n' "$1" $?
    printf '\n%s\n' "$1" >&2
fi
while read -r mark size input; do
    command=$(head -c "$size"; echo .)
    command=${command%.}
    if [ "$input" = 0 ]; then
        sh -c "$command" </dev/null
    else
        head -c "$input" | { sh -c "$command"; status=$?; cat >/dev/null; exit $status; }
    fi
    printf '\n%s %d\n' "$mark" $?
    printf '\n%s\n' "$mark" >&2
done
"""

STDOUT, STDERR = "stdout", "stderr"
LONGEST_START = 30_000
"""Bytes of the command line that starts the agent: RFC 4253 (6.1) lets a packet have 35,000 in all."""


class Channel(Protocol):
    """The part of paramiko's Channel that a shell needs."""

    def exec_command(self, command: str) -> None:
        """Start `command`, once, before anything else."""

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv(self, nbytes: int) -> bytes:
        """Some of standard output; nothing at its end."""

    def recv_stderr(self, nbytes: int) -> bytes:
        """Some of standard error; nothing at its end."""

    def close(self) -> None:
        """End the shell."""


class ShellError(Exception):
    """The shell ended before the command did: the connection is lost, or the host went down."""


@dataclass
class Outcome:
    """The result of a command."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    """("stdout" or "stderr", line) in the order they came."""
    status: int = -1
    """Exit status."""


def silent(stream: str, line: str) -> None:
    """Show nothing of a line."""


def unmarked(lines: list[str]) -> list[str]:
    """The lines before a mark, without the line break that was put before the mark.

    It ended a last line that had none; or it follows a whole line (or nothing), and is an empty line that nobody
    printed.
    """
    return lines[:-1] if lines and not lines[-1] else lines


class Shell:
    """Runs commands in `AGENT`, one after the other, over a channel of its own; the first of them starts it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.busy = False
        self._started = False
        self._rest = {STDOUT: b"", STDERR: b""}

    def run(
        self,
        command: str,
        stdin: bytes = b"",
        *,
        public: bool = False,
        timeout: float | None = None,
        show: Callable[[str, str], None] = silent,
    ) -> Outcome:
        """Run `command` by sh, and wait for its end.

        + stdin: what it reads
        + public: nothing of either is secret: they may stand on the command line that starts the agent, which saves a
          round trip
        + timeout: seconds; then the shell is ended, and TimeoutError raised
        + show: called with the stream and the line as soon as one is there

        Raises ShellError when the connection is lost meanwhile.
        """
        mark, outcome = secrets.token_hex(16), Outcome()
        self.busy = True
        lost: list[Exception] = []

        def guarded(step: Callable[..., None], *arguments: object) -> None:
            try:
                step(*arguments)
            except (OSError, EOFError, SSHException) as error:  # gevent would print its traceback
                lost.append(error)

        # Both streams are read while the input is still being sent, or a command that prints much would wait for us.
        steps = [
            gevent.spawn(guarded, self._read, STDOUT, mark, outcome, show),
            gevent.spawn(guarded, self._read, STDERR, mark, outcome, show),
            gevent.spawn(guarded, self._send, mark, command, stdin, public),
        ]
        try:
            ended = gevent.joinall(steps, timeout=timeout)
            if lost:
                raise ShellError("the connection to the host was lost while a command ran") from lost[0]
            if len(ended) < len(steps):
                raise TimeoutError(f"the command didn't end within {timeout} s")
        except BaseException:
            gevent.killall(steps)
            self.close()
            raise
        self.busy = False
        return outcome

    def close(self) -> None:
        """End the shell, and with it what it runs as far as that notices."""
        self.busy = True
        self.channel.close()

    def _send(self, mark: str, command: str, stdin: bytes, public: bool) -> None:
        agent = ["exec", "sh", "-c", AGENT, "agent"]
        if not self._started:
            self._started = True
            start = shlex.join([*agent, mark, command, base64.b64encode(gzip.compress(stdin)).decode()])
            if public and len(start) <= LONGEST_START:
                self.channel.exec_command(start)
                return
            self.channel.exec_command(shlex.join(agent))
        encoded = command.encode()
        self.channel.sendall(f"{mark} {len(encoded)} {len(stdin)}\n".encode() + encoded + stdin)

    def _read(self, stream: str, mark: str, outcome: Outcome, show: Callable[[str, str], None]) -> None:
        receive = self.channel.recv if stream == STDOUT else self.channel.recv_stderr
        empty = False  # whether an empty line waits: it may be the one before the mark
        while True:
            line, found, rest = self._rest[stream].partition(b"\n")
            if not found:
                data = receive(65536)
                if not data:
                    raise EOFError
                self._rest[stream] += data
                continue
            self._rest[stream] = rest
            text = line.decode(errors="replace")
            if text.startswith(mark):
                if stream == STDOUT:
                    outcome.status = int(text.split()[1])
                return
            for each in [""] * empty + [text] * bool(text):
                outcome.lines.append((stream, each))
                show(stream, each)
            empty = not text
