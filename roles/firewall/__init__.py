"""The firewall: an nftables table of our own, and one for builds."""

from roles.firewall.operations import knows_apps
from roles.firewall.role import (
    APPS,
    BUILDS,
    CONNECTIONS,
    PACKAGES,
    TABLE,
    UNIT,
    files,
    of_apps,
    of_builds,
    ruleset,
)

__all__ = [
    "APPS",
    "BUILDS",
    "CONNECTIONS",
    "PACKAGES",
    "TABLE",
    "UNIT",
    "files",
    "knows_apps",
    "of_apps",
    "of_builds",
    "ruleset",
]
