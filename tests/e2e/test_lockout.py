"""An app that was taken over waits for sshd to close its port for a moment: nobody is locked out by that."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from tests.e2e._driver import Host, log, login, wait_until
from tests.e2e.apps import in_sandbox, make_tiny, settings
from tests.e2e.conftest import MakeHost
from tests.target.engine import inspect
from tests.target.image import SUITES

pytestmark = [pytest.mark.story, pytest.mark.slow]

PORT = 2222
TAKE_PORT = f"""
import socket, time
held = {{}}
while True:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        if family in held:
            continue
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((address, {PORT}))
            one.listen(5)
            held[family] = one
        except OSError:
            one.close()
    time.sleep(0.0005)
"""
AGAIN = ("Restart=always", "RestartSec=1", "StartLimitIntervalSec=0")
"""As the app's own unit is started again, whatever ends it."""
APPLY = "/opt/slipway/bin/slipway access apply"
DROP_IN = "/etc/ssh/sshd_config.d/00-slipway.conf"
WON = "journalctl -u ssh -o cat --no-pager | grep -c 'Address already in use'"


@pytest.fixture(scope="module", params=list(SUITES))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """sshd is at a port that every user may take, and nowhere else; what logs in there comes by the host's address."""
    host = make_host("lockout", request.param, ())
    app = settings(make_tiny(host.folder / "mine"), "mine.test", watch=0, keep_warm=0)
    host.slipway |= {"apps": {"mine": app}, "ssh": {"port": PORT}}
    found = inspect("container", host.target["container"])
    assert found
    (network,) = found["NetworkSettings"]["Networks"].values()
    address = str(network["IPAddress"])
    if inside(host, "sshd -T | grep -qx 'port 22'").returncode == 0:
        host.data = {"ssh_hostname": address, "ssh_port": 22, "ssh_strict_host_key_checking": "accept-new",
                     "ssh_known_hosts_file": str(host.folder / host.file("known", ""))}  # fmt: skip
        host.deploy()
        host.data["ssh_port"] = PORT
        host.deploy()
    host.data = {}
    keys = inside(host, "cat /etc/ssh/ssh_host_*.pub")
    known = "".join(f"[{address}]:{PORT} {line}\n" for line in keys.stdout.decode().splitlines())
    kept = str(host.folder / host.file("known-there", known))
    way = {**host.target["ssh"], "host": address, "port": PORT, "known_hosts": kept}
    host.target = {**host.target, "ssh": way}
    assert login(host).returncode == 0
    return host


def inside(host: Host, command: str, stdin: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command on the host by its console, for which sshd isn't needed."""
    call = ["docker", "exec", *(["-i"] if stdin is not None else []), host.target["container"], "sh", "-c", command]
    return subprocess.run(call, input=(stdin or "").encode(), capture_output=True, timeout=120, check=False)


def attack(host: Host) -> None:
    """Begin it."""
    inside(host, in_sandbox(host, "mine", TAKE_PORT, *(f"--property={each}" for each in AGAIN)))


def won(host: Host) -> int:
    """How often sshd didn't get a port."""
    return int(inside(host, WON).stdout or 0)


def test_whatever_lets_sshd_read_anew_it_comes_back(host: Host) -> None:
    """Reloads by others than Slipway count as well: packages and operators."""
    # Where the kernel keeps apps from sshd's ports (it does outside of most containers), nothing could be shown.
    inside(host, "systemctl set-property --runtime app-mine.slice SocketBindDeny=")
    before = won(host)
    attack(host)
    try:
        for number in range(12):
            inside(host, "systemctl reload ssh")
            wait_until(lambda: login(host).returncode == 0, 20, f"a login after reload {number}")
            if won(host) > before + 2:
                break
        assert won(host) > before, "it never had the port: this shows nothing"
    finally:
        inside(host, "systemctl stop taken-over")
    log.info("    sshd was without a port %d times", won(host) - before)


def test_a_change_is_made_or_taken_back_and_nobody_is_locked_out(host: Host) -> None:
    before = won(host)
    attack(host)
    try:
        for tries in (5, 4, 3, 5):
            with host.changed({"ssh": {"max_auth_tries": tries}}):
                done = host.deploy(check=False)
            wait_until(lambda: login(host).returncode == 0, 20, "a login")
            assert inside(host, "ls /var/lib/slipway/access").stdout == b"", "nothing is pending"
            told = host.ssh("sshd -T | grep ^maxauthtries")
            assert not done.ok or told == f"maxauthtries {tries}", "it says what is true"
            if won(host) > before:
                break
    finally:
        inside(host, "systemctl stop taken-over")
    host.deploy()
    host.converged()


def test_a_revert_brings_back_an_sshd_that_is_dead(host: Host) -> None:
    """Whatever ended it, and though nothing but the timer is left to do it."""
    text = host.ssh(f"cat {DROP_IN}")
    file = {"path": DROP_IN, "content": text.replace("MaxAuthTries 6", "MaxAuthTries 2"), "mode": "600", "owned": False}
    change: dict[str, Any] = {"account": None, "files": [file], "drop_in": DROP_IN, "options": [], "host_keys": {},
                              "moduli": None, "ssh": True, "firewall": None}  # fmt: skip
    for by in ("systemctl start slipway-access-revert.service", "/opt/slipway/bin/slipway access revert"):
        done = inside(host, APPLY, json.dumps(change))
        assert json.loads(done.stdout)["seconds"] == 60
        inside(host, "systemctl stop ssh; rm -rf /run/sshd")
        assert login(host).returncode == 255, "it is dead"
        assert inside(host, by).returncode == 0
        assert login(host).returncode == 0
        assert host.ssh("sshd -T | grep ^maxauthtries") == "maxauthtries 6"
        assert host.ssh("ls /var/lib/slipway/access") == ""


def test_what_another_has_is_not_taken_for_sshd_s(host: Host) -> None:
    """Nor is it ended, where it isn't an app's."""
    other = "import socket, time\none = socket.socket()\none.bind(('127.0.0.9', 2299))\none.listen()\ntime.sleep(600)"
    host.ssh(shlex.join(["systemd-run", "-q", "--collect", "--unit=bystander", "--uid=nobody", "python3", "-c", other]))
    with host.afterwards("systemctl stop bystander"), host.changed({"ssh": {"port": 2299}}):
        host.refused("the change of access was reverted")
        assert login(host).returncode == 0
        assert host.ssh("systemctl is-active bystander") == "active"
    host.converged()
