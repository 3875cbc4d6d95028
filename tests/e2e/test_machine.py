"""One machine's life, and what no container can show: a kernel, disk, clock, network and boots of its own.

Everything is emulated where there is no KVM, twenty times slower than in a container: half an hour a system.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from tests.e2e._driver import Host, log, wait_until
from tests.e2e._machine import (
    CHANGES,
    OPERATOR,
    OWN,
    UPSTREAM,
    answers,
    change_code,
    ended,
    has,
    kernel_said,
    login,
    machine_settings,
    oom,
    public,
    settled,
    show,
    shut_out,
    ways_in,
)
from tests.e2e.apps import FORK, TAKE_MEMORY, in_sandbox
from tests.e2e.conftest import MakeHost, systems
from tests.target import lifecycle

pytestmark = [pytest.mark.story, pytest.mark.slow]

DAY = 24 * 3600
EXITED, ENTERED = "ExecMainExitTimestampMonotonic", "InactiveExitTimestampMonotonic"


@pytest.fixture(scope="module", params=systems("debian13", pytest.mark.hours))
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """The story's machine, with an operator who is no cloud's user, and all that an app may ask for."""
    host = make_host("machine", request.param, machine=True)
    machine_settings(host)
    host.settings(updates__reboot="04:30", system__swap_mb=300)
    return host


# ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_run_makes_a_bare_machine_a_host_that_serves(host: Host) -> None:
    settled(host)
    host.deploy()
    assert answers(host) == host.release()
    assert host.ssh("nginx -t -q 2>&1") == "", "nginx warns"


def test_a_second_run_changes_nothing(host: Host) -> None:
    host.converged()


def test_a_release_of_changed_code_loses_no_request(host: Host) -> None:
    """With its hooks and migrations as units of their own; then the old one drains and stays warm."""
    before = host.release()
    change_code(host, "released")
    run = host.task("tasks/release.py", app="notes", prove=True)
    proven = re.search(r"[\d,]+ requests .*, 0 failed.*", run.output)
    assert proven, run.told
    log.info("    %s", proven[0])
    assert answers(host) == host.release() != before
    assert {"before_migrate", "after_migrate", "after_switch"} <= set(host.ssh("cat /var/lib/notes/hooks").split())
    has(host, f"notes@{before}.service", ActiveState="active")


def test_a_rollback_is_served_by_what_is_warm_and_the_other_is_retired(host: Host) -> None:
    left = host.release()
    with public(host):
        host.task("tasks/rollback.py", app="notes")
    assert answers(host) == host.release() != left
    state = f"systemctl is-active 'notes@{left}.service' || true"
    wait_until(lambda: host.ssh(state) == "inactive", 240, "the end of the release that was left")


def test_a_release_that_fails_is_taken_back_and_its_hook_is_told(host: Host) -> None:
    before = host.release()
    change_code(host, "broken", "raise RuntimeError('no luck today')")
    run = host.task("tasks/release.py", app="notes", check=False)
    run.says("failed at check", "no luck today")
    assert answers(host) == host.release() == before
    assert "on_failure" in host.ssh("cat /var/lib/notes/hooks").split()
    change_code(host, "mended")
    host.task("tasks/release.py", app="notes")
    assert answers(host) == host.release() != before


def test_a_reboot_brings_the_firewall_before_the_network_and_then_the_site(host: Host) -> None:
    before = host.release()
    host.reboot()
    assert answers(host) == before
    has(host, "slipway-firewall", ActiveState="active", Result="success")
    up = int(show(host, "slipway-firewall", EXITED)[EXITED])
    later = ("network-pre.target", "systemd-networkd.service", "network.target", "ssh.service", "nginx.service")
    for unit in later:
        has(host, unit, ActiveState="active")
        assert int(show(host, unit, ENTERED)[ENTERED]) > up, unit
    assert "ct state established" in host.ssh("nft list table inet slipway")
    # Nothing was pending, so there was nothing to take back.
    has(host, "slipway-access-boot", ConditionResult="no", UnitFileState="enabled")


def test_no_unit_failed_after_the_first_boot_and_the_second(host: Host) -> None:
    settled(host)


def test_the_host_is_verified(host: Host) -> None:
    """All of it: what tests/host leaves out in a container isn't left out here."""
    left_out = [line for line in host.verify().splitlines() if line.startswith("SKIPPED")]
    log.info("    left out: %s", left_out)
    assert not [line for line in left_out if re.search("container|machine", line)]
    host.converged()


