"""Who runs this on the operator's machine: their name, their home folder and their cache."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from pathlib import Path

from pyinfra.api.exceptions import PyinfraError


class HomeError(PyinfraError):
    """The home folder isn't known; the message says what to do."""


def home() -> Path:
    """Their home folder. Raises HomeError where neither HOME nor the system tells it."""
    try:
        return Path.home()
    except RuntimeError:
        raise HomeError(
            f"your home folder isn't known, where SSH's keys and known hosts are: there is no HOME, and the system has "
            f"no user {os.getuid()}. Set it, as in: HOME=/home/me slipway …"
        ) from None


def expanded(path: str) -> Path:
    """A path, with ``~`` as their home folder. Raises HomeError where that isn't known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        if path.startswith(("~/", "~\\")) or path == "~":
            return home()  # which raises it
        raise HomeError(f"{path}: this machine has no such user; write the whole path") from None


def cache() -> Path | None:
    """Their cache folder; None where none is known."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def login() -> str | None:
    """The name that they log in with; None where the system has none for them."""
    try:
        return getpass.getuser()
    except (
        KeyError,
        OSError,
        ImportError,
    ):  # the system has no entry for this user, nor do LOGNAME, USER and their kin
        return None


def name() -> str:
    """The name by which a history may know them."""
    return login() or f"user {os.getuid()}"


def advice_on_ssh() -> str:
    """What to do where OpenSSH can't run, as the end of a sentence: it refuses a user whom the system doesn't know."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        do = "the system must know the user who runs OpenSSH: add that user, or run this as another one"
        return f"; {do}"
    return ""


def terminal() -> bool:
    """Whether they can be asked for a password: as `getpass` does it, at the terminal or on standard input."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True
