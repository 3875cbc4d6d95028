"""The system below the apps: kernel, modules, core dumps, logins, clock, swap, and packages that stay what they were.

Each part has a setting in `slipway.settings.SystemSettings` that turns it off. Values are those of the CIS Benchmark
for Debian and of lynis, less what this host's apps, containers or operators need.
"""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from roles.system.logins import pam_profiles, private_homes
from roles.system.operations import Wanted, configuration_lines, kernel_settings, restrict
from roles.system.swap import swap_file
from slipway.engine import operations
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.plan import Change
from slipway.engine.role import role
from slipway.engine.templates import render
from slipway.settings import Settings

SYSCTL = str(LAYOUT.sysctl)
LINKS = str(LAYOUT.protected_links)
"""Takes the place of the file of this name that Debian 12's procps has in /usr/lib/sysctl.d (sysctl.d(5)): read after
ours at boot, that one sets fs.protected_fifos to 1."""
MODULES = str(LAYOUT.modules)
LIMITS = str(LAYOUT.limits)
COREDUMP = str(LAYOUT.core_dumps)
PROFILE = str(LAYOUT.profile)
LOGIN = str(LAYOUT.logins)
ROUNDS = "100000"
"""Of SHA-512 for a password's hash, as DISA's STIG for RHEL 9 wants (RHEL-09-611050); Debian's 5,000 are of 2007. PAM
makes yescrypt hashes where nobody told it otherwise, which need none; Debian 12's other tools make SHA-512."""
PASSWORDS = {
    "ENCRYPT_METHOD": "YESCRYPT",
    "SHA_CRYPT_MIN_ROUNDS": ROUNDS,
    "SHA_CRYPT_MAX_ROUNDS": ROUNDS,
    "PASS_MIN_DAYS": "1",
}
"""Key → value of /etc/login.defs. A new password stays for a day (CIS Benchmark for Debian 12, 5.4.1.2), lest somebody
goes through new ones until the old one is allowed again; that counts for accounts made from now on."""
REMEMBERED = 5
"""Passwords of before that PAM refuses: pam_pwhistory(8) would remember 10, ANSSI-BP-028 asks for 2 at least."""
TRIES = "silent deny=3 fail_interval=900 unlock_time=900"
"""Three wrong passwords within 15 minutes, and for 15 minutes none is taken (ANSSI-BP-028, R31; pam_faillock(8)). root
is left out, and a login with a key is never refused: nobody shuts an operator out by wrong passwords. The lines are
those of pam_faillock(8); Debian's of pam_unix jumps over "authsucc", so that of the account forgets the wrong ones."""
BANNERS = tuple(map(str, LAYOUT.banners))
DEBSUMS = {kind: str(path) for kind, path in LAYOUT.debsums.items()}
TIME_PACKAGE = "systemd-timesyncd | chrony | ntpsec | ntp | openntpd"
"""The first is the smallest; the others are left where they are."""
FOLDERS = tuple(
    str(folder)
    for folder in (
        LAYOUT.sysctl.parent,
        LAYOUT.modules.parent,
        LAYOUT.limits.parent.parent,
        LAYOUT.limits.parent,
        LAYOUT.core_dumps.parent,
        LAYOUT.profile.parent,
    )
)
RESTRICTED = {
    "/etc/crontab": "600",
    "/etc/cron.d": "700",
    "/etc/cron.hourly": "700",
    "/etc/cron.daily": "700",
    "/etc/cron.weekly": "700",
    "/etc/cron.monthly": "700",
    str(LAYOUT.sudoers): "750",
    # What a new account gets.
    "/etc/skel/.bashrc": "640",
    "/etc/skel/.bash_logout": "640",
    "/etc/skel/.profile": "640",
}
"""Path → mode, where it is there: jobs and rules of root's, which only root reads; and what is copied into a home."""