# ── kernel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kernel_settings_hold_and_are_there_after_a_reboot(host: Host) -> None:
    """Every line of the file, at every interface, and what that is for."""
    lines = host.ssh("grep -hv '^#' /etc/sysctl.d/60-slipway.conf").splitlines()
    wanted = dict(re.split(r"\s*=\s*", line.lstrip("-"), maxsplit=1) for line in lines if "=" in line)
    assert {"kernel.kptr_restrict", "kernel.unprivileged_bpf_disabled", "fs.suid_dumpable"} <= set(wanted)
    paths = " ".join(f"/proc/sys/{key.replace('.', '/')}" for key in wanted)
    found = dict(line.split(":", 1) for line in host.ssh(f"grep -Hs '' {paths} || true").splitlines())
    assert len(found) > len(wanted)
    for key, value in wanted.items():
        pattern = re.compile("/proc/sys/" + re.escape(key.replace(".", "/")).replace(r"\*", "[^/]+"))
        for path in filter(pattern.fullmatch, found):
            assert found[path] == value or int(found[path]) > int(value), f"{path} is {found[path]}, not {value}"
    outsider = "setpriv --reuid=www-data --regid=www-data --clear-groups --no-new-privs"
    assert "not permitted" in host.run(f"{outsider} dmesg").stderr
    assert host.ssh(f"{outsider} grep ' _text$' /proc/kallsyms").split()[0].strip("0") == ""
    crash = host.run("cd /tmp && ulimit -c unlimited; sh -c 'kill -SEGV $$'; ls /tmp/core* /var/lib/systemd/coredump")
    assert "core" not in crash.stdout.replace("/var/lib/systemd/coredump:", ""), crash.stdout


def test_unused_modules_stay_out_and_the_firewalls_come_in(host: Host) -> None:
    config = host.ssh("cat /etc/modprobe.d/slipway.conf")
    denied = re.findall(r"^install (\S+) /bin/false$", config, re.MULTILINE)
    there = host.ssh(f"for m in {' '.join(denied)}; do modinfo -F filename $m 2>/dev/null || true; done").splitlines()
    log.info("    of %d denied modules this kernel has %d", len(denied), len(there))
    assert {"dccp", "sctp", "tipc"} <= set(denied) and there
    tried = f"for m in {' '.join(denied)}; do ! modprobe $m 2>/dev/null || echo $m; done"
    assert host.ssh(tried) == "", "these were loaded"
    # What a local user does who is after one: the kernel asks for it by itself.
    host.run("setpriv --reuid=www-data --regid=www-data --clear-groups python3 -c 'import socket; "
             "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)'")  # fmt: skip
    loaded = {line.split()[0] for line in host.ssh("cat /proc/modules").splitlines()}
    assert loaded & {module.replace("-", "_") for module in denied} == set()
    assert {"nf_tables", "nf_conntrack", "nft_ct"} <= loaded


def test_a_machine_gets_swap_of_the_size_that_is_set_and_a_reboot_keeps_it(host: Host) -> None:
    swaps = [line.split() for line in host.ssh("tail -n +2 /proc/swaps").splitlines()]
    assert [(path, kind) for path, kind, *_ in swaps] == [("/swapfile", "file")]
    assert int(swaps[0][2]) == 300 * 1024 - 4, "kB; its first page isn't for use"
    assert host.ssh("stat -c %a:%U /swapfile") == "600:root"


