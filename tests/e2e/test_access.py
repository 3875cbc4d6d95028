"""The ways in: what is closed is closed, and nothing that an operator sets, or that fails, shuts the operator out."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e._driver import Host, log, login, wait_until
from tests.e2e.conftest import MakeHost
from tests.target.console import run as run_here
from tests.target.engine import inspect

pytestmark = pytest.mark.story

WAYS_IN = "Access | Change access, proven by a new connection"
PROGRAM = "Access | Write the units that revert a change"
"""The units reach the operator's home, and no other."""
DROP_IN = "/etc/ssh/slipway.conf"
"""Where sshd's configuration lies on a host that has another file before ours."""
FOREIGN = "table ip foreign {\nchain forward {\ntype filter hook forward priority filter; policy accept;\n}\n}\n"
"""A table as Docker has one."""
LOCKED_OUT = "tcp dport 22 drop\n"
"""A rule that lets nobody log in anew."""

# Opens TCP connections to a port, one after the other, and says how many were made. $1 address, $2 port, $3 how many
CONNECT = """
made=0
for i in $(seq "$3"); do
    if timeout 1 bash -c "exec 9<>/dev/tcp/$1/$2" 2>/dev/null; then made=$((made + 1)); fi
done
echo $made
"""
HEAR = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, open("/run/heard", "ab", 0) as heard:
    server.bind(("", 8766))
    while True:
        heard.write(server.recv(99))
"""
# Opens connections, keeps them all, and says how many weren't reset. Address, port, how many
HOLD = """
use IO::Socket::INET;
my ($address, $port, $count) = @ARGV;
for (1 .. $count) {
    my $one = IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 2) or next;
    push @kept, $one;
}
print scalar(@kept);
"""


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """The story's host."""
    host = make_host("access", "debian13", bare=True)
    host.app().update(watch=0, keep_warm=0)
    return host