KERNEL: list[tuple[str, dict[str, Wanted]]] = [
    (
        "Addresses and messages of the kernel help to exploit its holes.",
        {"kernel.kptr_restrict": Wanted("2", at_least=True), "kernel.dmesg_restrict": Wanted("1", at_least=True)},
    ),
    (
        "Parts of the kernel that unprivileged programs got root by, again and again: BPF, perf, terminal disciplines.",
        {
            "kernel.unprivileged_bpf_disabled": Wanted("1", at_least=True),
            "net.core.bpf_jit_harden": Wanted("2", at_least=True),
            "kernel.perf_event_paranoid": Wanted("3", at_least=True),
            "dev.tty.ldisc_autoload": Wanted("0"),
        },
    ),
    (
        "A program can't read the memory of another one of its user, nor guess where its own code lies.",
        {"kernel.yama.ptrace_scope": Wanted("1", at_least=True), "kernel.randomize_va_space": Wanted("2")},
    ),
    (
        "Nobody is led by a link, a pipe or a file that somebody else put into /tmp.",
        {
            "fs.protected_symlinks": Wanted("1"),
            "fs.protected_hardlinks": Wanted("1"),
            "fs.protected_fifos": Wanted("2", at_least=True),
            "fs.protected_regular": Wanted("2", at_least=True),
        },
    ),
    (
        "No router of this network, nor who pretends to be one, tells this host where to send packets, or asks it.",
        {
            f"net.{family}.conf.*.{name}": Wanted("0")
            for family, names in (
                ("ipv4", ("accept_redirects", "secure_redirects", "send_redirects", "accept_source_route")),
                ("ipv6", ("accept_redirects", "accept_source_route")),
            )
            for name in names
        },
    ),
    (
        "Packets with an impossible sender are noted ; broadcasts aren't answered, floods are outlived.",
        {
            "net.ipv4.conf.*.log_martians": Wanted("1"),
            "net.ipv4.icmp_echo_ignore_broadcasts": Wanted("1"),
            "net.ipv4.icmp_ignore_bogus_error_responses": Wanted("1"),
            "net.ipv4.tcp_syncookies": Wanted("1", at_least=True),
        },
    ),
]
"""Why, and name → value. Forwarding is left out: containers need it, and a host without them doesn't forward."""
STRICT = "A packet must come in by the interface that its answer leaves by (RFC 3704); an interface's own 2 stays."
LOOSE = "This host has several ways out, so a packet's sender must only be reachable by some interface (RFC 3704)."
CORE = {"fs.suid_dumpable": Wanted("0"), "kernel.core_pattern": Wanted("|/bin/false")}
NO_CORE = "The memory of a program that crashes holds passwords and users' data."


def kernel(settings: Settings, *, multihomed: bool) -> list[tuple[str, dict[str, Wanted]]]:
    """Why, and name → value, of all that the kernel is to be set to.

    + multihomed: packets may rightly come in by another interface than the answers leave by
    """
    system = settings.system
    groups = []
    if system.hardened_kernel:
        filtered = dict.fromkeys(
            ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"),
            Wanted("2" if multihomed else "1", at_least=True),
        )
        groups += [*KERNEL, (LOOSE if multihomed else STRICT, filtered)]
    if not system.core_dumps:
        groups.append((NO_CORE, CORE))
    own = {key: Wanted(str(value)) for key, value in system.sysctl.items() if value is not None}
    kept = [(why, {key: each for key, each in values.items() if key not in system.sysctl}) for why, values in groups]
    return [(why, values) for why, values in [*kept, ("system.sysctl of the inventory.", own)] if values]


def login_lines(settings: Settings) -> dict[str, str]:
    """Key → value of /etc/login.defs."""
    system = settings.system
    lines = {"UMASK": system.umask} if system.umask else {}
    lines |= {"HOME_MODE": "0700"} if system.restrict_files else {}
    return lines | (PASSWORDS if system.strong_passwords else {})


def profiles() -> dict[str, File]:
    """Name of a profile of PAM's → file: pam-auth-update(8)."""
    return {
        LAYOUT.pam_history.name: File(render("system/pam-history.j2", remember=REMEMBERED)),
        LAYOUT.pam_tries.name: File(render("system/pam-tries.j2", options=TRIES)),
        LAYOUT.pam_tries_end.name: File(render("system/pam-tries-end.j2", options=TRIES)),
    }


