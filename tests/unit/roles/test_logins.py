"""roles/system/logins.py: when PAM is changed and when it is left, and whose homes are closed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from roles.system import logins, profiles, system
from slipway.engine.facts import Answer, Place, Places
from slipway.engine.overview import HostOverview
from slipway.settings import Settings
from tests.unit.plans import Facts, Operation, Planner

PAM, HOMES = "Limit wrong passwords, and refuse those of before", "Let nobody read others' homes"
THERE = {
    f"{logins.PROFILES}/{name}": Place("f", "644", "root", "root", each.digest) for name, each in profiles().items()
}


def of_pam(state: str, there: dict[str, Place]) -> Facts:
    """Facts of a host whose PAM is in this state, with these files."""
    return {
        Answer: lambda question: state if "pam-auth-update" in question else "",
        Places: lambda **asked: {path: there[path] for path in asked["files"] if path in there},
    }


@pytest.fixture
def planned(plan: Planner, overview: HostOverview, bare: Facts) -> Any:
    """`planned(settings, name, facts)`: an operation of the role on a host of these facts."""

    def make(settings: Settings, name: str, facts: Facts) -> Operation:
        return plan(system, settings, overview, facts=bare | facts)(name)

    return make


def test_pam_gets_its_profiles_where_nobody_has_set_anything(planned: Any, minimal: Settings) -> None:
    done = planned(minimal, PAM, of_pam("", {}))
    assert set(done.writes) == set(THERE)
    assert "pam-auth-update --package" in done.lines[-1]


@pytest.mark.parametrize(
    ("state", "there", "why"),
    [
        ("used", THERE, "PAM limits wrong passwords"),
        ("foreign", {}, "by somebody else"),
        ("off", THERE, "turned"),
        ("left", THERE, "changed by hand"),
        ("none", {}, "no pam-auth-update"),
    ],
)
def test_what_somebody_has_set_in_pam_stays(
    planned: Any, minimal: Settings, state: str, there: dict[str, Place], why: str
) -> None:
    done = planned(minimal, PAM, of_pam(state, there))
    assert not done.commands and why in done.reasons[0]


def test_a_profile_of_another_version_is_replaced(planned: Any, minimal: Settings) -> None:
    path = next(iter(THERE))
    done = planned(minimal, PAM, of_pam("used", THERE | {path: Place("f", "644", "root", "root", "0" * 64)}))
    assert list(done.writes) == [path] and "pam-auth-update" in done.lines[-1]


def test_what_is_turned_off_is_taken_out(planned: Any, make_settings: Any, minimal_data: dict[str, Any]) -> None:
    settings = make_settings(minimal_data | {"system": {"strong_passwords": False}})
    assert "pam-auth-update --remove" in planned(settings, PAM, of_pam("used", THERE)).lines[0]
    assert not planned(settings, PAM, of_pam("", {})).commands


@pytest.mark.parametrize(
    ("auth", "account", "password", "files", "seen", "state"),
    [
        ("", "", "", False, False, ""),
        ("pam_faillock.so\npam_faillock.so", "pam_faillock.so", "pam_pwhistory.so", True, True, "used"),
        ("pam_faillock.so", "", "", False, False, "foreign"),
        ("", "", "", True, True, "off"),
        ("pam_faillock.so\npam_faillock.so", "pam_faillock.so", "", True, False, ""),  # killed in between
    ],
)
def test_the_state_of_pam(
    tmp_path: Path, auth: str, account: str, password: str, files: bool, seen: bool, state: str
) -> None:
    """As the script tells it of files that are here."""
    names = list(profiles())
    for folder in ("pam.d", "configs", "bin"):
        (tmp_path / folder).mkdir()
    for name, lines in (("auth", auth), ("account", account), ("password", password)):
        text = "".join(f"{name}\trequired\t{line} x\n" for line in lines.splitlines())
        (tmp_path / f"pam.d/common-{name}").write_text(f"# pam_faillock.so is not here\n{text}")
    (tmp_path / "seen").write_text("".join(f"{name}\n" for name in names if seen))
    for name in names if files else []:
        (tmp_path / "configs" / name).touch()
    (tmp_path / "bin/pam-auth-update").write_text("#!/bin/sh\n")
    (tmp_path / "bin/pam-auth-update").chmod(0o755)
    script = logins._PAM.replace("/etc/pam.d", str(tmp_path / "pam.d"))
    script = script.replace("/var/lib/pam/seen", str(tmp_path / "seen"))
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    asked = ["sh", "-c", script, "slipway", str(tmp_path / "left"), " ".join(names), str(tmp_path / "configs")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20, env=environment)
    assert done.stdout.strip() == state


def test_homes_are_closed_by_their_users(planned: Any, minimal: Settings) -> None:
    """Not by root, whom the user could lead elsewhere by a link."""
    told = "anna d 755 /home/anna\nanna f 644 /home/anna/.bashrc\ntom f 664 /home/tom/.profile"
    done = planned(minimal, HOMES, {Answer: lambda question: told if "/etc/passwd" in question else "used"})
    (line,) = done.lines
    assert line.split("; ") == [
        "runuser -u anna -- chmod g-w,o-rwx -- /home/anna /home/anna/.bashrc",
        "runuser -u tom -- chmod g-w,o-rwx -- /home/tom/.profile",
    ]
    notes = [change.note for _, change, _ in logins._home_changes(told)]
    assert notes == ["755 becomes 750", "644 becomes 640", "664 becomes 640"]
