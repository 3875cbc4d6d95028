"""What a program that has got hold of an app or of a build tries against its host and its neighbours.

    python3 tries.py GIVEN.json PLACE

Runs in the sandbox that is looked at; and as root without one, where each attempt must succeed. It needs nothing but
Python. GIVEN.json holds {"mark": …, "tries": {name: [kind, argument, …]}}; the answer is one line, `ANSWER` and a JSON
object: name → "done", or the error's name. Where only somebody outside can tell, "done" means that it was tried without
an error, or there is a list of paths (`search`): stage.py then looks.
"""

import array
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

ANSWER = "TRIED "
SECONDS = 100
"""Time for everything; the program ends then."""
PATIENCE = 2
"""Seconds for one connection."""
SEARCH_SECONDS = 15
FREE_SECONDS = 15
"""Time for a service to answer again after an earlier attempt."""
FOUND = 6
"""Places after which the search for more ends."""
MOST_FILES = 20_000
"""Files below which a /dev/shm must end."""
UNLISTED = {"/proc", "/sys"}
PTRACE_SEIZE, PIDFD_OPEN, PIDFD_GETFD, IPC_CREAT = 0x4206, 434, 438, 0o1000

libc = ctypes.CDLL(None, use_errno=True)
MINE: dict[str, str] = {"name": ""}
"""The name that this place and run give to what they make."""


def called(result: int) -> int:
    """The result of a call of the C library; OSError where it failed."""
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def read(path: str) -> None:
    """Read a byte of a file, or the first name of a folder."""
    if os.path.isdir(path):  # noqa: PTH112 a file that is hidden isn't one
        found: object = os.listdir(path)  # noqa: PTH208
    else:
        with open(path, "rb") as file:  # noqa: PTH123
            found = file.read(1)
    if not found:
        raise FileNotFoundError("nothing in it")


def processes(uid: int) -> None:
    """See a process of this user's."""
    if not any(each.stat().st_uid == uid for each in Path("/proc").glob("[0-9]*")):
        raise PermissionError("none is seen")


def lock(path: str, how: str, device: int, inode: int) -> None:
    """Take a lock of the very file that the host's programs lock.

    + how: "flock", or "lockf", which a reader may hold shared and so keep writers out
    """
    with open(path, "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != (device, inode):
            raise FileNotFoundError("another file")
        if how == "flock":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def make(folder: str) -> None:
    """Make a file in a folder; the name begins with a dot, so that no program takes it for its own."""
    os.close(os.open(f"{folder}/{MINE['name']}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def bind(folder: str) -> None:
    """Listen on a socket in a folder."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{MINE['name']}.sock")


def search(*own: str) -> list[str]:
    """Make files wherever one may; returns their paths, and those of files that could be opened for writing.

    + own: folders that are this place's by design
    """
    until = time.monotonic() + SEARCH_SECONDS
    found: list[str] = []
    for folder, folders, names in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in UNLISTED | {*own}]  # noqa: PTH118
        if time.monotonic() > until or len(found) >= FOUND:
            break
        for path in [f"{folder}/{name}" for name in names]:
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.W_OK):  # noqa: PTH113, PTH114
                try:
                    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
                    found.append(path)
                    break
                except OSError:
                    pass
        try:
            make(folder)
            found.append(f"{folder}/{MINE['name']}")
        except OSError:
            pass
    if not found:
        raise PermissionError("nowhere")
    return found


def files_without_end(folder: str) -> None:
    """Make more files in a folder of the memory's than an app may have there."""
    made = []
    try:
        for number in range(MOST_FILES):
            path = f"{folder}/{MINE['name']}.{number}"
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            made.append(path)
    finally:
        for path in made:
            os.unlink(path)  # noqa: PTH108


def tcp(address: str, port: int) -> None:
    """Open a connection."""
    socket.create_connection((address, port), timeout=PATIENCE).close()


def udp(address: str, port: int) -> None:
    """Send a packet that is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.sendto(b"?", (address, port))
        asking.recv(1)


def unix(path: str, kind: int) -> None:
    """Connect to a socket of the host's; a path that begins with @ is an abstract one."""
    with socket.socket(socket.AF_UNIX, kind) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)


def low_port(port: int) -> None:
    """Listen where services do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def raw() -> None:
    """See, and forge, packets of others."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def send_signal(pid: int) -> None:
    """Be allowed to send a signal; none is sent."""
    os.kill(pid, 0)


def trace(pid: int) -> None:
    """Take control of a process, and let it go."""
    child = os.fork()
    if not child:  # what it traces goes on when it ends
        done = libc.ptrace(PTRACE_SEIZE, pid, 0, 0)
        os._exit(ctypes.get_errno() if done == -1 else 0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(abs(code), "refused")


def descriptor(pid: int) -> None:
    """Take a file that another process has open."""
    process = called(libc.syscall(PIDFD_OPEN, pid, 0))
    try:
        os.close(called(libc.syscall(PIDFD_GETFD, process, 0, 0)))
    finally:
        os.close(process)


def memory(pid: int) -> None:
    """Open the memory of a process."""
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))


def slow_down(pid: int) -> None:
    """Be allowed to set how much of the processors a process gets; it stays as it is."""
    os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))