def test_services_have_the_limits_that_their_units_name(host: Host) -> None:
    """As the kernel has them: of Gunicorn, a worker of it, and nginx; and cgroups count memory and tasks."""
    for unit in (f"notes@{host.release()}.service", "nginx.service"):
        told = show(host, unit, "MainPID", "LimitNOFILE", "LimitNOFILESoft", "TasksMax", "ControlGroup")
        worker = host.ssh(f"pgrep -P {told['MainPID']} | head -n 1")
        for pid in (told["MainPID"], worker):
            limits = {
                line[:26].strip(): line[26:].split()[:2] for line in host.ssh(f"cat /proc/{pid}/limits").splitlines()
            }
            log.info("    %s %s: %s", unit, pid, limits["Max open files"])
            if unit == "nginx.service" and pid == worker:  # it raises its own
                own = host.ssh("sed -n 's/^worker_rlimit_nofile \\(.*\\);/\\1/p' /etc/nginx/nginx.conf")
                assert limits["Max open files"] == [own, own]
            else:
                assert limits["Max open files"] == [told["LimitNOFILESoft"], told["LimitNOFILE"]]
        group = f"/sys/fs/cgroup{told['ControlGroup']}"
        assert host.ssh(f"cat {group}/pids.max") == told["TasksMax"]
        assert int(host.ssh(f"cat {group}/memory.current")) > 2**20
    assert host.ssh("sysctl -n net.ipv4.ip_unprivileged_port_start") == "1024"


def test_the_journal_tells_boots_apart_and_has_the_kernels_messages(host: Host) -> None:
    assert len(re.findall(r"^ *-?\d+ [0-9a-f]{32}", host.ssh("journalctl --list-boots --no-pager"), re.MULTILINE)) >= 2
    for boot in (-1, 0):
        assert "Linux version" in host.ssh(f"journalctl -k -b {boot} -o cat | head -n 5")
    assert int(host.ssh("du -sk /var/log/journal").split()[0]) < 2**20, "kB"


def test_apparmor_is_on_and_refuses_nothing_of_ours(host: Host) -> None:
    assert host.ssh("cat /sys/module/apparmor/parameters/enabled") == "Y"
    assert int(host.ssh("wc -l </sys/kernel/security/apparmor/profiles")) > 0
    assert kernel_said(host, 'apparmor="DENIED"') == ""


def test_nothing_ran_out_of_memory(host: Host) -> None:
    assert oom(host) == ""


# ── network, and who gets in ─────────────────────────────────────────────────────────────────────────────────────────


def test_dhcp_and_ipv6_pass_the_firewall(host: Host) -> None:
    """By a lease and by a router's advertisements it has its addresses after a boot behind the firewall."""
    link = host.ssh("ip -o route get 10.0.2.2 | sed 's/.* dev \\([^ ]*\\) .*/\\1/'")
    told = host.ssh("journalctl -b -u systemd-networkd -o cat --no-pager")
    assert "DHCPv4 address 10.0.2.15/24" in told, told
    assert re.search(r"\(DHCPv?4 via 10\.0\.2\.2\)", host.ssh(f"networkctl status --no-pager {link}"))
    assert re.search(r"inet6 fec0:", host.ssh(f"ip -6 -o addr show dev {link}")), "no address from the router"
    assert "proto ra" in host.ssh("ip -6 route show default")
    assert host.run("ping -6 -c 2 -W 5 fec0::2").returncode == 0


def test_the_operator_gets_in_after_hardening_and_a_reboot(host: Host) -> None:
    """With the key alone; neither root nor a password does, whatever cloud-init has written."""
    done = login(host, OPERATOR)
    assert done.returncode == 0, done.stderr
    refused = login(host, "root")
    assert refused.returncode == 255 and "Permission denied" in refused.stderr
    asked = login(host, OPERATOR, "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password")
    assert asked.returncode == 255 and "Permission denied (publickey)" in asked.stderr
    assert {"passwordauthentication no", "permitrootlogin no"} <= set(host.ssh("sshd -T").splitlines())


def test_a_change_of_the_ways_in_that_nobody_confirms_is_taken_back_by_the_timer(host: Host) -> None:
    before = ways_in(host)
    with host.changed(CHANGES):
        shut_out(host)
    wait_until(lambda: login(host).returncode == 0, 150, "a new login")
    wait_until(lambda: ways_in(host) == before, 20, "the ways in of before")
    wait_until(lambda: host.ssh("ls /var/lib/slipway/access") == "", 20, "the end of the change")
    host.converged()


