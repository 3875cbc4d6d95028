"""How what an app logs becomes the journal's (files/app/servers/slipway_journal.py), for which there is a stand-in."""

from __future__ import annotations

import array
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from slipway import project

SERVERS = project.root() / "files/app/servers"
START = """
import logging, sys
sys.path.insert(0, SERVERS)
import slipway_journal
slipway_journal.SOCKET = SOCKET
slipway_journal.install()
"""
TRACEBACK = """Traceback (most recent call last):
  File "<string>", line {}, in <module>
ValueError: a
b"""


def entry(data: bytes) -> dict[str, str]:
    """What a datagram of the native protocol says."""
    found = {}
    while data:
        name, _, data = data.partition(b"\n")
        size = struct.unpack("<Q", data[:8])[0]
        found[name.decode()] = data[8 : 8 + size].decode()
        assert data[8 + size : 9 + size] == b"\n"
        data = data[9 + size :]
    return found


class Ran:
    """A program that ran with its output going to the journal."""

    def __init__(self, folder: Path, program: str, *, there: bool = True, stream: str | None = None) -> None:
        read, write = os.pipe()
        found = os.fstat(write)
        path = folder / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            if there:
                journal.bind(str(path))
            journal.setblocking(False)
            code = START.replace("SERVERS", repr(str(SERVERS)))
            code = code.replace("= SOCKET", f"= {str(path)!r}") + program
            variables = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}" if stream is None else stream}
            self.code = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONUNBUFFERED": "1", "SLIPWAY_LOG": "notes", **variables},
                stdout=write,
                stderr=write,
                check=False,
            ).returncode
            os.close(write)
            with os.fdopen(read) as said:
                self.lines = [line for line in said.read().splitlines() if line]
            self.entries = []
            while there:
                try:
                    data, files, _, _ = journal.recvmsg(2**21, socket.CMSG_SPACE(4))
                except BlockingIOError:
                    break
                for _, _, given in files:
                    with os.fdopen(array.array("i", given)[0], "rb") as file:
                        file.seek(0)
                        data = file.read()
                self.entries.append(entry(data))

    @property
    def told(self) -> list[tuple[str, str]]:
        """Priority and message of each entry."""
        return [(each["PRIORITY"], each["MESSAGE"]) for each in self.entries]


def test_levels_of_logging(tmp_path: Path) -> None:
    program = 'logging.basicConfig(level=1, format="%(message)s")\n'
    program += "\n".join(f'logging.log({level}, "{level}")' for level in (50, 40, 30, 25, 20, 10, 5))
    ran = Ran(tmp_path, program)
    assert ran.told == [("2", "50"), ("3", "40"), ("4", "30"), ("6", "25"), ("6", "20"), ("7", "10"), ("7", "5")]
    assert (ran.entries[0]["SYSLOG_IDENTIFIER"], ran.entries[0]["LOGGER"]) == ("notes", "root")
    assert ran.lines == []


def test_an_apps_own_configuration_stays(tmp_path: Path) -> None:
    """Its levels, formats and handlers: a file is a file, and a handler that does more is asked."""
    log = tmp_path / "log"
    ran = Ran(
        tmp_path,
        f"""
class Own(logging.StreamHandler):
    def emit(self, record):
        record.msg += "!"
        super().emit(record)

shop = logging.getLogger("shop")
shop.addHandler(Own(sys.stdout))
shop.addHandler(logging.FileHandler({str(log)!r}))
shop.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
shop.info("no")
shop.error("yes")
""",
    )
    assert ran.told == [("3", "ERROR shop yes!")]
    assert log.read_text() == "yes!\n"


def test_a_traceback_is_one_entry_with_its_indentation(tmp_path: Path) -> None:
    ran = Ran(tmp_path, 'try:\n    raise ValueError("a\\nb")\nexcept ValueError:\n    logging.exception("failed")')
    assert ran.told == [("3", "ERROR:root:failed\n" + TRACEBACK.format(8))]


def test_what_nobody_caught(tmp_path: Path) -> None:
    ran = Ran(tmp_path, 'raise ValueError("a\\nb")')
    assert (ran.told, ran.code) == ([("3", TRACEBACK.format(7))], 1)
    ran = Ran(tmp_path / "..", "import threading\nthreading.Thread(target=lambda: 1 / 0).start()")
    assert ran.told[0][0] == "3" and ran.told[0][1].startswith("Exception in thread Thread-1")
    (tmp_path / "../socket").unlink()


def test_an_apps_own_hook_stays(tmp_path: Path) -> None:
    ran = Ran(tmp_path, 'sys.excepthook = lambda *told: print("mine", told[1])\nraise ValueError("a")')
    assert (ran.told, ran.lines) == ([], ["mine a"])


def test_levels_of_other_loggers(tmp_path: Path) -> None:
    """Those that write to stdout themselves: Loguru's messages, JSON with a level, structlog's console."""
    ran = Ran(
        tmp_path,
        """
from types import SimpleNamespace

class Message(str):
    record = {"level": SimpleNamespace(no=40)}

sys.stderr.write(Message("12:00 | ERROR | failed\\n  here\\n"))
print('{"event": "failed", "level": "error"}')
print('{"message": "slow", "severity": "WARNING"}')
print("2026-01-02 03:04:05 [critical ] gone      shop=1\\n  here")
print("[debug    ] seen")
print('{"level": 3}')
print('{"level": "error"')
print("[section] text")
print("an error\\nof two lines")
""",
    )
    assert ran.told == [
        ("3", "12:00 | ERROR | failed\n  here"),
        ("3", '{"event": "failed", "level": "error"}'),
        ("4", '{"message": "slow", "severity": "WARNING"}'),
        ("2", "2026-01-02 03:04:05 [critical ] gone      shop=1\n  here"),
        ("7", "[debug    ] seen"),
    ]
    assert ran.lines == ['{"level": 3}', '{"level": "error"', "[section] text", "an error", "of two lines"]


def test_a_long_message_is_whole(tmp_path: Path) -> None:
    ran = Ran(tmp_path, 'logging.error("x" * 30_000_000)')
    assert [(number, len(text)) for number, text in ran.told] == [("3", 30_000_000 + len("ERROR:root:"))]


def test_without_the_journals_socket_each_line_says_its_level(tmp_path: Path) -> None:
    ran = Ran(tmp_path, 'logging.error("a\\n  b")\nprint("plain")', there=False)
    assert ran.lines == ["<3>ERROR:root:a", "<3>  b", "plain"]


@pytest.mark.parametrize("stream", ["", "1:2", "no"])
def test_elsewhere_nothing_changes(tmp_path: Path, stream: str) -> None:
    ran = Ran(tmp_path, 'logging.error("a")\nslipway_journal.say("b", 40)', stream=stream)
    assert ran.lines == ["ERROR:root:a", "b"]
    assert ran.told == []


def test_a_process_stays_until_the_journal_knows_whose_its_last_entry_is(tmp_path: Path) -> None:
    """It looks that up in /proc."""
    ran = Ran(
        tmp_path,
        'import atexit, time\nlogging.error("a")\nbegun = time.monotonic()\n'
        "slipway_journal.stay()\nprint(time.monotonic() - begun > 0.05)",
    )
    assert ran.lines == ["True"]
