"""An app that was taken over, in its own sandbox: what it tries against the host and its neighbour comes to nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, login, wait_until
from tests.e2e.apps import in_sandbox, make_tiny, release_changed, settings, status
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

QUICK = {"watch": 0, "keep_warm": 0}

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

_BANNER = "exec 9<>/dev/tcp/127.0.0.1/22; head -c 4 <&9"
ASK_LOCALLY = shlex.join(["runuser", "-u", "nobody", "--", "timeout", "5", "bash", "-c", _BANNER])


def held(places: Sequence[Taken]) -> str:
    """The program that keeps these taken."""
    return HOLD_PLACES.replace("PLACES", repr(places), 1)


@dataclass
class Place:
    """The host of this story: the app mine was taken over, the app other has nothing to do with it."""

    host: Host
    other: Path
    number: int = 0

    def attack(self, script: str, *, check: bool = True) -> str:
        """Run it to its end; returns what it printed."""
        return self.host.ssh(in_sandbox(self.host, "mine", script, "--wait", "--pipe"), check=check, timeout=300)

    def all_goes_on(self) -> None:
        """Fail unless the neighbour is released, nginx reloaded, and what takes a lock-out back does its work."""
        self.number += 1
        release_changed(self.host, "other", self.other, f"v{self.number}")
        self.host.ssh("/opt/slipway/bin/slipway-nginx reload", timeout=60)
        self.host.ssh("/opt/slipway/bin/slipway-access revert", timeout=60)
        assert status(self.host, "mine")["faults"] == []


@pytest.fixture(scope="module", params=["debian12", "debian13"])
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """Both apps serve."""
    host = make_host("neighbours", request.param, ())
    other = make_tiny(host.folder / "other")
    host.slipway["apps"] = {
        "mine": settings(make_tiny(host.folder / "mine"), "mine.test", limits={"tasks": 300, "log_mb": 20}, **QUICK),
        "other": settings(other, "other.test", **QUICK),
    }
    host.deploy()
    return Place(host, other)


def test_whatever_it_can_lock_it_holds_up_nobody(place: Place) -> None:
    host = place.host
    # As apt's own script and debconf's settings make them.
    host.ssh("touch /var/lib/apt/daily_lock; chmod 644 /var/lib/apt/daily_lock /var/cache/debconf/[ct]*.dat")
    host.ssh(in_sandbox(host, "mine", HOLD))
    try:
        held = wait_until(lambda: host.ssh("cat /var/lib/mine/held", check=False), 60, "its locks")
        assert int(held) > 50, "it holds nothing: this shows nothing"
        place.all_goes_on()
        assert host.run("flock -n /opt/slipway true").returncode == 1, "the attack goes on"
        host.ssh("python3 -", stdin=LOCK_ALL)
        host.ssh("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure tzdata")
    finally:
        host.ssh("systemctl stop taken-over")


def test_it_does_not_pass_for_nginx(place: Place) -> None:
    host = place.host
    titles = ("nginx: worker process", "nginx: worker process is shutting down")
    script = f"import os\nfor title in {titles}:\n  os.fork() or os.execv('/bin/sleep', [title, '900'])\nos.wait()"
    host.ssh(in_sandbox(host, "mine", script))
    try:
        wait_until(lambda: len(host.ssh("pgrep -u mine -f '^nginx: worker'").split()) == 2, 30, "its processes")
        place.all_goes_on()
    finally:
        host.ssh("systemctl stop taken-over")


def test_its_limits_are_those_of_the_settings(place: Place) -> None:
    """Where control groups count them; that they hold is shown on a machine (test_machine.py)."""
    host = place.host
    total = int(host.ssh("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    told = host.ssh("systemctl show --property=MemoryMax,TasksMax,CPUWeight app-mine.slice app-other.slice").split()
    memory = f"MemoryMax={int(total * 1.6 / 3) * 2**20}"
    assert sorted(told) == sorted([memory, "TasksMax=300", "CPUWeight=100", memory, "TasksMax=1024", "CPUWeight=100"])
    for app in ("mine", "other"):
        unit = f"{app}@{host.release(app)}.service"
        assert host.ssh(f"systemctl show --property=Slice --value {unit}") == f"app-{app}.slice"


def test_its_shared_memory_is_its_own(place: Place) -> None:
    before = place.host.ssh("df --output=iused,used /dev/shm | tail -n 1")
    files, size = place.attack(FILL_SHARED_MEMORY).splitlines()
    assert files.endswith("No space left on device") and 16_000 < int(files.split()[0]) <= 16_384
    assert size == "64 No space left on device"
    assert place.host.ssh("df --output=iused,used /dev/shm | tail -n 1") == before


def test_its_log_is_its_own(place: Place) -> None:
    """It pushes nobody's entries out, and writes none that pass for another's."""
    host = place.host
    logins = host.ssh("journalctl -u ssh -o cat --no-pager | grep -c 'Accepted publickey'")
    before = host.ssh("journalctl --disk-usage")
    place.attack(TALK)
    host.ssh("journalctl --sync --namespace=mine; journalctl --sync")
    assert "192.0.2.66" in host.ssh("journalctl --namespace=mine -o cat --no-pager -g 192.0.2.66"), "it was written"
    # Not by its words alone: sudo's log and systemd's have them from the attack's own command line.
    for whose in ("-t sshd", "-u ssh", "_UID=$(id -u mine)"):
        assert host.run(f"journalctl {whose} -o cat --no-pager -g 192.0.2.66").returncode == 1, whose
    assert int(host.ssh("journalctl -u ssh -o cat --no-pager | grep -c 'Accepted publickey'")) >= int(logins) > 0
    assert host.ssh("journalctl --disk-usage") == before
    size = int(host.ssh("du -sm /var/log/journal/*.mine").split()[0])
    assert size <= 28, "limits.log_mb, and what is just written"


def test_of_the_host_s_services_it_sees_what_is_its_own(place: Place) -> None:
    host = place.host
    host.ssh("mkdir -p /run/postgresql")
    assert place.attack(SEE) == "its own True"
    assert host.run("journalctl --namespace=other -o cat --no-pager -g 'forged by mine'").returncode == 1


def test_it_takes_nobody_s_place(place: Place) -> None:
    """Logins go on, those of others on this host too, and so do releases, though it takes all places that it can."""
    host = place.host
    host.ssh(in_sandbox(host, "mine", held(LOGINS + CALLS)))
    try:
        wait_until(lambda: len(host.ssh("pgrep -u mine -f 127.%d").split()) > 9, 30, "its processes")
        time.sleep(3)
        assert [login(host).returncode for _ in range(14)] == [0] * 14
        place.all_goes_on()
        assert host.ssh(ASK_LOCALLY) == "SSH-"
    finally:
        host.ssh("systemctl stop taken-over")
    # What another user of this host does is bounded as well.
    script = held([(("127.0.0.1", 22), 60, 2, b"")])
    host.ssh(shlex.join(["systemd-run", "-q", "--collect", "--unit=crowd", "--uid=nobody", "python3", "-c", script]))
    with host.afterwards("systemctl stop crowd"):
        time.sleep(3)
        assert [login(host).returncode for _ in range(8)] == [0] * 8
    wait_until(lambda: host.ssh(ASK_LOCALLY) == "SSH-", 10, "it is only for as long as that goes on")


def test_visitors_from_outside_are_served_all_the_same(place: Place) -> None:
    host = place.host
    assert place.attack(CALL_ITSELF) == "{200}", "it may call its own name"
    host.ssh(in_sandbox(host, "mine", held(REQUESTS), "--property=LimitNOFILE=4000"))
    try:
        time.sleep(8)
        for _ in range(5):
            assert host.get("/", domain="other.test", scheme="http").status_code == 200
    finally:
        host.ssh("systemctl stop taken-over")
    again = "once its connections are gone"
    wait_until(lambda: place.attack(CALL_ITSELF, check=False) == "{200}", 60, again)
    assert 0 < int(place.attack(UPLOAD)) <= 8, "what one source may hold"
