"""An app that was taken over, in its own sandbox: what it tries against the host and its neighbour comes to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import in_sandbox, make_tiny, set_hooks, settings, status
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

QUICK = {"watch": 0, "keep_warm": 0}

HOLD = """
import fcntl, os, time
held = []
for top in ("/run", "/opt/slipway", "/etc/slipway", "/var/lib/slipway", "/var/cache/slipway", "/etc/nginx",
            "/etc/other", "/srv/other", "/etc/letsencrypt", "/var/lib/dpkg", "/var/lib/apt"):
    for folder, _, names in os.walk(top):
        for name in (".", *names):
            if len(held) > 900:  # it may have 1024 files open
                break
            try:
                each = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                fcntl.flock(each, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(each)
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
        before = self.host.release("other")
        set_hooks(self.other, version=f"v{self.number}")
        self.host.task("tasks/release.py", app="other")
        assert self.host.release("other") != before
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
    host.ssh(in_sandbox(host, "mine", HOLD))
    try:
        held = wait_until(lambda: host.ssh("cat /var/lib/mine/held", check=False), 60, "its locks")
        assert int(held) > 50, "it holds nothing: this shows nothing"
        place.all_goes_on()
        assert host.run("flock -n /opt/slipway true").returncode == 1, "the attack goes on"
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
