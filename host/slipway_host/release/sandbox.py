"""Commands that run code of an app's: the words alone."""

from __future__ import annotations


def killed_by(signal: str, user: str) -> str:
    """What to say of a program of an app's that a signal ended.

    + signal: its name
    """
    return (
        f"It was killed by {signal}, which Slipway didn't send: another process of the user {user} may have "
        f"(`ps -u {user}`), or the kernel for want of memory (`journalctl -k`). If what serves was taken over, --data "
        f"stop_first=true (on the host: --stop-first) ends every process of {user} before the new release is tried; "
        "requests are lost until it serves."
    )
