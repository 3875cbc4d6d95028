"""Words for an error, and what to do about it."""

from __future__ import annotations

import errno
import re

from slipway_host.system import Failed, Interrupted
from slipway_host.text import described

FULL_DISK = r"No space left on device|: Wrote only \d+ of \d+ bytes"  # the second is tar's


def said_of(error: BaseException) -> str:
    """An error in words, shortened."""
    return str(error) if isinstance(error, (Failed, Interrupted)) else described(error)


def advice(error: BaseException) -> str:
    """What to do about an error of the system."""
    if getattr(error, "errno", None) == errno.ENOSPC or re.search(FULL_DISK, str(error)):
        return "\nThe disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."
    return ""


def last_word(error: BaseException) -> str:
    """The message for the error that ends a run or a command."""
    return f"{said_of(error)}{advice(error) if isinstance(error, OSError) else ''}"
