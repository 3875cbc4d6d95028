"""The operator's account: a person's, with sudo, a key and no password."""

from __future__ import annotations

from collections.abc import Mapping

from slipway_host.layout import LAYOUT
from slipway_host.names import AUTHORIZED_KEYS

from slipway.engine.place import File
from slipway.engine.templates import render
from slipway.settings import Settings

SUDOERS = str(LAYOUT.operator_sudoers)
PACKAGES = ("sudo",)


def home(settings: Settings, users: Mapping[str, str]) -> str | None:
    """The account's home; None where no account is asked for.

    + users: user → home, of those that the host has
    """
    user = settings.operator.user
    return users.get(user, str(LAYOUT.homes / user)) if user else None


def authorized_keys(settings: Settings, users: Mapping[str, str]) -> str | None:
    """Path of the account's authorized_keys; None where no account is asked for."""
    folder = home(settings, users)
    return f"{folder}/{AUTHORIZED_KEYS}" if folder else None


def files(settings: Settings, users: Mapping[str, str]) -> dict[str, File | None]:
    """Path → what is to be there."""
    user, path = settings.operator.user, authorized_keys(settings, users)
    if not user or not path:
        return {}
    keys = "".join(f"{key}\n" for key in settings.operator.authorized_keys)
    return {
        SUDOERS: File(render("operator/sudoers.j2", user=user), "440"),
        path: File(f"# Managed by Slipway (roles/operator.py).\n{keys}", "600", user, user),
    }
