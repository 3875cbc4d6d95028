"""Numbers and sizes, and what the system below the apps is told."""

from __future__ import annotations

import re
from typing import Annotated

from slipway.settings.types.narrow import Hint, Narrow, matches, whole

Switch = Annotated[bool, Narrow("True or False", "write True or False, without quotes")]
"""On or off."""

Port = Annotated[
    int,
    Narrow(
        "a port from 1024 to 65535",
        "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's",
        lambda value: 1024 <= value <= 65535,
    ),
]
"""TCP port that no privileged service uses."""

TcpPort = Annotated[int, whole(1, 65_535)]
"""Any port."""

Workers = Annotated[int, whole(1, 256)]
"""Number of worker processes."""

Seconds = Annotated[int, whole(1, 3600, "seconds")]
"""A time-out."""

BodySize = Annotated[
    str,
    Narrow(
        "a size as nginx writes it: digits with k, m or g, or 0 for no limit",
        'write it such as "10m", "512k" or "1g", without a space',
        matches(r"0|[1-9][0-9]{0,5}[kmg]|[1-9][0-9]{0,11}"),
    ),
]
"""Size in nginx's notation."""

JournalSize = Annotated[
    str,
    Narrow(
        "a size as journald writes it: digits with K, M, G or T",
        'write it such as "500M" or "1G"',
        matches(r"[1-9][0-9]{0,5}[KMGT]"),
    ),
]
"""Size in journald's notation."""

Umask = Annotated[
    str,
    Narrow(
        'four octal digits as a string, from "0000" to "0077"',
        'write "0027" (group reads, others nothing) or "0077" (nobody else); the owner\'s bits stay 0, or the app '
        "couldn't read its own files",
        matches(r"00[0-7]{2}"),
    ),
]
"""File mode creation mask."""

TimeOfDay = Annotated[
    str,
    Narrow(
        'a time of day from "00:00" to "23:59"',
        'write hours and minutes, such as "04:30"',
        matches(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"),
    ),
]
"""Time of day, in the host's time zone."""

AptOrigin = Annotated[
    str,
    Narrow(
        "an origin as unattended-upgrades names it: keyword=value, several joined by commas",
        'write it such as "site=apt.postgresql.org" or "origin=Docker,label=Docker CE" (apt-cache policy shows them)',
        matches(
            r"(?:origin|label|archive|suite|codename|component|site)=[A-Za-z0-9*$][A-Za-z0-9 ${}_*./+-]{0,80}"
            r"(?:,(?:origin|label|archive|suite|codename|component|site)=[A-Za-z0-9*$][A-Za-z0-9 ${}_*./+-]{0,80}){0,6}"
        ),
    ),
]
"""Pattern of unattended-upgrades for the packages of one source."""


def _check_sysctl_key(value: str) -> Hint | bool:
    if value.startswith("/proc/sys/"):
        return f'write it as "{value.removeprefix("/proc/sys/").replace("/", ".")}"'
    return matches(r"[a-z]+(?:\.[A-Za-z0-9_-]+)+")(value)


SysctlKey = Annotated[
    str,
    Narrow(
        "a kernel setting's name, such as net.ipv4.tcp_syncookies",
        "write the name as `sysctl -a` shows it: words joined by dots",
        _check_sysctl_key,
    ),
]
"""Name of a sysctl; no interface with a dot in its name."""

SysctlValue = Annotated[
    int | str,
    Narrow(
        "a kernel setting's value: a number, a text of one line, or None",
        'write it as `sysctl` shows it, such as 1 or "4096 87380 6291456"',
        lambda value: (
            not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+|[A-Za-z0-9|/_. -]{1,200}", str(value)) is not None
        ),
    ),
]
"""Value of a sysctl."""

KernelModule = Annotated[
    str,
    Narrow(
        "the name of a kernel module",
        "write the name as lsmod shows it: letters, digits, _ and -",
        matches(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}"),
    ),
]
"""Name of a kernel module."""

BannerText = Annotated[
    str,
    Narrow(
        "a text of one line, of at most 500 characters",
        "write it without a line break and without a backslash, which getty would interpret",
        lambda value: re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\\]{1,500}", value) is not None,
    ),
]
"""What is shown before a login."""

UvVersion = Annotated[
    str,
    Narrow(
        'a uv release as "major.minor.patch"', 'write it such as "0.13.8"', matches(r"[0-9]{1,3}(?:\.[0-9]{1,3}){2}")
    ),
]
"""A release of uv."""

Sha256 = Annotated[
    str,
    Narrow(
        "64 lower-case hexadecimal digits", "copy the SHA-256 that PyPI shows for the wheel", matches(r"[0-9a-f]{64}")
    ),
]
"""A SHA-256."""

Architecture = Annotated[
    str,
    Narrow(
        'an architecture, "x86_64" or "aarch64"',
        "write what uname -m prints on the host",
        matches(r"x86_64|aarch64"),
    ),
]
"""A machine's architecture as `uname -m` prints it."""
