"""Gives what an app logs its level in the journal, and each message one entry. Managed by Slipway (roles/release).

systemd takes what a process writes to stdout and stderr line by line, each as information. A program whose stderr is
the journal's may speak the journal's own protocol instead (JOURNAL_STREAM in systemd.exec(5)), which knows levels and
messages of several lines (systemd.io/JOURNAL_NATIVE_PROTOCOL). This does so in place of these writes alone:

- handlers of the standard library's logging that write to stdout or stderr, the servers' own among them. Which records
  they get, and how they are formatted, is up to the app.
- Loguru's messages on stdout or stderr, JSON with a level, and the lines of structlog's console.
- exceptions that nobody caught.

Everything else is written as it was. So is everything where stderr isn't the journal's.
"""

import array
import atexit
import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import socket
import struct
import sys
import threading
import time
import traceback

SOCKET = "/run/systemd/journal/socket"
"""In the app's sandbox that of its own journal."""
SEEN_SECONDS = 0.1
"""The journal looks up whose an entry is while the process is there: so long a process stays after its last one."""
BUFFER_BYTES = 8 * 1024 * 1024
LONGEST = 256 * 1024  # characters of a text that is looked at
LEVELS = {
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "notice": logging.INFO,
    "success": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "notset": logging.DEBUG,
}
"""Names of levels as loggers write them."""
KEYS = ("level", "levelname", "log_level", "severity")
"""Where JSON has the level."""
CONSOLE = re.compile(r"(?:[\d-]{10}[T ][\d:.,+Z-]+ )?\[(\w+) *\] ")
"""The beginning of a line of structlog's ConsoleRenderer."""
SEALS = 15  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE

_ours = None  # device and inode of what is the journal's
_to = None
_last = 0.0
_state = threading.local()
_emit = logging.StreamHandler.emit


def priority(level):
    """The journal's priority (syslog(3)) of a level of logging's."""
    for least, found in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return found
    return 7


def install():
    """Do so from now on in this process and those that it forks."""
    global _ours
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdigit() and inode.isdigit()) or _ours:
        return
    _ours = int(device), int(inode)
    streams = [stream for stream in (sys.stdout, sys.stderr) if is_ours(stream)]
    if not streams:  # whoever started this reads them
        _ours = None
        return
    logging.StreamHandler.emit = emit
    for stream in streams:
        listen(stream)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = uncaught_of_thread
    atexit.register(stay)


def is_ours(stream):
    """Whether a stream is the journal's."""
    try:
        found = os.fstat(stream.fileno())
    except (AttributeError, OSError, TypeError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == _ours


def say(text, level, **fields):
    """Write an entry. Where the journal can't be reached, its lines say their level (sd-daemon(3))."""
    number = priority(level)
    if not _ours:
        print(text, file=sys.stderr, flush=True)
    elif not send(text, number, fields):
        write = getattr(sys.stderr, "slipway_write", sys.stderr.write)
        write("".join(f"<{number}>{line}\n" for line in text.splitlines()))
        sys.stderr.flush()


def send(text, number, fields):
    """Send an entry. Returns whether that could be done."""
    global _to, _last
    told = {"MESSAGE": text, "PRIORITY": number, "SYSLOG_IDENTIFIER": os.environ.get("SLIPWAY_LOG"), **fields}
    data = b"".join(
        name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        for name, value in ((name, str(each).encode("utf-8", "replace")) for name, each in told.items() if each)
    )
    try:
        if _to is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            _to = made
        try:
            _to.sendto(data, SOCKET)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            send_file(data)
    except OSError:
        return False
    _last = time.monotonic()
    return True


def send_file(data):
    """Send a large entry."""
    file = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as opened:  # it has no path
            opened.write(data)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        _to.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))], 0, SOCKET)
    finally:
        os.close(file)


def stay():
    """Stay until the journal has seen whose the last entry is."""
    left = _last + SEEN_SECONDS - time.monotonic()
    if 0 < left <= SEEN_SECONDS:
        with contextlib.suppress(SystemExit):  # it may be told to stop meanwhile
            time.sleep(left)


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def emit(self, record):
    """In place of logging.StreamHandler's."""
    if not is_ours(self.stream):
        return _emit(self, record)
    try:
        text = self.format(record)
    except Exception:  # as logging does
        return self.handleError(record)
    if not text.strip():
        return _emit(self, record)
    code = {"CODE_FILE": record.pathname, "CODE_LINE": record.lineno, "CODE_FUNC": record.funcName}
    return say(text, record.levelno, LOGGER=record.name, **code)


def listen(stream):
    """Let what says its level be an entry of that level."""
    usual = stream.write

    def write(text):
        level = level_of(text)
        if level is not None and send(text.rstrip("\n"), priority(level), {}):
            _state.ended = text.endswith("\n")
            return len(text)
        if text == "\n" and not getattr(_state, "ended", True):  # print writes that after its text
            _state.ended = True
            return 1
        return usual(text)

    stream.slipway_write = usual
    stream.write = write


def level_of(text):
    """The level that a text says it has; None for none."""
    record = getattr(text, "record", None)  # of a message of Loguru's
    if isinstance(record, dict) and hasattr(record.get("level"), "no"):
        return record["level"].no
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    named = None
    if text.startswith("{") and any(f'"{key}"' in text for key in KEYS):
        try:
            told = json.loads(text)
        except ValueError:
            return None
        named = next((told[key] for key in KEYS if isinstance(told.get(key), str)), None)
    elif found := CONSOLE.match(text):
        named = found[1]
    return LEVELS.get(named.lower()) if named else None


def uncaught(kind, value, trace):
    """In place of sys.excepthook."""
    if not issubclass(kind, Exception):
        return sys.__excepthook__(kind, value, trace)
    return say("".join(traceback.format_exception(kind, value, trace)).rstrip(), logging.ERROR)


def uncaught_of_thread(told):
    """In place of threading.excepthook."""
    if told.exc_type is SystemExit:
        return
    lines = traceback.format_exception(told.exc_type, told.exc_value, told.exc_traceback)
    name = told.thread.name if told.thread else "?"
    say(f"Exception in thread {name}:\n" + "".join(lines).rstrip(), logging.ERROR)
