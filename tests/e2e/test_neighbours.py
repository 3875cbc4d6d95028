"""An app that was taken over, in its own sandbox: what it tries against the host and its neighbour comes to nothing."""

from __future__ import annotations

import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, login, wait_until
from tests.e2e.apps import attacks, in_sandbox, make_tiny, release_changed, settings, status
from tests.e2e.apps.attacks import CALLS, LOGINS, REQUESTS, held
from tests.e2e.conftest import MakeHost, systems

pytestmark = [pytest.mark.story, pytest.mark.slow]

QUICK = {"watch": 0, "keep_warm": 0}

_BANNER = "exec 9<>/dev/tcp/127.0.0.1/22; head -c 4 <&9"
ASK_LOCALLY = shlex.join(["runuser", "-u", "nobody", "--", "timeout", "5", "bash", "-c", _BANNER])


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
        self.host.ssh("/opt/slipway/bin/slipway nginx reload", timeout=60)
        self.host.ssh("/opt/slipway/bin/slipway access revert", timeout=60)
        assert status(self.host, "mine")["faults"] == []


@pytest.fixture(scope="module", params=systems("debian12"))
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
    host.ssh(in_sandbox(host, "mine", attacks.HOLD))
    try:
        held = wait_until(lambda: host.ssh("cat /var/lib/mine/held", check=False), 60, "its locks")
        assert int(held) > 50, "it holds nothing: this shows nothing"
        place.all_goes_on()
        assert host.run("flock -n /opt/slipway true").returncode == 1, "the attack goes on"
        host.ssh("python3 -", stdin=attacks.LOCK_ALL)
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
    files, size = place.attack(attacks.FILL_SHARED_MEMORY).splitlines()
    assert files.endswith("No space left on device") and 16_000 < int(files.split()[0]) <= 16_384
    assert size == "64 No space left on device"
    assert place.host.ssh("df --output=iused,used /dev/shm | tail -n 1") == before


def test_its_log_is_its_own(place: Place) -> None:
    """It pushes nobody's entries out, and writes none that pass for another's."""
    host = place.host
    logins = host.ssh("journalctl -u ssh -o cat --no-pager | grep -c 'Accepted publickey'")
    before = host.ssh("journalctl --disk-usage")
    place.attack(attacks.TALK)
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
    assert place.attack(attacks.SEE) == "its own True"
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
    assert place.attack(attacks.CALL_ITSELF) == "{200}", "it may call its own name"
    host.ssh(in_sandbox(host, "mine", held(REQUESTS), "--property=LimitNOFILE=4000"))
    try:
        time.sleep(8)
        for _ in range(5):
            assert host.get("/", domain="other.test", scheme="http").status_code == 200
    finally:
        host.ssh("systemctl stop taken-over")
    again = "once its connections are gone"
    wait_until(lambda: place.attack(attacks.CALL_ITSELF, check=False) == "{200}", 60, again)
    assert 0 < int(place.attack(attacks.UPLOAD)) <= 8, "what one source may hold"


def test_nobody_logs_in_as_it(place: Place, tmp_path: Path) -> None:
    """Nor as who builds it: a login would start what no sandbox holds. The key is one that it lets in itself."""
    host, key = place.host, tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()
    idle = ("-N", "-i", str(key))  # which runs nothing, so that no shell is asked
    for user, home in (("mine", "/var/lib/mine"), ("_mine", "/var/cache/slipway/mine/home")):
        let_in = attacks.LET_IN.replace("HOME", repr(home)).replace("KEY", repr(public))
        host.ssh(f"setpriv --reuid={user} --regid={user} --clear-groups python3 -", stdin=let_in)
        done = login(host, user, *idle, seconds=20)
        assert done.returncode == 255, f"{user} is logged in: {done}"
    # It is the account that is closed, and nothing else that keeps it out.
    host.ssh("usermod --expiredate '' mine")
    with pytest.raises(subprocess.TimeoutExpired):
        login(host, "mine", *idle, seconds=8)
    host.deploy()
    assert host.ssh("getent shadow mine | cut -d : -f 8") == "1"


def test_it_cannot_fill_what_the_kernel_remembers(place: Place) -> None:
    host, count = place.host, "cat /proc/sys/net/netfilter/nf_conntrack_count"
    if host.run(count).returncode:
        pytest.skip("this kernel doesn't tell how many connections it remembers")
    before = int(host.ssh(count))
    assert place.attack(attacks.KNOCK) == "asked"
    assert int(host.ssh(count)) - before < 5000, "4,096 and what else goes on"
    assert login(host).returncode == 0
    host.ssh("conntrack -F 2>/dev/null || true")


def test_what_it_calls_itself_has_no_end(place: Place) -> None:
    host = place.host
    host.ssh(in_sandbox(host, "mine", attacks.LONG_TITLE))
    try:
        wait_until(lambda: host.ssh("cat /var/lib/mine/titled", check=False) == "done", 30, "its title")
        host.ssh("prlimit --as=500000000 /opt/slipway/bin/slipway nginx reload", timeout=60)
        place.all_goes_on()
    finally:
        host.ssh("systemctl stop taken-over")


def test_what_else_it_could_use_is_its_own_or_shut(place: Place) -> None:
    host = place.host
    assert place.attack(attacks.RING) == "Operation not permitted"
    # Of the kernel's memory: a container is told of less by its /proc/meminfo.
    mounted = "mount -t tmpfs -o size=25% quarter /mnt && df -m --output=size /mnt | tail -n 1"
    quarter = int(host.ssh(f"unshare -m sh -c '{mounted}'"))
    for line in place.attack(attacks.FILL_TEMPORARY).splitlines():
        folder, size, files = line.split()
        assert abs(int(size) - quarter) < 100 and files == "65536", line
        assert host.run(f"test -e {folder}/mine").returncode == 1
    assert place.attack(attacks.AS_THE_HOST) == "Connection refused"
    assert "200 OK" in host.ssh("python3 -", stdin=attacks.AS_THE_HOST), "the host itself is answered"
