"""Security updates by themselves, programs that take them on without losing a request, and word of a due reboot."""

from roles.updates.role import (
    HAND_OVER,
    NEEDRESTART,
    ORIGINS,
    PERIODIC,
    POLICY,
    TIMERS,
    UNATTENDED,
    due,
    files,
    packages,
    updates,
)

__all__ = [
    "HAND_OVER",
    "NEEDRESTART",
    "ORIGINS",
    "PERIODIC",
    "POLICY",
    "TIMERS",
    "UNATTENDED",
    "due",
    "files",
    "packages",
    "updates",
]