def offer_for_killing(pid: int) -> None:
    """Be allowed to set which process the kernel ends where memory is short; it stays as it is."""
    path = Path(f"/proc/{pid}/oom_score_adj")
    path.write_text(path.read_text())


def join_group(procs: str) -> None:
    """Be a process of another service's, as systemd sees it."""
    child = os.fork()
    if not child:
        try:
            Path(procs).write_text(str(os.getpid()))
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(abs(code), "refused")


def notify(pid: int) -> None:
    """Tell systemd something of another's service, as one of its processes."""
    credentials = struct.pack("3i", pid, os.getuid(), os.getgid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        told = f"STATUS={MINE['name']}".encode()
        sent = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, array.array("B", credentials))]
        telling.sendmsg([told], sent, 0, "/run/systemd/notify")


def log(path: str, program: str) -> None:
    """Write an entry into a journal that passes for a program's."""
    told = f"MESSAGE={MINE['name']}\nSYSLOG_IDENTIFIER={program}\n_SYSTEMD_UNIT=ssh.service\n_UID=0\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(told.encode(), path)


def syslog(path: str, program: str) -> None:
    """The same in the older way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(f"<38>{program}[1]: {MINE['name']}".encode(), path)


def command(*words: str) -> None:
    """Run a command that must end well."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    if done.returncode:
        raise PermissionError("it ended with an error")


def terminal(device: int) -> None:
    """Take a terminal of the host's, of which there is a number for all."""
    for each in os.openpty():
        if os.fstat(each).st_dev == device:
            return
    raise PermissionError("one of its own")


def shared_segment(key: int) -> None:
    """Open a shared memory of another's."""
    called(libc.shmget(key, 0, 0))


def leave_segment(key: int) -> None:
    """Leave a shared memory behind on the host."""
    called(libc.shmget(key, 4096, IPC_CREAT | 0o600))


def crowd_out(address: str | int, number: int, begin: str, visit: str, welcome: str) -> None:
    """Hold so many connections to a service of the host's that it answers nobody else any more, and close them.

    + address: a socket's path, or a port of 127.0.0.1; each of its connections comes from another 127.x.y.z
    + begin: what each of them sends; empty: nothing
    + visit: what the others send, who must be answered
    + welcome: how the answer begins
    """
    raise_limit()
    until = time.monotonic() + FREE_SECONDS
    while not answered(address, visit, welcome):
        if time.monotonic() > until:
            raise ConnectionError("it answers nobody as it is")
        time.sleep(0.5)
    with ExitStack() as held:
        for each in range(number):
            source = f"127.1.{each // 200}.{each % 200 + 1}"
            one = held.enter_context(socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET))
            try:
                opened(one, address, source)
                one.sendall(begin.encode())
            except OSError:
                break  # it takes no more
        for _ in range(3):
            time.sleep(1)
            if not any(answered(address, visit, welcome) for _ in range(3)):
                return
    raise ConnectionError("others are answered")


def opened(connection: socket.socket, address: str | int, source: str) -> None:
    """Connect, from an address of this host's own."""
    connection.settimeout(PATIENCE)
    if isinstance(address, int):
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", address))
    else:
        connection.connect(address)


def answered(address: str | int, visit: str, welcome: str) -> bool:
    """Whether somebody else is answered now; an error where this place can't even ask."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as one:
        try:
            opened(one, address, "127.0.0.1")
            one.sendall(visit.encode())
            return one.recv(len(welcome)) == welcome.encode()
        except (TimeoutError, ConnectionResetError, BrokenPipeError, BlockingIOError):
            return False


def raise_limit() -> None:
    """Have as many files open as one may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


KINDS: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (
        read, processes, lock, make, bind, search, files_without_end, tcp, udp, unix, low_port, raw, send_signal, trace,
        descriptor, memory, slow_down, offer_for_killing, join_group, notify, log, syslog, command, terminal,
        shared_segment, leave_segment, crowd_out,
    )
}  # fmt: skip


def main() -> None:
    """Try everything, and print what it came to."""
    given = json.loads(Path(sys.argv[1]).read_text())
    MINE["name"] = f".{given['mark']}-{sys.argv[2]}"
    signal.alarm(SECONDS)
    told: dict[str, object] = {}
    for name, (kind, *arguments) in given["tries"].items():
        try:
            told[name] = KINDS[kind](*arguments) or "done"
        except (OSError, subprocess.TimeoutExpired) as error:
            told[name] = type(error).__name__
    print(f"\n{ANSWER}{json.dumps(told)}", flush=True)


if __name__ == "__main__":
    main()
