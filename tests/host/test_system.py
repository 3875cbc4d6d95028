"""roles/system: the kernel as it runs, modules, logins, clock, swap; and what this host can't be judged on."""

from __future__ import annotations

import re

import pytest

from roles.system import files
from roles.system.facts import KernelSetting, KernelSettings
from tests.host._hosts import OUTSIDER, Target

KERNEL = {
    "kernel.kptr_restrict": "2 or more",
    "kernel.dmesg_restrict": "1 or more",
    "kernel.unprivileged_bpf_disabled": "1 or more",
    "net.core.bpf_jit_harden": "2 or more",
    "kernel.perf_event_paranoid": "3 or more",
    "dev.tty.ldisc_autoload": "0",
    "kernel.yama.ptrace_scope": "1 or more",
    "kernel.randomize_va_space": "2",
    "fs.protected_symlinks": "1",
    "fs.protected_hardlinks": "1",
    "fs.protected_fifos": "2 or more",
    "fs.protected_regular": "2 or more",
    "net.ipv4.conf.*.accept_redirects": "0",
    "net.ipv4.conf.*.secure_redirects": "0",
    "net.ipv4.conf.*.send_redirects": "0",
    "net.ipv4.conf.*.accept_source_route": "0",
    "net.ipv6.conf.*.accept_redirects": "0",
    "net.ipv6.conf.*.accept_source_route": "0",
    "net.ipv4.conf.*.log_martians": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1",
    "net.ipv4.tcp_syncookies": "1 or more",
    "net.ipv4.conf.all.rp_filter": "1 or more",
    "net.ipv4.conf.default.rp_filter": "1 or more",
}
"""What the kernel is set to, where system.hardened_kernel is True; a star stands for every interface."""
NO_CORE = {"fs.suid_dumpable": "0", "kernel.core_pattern": "|/bin/false"}
"""The same where system.core_dumps is False."""
PASSWORDS = {
    "ENCRYPT_METHOD": "YESCRYPT",
    "SHA_CRYPT_MIN_ROUNDS": "100000",
    "SHA_CRYPT_MAX_ROUNDS": "100000",
    "PASS_MIN_DAYS": "1",
}
"""Lines of /etc/login.defs."""
TRIES = ["silent", "deny=3", "fail_interval=900", "unlock_time=900"]
"""What PAM's counter of wrong passwords goes by."""
RESTRICTED = {
    "/etc/crontab": "600",
    "/etc/cron.d": "700",
    "/etc/cron.hourly": "700",
    "/etc/cron.daily": "700",
    "/etc/cron.weekly": "700",
    "/etc/cron.monthly": "700",
    "/etc/sudoers.d": "750",
    "/etc/skel/.bashrc": "640",
    "/etc/skel/.bash_logout": "640",
    "/etc/skel/.profile": "640",
}
"""Path → the most that its mode may be."""
LEFT = "/var/lib/slipway/pam-left"
"""There where PAM's configuration was changed by hand, and so stays."""


def kernel(target: Target) -> dict[str, str]:
    """Name → what it is set to on this host; an inventory's own values take the place of ours."""
    system = target.settings.system
    wanted = (KERNEL if system.hardened_kernel else {}) | ({} if system.core_dumps else NO_CORE)
    if target.overview.multihomed:
        loose = {f"net.ipv4.conf.{each}.rp_filter": "2 or more" for each in ("all", "default")}
        wanted = {key: loose.get(key, value) for key, value in wanted.items()}
    kept = {key: value for key, value in wanted.items() if key not in system.sysctl}
    return kept | {key: str(value) for key, value in system.sysctl.items() if value is not None}


def fits(found: str, wanted: str) -> bool:
    """Whether a value is the wanted one, or stricter where that is asked for."""
    least, more, _ = wanted.partition(" or more")
    return int(found) >= int(least) if more and found.isdigit() else found == least


def test_the_kernel_runs_with_its_settings(target: Target) -> None:
    """Every one that this host may set, at every interface; those of a container's machine can't be judged here."""
    wanted = {key.replace(".", "/"): value for key, value in kernel(target).items()}
    fact = KernelSettings()
    found = fact.process(target.run(fact.command(tuple(wanted)).get_raw_value()).splitlines())
    wrong: dict[str, KernelSetting] = {}
    for path, want in wanted.items():
        pattern = re.compile(re.escape(path).replace(r"\*", "[^/]+"))
        named = {each: setting for each, setting in found.items() if pattern.fullmatch(each)}
        wrong |= {each: setting for each, setting in named.items() if not fits(setting.value, want)}
    assert {path: each.value for path, each in wrong.items() if each.writable} == {}
    if wrong:
        told = ", ".join(f"{path} is {each.value}" for path, each in wrong.items())
        pytest.skip(f"these belong to the machine that runs this container: {told}")


def test_files_are_as_the_settings_say(target: Target) -> None:
    """Content, owner and mode; what is turned off isn't there."""
    wanted = files(target.settings, target.overview)
    assert {(each.mode, each.user, each.group) for each in wanted.values() if each} == {("644", "root", "root")}
    target.check_files(wanted)


