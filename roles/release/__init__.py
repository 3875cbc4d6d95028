"""Release each app: built, migrated, started and proven beside the old release before it serves."""

from roles.release.role import (
    digest,
    git_ssh,
    history,
    inputs_of,
    operator,
    prober,
    release,
    rollback,
    wanted,
)

__all__ = [
    "digest",
    "git_ssh",
    "history",
    "inputs_of",
    "operator",
    "prober",
    "release",
    "rollback",
    "wanted",
]