def test_a_power_cut_takes_back_what_nobody_confirmed(host: Host) -> None:
    before = ways_in(host)
    with host.changed(CHANGES):
        shut_out(host)
    host.cut()
    host.boot()  # which logs in
    assert ways_in(host) == before
    assert host.ssh("ls /var/lib/slipway/access") == ""
    has(host, "slipway-access-boot", ConditionResult="yes", Result="success")
    answers(host)
    host.converged()


# ── power and disk ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_power_cut_during_and_after_a_release_loses_no_site(host: Host) -> None:
    """The kernel writes late, as it does where a release takes a second: what nobody flushed is lost."""
    late = "sysctl -qw vm.dirty_expire_centisecs=30000 vm.dirty_writeback_centisecs=30000"
    host.ssh(late)
    before = host.release()
    change_code(host, "cut off")
    process = host.start_task("tasks/release.py", host.folder / "cut.log", app="notes")
    wait_until(lambda: len(host.releases()) > 1 and before not in host.ssh(UPSTREAM), 180, "the switch")
    host.cut()
    assert process.wait(60) != 0
    host.boot()
    served = answers(host)
    log.info("    cut at the switch from %s: %s serves", before, served)
    settled(host)
    host.deploy()
    host.converged()
    host.ssh(late)
    change_code(host, "cut off once more")
    host.task("tasks/release.py", app="notes")
    released = host.release()
    host.cut()
    host.boot()
    assert answers(host) == released
    host.converged()


def test_a_full_disk_is_told_and_a_release_leaves_what_served(host: Host) -> None:
    before = host.release()
    change_code(host, "too much")
    log_file = host.folder / "full.log"
    fill = "fallocate -l $(($(stat -f -c '%a * %S' /))) /var/full 2>/dev/null || cat /dev/zero >/var/full 2>/dev/null"
    with host.afterwards("rm -f /var/full"), public(host):
        process = host.start_task("tasks/release.py", log_file, app="notes")
        wait_until(lambda: host.run("systemctl is-active --quiet notes-release").returncode == 0, 120, "the release")
        host.run(f"{fill}; true", timeout=300)
        assert process.wait(300) != 0, log_file.read_text()[-3000:]
        told = log_file.read_text()
        assert "The disk is full, of bytes (`df -h`)" in told and "Traceback" not in told, told[-3000:]
        assert host.release() == before
        refused = host.deploy(check=False)
        refused.says("MB are free for /srv; expected at least 1024 MB")
    assert answers(host) == before
    host.task("tasks/release.py", app="notes")
    assert answers(host) == host.release() != before
    host.converged()


