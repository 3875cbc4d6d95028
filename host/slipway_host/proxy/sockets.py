"""How many connections a Unix socket has, from the kernel's own list (sock_diag(7)).

A socket is identified by the device and the inode of its path. /proc/net/unix lists names as text, and any user can
choose a name without a path that looks like the line of another socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct

from slipway_host.names import UNIX_SOCKETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Where = tuple[int, int]
    """Inode and device."""

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
ESTABLISHED, LISTEN = 1, 10  # states
SHOW_PATH, SHOW_WAITING = 0x2, 0x10
PATH, WAITING = 1, 4  # attributes
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
REQUEST = struct.Struct("=BBHIIIII")  # family, protocol, padding, states, inode, what to show, cookie
MESSAGE = struct.Struct("=BBBBIII")  # family, type, state, padding, inode, cookie
ATTRIBUTE, PAIR = struct.Struct("=HH"), struct.Struct("=II")
SECONDS = 5  # for an answer, which takes a thousandth of one
BUFFER = 1 << 16


def connections(path: Path) -> int:
    """How many connections a listening socket has, including those not accepted yet; 0 if it doesn't exist.

    Raises OSError if the kernel doesn't answer.
    """
    try:
        told = path.lstat()
    except FileNotFoundError:
        return 0
    # In the kernel's form: the device's major number in twelve bits, and the lower half of the inode's number.
    wanted = (told.st_ino & 0xFFFFFFFF, os.major(told.st_dev) << 20 | os.minor(told.st_dev))
    try:
        return sum(count for where, count in _listed() if where == wanted)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        return _by_name(os.fsencode(path))


def _listed() -> Iterator[tuple[Where | None, int]]:
    """(inode, device) of the path of each socket, and how many connections it counts for."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(SECONDS)
        states, shown = 1 << ESTABLISHED | 1 << LISTEN, SHOW_PATH | SHOW_WAITING
        asked = REQUEST.pack(socket.AF_UNIX, 0, 0, states, 0, shown, 0, 0)
        size = HEADER.size + len(asked)
        kernel.sendto(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + asked, (0, 0))
        while True:
            answer, sender = kernel.recvfrom(BUFFER)
            if sender[0] != 0:  # the kernel's number; anybody may write to a socket of this kind
                continue
            while len(answer) >= HEADER.size:
                size, kind, *_ = HEADER.unpack_from(answer)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", answer, HEADER.size)[0]
                    raise OSError(number, os.strerror(number))
                if kind == SOCK_DIAG_BY_FAMILY:
                    yield _counted(answer[HEADER.size : size])
                answer = answer[_aligned(size) :]


def _counted(message: bytes) -> tuple[Where | None, int]:
    """(inode, device) of the path of one socket, and how many connections it counts for."""
    where: Where | None = None
    state, waiting = MESSAGE.unpack_from(message)[2], 0
    at = MESSAGE.size
    while at + ATTRIBUTE.size <= len(message):
        size, kind = ATTRIBUTE.unpack_from(message, at)
        if kind == PATH:
            inode, device = PAIR.unpack_from(message, at + ATTRIBUTE.size)
            where = (inode, device)
        elif kind == WAITING:
            waiting = PAIR.unpack_from(message, at + ATTRIBUTE.size)[0]
        at += _aligned(max(size, ATTRIBUTE.size))
    return where, waiting if state == LISTEN else 1


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _by_name(path: bytes) -> int:
    """The same for kernels without that list: count whole lines of /proc/net/unix with exactly this path.

    Any user can forge such a line by a socket's name with a line feed. A drain then takes its longest time.
    """
    line = re.compile(rb"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} 0[23] +\d+ " + re.escape(path))
    with contextlib.suppress(FileNotFoundError):
        return sum(1 for each in UNIX_SOCKETS.read_bytes().split(b"\n") if line.fullmatch(each))
    return 0
