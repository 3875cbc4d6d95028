"""A host that somebody has hardened by hand converges, updates itself without losing requests, and says what is due."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]

BY_HAND = r"""
set -eu
sed -i '/^UMASK/d' /etc/login.defs; printf 'UMASK 077\n' >>/etc/login.defs
printf 'umask 077\n' >/etc/profile.d/hardening.sh
grep -q pam_umask /etc/pam.d/common-session-noninteractive ||
    echo 'session optional pam_umask.so' >>/etc/pam.d/common-session-noninteractive
printf 'net.ipv4.conf.all.rp_filter = 2\nnet.ipv4.conf.all.send_redirects = 0\n' >/etc/sysctl.d/99-hardening.conf
echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter
mkdir -p /etc/modprobe.d /etc/cron.d
printf 'blacklist dccp\n' >/etc/modprobe.d/hardening.conf
chmod 500 /etc/cron.d
printf 'Keep out\n' >/etc/issue
printf 'APT::Periodic::Unattended-Upgrade "0";\n' >/etc/apt/apt.conf.d/20auto-upgrades
systemctl mask --quiet apt-daily-upgrade.timer
"""
# A repository of one's own, as that of a database's vendor is: a package in two versions, of which the newer asks for a
# reboot as a kernel's does.
REPOSITORY = r"""
set -eu
umask 022
mkdir -p /srv/apt; cd /srv/apt
package() { # version
    rm -rf build; mkdir -p build/DEBIAN build/usr/share/demo
    printf 'Package: slipway-demo\nVersion: %s\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: demo\n' \
        "$1" >build/DEBIAN/control
    printf '#!/bin/sh\n[ -z "$2" ] || { touch /run/reboot-required; echo slipway-demo >/run/reboot-required.pkgs; }\n' \
        >build/DEBIAN/postinst
    chmod 755 build/DEBIAN/postinst
    echo "$1" >build/usr/share/demo/version
    dpkg-deb --root-owner-group --build build "demo_$1_all.deb" >/dev/null; rm -r build
}
package 1.0; package 2.0
{ dpkg-deb -f demo_2.0_all.deb; printf 'Filename: ./demo_2.0_all.deb\nSize: %s\nSHA256: %s\n\n' \
    "$(stat -c %s demo_2.0_all.deb)" "$(sha256sum <demo_2.0_all.deb | cut -d ' ' -f 1)"; } >Packages
printf 'Origin: Vendor\nLabel: Vendor\nSuite: stable\nSHA256:\n %s %s Packages\n' \
    "$(sha256sum <Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)" >Release
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list.d/vendor.list
dpkg -i demo_1.0_all.deb >/dev/null
"""
# What an update of libc does to every program that runs: the file that it has open isn't the one on disk any more.
REPLACE_LIBC = """
set -eu
file=$(find /usr/lib /lib -name libc.so.6 | head -n 1); file=$(readlink -f "$file")
cp -a "$file" "$file.new"; mv "$file.new" "$file"
"""


@pytest.fixture(scope="module")
def host(make_host: MakeHost) -> Host:
    """A host that a careful administrator has had before us."""
    host = make_host("updates", "debian13", bare=True)
    host.settings(updates__origins=["origin=Vendor"])
    host.app().update(watch=0, keep_warm=0)
    return host


def test_a_host_hardened_by_hand_converges(host: Host) -> None:
    if not host.release():
        host.ssh(BY_HAND)
    host.deploy()
    host.converged()
    assert host.get("/healthz").status_code == 200
    assert host.ssh("stat -c %a /etc/cron.d") == "500", "whoever has fewer rights keeps those"
    assert host.ssh("cat /proc/sys/net/ipv4/conf/all/rp_filter") == "2", "what is stricter or by choice stays"
    assert host.ssh("cat /proc/sys/net/ipv4/conf/eth0/send_redirects") == "0"
    assert host.ssh("systemctl is-enabled apt-daily-upgrade.timer") == "enabled"


def test_what_is_switched_off_is_taken_away(host: Host) -> None:
    system: dict[str, Any] = {"denied_modules": [], "umask": None, "core_dumps": True, "verify_packages": False}
    off = {"system": system}
    files = "/etc/modprobe.d/slipway.conf /etc/profile.d/slipway.sh /etc/systemd/system/debsums.timer"
    there = f"ls {files} 2>/dev/null || true"
    assert len(host.ssh(there).split()) == 3
    with host.changed(off):
        host.deploy()
        host.converged()
        assert host.ssh(there) == ""
        assert host.ssh("systemctl list-units --failed --plain --no-legend") == ""
    host.deploy()
    assert len(host.ssh(there).split()) == 3


def test_the_host_updates_itself(host: Host) -> None:
    """The daily unit does it, from the sources that the settings name."""
    host.ssh(REPOSITORY)
    assert host.ssh("cat /usr/share/demo/version") == "1.0"
    host.ssh("apt-get -q update", timeout=120)
    host.ssh("unattended-upgrade --verbose", timeout=300)
    assert host.ssh("cat /usr/share/demo/version") == "2.0"
    assert "slipway-demo" in host.ssh("cat /var/log/unattended-upgrades/unattended-upgrades.log")


def test_a_reboot_that_is_due_is_told_by_plan_and_run(host: Host) -> None:
    assert host.ssh("ls /run/reboot-required")
    for run in (host.deploy("--dry"), host.converged()):
        run.says("needs a reboot for an update to take effect (slipway-demo)", "systemctl reboot")
    host.ssh("rm /run/reboot-required /run/reboot-required.pkgs")
    assert "reboot" not in host.converged().output.replace("Tell whether a reboot", "")


def test_a_library_is_taken_on_without_losing_a_request(host: Host) -> None:
    """nginx by handing over; the app isn't touched, but named."""
    master = host.ssh("cat /run/nginx.pid")
    app = host.ssh("pgrep -u notes | sort | head -n 1")
    host.ssh(REPLACE_LIBC)
    with host.traffic() as seen:
        host.ssh("DEBIAN_FRONTEND=noninteractive needrestart", timeout=120)
        wait_until(lambda: host.ssh("cat /run/nginx.pid") != master, 20, "the new nginx")
        wait_until(
            lambda: host.ssh("systemctl show --value -p MainPID nginx") == host.ssh("cat /run/nginx.pid"), 30, "systemd"
        )
    seen.unbroken()
    assert host.ssh("pgrep -u notes | sort | head -n 1") == app
    host.converged().says("notes still run with libraries that an update replaced")
    host.ssh("systemctl restart 'notes@*.service'")
    wait_until(lambda: host.get("/healthz").status_code == 200, 30, "the app")
    assert "still run with libraries" not in host.converged().output


def test_an_update_of_nginx_loses_no_request(host: Host) -> None:
    """Debian's nginx-common restarts nginx; nginx's own package hands over."""
    with host.traffic() as seen:
        host.ssh("DEBIAN_FRONTEND=noninteractive apt-get -q -y install --reinstall nginx nginx-common", timeout=200)
    seen.unbroken()


def test_a_program_that_was_replaced_shows(host: Host) -> None:
    host.ssh("cp -p /usr/bin/tac /root/tac; echo >>/usr/bin/tac")
    with host.afterwards("mv /root/tac /usr/bin/tac; systemctl reset-failed debsums.service"):
        assert host.run("systemctl start debsums.service", timeout=300).returncode != 0
        assert "/usr/bin/tac" in host.ssh("journalctl -u debsums.service -o cat")


def test_the_host_is_what_the_settings_say(host: Host) -> None:
    host.verify()
