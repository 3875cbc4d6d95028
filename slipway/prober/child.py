"""The side of the prober that its user sees: it starts the process that sends, and reads what that says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from slipway.prober.models import Load, ProberError, Result, Site

PROJECT = Path(__file__).resolve().parents[2]
"""The folder from where `python -m slipway.prober` is found."""

AFTER = 0.5
"""Seconds of traffic after the end was asked for: what broke by the last step shows there."""

WARM_UP = 15.0
"""Seconds in which each kind of traffic must be answered once, before anything begins."""

_SPARE = 15.0
"""Seconds that the process may take beyond what it was asked to wait: to start, to end, on a busy machine."""


class Prober:
    """Traffic to a site, from a process of its own; a context manager.

    The block begins once each kind of traffic was answered well, and `result` is there after it. An exception in the
    block passes, with the result of the traffic until then where there is one; ^C ends the traffic without a result.
    No process is left: it ends with its standard input, even if its parent is killed.
    """

    def __init__(self, site: Site, load: Load | None = None) -> None:
        """`load` None: the defaults of `Load`."""
        self._site, self._load = site, load or Load()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._read = b""
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """The traffic's result. Raises ProberError until it is known."""
        if self._result is None:
            raise ProberError("the traffic has no result yet: it wasn't stopped, or was broken off")
        return self._result

    @property
    def pid(self) -> int | None:
        """Process that sends; None when none runs."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        elif isinstance(error, Exception):
            with contextlib.suppress(ProberError):  # what happened in the block counts
                self.stop()
        else:
            self.close()

    def start(self) -> None:
        """Start the traffic; returns once each kind was answered well once, which isn't counted.

        Raises ProberError, within about 15 s, where one isn't.
        """
        if self._process is not None:
            raise ProberError("this traffic runs already")
        self._result, self._read = None, b""
        from slipway.person import expanded  # the process that sends needs none of it, and must start quickly

        ca_file = self._site.ca_file and str(expanded(self._site.ca_file).absolute())
        site = dataclasses.replace(self._site, ca_file=ca_file)
        plain = {"site": dataclasses.asdict(site), "load": dataclasses.asdict(self._load)}
        order = plain | {"after": AFTER, "warm_up": WARM_UP}
        try:
            # Closed by close(): it outlives this method.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115
            self._process = subprocess.Popen(
                [sys.executable, "-m", "slipway.prober", "--serve"],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                process_group=0,  # ^C in the terminal is the parent's to handle
            )
            self._send(json.dumps(order))
            self._answer(WARM_UP + _SPARE)
        except BaseException:
            self.close()
            raise

    def stop(self) -> Result:
        """End the traffic after half a second more, await open requests, and return the result.

        Raises ProberError where the process ended before, or doesn't answer; it is gone then too.
        """
        if self._process is None:
            return self.result
        try:
            self._send("stop")
            self._result = Result.from_json(json.dumps(self._answer(AFTER + self._load.timeout + _SPARE)["result"]))
            return self._result
        finally:
            self.close()

    def _send(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either, and that is told
            os.write(self._process.stdin.fileno(), line.encode() + b"\n")

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next thing that the process says; ProberError where it says what is wrong, or nothing in time."""
        line = self._line(time.monotonic() + seconds)
        if line is None:
            raise ProberError(f"the prober says nothing for {seconds:.0f} s{self._last_words()}")
        if not line:
            raise ProberError(f"the prober ended by itself{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ProberError(answer["error"])
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """One line of the process; empty when it ended, None when `deadline` passed. No thread: gevent may be there."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if poll.poll(left * 1000):
                if not (piece := os.read(pipe, 65536)):
                    return b""
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"; it said: {' | '.join(words[-3:])}" if words else ""

    def close(self) -> None:
        """Leave no process: the end of its input ends it at once; it is killed if not."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(timeout=2)
            except BaseException as error:
                process.send_signal(signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
        if self._errors is not None:
            self._errors.close()
            self._errors = None
