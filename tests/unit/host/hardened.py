"""What the host's own units must be shut off from, written out: no test may take that from the code."""

from __future__ import annotations

SHUT_OFF = (
    "NoNewPrivileges=yes",
    (
        "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID "
        "CAP_SETUID CAP_SYS_ADMIN"
    ),
    "RestrictNamespaces=mnt",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "DevicePolicy=closed",
    "LockPersonality=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @resources @swap",
    "SystemCallErrorNumber=EPERM",
)
"""What a run's unit, and one that ends an old release, is shut off from."""