def address(host: Host) -> str:
    """The host's own, without Docker's published ports."""
    found = inspect("container", host.target["container"])
    assert found
    (network,) = found["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def elsewhere(host: Host, *command: str) -> str:
    """Run a command on another machine of the host's network, which has an address of its own."""
    done = run_here(["docker", "exec", host.target["acme_container"], *command])
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def ways_in(host: Host) -> str:
    """All that decides who gets in."""
    files = "/etc/ssh/sshd_config /etc/ssh/sshd_config.d/* /etc/slipway/firewall.nft /etc/sudoers.d/*"
    return host.ssh(f"cat {files}; sshd -T; nft --stateless --terse list table inet slipway")


def came_back(host: Host, before: str) -> None:
    """Fail unless a new login works, and all is as it was before."""
    done = login(host)
    assert done.returncode == 0, done.stderr
    assert ways_in(host) == before
    assert host.ssh("ls /var/lib/slipway/access") == ""
    assert host.ssh("systemctl list-timers --all --no-legend slipway-access-revert.timer") == ""


def test_a_host_hardened_by_hand_before_is_hardened_all_the_same(host: Host) -> None:
    host.ssh("echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/50-cloud-init.conf")
    host.ssh("printf 'PermitRootLogin yes\\nX11Forwarding yes\\n' >/etc/ssh/sshd_config.d/00-before.conf")
    host.ssh("echo deploy:correct-horse | chpasswd; systemctl reload ssh")
    run = host.deploy()
    run.says("proven by a fresh connection")
    assert host.ssh("head -n 1 /etc/ssh/sshd_config") == f"Include {DROP_IN}"
    found = host.ssh("sshd -T")
    for line in ("passwordauthentication no", "permitrootlogin without-password", "x11forwarding no"):
        assert line in found.splitlines()
    host.converged()
    host.ssh("rm /etc/ssh/sshd_config.d/00-before.conf")
    host.deploy()
    assert host.ssh("ls /etc/ssh/sshd_config.d") == "00-slipway.conf\n50-cloud-init.conf"
    assert "slipway" not in host.ssh("cat /etc/ssh/sshd_config"), "it is the package's again"
    host.converged()
    host.verify()


def test_sshd_asks_for_no_password(host: Host) -> None:
    done = login(host, None, "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password")
    assert done.returncode == 255 and "Permission denied (publickey)" in done.stderr


def test_what_nobody_asked_for_is_dropped_and_other_tables_stay(host: Host) -> None:
    host.ssh("nft -f -", stdin=FOREIGN)
    # Servers that their maker forgot.
    host.ssh("systemd-run --quiet --unit=forgotten python3 -m http.server 8765")
    host.ssh(f"systemd-run --quiet --unit=forgotten-udp python3 -c {shlex.quote(HEAR)}")
    wait_until(lambda: host.ssh("ss -Hltn sport = :8765"), 10, "the forgotten server listens")
    wait_until(lambda: host.ssh("ss -Hlun sport = :8766"), 10, "the other one does")

    def reached(told: str) -> list[str]:
        """How many TCP connections were made, and which datagrams arrived so far; this one says `told`."""
        elsewhere(host, "bash", "-c", f"echo {told} >/dev/udp/{address(host)}/8766")
        made = elsewhere(host, "bash", "-c", CONNECT, "sh", address(host), "8765", "1")
        return [made, *host.ssh("cat /run/heard 2>/dev/null || true").split()]

    assert reached("early") == ["0"]
    extra = host.file("extra.nft", "ct mark 9 accept\n")
    with host.changed({"firewall": {"tcp_ports": [8765], "udp_ports": [8766], "extra": extra}}):
        run = host.deploy()
        assert run.changed == [WAYS_IN]
        assert reached("open") == ["1", "open"]
        assert "ct mark 0x00000009 accept" in host.ssh("nft list table inet slipway")
    host.deploy()
    assert reached("late") == ["0", "open"]
    assert "chain forward" in host.ssh("nft list table ip foreign")
    host.ssh("systemctl stop forgotten forgotten-udp")


def test_the_plan_shows_what_the_run_does(host: Host) -> None:
    with host.changed({"ssh": {"forwarding": "local"}}):
        told = host.deploy("--dry", "--diff")
        told.says("-AllowTcpForwarding no", "+AllowTcpForwarding local", "will reload unit ssh.service")
        assert told.changed == [WAYS_IN]
        assert host.deploy().changed == [WAYS_IN]
        assert "allowtcpforwarding local" in host.ssh("sshd -T")
    assert host.deploy().changed == [WAYS_IN]


def beside(host: Host, settings: dict[str, dict[str, tuple[str, str]]]) -> dict[str, dict[str, str]]:
    """These settings, whose files (name, content) now lie beside the inventory."""
    return {group: {key: host.file(*file) for key, file in each.items()} for group, each in settings.items()}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"firewall": {"extra": ("lock.nft", LOCKED_OUT)}}, "SSH error"),
        ({"ssh": {"extra": ("lock.conf", "AllowUsers nobody\n")}}, "Authentication error"),
    ],
    ids=["firewall", "sshd"],
)
def test_a_change_that_locks_the_operator_out_is_taken_back(
    host: Host, settings: dict[str, dict[str, tuple[str, str]]], told: str
) -> None:
    before = ways_in(host)
    with host.changed(beside(host, settings)):
        host.refused("not proven", told, "the change of access was reverted")
    came_back(host, before)
    host.converged()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"firewall": {"extra": ("bad.nft", "tcp dport 22 acept\n")}}, "syntax error"),
        ({"firewall": {"extra": ("end.nft", "}\n")}}, "syntax error"),
        ({"ssh": {"extra": ("bad.conf", "PermitRoot no\n")}}, "Bad configuration option: PermitRoot"),
    ],
    ids=["rule", "brace", "directive"],
)
def test_what_the_programs_refuse_is_not_tried(
    host: Host, settings: dict[str, dict[str, tuple[str, str]]], told: str
) -> None:
    before = ways_in(host)
    with host.changed(beside(host, settings)):
        host.refused(told)
    came_back(host, before)


def locked_out(host: Host) -> subprocess.Popen[bytes]:
    """Start a run that locks the operator out, and wait until it has."""
    host.ssh("true")  # the connection that is kept open goes on
    process = host.start_deploy()
    wait_until(lambda: host.run("nft list chain inet slipway input | grep -q 'dport 22 drop'").returncode == 0, 60, "")
    assert login(host).returncode == 255, "nobody is locked out: this shows nothing"
    return process


@pytest.mark.slow
def test_a_run_that_is_killed_before_it_confirms_leaves_a_host_that_comes_back(host: Host) -> None:
    before, began = ways_in(host), time.monotonic()
    with host.changed({"firewall": {"extra": host.file("lock.nft", LOCKED_OUT)}}):
        host.kill_deploy(locked_out(host))
    wait_until(lambda: login(host).returncode == 0, 75, "a new login")
    log.info("    back %.0f s after the run began", time.monotonic() - began)
    came_back(host, before)
    host.converged()


