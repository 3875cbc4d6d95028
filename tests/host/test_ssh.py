"""roles/ssh: what sshd goes by, and that it takes no password."""

from __future__ import annotations

import pytest

from roles.ssh.facts import Sshd, SshdState
from tests.host._hosts import Target

MARK = "Permission denied ("
OPTIONS = (
    "pubkeyauthentication yes",
    "passwordauthentication no",
    "kbdinteractiveauthentication no",
    "permitemptypasswords no",
    "hostbasedauthentication no",
    "permituserenvironment no",
    "strictmodes yes",
    "modulifile /etc/ssh/slipway.moduli",
    (
        "ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-gcm@openssh.com,"
        "aes128-ctr"
    ),
    "macs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com",
    (
        "hostkeyalgorithms sk-ssh-ed25519-cert-v01@openssh.com,ssh-ed25519-cert-v01@openssh.com,"
        "rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,sk-ssh-ed25519@openssh.com,ssh-ed25519,"
        "rsa-sha2-512,rsa-sha2-256"
    ),
    "casignaturealgorithms sk-ssh-ed25519@openssh.com,ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
    (
        "pubkeyacceptedalgorithms sk-ssh-ed25519-cert-v01@openssh.com,ssh-ed25519-cert-v01@openssh.com,"
        "rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,sk-ssh-ed25519@openssh.com,ssh-ed25519,"
        "rsa-sha2-512,rsa-sha2-256,sk-ecdsa-sha2-nistp256@openssh.com,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
        "ecdsa-sha2-nistp521"
    ),
    "requiredrsasize 3072",
    "maxsessions 10",
    "maxstartups 10:30:60",
    "persourcemaxstartups 5",
    "persourcenetblocksize 32:64",
    "logingracetime 30",
    "clientaliveinterval 300",
    "clientalivecountmax 2",
    "compression no",
    "tcpkeepalive no",
    "allowagentforwarding no",
    "gatewayports no",
    "permittunnel no",
    "x11forwarding no",
    "loglevel VERBOSE",
    "hostkey /etc/ssh/ssh_host_ed25519_key",
    "hostkey /etc/ssh/ssh_host_rsa_key",
)
"""What sshd goes by on every host, as `sshd -T` prints it."""
EXCHANGES = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
)
"""Key exchanges, of those that a host's sshd knows; where it doesn't know the first, the older ones beside them."""
OLDER = ("diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", "diffie-hellman-group-exchange-sha256")
HOST_KEYS = {"ed25519": 256, "rsa": 4096}
"""Kind of host key → the bits it has at least."""


def expected(target: Target, sshd: Sshd) -> list[str]:
    """Lines that `sshd -T` must print on this host."""
    settings = target.settings.ssh
    exchanges = EXCHANGES if EXCHANGES[0] in sshd.kex else EXCHANGES + OLDER
    return [
        *OPTIONS,
        f"kexalgorithms {','.join(each for each in exchanges if each in sshd.kex)}",
        f"permitrootlogin {'without-password' if settings.root_login else 'no'}",
        f"maxauthtries {settings.max_auth_tries}",
        f"allowtcpforwarding {settings.forwarding}",
        f"allowstreamlocalforwarding {settings.forwarding}",
        *([f"port {settings.port}"] if settings.port else []),
    ]


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
        wrong = [line for line in expected(target, sshd) if line not in effective]
        assert wrong == [], f"not so for {user}"


def test_no_password_is_taken(target: Target, sshd: Sshd) -> None:
    """As sshd itself tells a client that offers nothing."""
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    port = min(int(port) for port in sshd.effective["port"])
    told = target.run(f"ssh {options} -o PreferredAuthentications=none -p {port} root@127.0.0.1 true 2>&1; true")
    assert MARK in told, told
    assert told.partition(MARK)[2].partition(")")[0] == "publickey"


def test_host_keys_are_long_and_root_s(target: Target, sshd: Sshd) -> None:
    """Those that sshd shows its clients."""
    assert {kind: bits for kind, bits in sshd.bits.items() if bits < HOST_KEYS[kind]} == {}
    paths = [f"/etc/ssh/ssh_host_{kind}_key" for kind in HOST_KEYS]
    assert set(target.stat(*paths).values()) == {("regular file", "600", "root", "root")}


@pytest.mark.usefixtures("sshd")
def test_no_short_modulus_is_offered(target: Target) -> None:
    """Of less than 3072 bits, for Diffie-Hellman's group exchange; and there are others."""
    bits = [int(each) for each in target.run("awk '!/^#/ {print $5}' %s", "/etc/ssh/slipway.moduli").split()]
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
