"""What filters packets on the host."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class Firewall:
    """What filters packets."""

    loaded: bool = False
    """Our table is loaded."""
    live: bool = False
    """It is just what its file says."""
    others: tuple[str, ...] = ()
    """Other tables that drop what comes in unless they accept it too."""
    users: frozenset[str] = frozenset()
    """Whom it knows as an app's user."""
    ports: frozenset[int] = frozenset()
    """Which it knows as the sites'."""


# What the file says is asked of nft itself, in a network namespace of its own.
_FIREWALL = r"""
command -v nft >/dev/null || exit 0
list="nft --stateless --terse list table inet slipway"
if loaded=$($list 2>/dev/null); then
    echo loaded=1
    for set in apps sites; do nft --guid list set inet slipway $set 2>/dev/null; done | awk '
        $1 == "set" {set = $2}
        /elements = / {within = 1}
        within {last = /}/; gsub(/elements =|[{}",]/, ""); for (i = 1; i <= NF; i++) print set "=" $i}
        last {within = last = 0}'
    [ "$loaded" != "$(unshare --net sh -c 'nft -f "$1" && shift && "$@"' ask "$1" $list 2>/dev/null)" ] || echo live=1
fi
nft list chains 2>/dev/null | awk '
    $1 == "table" {table = $2 " " $3}
    /hook input/ && /policy drop/ && table != "inet slipway" {print "other=" table}'
true
"""


class FirewallState(FactBase[Firewall]):
    """`Firewall`, for the table of a file."""

    default = Firewall

    @override
    def command(self, path: str) -> Question:
        return Question(shlex.join(["sh", "-c", _FIREWALL, "slipway", path]))

    @override
    def process(self, output: list[str]) -> Firewall:
        told: dict[str, list[str]] = {}
        for key, _, value in (line.partition("=") for line in output):
            told.setdefault(key, []).append(value)
        others = tuple(dict.fromkeys(told.get("other", [])))
        users, ports = frozenset(told.get("apps", [])), frozenset(map(int, told.get("sites", [])))
        return Firewall("loaded" in told, "live" in told, others, users, ports)
