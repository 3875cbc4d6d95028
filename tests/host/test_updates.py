"""roles/updates: what apt, unattended-upgrades and needrestart say of themselves on the host."""

from __future__ import annotations

import pytest

from roles.updates import files
from tests.host._hosts import Target

TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
NEEDRESTART = "/etc/needrestart/conf.d/slipway.conf"
HAND_OVER = "/etc/needrestart/restart.d/nginx.service"
POLICY = "/usr/sbin/policy-rc.d"
OPTIONS = {
    "APT::Periodic::AutocleanInterval": "7",
    "Unattended-Upgrade::Remove-Unused-Kernel-Packages": "true",
    "Unattended-Upgrade::Remove-Unused-Dependencies": "true",
}
"""Key of apt's → its value, where updates install themselves."""
ASKS_NOBODY = {"--force-confdef", "--force-confold"}
"""What apt tells dpkg: nobody is there to be asked about a file that was changed."""
CHANGES_NOTHING = (
    "$nrconf{interpscan} = 0;",
    "$nrconf{kernelhints} = 0;",
    "$nrconf{ucodehints} = 0;",
    "$nrconf{ui} = 'NeedRestart::UI::stdio';",
    "$nrconf{restart} = 'a';",
)
"""Lines by which needrestart restarts what runs old code, asks nobody, and opens no stranger's script."""


def apt(target: Target, key: str) -> list[str]:
    """What apt's whole configuration says of a key, in order: the last one counts, a list has all."""
    lines = (line.partition(" ") for line in target.run("apt-config dump").splitlines())
    return [value.strip('";') for name, _, value in lines if name.rstrip(":") == key]


def test_updates_are_installed_by_themselves(target: Target) -> None:
    """As apt reads all files together, whatever somebody else has put beside ours."""
    automatic = target.settings.updates.automatic
    assert apt(target, "APT::Periodic::Unattended-Upgrade")[-1:] == ["1" if automatic else "0"]
    if not automatic:
        pytest.skip("updates.automatic is False")
    for timer in TIMERS:
        assert target.show(timer, "ActiveState", "UnitFileState") == {
            "ActiveState": "active",
            "UnitFileState": "enabled",
        }
    assert target.host.run("unattended-upgrade --help").rc == 0


def test_security_updates_are_among_them(target: Target) -> None:
    """The distribution's, and the sources of the settings."""
    if not target.settings.updates.automatic:
        pytest.skip("updates.automatic is False")
    origins = apt(target, "Unattended-Upgrade::Origins-Pattern")
    assert any("security" in origin.lower() for origin in origins)
    assert set(target.settings.updates.origins) <= set(origins)


def test_what_apt_does_unasked(target: Target) -> None:
    """It keeps files that were changed, and takes away what nothing needs."""
    if not target.settings.updates.automatic:
        pytest.skip("updates.automatic is False")
    assert {key: apt(target, key)[-1:] for key in OPTIONS} == {key: [value] for key, value in OPTIONS.items()}
    assert set(apt(target, "DPkg::Options")) >= ASKS_NOBODY


def test_it_reboots_in_the_window_or_never(target: Target) -> None:
    """The setting, as apt reads it."""
    if not target.settings.updates.automatic:
        pytest.skip("updates.automatic is False")
    window = target.settings.updates.reboot
    assert apt(target, "Unattended-Upgrade::Automatic-Reboot")[-1] == ("true" if window else "false")
    if window:
        assert apt(target, "Unattended-Upgrade::Automatic-Reboot-Time")[-1] == window


def test_files_are_as_the_settings_say(target: Target) -> None:
    """Content, owner and mode; what is turned off isn't there."""
    target.check_files(files(target.settings, target.overview))


def test_needrestart_reads_its_configuration(target: Target) -> None:
    """It is Perl: a mistake there would end every update with an error."""
    if not target.settings.updates.restart:
        pytest.skip("updates.restart is False")
    assert set(CHANGES_NOTHING) <= set(target.run("cat %s", NEEDRESTART).splitlines())
    assert target.run("perl -c %s 2>&1", NEEDRESTART).endswith("syntax OK")
    assert target.run("sh -n %s 2>&1", HAND_OVER) == ""


def test_no_package_restarts_nginx(target: Target) -> None:
    """Debian's question before a service is restarted, asked as a package does."""
    if "Managed by Slipway" not in target.run("cat %s", POLICY):
        pytest.skip(f"{POLICY} is somebody else's")
    assert target.host.run("%s nginx.service restart", POLICY).rc == 101
    assert target.host.run("%s nginx upgrade", POLICY).rc == 0