def test_an_app_takes_its_own_memory_and_processes_alone(host: Host) -> None:
    """Of one app: 80 % of the host's memory; a process of it is ended, and nobody else's."""
    total = int(host.ssh("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    events = "/sys/fs/cgroup/app.slice/app-notes.slice/memory.events"
    assert host.ssh("systemctl show --property=MemoryMax --value app-notes.slice") == str(int(total * 0.8) * 2**20)
    before = host.release()
    assert "oom_kill 0" in host.ssh(f"cat {events}")
    host.run(in_sandbox(host, "notes", TAKE_MEMORY, "--wait", "--pipe"), timeout=300)
    assert "oom_kill 0" not in host.ssh(f"cat {events}")
    assert answers(host) == before
    begun = host.run(in_sandbox(host, "notes", FORK, "--wait", "--pipe"), timeout=300).stdout
    assert 900 < int(begun.split()[0]) < 1024
    assert answers(host) == before
    assert oom(host).count("app-notes.slice") >= 1 and "system.slice" not in oom(host)


# ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_updates_pass_a_rehearsal_and_reboot_when_they_may(host: Host) -> None:
    found = host.ssh("apt-config dump | grep Automatic-Reboot")
    assert 'Automatic-Reboot "true"' in found and 'Automatic-Reboot-Time "04:30"' in found
    host.ssh("apt-get -q update", timeout=300)
    told = host.ssh("unattended-upgrade --dry-run --debug 2>&1", timeout=600)
    log.info("    %s", told.splitlines()[-2:])
    assert "Allowed origins are: origin=Debian" in told and "Error" not in told, told[-2000:]


def test_a_new_kernel_says_that_a_reboot_is_due(host: Host) -> None:
    """By the package's own hook; and by a newer kernel that lies there without it."""
    with host.afterwards("rm -f /run/reboot-required*"):
        host.ssh("/etc/kernel/postinst.d/unattended-upgrades 6.99.0-1-cloud-amd64 /boot/vmlinuz-6.99.0-1-cloud-amd64")
        host.deploy("--dry").says("needs a reboot for an update to take effect", "it does so by itself at 04:30")
    with host.afterwards("rm -f /boot/vmlinuz-6.99*"):
        newer = host.ssh(
            "f=/boot/vmlinuz-6.99.0-1-$(uname -r | sed 's/.*[0-9]-//'); cp /boot/vmlinuz-$(uname -r) $f; echo $f"
        )
        host.deploy("--dry").says(f"(linux {newer.removeprefix('/boot/vmlinuz-')})")
    assert "needs a reboot" not in host.deploy("--dry").output


def test_a_library_is_taken_on_without_losing_a_request(host: Host) -> None:
    """needrestart restarts system services; nginx hands over, by the file that says so."""
    host.ssh("file=$(readlink -f /lib/x86_64-linux-gnu/libc.so.6); cp -a $file $file.new; mv $file.new $file")
    master, app = host.ssh("cat /run/nginx.pid"), show(host, f"notes@{host.release()}", "MainPID")
    with public(host):
        told = host.run("DEBIAN_FRONTEND=noninteractive needrestart", timeout=400)
        wait_until(lambda: host.ssh("cat /run/nginx.pid") != master, 60, "the new nginx")
        wait_until(lambda: show(host, "nginx", "MainPID")["MainPID"] == host.ssh("cat /run/nginx.pid"), 60, "systemd")
    log.info("    %s", told.stdout.splitlines()[-8:])
    assert show(host, f"notes@{host.release()}", "MainPID") == app
    host.deploy("--dry").says("notes still run with libraries that an update replaced")
    settled(host)


def test_the_check_of_packages_finds_them_whole(host: Host) -> None:
    host.ssh("systemctl start debsums.service", timeout=900)
    has(host, "debsums", Result="success")


# ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clock_is_kept_and_a_wrong_one_is_refused(host: Host) -> None:
    has(host, "systemd-timesyncd", ActiveState="active", UnitFileState="enabled")
    assert host.ssh("timedatectl show -p NTP --value") == "yes"
    lifecycle.clock(host.name, 60 * DAY)
    try:
        host.refused("the host's clock differs from yours by", "timedatectl set-ntp true")
    finally:
        lifecycle.clock(host.name, 0)


def test_a_certificate_that_is_due_by_the_clock_is_renewed_and_served(host: Host) -> None:
    """In its unit, which is shut off from most things, and nginx is reloaded."""
    before = host.certificate()
    due = before.not_valid_after_utc - datetime.now(UTC)
    ahead = int(due.total_seconds()) - 10 * DAY
    lifecycle.clock(host.name, ahead)
    try:
        # Its timer does it too, within the six hours over which it spreads what it missed.
        host.ssh("systemctl start certbot-renew.service", timeout=300)
        wait_until(lambda: host.certificate().serial_number != before.serial_number, 60, "the new certificate")
        assert host.certificate().not_valid_after_utc > before.not_valid_after_utc
        has(host, "certbot-renew", Result="success", ExecMainStatus="0")
    finally:
        lifecycle.clock(host.name, 0)
    answers(host)


# ── all together ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_unit_that_slipway_starts_has_run_here_and_none_failed(host: Host) -> None:
    """The same units with the same limits in a kernel that grants no more than they ask for."""
    well, badly = ended(host, OWN)
    log.info("    ended well: %s", well)
    assert set(well) == set(OWN), f"these never ran: {set(OWN) - set(well)}"
    # Of the release that was broken on purpose, and of the one that met the full disk: that often, and no more.
    expected = {"notes-release.service": 2, "notes-check.service": 2, "notes-schema.service": 1}
    assert {unit: why for unit, why in badly.items() if len(why) > expected.get(unit, 0)} == {}
    settled(host)
