"""sshd: keys alone, ssh-audit's algorithms, and limits; changed only by what a fresh connection proves."""

from roles.ssh.role import (
    ALONE,
    DROP_IN,
    FIRST,
    HOST_KEYS,
    MAIN,
    MODULI,
    PATHS,
    UNIT,
    expected,
    files,
    options,
    own_ports,
    path,
    ports,
)

__all__ = [
    "ALONE",
    "DROP_IN",
    "FIRST",
    "HOST_KEYS",
    "MAIN",
    "MODULI",
    "PATHS",
    "UNIT",
    "expected",
    "files",
    "options",
    "own_ports",
    "path",
    "ports",
]
