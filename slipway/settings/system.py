"""Settings of the system below the apps: updates, kernel, logins, time, swap."""

from __future__ import annotations

from typing import Annotated

from slipway.settings import types as t
from slipway.settings.base import LIST_DO, Model

DENIED_MODULES = [
    "appletalk",
    "atm",
    "ax25",
    "can",
    "dccp",
    "n-hdlc",
    "netrom",
    "rds",
    "rose",
    "sctp",
    "tipc",
    "cramfs",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "firewire-core",
    "usb-storage",
]
"""Protocols and file systems that no server here speaks, and whose modules have let local users become root again and
again, since the kernel loads them for anybody's socket() or mount. Not squashfs (snaps), vfat (EFI), udf (cloud-init's
disk on Azure), overlay and fuse (containers)."""

BANNER = "This is a private system. Access is for authorized users only, and is logged."
"""Without the version of the system, which Debian's own banner tells everybody."""


class UpdatesSettings(Model):
    """Security updates, and programs that still run the old code."""

    automatic: t.Switch = True
    """Install security updates by themselves, every day (unattended-upgrades). False: known holes stay open until
    somebody runs apt."""
    origins: Annotated[list[t.AptOrigin], t.Narrow("a list of origins", LIST_DO, container=True)] = []
    """Further package sources whose updates are installed by themselves, as unattended-upgrades names them, such as
    "site=apt.postgresql.org". Empty: the distribution's alone."""
    reboot: t.TimeOfDay | None = None
    """Time of day, in the host's time zone, when it reboots if an update needs that (a new kernel does): "04:30", say.
    Requests fail meanwhile. None: it never does by itself; until you do, the old kernel runs, and each run says so."""
    restart: t.Switch = True
    """Let system services and nginx take on libraries that an update replaced, at once (needrestart). No request is
    lost: nginx hands over to a new process of itself. Apps and databases are left alone, since their restart could
    lose one; a run names the apps that wait for it. False: all run the old code until they are restarted."""


class SystemSettings(Model):
    """Kernel, logins, time and swap."""

    hardened_kernel: t.Switch = True
    """Set what the kernel tells and allows unprivileged users and strangers on the network (sysctl). Forwarding is
    left as it is, since containers need it. False: its defaults, or yours."""
    sysctl: Annotated[
        dict[t.SysctlKey, t.SysctlValue | None],
        t.mapping_of("kernel settings to their values", 'write a mapping, such as {"vm.swappiness": 10}'),
    ] = {}
    """Kernel settings of your own, such as {"vm.swappiness": 10}, also in place of Slipway's: None leaves one as it
    is."""
    denied_modules: Annotated[list[t.KernelModule], t.Narrow("a list of kernel modules", LIST_DO, container=True)] = (
        DENIED_MODULES
    )
    """Kernel modules that are never loaded: protocols and file systems that servers don't use, whose holes every local
    user could reach. Leave out what you need (usb-storage: disks at a USB port); empty: all may be loaded."""
    core_dumps: t.Switch = False
    """Keep the memory of programs that crash. It holds passwords and users' data, so it isn't kept; True leaves it to
    the system, for who looks for the reason of a crash."""
    banner: t.BannerText | None = BANNER
    """Line shown before a login, at the console and in /etc/issue.net. None leaves both as they are; Debian's own tell
    the system's version."""
    umask: t.Umask | None = "0027"
    """Mask of the files that people make who log in: 0027 lets others of the host, such as the apps, read none of them.
    None leaves it as it is; Debian's own, 0022, lets everybody read everything."""
    strong_passwords: t.Switch = True
    """Refuse a new password that could be guessed (passwdqc) or was used before, take none for 15 minutes after three
    wrong ones, make hashes slow to try, and let the password of a new account change once a day. No login over SSH has
    a password, but the provider's console and sudo may. What an administrator has set in PAM stays. False: any will
    do."""
    time_sync: t.Switch = True
    """Keep the clock right by NTP, with whatever program is there for it, else systemd-timesyncd; in a container the
    clock is the machine's. False: it drifts, until certificates and signatures look expired."""
    swap_mb: Annotated[int, t.whole(0, 65_536, "MB")] | None = None
    """Size of a swap file, for a host without any swap. None: as large as the memory where that is less than 2 GB;
    there a release (two of them run at a time) could end by lack of memory otherwise. 0: none."""
    restrict_files: t.Switch = True
    """Let root alone read the folders of cron's jobs and sudo's rules, which may hold passwords; and let nobody read
    what a person's shell reads, nor a home in which there is nothing yet. False: everybody may, as in Debian."""
    verify_packages: t.Switch = True
    """Compare every file of Debian's packages with its checksum, once a week, by a timer (debsums): a disk that fails,
    or somebody who replaced a program, shows as a failed unit. False: neither shows."""