def packages(settings: Settings, overview: HostOverview) -> list[str]:
    """Those that this role needs."""
    needed = ["debsums"] if settings.system.verify_packages else []
    needed += ["libpam-passwdqc"] if settings.system.strong_passwords else []
    return needed + ([TIME_PACKAGE] if settings.system.time_sync and not overview.container else [])


def files(settings: Settings, overview: HostOverview) -> dict[str, File | None]:
    """Path → file, or None where it must not be there: what was turned off is taken away."""
    system = settings.system
    groups = kernel(settings, multihomed=overview.multihomed)
    shown = [(why, {key: each.value for key, each in values.items()}) for why, values in groups]
    links = [(why, values) for why, values in shown if any(key.startswith("fs.protected_") for key in values)]
    made: dict[str, File | None] = {
        SYSCTL: File(render("system/sysctl.conf.j2", groups=shown)) if shown else None,
        LINKS: File(render("system/sysctl.conf.j2", groups=links)) if links else None,
        MODULES: File(render("system/modprobe.conf.j2", modules=system.denied_modules))
        if system.denied_modules
        else None,
        LIMITS: None if system.core_dumps else File(render("system/limits.conf.j2")),
        COREDUMP: None if system.core_dumps else File(render("system/coredump.conf.j2")),
        PROFILE: File(render("system/profile.sh.j2", system=system)) if system.umask or not system.core_dumps else None,
    }
    for kind, path in DEBSUMS.items():
        made[path] = File(render(f"system/debsums.{kind}.j2")) if system.verify_packages else None
    if system.banner:
        made |= dict.fromkeys(BANNERS, File(f"{system.banner}\n"))
    return made


# Any of them, running: two would fight over the clock.
_SYNCHRONISED = """
for unit in systemd-timesyncd chrony ntpsec ntp openntpd; do
    ! systemctl is-active --quiet $unit && continue; echo $unit; exit
done
"""
_SYNCHRONISE = """
set -eu
for unit in chrony ntpsec ntp openntpd systemd-timesyncd; do
    [ -z "$(systemctl list-unit-files --no-legend $unit.service)" ] || break
done
systemctl unmask --quiet $unit
systemctl enable --now --quiet $unit
"""


@role("System")
def system(settings: Settings, overview: HostOverview) -> None:
    """Kernel, modules, core dumps, logins, clock, swap."""
    options = settings.system
    place(
        name="Write limits of kernel and logins",
        folders=dict.fromkeys(FOLDERS, Folder()),
        files=files(settings, overview),
    )
    wanted = {
        key: each for _, values in kernel(settings, multihomed=overview.multihomed) for key, each in values.items()
    }
    if wanted:
        kernel_settings(name="Set the running kernel", wanted=wanted)
    if lines := login_lines(settings):
        configuration_lines(name="Set how logins and passwords are made", path=LOGIN, values=lines)
    pam_profiles(
        name="Limit wrong passwords, and refuse those of before", profiles=profiles(), wanted=options.strong_passwords
    )
    if options.restrict_files:
        restrict(name="Let root alone read cron's and sudo's files", modes=RESTRICTED)
        private_homes(name="Let nobody read others' homes")
    if options.time_sync and not overview.container:  # there the clock is the machine's
        operations.command_unless(
            name="Keep the clock right",
            satisfied=_SYNCHRONISED,
            command=operations.shell(_SYNCHRONISE),
            change=Change("setting", "time synchronization", "enable", note="no program keeps the clock right"),
            why="a program keeps the clock right",
        )
    if options.swap_mb != 0:
        swap_file(
            name="Make a swap file",
            wanted=options.swap_mb,
            memory_mb=overview.memory_mb,
            container=overview.container,
        )
    if options.verify_packages:
        operations.unit_enabled(
            name="Enable the weekly check of packages", unit=LAYOUT.debsums["timer"].name, files=tuple(DEBSUMS.values())
        )
