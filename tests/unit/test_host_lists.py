"""What tests/host looks for is written out there; here, that it is what is sent, so that neither can drift alone."""

from __future__ import annotations

import json
import re

from tests.host import (
    test_base,
    test_firewall,
    test_python,
    test_release,
    test_ssh,
    test_system,
    test_tls,
    test_updates,
)
from tests.unit.goldens import kept


def golden(path: str, case: str = "minimal") -> str:
    """A text that is kept in tests/unit/golden."""
    text = kept(case, path)
    assert text is not None, path
    return text


def lines(path: str, case: str = "minimal") -> list[str]:
    """Its lines, without comments and the spaces before and behind them."""
    return [line.strip() for line in golden(path, case).splitlines() if line.strip() and line.strip()[0] not in "#/"]


def test_sshd() -> None:
    sent = set(json.loads(golden("access.json"))["options"])
    chosen = {line for line in sent if line.split()[0] in CHOSEN}
    assert sent - chosen == {*test_ssh.OPTIONS}
    assert json.loads(golden("access.json"))["host_keys"] == test_ssh.HOST_KEYS
    for case, exchanges in (
        ("minimal", (*test_ssh.EXCHANGES[2:], *test_ssh.OLDER)),
        ("minimal-debian-13", test_ssh.EXCHANGES),
    ):
        assert f"kexalgorithms {','.join(exchanges)}" in json.loads(golden("access.json", case))["options"]


CHOSEN = {"permitrootlogin", "maxauthtries", "allowtcpforwarding", "allowstreamlocalforwarding", "kexalgorithms"}
"""Keywords whose values are those of the settings, or of what sshd knows."""


def test_the_kernel() -> None:
    wanted = test_system.KERNEL | test_system.NO_CORE
    written = {key: value.removesuffix(" or more") for key, value in wanted.items()}
    assert dict(line.split(" = ") for line in lines("etc/sysctl.d/60-slipway.conf")) == written
    loose = dict(line.split(" = ") for line in lines("etc/sysctl.d/60-slipway.conf", "small-host-with-two-ways-out"))
    assert {key: value for key, value in loose.items() if written[key] != value} == {
        "net.ipv4.conf.all.rp_filter": "2",
        "net.ipv4.conf.default.rp_filter": "2",
    }


def test_logins() -> None:
    words = golden("commands.txt").split()
    for key, value in test_system.PASSWORDS.items():
        assert words[words.index(key) + 1] == value
    for path, mode in test_system.RESTRICTED.items():
        assert f"chmod {mode} {path}" in golden("commands.txt") or path in ("/etc/crontab", *SKELETON), path
    for name in ("slipway-tries", "slipway-tries-end"):
        assert " ".join(test_system.TRIES) in golden(f"usr/share/pam-configs/{name}")
    assert "remember=5" in golden("usr/share/pam-configs/slipway-history")


SKELETON = ("/etc/skel/.bashrc", "/etc/skel/.bash_logout", "/etc/skel/.profile")
"""Files that are restricted where they are there; nothing is there on the host of the golden texts."""


def test_an_app_s_service() -> None:
    unit = lines("etc/systemd/system/notes@@RELEASE@.service")
    assert [f"{key}={value}" for key, value in test_release.SANDBOX.items() if f"{key}={value}" not in unit] == []
    yes = {line for line in unit if re.fullmatch(r"(Protect|Private|Restrict|Lock|No|Remove)\w+=\w+", line)}
    assert {line.partition("=")[0] for line in yes} - {*test_release.SANDBOX} == {"RestrictNamespaces"}


def test_the_firewall() -> None:
    text = golden("etc/slipway/firewall.nft")
    for chain, rules in test_firewall.RULES.items():
        of_chain = text.partition(f"chain {chain} {{")[2].partition("\n    }")[0]
        assert [rule for rule in rules if rule not in of_chain] == [], chain


def test_packages_and_folders() -> None:
    sent = golden("commands.txt")
    (installing,) = (line for line in sent.splitlines() if "APT.sh" in line)
    # python3 is on the host of the golden texts.
    assert {*test_base.PACKAGES} - {*installing.split()} == {"python3"}
    for path, mode in test_base.FOLDERS.items():
        assert f"folder {path} root:root {mode}\n" in sent
    assert f"folder {test_tls.FOLDER} root:root 700\n" in sent
    for path in (test_tls.CONFIG, test_tls.HOOK, test_updates.NEEDRESTART, test_updates.HAND_OVER, test_updates.POLICY):
        assert f" {path}\n" in golden("files.txt")
    assert f"slipway {test_python.FOLDER} " in sent and f"slipway {test_tls.CERTBOT} " in sent
    assert all(f"> slipway {timer}\n" in sent for timer in test_updates.TIMERS)


def test_how_updates_are_installed() -> None:
    written = lines("etc/apt/apt.conf.d/20auto-upgrades") + lines("etc/apt/apt.conf.d/52slipway")
    assert [key for key, value in test_updates.OPTIONS.items() if f'{key} "{value}";' not in written] == []
    asks_nobody = " ".join(f'"{each}";' for each in sorted(test_updates.ASKS_NOBODY))
    assert f"DPkg::Options {{ {asks_nobody} }};" in written
    assert {*test_updates.CHANGES_NOTHING} <= {*lines("etc/needrestart/conf.d/slipway.conf")}
