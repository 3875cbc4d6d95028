"""roles/system and roles/updates: what they decide from a host, and their scripts run on this machine."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from roles import updates
from roles.system import files, kernel, packages, swap, system
from roles.system import operations as system_operations
from roles.system.facts import KernelSetting, KernelSettings, SwapFacts
from roles.system.operations import Wanted
from roles.system.swap import no_swap, swap_size
from roles.updates import operations as updates_operations
from slipway.engine.facts import Answer, Place, Places
from slipway.engine.overview import HostOverview
from slipway.settings import Settings
from tests.unit.plans import Facts, Planner


def run(script: str, *arguments: str) -> str:
    """What a script of ours prints; it must end well."""
    done = subprocess.run(
        ["sh", "-c", script, "slipway", *arguments], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ── kernel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_forwarding_is_left_to_containers(minimal: Settings) -> None:
    keys = {key for _, values in kernel(minimal, multihomed=False) for key in values}
    assert "kernel.kptr_restrict" in keys
    assert not [key for key in keys if "forward" in key]


@pytest.mark.parametrize(("multihomed", "mode"), [(False, "1"), (True, "2")])
def test_reverse_path_filter(minimal: Settings, overview: HostOverview, multihomed: bool, mode: str) -> None:
    file = files(minimal, dataclasses.replace(overview, multihomed=multihomed))["/etc/sysctl.d/60-slipway.conf"]
    assert file and f"net.ipv4.conf.all.rp_filter = {mode}\n" in file.content


def test_what_a_package_would_set_later_at_boot_is_set_there_too(minimal: Settings, overview: HostOverview) -> None:
    file = files(minimal, overview)["/etc/sysctl.d/99-protect-links.conf"]
    assert file and [line for line in file.content.splitlines() if line and line[0] != "#"] == [
        "fs.protected_symlinks = 1",
        "fs.protected_hardlinks = 1",
        "fs.protected_fifos = 2",
        "fs.protected_regular = 2",
    ]


def test_settings_of_ones_own_replace_and_leave_out(maximal: Settings) -> None:
    wanted = {key: each for _, values in kernel(maximal, multihomed=False) for key, each in values.items()}
    assert wanted["vm.swappiness"] == Wanted("10")
    assert "kernel.dmesg_restrict" not in wanted and "kernel.kptr_restrict" in wanted


@pytest.mark.parametrize(("found", "good"), [("0", False), ("1", True), ("2", True), ("4", True), ("x", False)])
def test_what_is_stricter_stays(found: str, good: bool) -> None:
    assert Wanted("1", at_least=True).fits(found) is good


def test_the_kernel_is_set_only_where_it_differs_and_may_be(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts
) -> None:
    there = {
        "kernel/kptr_restrict": KernelSetting("0", writable=False),
        "kernel/dmesg_restrict": KernelSetting("1", writable=True),
        "net/ipv4/conf/all/send_redirects": KernelSetting("1", writable=True),
        "net/ipv4/conf/eth0.5/send_redirects": KernelSetting("1", writable=True),
        "net/ipv4/conf/lo/send_redirects": KernelSetting("0", writable=True),
    }
    done = plan(system, minimal, overview, facts=bare | {KernelSettings: there})("Set the running kernel")
    (command,) = done.commands
    assert command.argv[4:] == [
        *("net/ipv4/conf/all/send_redirects", "0"),
        *("net/ipv4/conf/eth0.5/send_redirects", "0"),
    ]


def test_what_the_kernel_of_this_machine_says() -> None:
    patterns = ("kernel/ostype", "kernel/pid_max", "net/ipv4/conf/*/rp_filter", "no/such")
    line = KernelSettings().command(patterns).get_raw_value()
    found = KernelSettings().process(run(line).splitlines())
    assert found["kernel/ostype"].value == "Linux" and not found["kernel/ostype"].writable
    assert found["kernel/pid_max"].value == Path("/proc/sys/kernel/pid_max").read_text().strip()
    assert "net/ipv4/conf/all/rp_filter" in found and "no/such" not in found


def test_a_refused_kernel_setting_names_the_way_out() -> None:
    done = subprocess.run(
        ["sh", "-c", system_operations._SET, "slipway", "kernel/ostype", "Minix"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'The kernel refuses kernel.ostype = Minix; "sysctl": {"kernel.ostype": None} in system' in done.stderr


# ── configuration lines ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# UMASK 0\nUMASK\t\t022\nUID_MIN 1000\n", "# UMASK 0\nUMASK\t0027\nUID_MIN 1000\n"),
        ("UID_MIN 1000\n", "UID_MIN 1000\nUMASK\t0027\n"),
        ("UMASK 077\nA 1\nUMASK 022\n", "UMASK\t0027\nA 1\n"),
    ],
)
def test_a_line_is_set_and_the_rest_stays(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "login.defs"
    file.write_text(before)
    file.chmod(0o640)
    run(system_operations._LINE, str(file), "UMASK", "0027")
    assert file.read_text() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["login.defs"]
    assert run(system_operations._LINES, str(file), "UMASK|OTHER").split() == ["UMASK", "0027"]


# ── modes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rights_are_only_taken_away(plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts) -> None:
    modes = {"/etc/cron.d": "755", "/etc/sudoers.d": "750", "/etc/cron.daily": "500", "/etc/crontab": "644"}
    modes |= {f"/etc/cron.{each}": "700" for each in ("hourly", "weekly", "monthly")}
    there = {path: Place("d", mode, "root", "root") for path, mode in modes.items()}
    facts = bare | {Places: lambda **asked: {path: there[path] for path in asked["folders"] if path in there}}
    done = plan(system, minimal, overview, facts=facts)("Let root alone read cron's and sudo's files")
    assert done.lines == ["chmod 600 /etc/crontab; chmod 700 /etc/cron.d"]


def test_folders_that_packages_may_bring_are_restricted_before(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts
) -> None:
    """Whether this run brings packages or not: one that was killed after it did has left nothing to know it by."""
    (line,) = plan(system, minimal, overview, facts=bare)("Let root alone read cron's and sudo's files").lines
    assert line.startswith("[ -d /etc/cron.d ] || mkdir /etc/cron.d; ") and "chmod 700 /etc/cron.weekly" in line
    assert "/etc/crontab" not in line


# ── swap ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ROOM = {"swaps": "0", "type": "ext2/ext3", "free": "9000"}


@pytest.mark.parametrize(
    ("wanted", "memory", "size"), [(None, 960, 960), (None, 4000, 0), (0, 960, 0), (300, 9000, 300)]
)
def test_size_of_swap(wanted: int | None, memory: int, size: int) -> None:
    assert swap_size(wanted, memory) == size


@pytest.mark.parametrize(
    ("found", "container", "why"),
    [
        (ROOM, False, ""),
        (ROOM | {"swaps": "1"}, False, "there is swap"),
        (ROOM, True, "in a container"),
        (ROOM | {"type": "btrfs"}, False, "a file on btrfs can't hold swap"),
        (ROOM | {"free": "2500"}, False, "2500 MB are free"),
        ({}, False, "can't hold swap"),
    ],
)
def test_where_swap_can_be(found: dict[str, Any], container: bool, why: str) -> None:
    told = no_swap(960, found, container=container)
    assert why in told and bool(told) is bool(why)


def test_a_small_host_gets_swap(plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts) -> None:
    small = dataclasses.replace(overview, memory_mb=960)
    done = plan(system, minimal, small, facts=bare | {SwapFacts: ROOM})("Make a swap file")
    assert list(done.writes) == ["/etc/systemd/system/swapfile.swap"]
    assert done.commands[-1].argv[2:] == [swap._SWAP, "slipway", "/swapfile", "960"]
    assert plan(system, minimal, small, facts=bare | {SwapFacts: {"swaps": "1"}})("Make a swap file").reasons


# ── what is turned off ───────────────────────────────────────────────────────────────────────────────────────────────

OFF = {
    "updates": {"automatic": False, "restart": False},
    "system": {
        "hardened_kernel": False,
        "denied_modules": [],
        "core_dumps": True,
        "banner": None,
        "umask": None,
        "strong_passwords": False,
        "time_sync": False,
        "swap_mb": 0,
        "restrict_files": False,
        "verify_packages": False,
    },
}


def test_everything_can_be_turned_off_and_is_taken_away(
    plan: Planner, make_settings: Any, minimal_data: dict[str, Any], overview: HostOverview
) -> None:
    settings = make_settings(minimal_data | OFF)
    assert packages(settings, overview) == updates.packages(settings) == []
    assert all(file is None for file in files(settings, overview).values())
    assert plan(system, settings, overview).names == [
        "System | Write limits of kernel and logins",
        "System | Limit wrong passwords, and refuse those of before",
    ]
    made = updates.files(settings, overview)
    assert [path for path, file in made.items() if file] == ["/etc/apt/apt.conf.d/20auto-upgrades"]
    assert 'Unattended-Upgrade "0"' in str(made["/etc/apt/apt.conf.d/20auto-upgrades"])


def test_a_container_keeps_no_clock(minimal: Settings, overview: HostOverview, plan: Planner) -> None:
    inside = dataclasses.replace(overview, container=True)
    assert packages(minimal, inside) == ["debsums", "libpam-passwdqc"]
    assert "Keep the clock right" not in " ".join(plan(system, minimal, inside).names)
    assert packages(minimal, overview)[-1].startswith("systemd-timesyncd | chrony")


# ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_origins_are_the_distributions(maximal: Settings, overview: HostOverview) -> None:
    debian = updates.files(maximal, overview)["/etc/apt/apt.conf.d/52slipway"]
    ubuntu = updates.files(maximal, dataclasses.replace(overview, distribution="ubuntu"))
    assert debian and "label=Debian-Security" in debian.content and '"site=apt.example.com";' in debian.content
    assert 'Automatic-Reboot "true"' in debian.content and 'Automatic-Reboot-Time "04:30"' in debian.content
    assert "origin=Ubuntu,archive=${distro_codename}-security" in str(ubuntu["/etc/apt/apt.conf.d/52slipway"])


def test_no_reboot_without_a_window(minimal: Settings, overview: HostOverview) -> None:
    assert 'Automatic-Reboot "false"' in str(updates.files(minimal, overview)["/etc/apt/apt.conf.d/52slipway"])


def test_a_release_under_way_is_not_restarted(maximal: Settings, overview: HostOverview) -> None:
    conf = updates.files(maximal, overview)["/etc/needrestart/conf.d/slipway.conf"]
    assert conf and r"qr(^(notes|wiki\-next|lab|plain)(@.+|-release)\.service$)} = 0;" in conf.content


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", False),
        ("reboot=libc6, linux-image-amd64", "needs a reboot for an update to take effect (libc6, linux-image-amd64);"),
        ("old=notes\nold=lab", "notes and lab still run with libraries that an update replaced"),
        ("reboot=", "needs a reboot for an update to take effect; it does so by itself at 04:30"),
    ],
)
def test_a_reboot_that_is_needed_is_told(
    answer: str, said: str, plan: Planner, maximal: Settings, bare: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyinfra")
    done = plan(updates.due, maximal, facts=bare | {Answer: answer})
    assert done.changes == []
    assert (said in caplog.text) if said else "reboot" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("nginx restart", 101),
        ("nginx.service restart", 101),
        ("nginx upgrade", 0),
        ("nginx start", 0),
        ("ssh restart", 0),
    ],
)
def test_nginx_common_may_not_restart_nginx(arguments: str, status: int) -> None:
    program = Path(__file__).resolve().parents[3] / "files/updates/policy-rc.d"
    assert subprocess.run(["sh", str(program), *arguments.split()], check=False).returncode == status


def test_somebody_elses_policy_stays(plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts) -> None:
    foreign = bare | {Answer: lambda question: "foreign" if "policy-rc.d" in question else ""}
    done = plan(updates.updates, minimal, overview, facts=foreign)
    assert done("Let an update of nginx lose no request").reasons == [
        "/usr/sbin/policy-rc.d is somebody else's, and stays"
    ]


def test_who_owns_a_file(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("#!/bin/sh\n# Managed by Slipway (roles/updates)\n")
    theirs.write_text("#!/bin/sh\nexit 101\n")
    assert [run(updates_operations._FOREIGN, str(path)) for path in (ours, theirs, tmp_path / "none")] == [
        "",
        "foreign\n",
        "",
    ]
