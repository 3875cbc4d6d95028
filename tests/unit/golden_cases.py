"""The inventories, and the hosts that they are for, whose texts are kept in ``tests/unit/golden/`` (goldens.py).

A line of a template that none of them renders is one that may be edited unseen: `python -m tests.mutants` names it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roles.nginx.facts import NginxVersion, Versions
from roles.ssh.facts import Sshd, SshdState
from slipway.engine.facts import Answer, Existing
from tests.unit.inventories import MAXIMAL, MINIMAL
from tests.unit.plans import Facts, bare_facts, good_overview

VERSIONS = {
    "debian 12": Versions((1, 22, 1), (3, 0)),
    "debian 13": Versions((1, 26, 3), (3, 5)),
    "ubuntu 24.04": Versions((1, 24, 0), (3, 0)),
}
"""System → its nginx and OpenSSL."""
_KEX = {
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "sntrup761x25519-sha512@openssh.com",
}
KEX = {
    "debian 12": frozenset(_KEX),
    "ubuntu 24.04": frozenset(_KEX),
    "debian 13": frozenset(_KEX | {"mlkem768x25519-sha256", "sntrup761x25519-sha512"}),
}
"""System → the key exchanges that its sshd knows (`ssh -Q kex`)."""


@dataclass(frozen=True)
class Case:
    """An inventory, and a host that it is for."""

    of: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Path of a setting, with dots → its value; Ellipsis takes it out."""
    base: str = ""
    """The case whose texts are those of this one, unless it has its own."""
    system: str = "debian 12"
    overview: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say of the host."""
    ipv6: bool = True
    first: bool = False
    """As it is before there is a certificate."""
    commands: bool = False


CASES = {
    "minimal": Case(MINIMAL, commands=True),
    "maximal": Case(MAXIMAL, commands=True),
    "minimal-debian-13": Case(MINIMAL, base="minimal", system="debian 13"),
    "maximal-debian-13": Case(MAXIMAL, base="maximal", system="debian 13"),
    "maximal-before-certificates": Case(MAXIMAL, base="maximal", first=True),
    "maximal-without-ipv6": Case(MAXIMAL, base="maximal", ipv6=False),
    "maximal-debian-13-without-ipv6": Case(MAXIMAL, base="maximal-debian-13", system="debian 13", ipv6=False),
    "minimal-ubuntu": Case(MINIMAL, base="minimal", system="ubuntu 24.04"),
    "small-host-with-two-ways-out": Case(
        MINIMAL, base="minimal", overview={"memory_mb": 960, "cores": 1, "multihomed": True}
    ),
    "without-tls": Case(MINIMAL, {"apps.notes.tls": {"mode": "off"}}, base="minimal"),
    "without-firewall": Case(MINIMAL, {"firewall.enabled": False}, base="minimal"),
    "without-sshd": Case(MINIMAL, {"ssh.enabled": False}, base="minimal"),
    "without-limits": Case(
        MINIMAL,
        {
            "firewall.ssh_rate": 0,
            "firewall.connections": 0,
            "apps.notes.connections_per_client": None,
            "apps.notes.static": {"path": "static", "url": "/assets.v1/"},
            "apps.notes.rate_limits": {"/login": {"rate": "1r/s", "burst": 0}},
        },
        base="minimal",
    ),
    "without-hardening": Case(
        MINIMAL,
        {
            "nginx.sandbox": False,
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
        },
        base="minimal",
    ),
    "without-network": Case(
        MINIMAL,
        {
            "apps.notes.sandbox": {"network": "unix"},
            "apps.notes.env": {"DATABASE_URL": "postgresql:///notes?host=/run/postgresql"},
        },
        base="minimal",
    ),
    "some-system-settings": Case(MINIMAL, {"system.umask": None, "system.swap_mb": 512}, base="minimal"),
    "other-system-settings": Case(MINIMAL, {"system.core_dumps": True}, base="minimal"),
    "own-limits": Case(
        MINIMAL,
        {
            "apps.notes.limits": {
                "memory_mb": 700,
                "tasks": 64,
                "cpu_weight": 50,
                "shm_mb": 32,
                "tmp_mb": 128,
                "log_mb": 16,
            },
            "apps.notes.trusted_proxies": ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32", "2001:dba::/32"],
            "firewall.tcp_ports": [8443, 9443],
            "firewall.udp_ports": [51820, 51821],
            "ssh.port": 22022,
            "acme.staging": True,
        },
        base="minimal",
    ),
}


def inventory(case: Case) -> dict[str, Any]:
    """The ``slipway`` mapping of a case."""
    data: dict[str, Any] = copy.deepcopy(dict(case.of))
    for path, value in case.changes.items():
        *way, last = path.split(".")
        place = data
        for part in way:
            place = place.setdefault(part, {})
        place[last] = copy.deepcopy(value)
    return data


def facts(case: Case, asked: list[str]) -> Facts:
    """Facts of a bare host, which notes its questions in `asked`."""
    distribution, release = case.system.split()
    given = {"distribution": distribution, "release": release, **case.overview}
    overview = dataclasses.replace(good_overview(), **given)
    there = {"/proc/net/if_inet6"} if case.ipv6 else set()

    def answer(question: str) -> str:
        asked.append(question)
        return ""

    sshd = Sshd({"port": ("22",)}, KEX[case.system], {"ed25519": 256, "rsa": 3072}, used=frozenset({22}))
    return bare_facts(overview) | {
        Answer: answer,
        Existing: lambda paths: frozenset(there & {*paths}),
        NginxVersion: VERSIONS[case.system],
        SshdState: sshd,
    }
