"""roles/base: packages, folders, time zone, name, journal; and no unit of the host has failed."""

from __future__ import annotations

import json

import pytest

from tests.host._hosts import Target

PACKAGES = (
    "ca-certificates",
    "git",
    "logrotate",
    "nftables",
    "nginx",
    "openssh-client",
    "openssl",
    "python3",
    "python3-pip-whl",
    "tzdata",
)
"""What every host has."""
FOLDERS = {
    "/opt/slipway": "755",
    "/opt/slipway/bin": "755",
    "/etc/slipway": "755",
    "/var/lib/slipway": "755",
    "/var/cache/slipway": "755",
    "/var/cache/slipway/sources": "700",
    "/var/cache/slipway/git": "700",
    "/etc/systemd/journald.conf.d": "755",
}
"""Path → mode."""
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""journald's suffixes, which are powers of 1024 (journald.conf(5))."""


def test_packages_are_installed(target: Target) -> None:
    """The project's and those of the settings."""
    printed = target.run("dpkg-query -W -f '${Package} ${db:Status-Status}\\n'")
    installed = {line.split()[0] for line in printed.splitlines() if line.endswith(" installed")}
    assert {*PACKAGES, *target.settings.packages} - installed == set()


def test_no_package_is_half_installed(target: Target) -> None:
    """`dpkg --audit` lists those that an interrupted run left."""
    assert target.run("dpkg --audit") == ""


def test_folders(target: Target) -> None:
    """Owner and mode of the folders that all apps share."""
    expected = {path: ("directory", mode, "root", "root") for path, mode in FOLDERS.items()}
    assert {path: tuple(entry) for path, entry in target.stat(*FOLDERS).items()} == expected


def test_time_zone(target: Target) -> None:
    """The zone of clock and logs, by where /etc/localtime leads."""
    here, wanted = target.run(f"readlink -f /etc/localtime /usr/share/zoneinfo/{target.settings.timezone}").splitlines()
    assert here == wanted


def test_host_name(target: Target) -> None:
    """The host's own name, where one is set."""
    if target.settings.hostname is None:
        pytest.skip("hostname is None: the host's own name stays as it is")
    assert target.run("hostname") == target.settings.hostname


def test_host_knows_itself_by_name(target: Target) -> None:
    """Otherwise each `sudo` waits for DNS and complains."""
    assert target.host.run('getent hosts "$(hostname)"').stdout.strip(), f"{target.run('hostname')} is in no /etc/hosts"


def test_journal_cap_is_in_effect(target: Target) -> None:
    """The cap that the running journald told the journal itself, not the one in a file."""
    # The message in which journald tells its sizes at start (systemd.messages(7): SD_MESSAGE_JOURNAL_USAGE).
    usage = "journalctl -b -o json --no-pager MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
    told = [json.loads(line) for line in target.run(usage).splitlines()]
    caps = [int(each["MAX_USE"]) for each in told if each["JOURNAL_PATH"].startswith("/var/log/journal")]
    if not told:
        pytest.skip("the journal no longer has what journald told at its start")
    wanted = target.settings.journal_max_size
    assert caps[-1:] == [int(wanted[:-1]) * UNITS[wanted[-1]]]


def test_journal_is_kept_over_a_reboot(target: Target) -> None:
    """The folder where journald writes what it keeps."""
    assert target.stat("/var/log/journal").get("/var/log/journal", ("none",))[0] == "directory"


def test_no_unit_has_failed(target: Target) -> None:
    """`systemctl --failed`, of the whole host."""
    assert target.run("systemctl list-units --failed --plain --no-legend") == ""
