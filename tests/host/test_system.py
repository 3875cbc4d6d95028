"""roles/system.py: the kernel as it runs, modules, logins, clock, swap; and what this host can't be judged on."""

from __future__ import annotations

import pytest

from roles.system import BANNERS, DEBSUMS, MODULES, PASSWORDS, RESTRICTED, files, kernel
from roles.system.facts import KernelSetting, KernelSettings, sysctl_path
from roles.system.logins import LEFT
from roles.system.operations import differing
from tests.host._hosts import OUTSIDER, Target


def test_the_kernel_runs_with_its_settings(target: Target) -> None:
    """Every one that this host may set, at every interface; those of a container's machine can't be judged here."""
    wanted = {
        key: each
        for _, values in kernel(target.settings, multihomed=target.overview.multihomed)
        for key, each in values.items()
    }
    fact = KernelSettings()
    found = fact.process(target.run(fact.command(tuple(map(sysctl_path, wanted))).get_raw_value()).splitlines())
    wrong: dict[str, KernelSetting] = {}
    for key, want in wanted.items():
        wrong |= differing(found, key, want)
    assert {path: each.value for path, each in wrong.items() if each.writable} == {}
    if wrong:
        told = ", ".join(f"{path} is {each.value}" for path, each in wrong.items())
        pytest.skip(f"these belong to the machine that runs this container: {told}")


def test_files_are_as_the_settings_say(target: Target) -> None:
    """Content, owner and mode; what is turned off isn't there."""
    wanted = files(target.settings, target.overview)
    assert {(each.mode, each.user, each.group) for each in wanted.values() if each} == {("644", "root", "root")}
    target.check_files(wanted)


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
        assert target.stat(MODULES)


def test_no_banner_tells_the_system(target: Target) -> None:
    """What stands before a login is the setting's line."""
    if target.settings.system.banner is None:
        pytest.skip("system.banner is None: the system's own stays")
    assert {target.run("cat %s", path) for path in BANNERS} == {target.settings.system.banner}


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


def test_a_login_dumps_no_core(target: Target) -> None:
    """The hard limit of a session, as PAM sets it."""
    if target.settings.system.core_dumps:
        pytest.skip("system.core_dumps is True")
    assert target.run("su - root -c 'ulimit -Hc'") == "0"


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
    verified = target.host.run("systemd-analyze verify --man=no %s", DEBSUMS["service"])
    assert (verified.rc, [line for line in verified.stderr.splitlines() if "debsums" in line]) == (0, [])
