"""QEMU's monitor: one JSON command a line over a Unix socket (https://www.qemu.org/docs/master/interop/qmp-spec.html)."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.target.console import TargetError


class QmpError(TargetError):
    """A command that the monitor refused, or that met the end of its machine; the text is QEMU's own."""


class Qmp:
    """A connection to a machine's monitor, which takes one at a time; a context manager."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        """Connect. `path`: the monitor's socket; `timeout`: seconds to wait for each answer."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        # By its folder's descriptor: the path of a socket has a limit of 108 bytes, which a clone's may not keep.
        folder = os.open(path.parent, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        except OSError as error:
            self._socket.close()
            raise QmpError(f"the monitor at {path} does not answer: {error}") from None
        finally:
            os.close(folder)
        self._lines = self._socket.makefile("rb")
        self._answer()  # the greeting
        self("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: object) -> Any:
        """Run one command, such as "query-status", and return what it returns; raises QmpError.

        Underscores in the names of arguments stand for hyphens.
        """
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": given})
        try:
            self._socket.sendall(line.encode() + b"\n")
            answer = self._answer()
        except OSError as error:
            raise QmpError(f"the machine ended, or hangs, at `{command}`: {error}") from None
        if "error" in answer:
            raise QmpError(f"`{command}`: {answer['error']['desc']}")
        return answer["return"]

    def _answer(self) -> dict[str, Any]:
        """The next line that isn't an event."""
        while line := self._lines.readline():
            told: dict[str, Any] = json.loads(line)
            if "event" not in told:
                return told
        raise ConnectionError("the monitor closed the connection")
