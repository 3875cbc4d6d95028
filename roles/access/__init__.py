"""Access to the host: the operator's account, sshd and the firewall, as one change that can't lock anybody out."""

from roles.access.role import BOOT, FIREWALL, REVERT, WANTS, access, packages

__all__ = ["BOOT", "FIREWALL", "REVERT", "WANTS", "access", "packages"]
