"""roles/operator.py: the account that people log in with."""

from __future__ import annotations

import pytest

from tests.host._hosts import Target


@pytest.fixture
def user(target: Target) -> str:
    """Its name; skips the test where there is none."""
    if target.settings.operator.user is None:
        pytest.skip("operator.user is None: people log in as they did")
    return target.settings.operator.user


def test_it_may_sudo_without_a_password(target: Target, user: str) -> None:
    """Anything, as root."""
    assert "(ALL : ALL) NOPASSWD: ALL" in target.run("sudo -l -U %s", user)


def test_it_has_no_password(target: Target, user: str) -> None:
    """Only a key gets in."""
    assert target.run("getent shadow %s", user).split(":")[1] in ("*", "!", "!*")


def test_its_keys_are_those_of_the_settings(target: Target, user: str) -> None:
    """And no others, in a file that is its own."""
    path = target.run("getent passwd %s", user).split(":")[5] + "/.ssh/authorized_keys"
    kept = [line for line in target.run("cat %s", path).splitlines() if not line.startswith("#")]
    assert kept == target.settings.operator.authorized_keys
    assert target.stat(path) == {path: ("regular file", "600", user, user)}