def test_a_boot_sets_the_kernel_alike(target: Target) -> None:
    """What is in the file that systemd reads then, which no file beside it may outdo."""
    wanted = kernel(target)
    if not wanted:
        pytest.skip("system.hardened_kernel is False, and system.core_dumps True")
    lines = target.run("cat /etc/sysctl.d/60-slipway.conf").splitlines()
    written = dict(line.split(" = ", 1) for line in lines if " = " in line and line[0] != "#")
    assert written == {key: value.removesuffix(" or more") for key, value in wanted.items()}


def test_denied_modules_are_not_loaded(target: Target) -> None:
    """Neither now nor, as far as modprobe says, when somebody asks for them."""
    denied = {module.replace("-", "_") for module in target.settings.system.denied_modules}
    if not target.overview.container:  # there the modules are the machine's
        loaded = {line.split()[0] for line in target.run("cat /proc/modules").splitlines()}
        assert loaded & denied == set()
    if target.host.run("command -v modprobe").rc == 0:
        config = target.run("modprobe --showconfig")
        assert [m for m in sorted(denied) if f"install {m} /bin/false" not in config] == []
    elif denied:
        assert target.stat("/etc/modprobe.d/slipway.conf")


def test_no_banner_tells_the_system(target: Target) -> None:
    """What stands before a login is the setting's line."""
    if target.settings.system.banner is None:
        pytest.skip("system.banner is None: the system's own stays")
    assert {target.run("cat %s", path) for path in ("/etc/issue", "/etc/issue.net")} == {target.settings.system.banner}


def test_a_login_makes_private_files(target: Target) -> None:
    """The mask of a login shell, and the one that login.defs tells PAM and useradd."""
    umask = target.settings.system.umask
    if umask is None:
        pytest.skip("system.umask is None: the system's own stays")
    assert target.run("bash -lc umask") == umask
    assert target.run("awk '$1 == \"UMASK\" {print $2}' /etc/login.defs") == umask


def test_a_password_that_could_be_guessed_is_refused(target: Target) -> None:
    """PAM asks passwdqc before it takes one; the old kind of hash is slow to try."""
    if not target.settings.system.strong_passwords:
        pytest.skip("system.strong_passwords is False: any will do")
    modules = target.run("grep -ho 'pam_[a-z]*.so' /etc/pam.d/common-password").splitlines()
    assert modules.index("pam_passwdqc.so") < modules.index("pam_unix.so")
    if LEFT in target.stat(LEFT):
        pytest.skip("/etc/pam.d was changed by hand, and stays")
    assert modules.index("pam_passwdqc.so") < modules.index("pam_pwhistory.so") < modules.index("pam_unix.so")
    asked = target.run("grep -ho '^auth.*pam_[a-z]*.so' /etc/pam.d/common-auth").splitlines()
    assert [line.split()[-1] for line in asked][:3] == ["pam_faillock.so", "pam_unix.so", "pam_faillock.so"]
    lines = [line.split() for line in target.run("cat /etc/login.defs").splitlines() if line[:1].isalpha()]
    assert PASSWORDS.items() <= {key: value for key, value, *_ in lines}.items()
    if not target.stat("/usr/share/pam-configs/slipway-tries"):
        pytest.skip("somebody else counts wrong passwords here")
    for kind in ("preauth", "authfail"):
        told = target.run(f"grep -h '^auth.*pam_faillock.so {kind}' /etc/pam.d/common-auth")
        assert told.split()[-len(TRIES) :] == TRIES, told
    assert "remember=5" in target.run("grep -h pam_pwhistory.so /etc/pam.d/common-password").split()


def test_a_login_dumps_no_core(target: Target) -> None:
    """The hard limit of a session, as PAM sets it."""
    if target.settings.system.core_dumps:
        pytest.skip("system.core_dumps is True")
    assert target.run("su - root -c 'ulimit -Hc'") == "0"
    lines = target.run("cat /etc/systemd/coredump.conf.d/50-slipway.conf").splitlines()
    assert [line for line in lines if line[:1] != "#"] == ["[Coredump]", "Storage=none", "ProcessSizeMax=0"]


def test_nobody_else_reads_roots_jobs_and_rules(target: Target) -> None:
    """Modes, and a try."""
    if not target.settings.system.restrict_files:
        pytest.skip("system.restrict_files is False")
    there = target.stat(*RESTRICTED)
    assert {path: entry.mode for path, entry in there.items() if int(entry.mode, 8) & ~int(RESTRICTED[path], 8)} == {}
    assert target.allowed(OUTSIDER, "r", there) == set()
    assert target.run("awk '$1 == \"HOME_MODE\" {print $2}' /etc/login.defs") == "0700"


def test_the_clock_is_kept_right(target: Target) -> None:
    """By one program; in a container by the machine."""
    if target.overview.container or not target.settings.system.time_sync:
        pytest.skip("the clock is the machine's, or system.time_sync is off")
    units = ("systemd-timesyncd", "chrony", "ntpsec", "ntp", "openntpd")
    active = [unit for unit in units if target.show(f"{unit}.service", "ActiveState")["ActiveState"] == "active"]
    assert len(active) == 1


def test_packages_are_checked_every_week(target: Target) -> None:
    """The timer runs, and the unit is one that systemd takes without a word."""
    if not target.settings.system.verify_packages:
        pytest.skip("system.verify_packages is False")
    assert target.show("debsums.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    verified = target.host.run("systemd-analyze verify --man=no %s", "/etc/systemd/system/debsums.service")
    assert (verified.rc, [line for line in verified.stderr.splitlines() if "debsums" in line]) == (0, [])