def test_a_reboot_in_the_middle_takes_it_back_as_well_and_keeps_the_rules(host: Host) -> None:
    before = ways_in(host)
    with host.changed({"firewall": {"extra": host.file("lock.nft", LOCKED_OUT)}}):
        host.kill_deploy(locked_out(host))
    host.reboot(hard=True)
    came_back(host, before)
    host.converged()


def test_the_next_run_heals_what_a_killed_one_left(host: Host) -> None:
    with host.changed({"firewall": {"extra": host.file("lock.nft", LOCKED_OUT)}}):
        host.kill_deploy(locked_out(host))
    host.ssh("nft insert rule inet slipway input tcp dport 22 accept")  # or it had to wait for the timer
    with host.changed({"ssh": {"max_auth_tries": 5}}):
        host.deploy().says("wasn't confirmed")
        assert "maxauthtries 5" in host.ssh("sshd -T")
        host.converged()
    host.connector = ""  # pyinfra's own connector proves it as well
    host.deploy()
    host.connector = "@slipway/"
    assert "maxauthtries 6" in host.ssh("sshd -T")


def test_whoever_connects_too_often_is_slowed_down_alone(host: Host) -> None:
    with host.changed({"firewall": {"ssh_rate": 20}}):
        assert host.deploy().changed == [WAYS_IN]
        made = int(elsewhere(host, "bash", "-c", CONNECT, "sh", address(host), "22", "28"))
        assert 20 <= made < 28, f"{made} of 28 connections were made"
        assert login(host).returncode == 0
        assert host.ssh("nft list chain inet slipway ssh | grep -c 'packets 0 bytes 0 drop'") == "1", "IPv4 was counted"
    host.deploy()


def test_one_source_cannot_have_all_connections(host: Host) -> None:
    made = int(elsewhere(host, "perl", "-e", HOLD, address(host), "80", "230"))
    assert made == 200
    assert host.get().status_code == 200


def test_the_operator_takes_over_from_root(host: Host) -> None:
    key = Path(host.target["ssh"]["key"] + ".pub").read_text().strip()
    host.change({"operator": {"user": "alice", "authorized_keys": [key]}})
    assert host.deploy(user="root").changed == [PROGRAM, WAYS_IN]
    assert login(host, "alice").returncode == 0
    host.converged(user="alice")
    with host.changed({"ssh": {"root_login": False}}):
        host.refused("slipway.ssh.root_login", '"ssh_user": "root"', user="root")
        host.deploy(user="alice")
        assert "Permission denied" in login(host, "root").stderr
        host.verify()


def test_a_new_port_is_opened_before_the_old_one_is_closed(host: Host) -> None:
    direct = {"ssh_hostname": address(host), "ssh_strict_host_key_checking": "accept-new"}
    host.data = {**direct, "ssh_port": 22, "ssh_known_hosts_file": str(host.folder / host.file("known", ""))}
    host.change({"ssh": {"port": 2222}})
    host.deploy().says("sshd is at port 2222, and still at 22", "set ssh_port to 2222")
    host.converged()
    host.data["ssh_port"] = 2222
    host.deploy()
    assert host.ssh("sshd -T | grep ^port") == "port 2222"
    assert login(host).returncode == 255
    host.converged()
    # And back, by the published port: what is outside isn't what the host has.
    host.change({"ssh": {"port": 22}})
    host.deploy().says("set ssh_port to 22")
    host.data = {}
    host.deploy()
    assert host.ssh("sshd -T | grep ^port") == "port 22"
    host.converged()


def test_another_firewall_is_not_fought(host: Host) -> None:
    host.ssh("mkdir -p /etc/ufw; echo ENABLED=yes >/etc/ufw/ufw.conf")
    with host.afterwards("rm -r /etc/ufw"):
        host.refused("ufw is in charge of the firewall", "`ufw disable`")


@pytest.mark.slow
def test_switched_off_it_is_removed(host: Host) -> None:
    with host.changed({"ssh": {"enabled": False}, "firewall": {"enabled": False}}):
        told = host.deploy()
        assert told.changed == [WAYS_IN]
        assert "inet slipway" not in host.ssh("nft list tables")
        assert "passwordauthentication yes" in host.ssh("sshd -T")
        host.converged()
    # A run that came in with a password would shut itself out.
    host.data = {"ssh_key": None, "ssh_user": "deploy", "ssh_password": "correct-horse"}
    before = host.ssh("sshd -T")
    host.refused("logged in with a password", "ssh-copy-id")
    assert host.ssh("sshd -T") == before
    host.data = {}
    host.deploy()
    host.verify()
