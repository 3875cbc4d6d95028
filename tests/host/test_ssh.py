"""roles/ssh.py: what sshd goes by, and that it takes no password."""

from __future__ import annotations

import pytest

from roles import ssh
from roles.ssh.facts import Sshd, SshdState
from tests.host._hosts import Target

MARK = "Permission denied ("


@pytest.fixture
def sshd(target: Target) -> Sshd:
    """sshd as it is; skips the test where it isn't ours."""
    if not target.settings.ssh.enabled:
        pytest.skip("ssh.enabled is False: sshd is the distribution's")
    fact = SshdState()
    return fact.process(target.run(fact.command().get_raw_value()).splitlines())


def test_sshd_goes_by_the_settings(target: Target, sshd: Sshd) -> None:
    """For root as for any user: a Match block may say otherwise of some."""
    for user in ("root", "nobody"):
        effective = target.run(f"sshd -T -C user={user},host=client.example,addr=192.0.2.1").splitlines()
        wrong = [line for line in ssh.expected(target.settings, sshd) if " ".join(line) not in effective]
        assert wrong == [], f"not so for {user}"


def test_no_password_is_taken(target: Target, sshd: Sshd) -> None:
    """As sshd itself tells a client that offers nothing."""
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    port = min(ssh.ports(target.settings, sshd))
    told = target.run(f"ssh {options} -o PreferredAuthentications=none -p {port} root@127.0.0.1 true 2>&1; true")
    assert MARK in told, told
    assert told.partition(MARK)[2].partition(")")[0] == "publickey"


def test_host_keys_are_long_and_root_s(target: Target, sshd: Sshd) -> None:
    """Those that sshd shows its clients."""
    assert {kind: bits for kind, bits in sshd.bits.items() if bits < ssh.HOST_KEYS[kind]} == {}
    paths = [f"/etc/ssh/ssh_host_{kind}_key" for kind in ssh.HOST_KEYS]
    assert set(target.stat(*paths).values()) == {("regular file", "600", "root", "root")}


@pytest.mark.usefixtures("sshd")
def test_no_short_modulus_is_offered(target: Target) -> None:
    """Of less than 3072 bits, for Diffie-Hellman's group exchange; and there are others."""
    bits = [int(each) for each in target.run("awk '!/^#/ {print $5}' %s", ssh.MODULI).split()]
    assert len(bits) > 100 and min(bits) >= 3071


def test_no_change_of_the_ways_in_is_pending(target: Target) -> None:
    """What isn't confirmed is taken back within a minute."""
    assert target.stat("/var/lib/slipway/access/pending.json") == {}
    assert target.run("systemctl list-timers --all --no-legend slipway-access-revert.timer") == ""


def test_a_reboot_takes_back_what_is_pending(target: Target) -> None:
    """By a unit that runs before sshd and the firewall do."""
    unit = target.show("slipway-access-boot.service", "UnitFileState", "Before")
    assert unit["UnitFileState"] == "enabled"
    assert {"sysinit.target", "slipway-firewall.service"} <= set(unit["Before"].split())
