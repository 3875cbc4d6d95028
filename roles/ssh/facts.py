"""sshd as it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from slipway_host.layout import LAYOUT
from slipway_host.names import PROC, SSHD_PROGRAM
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class Sshd:
    """sshd as it is, and as this run came in by it."""

    effective: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What it goes by, as `sshd -T` prints it: keyword → values."""
    kex: frozenset[str] = frozenset()
    """Key exchanges it knows."""
    bits: Mapping[str, int] = field(default_factory=dict)
    """Kind of host key ("ed25519", "rsa") → its bits."""
    main: str = ""
    """Text of sshd_config."""
    main_mode: str = "644"
    first: bool = True
    """Nothing that sshd reads stands before our drop-in."""
    own_ports: frozenset[int] = frozenset()
    """Ports that our file names."""
    other_ports: frozenset[int] = frozenset()
    """Ports that other files name."""
    used: frozenset[int] = frozenset()
    """The host's port that this run connects to; none where that can't be told."""
    pending: bool = False
    """A change of access hasn't been confirmed yet."""


_OURS = LAYOUT.sshd_drop_in
# sudo keeps no SSH_CONNECTION: it is looked up in the environment of the processes above.
_SSHD = rf"""
folder={_OURS.parent} main={LAYOUT.sshd_config} own={_OURS.name} alone={LAYOUT.sshd_included}
[ -x {SSHD_PROGRAM} ] || exit 0
{SSHD_PROGRAM} -T 2>/dev/null | sed 's/^/effective=/'
ssh -Q kex 2>/dev/null | sed 's/^/kex=/'
for kind in ed25519 rsa; do
    [ ! -e "{LAYOUT.host_key("${kind}")}" ] ||
        echo "bits=$kind $(ssh-keygen -lf "{LAYOUT.host_key("${kind}")}.pub" 2>/dev/null)"
done
echo "main=$(base64 -w 0 <$main)"
echo "main_mode=$(stat -c %a $main)"
first=$(grep -v -e '^[[:space:]]*\(#\|$\)' -e "^Include $alone\$" $main | head -n 1)
before=$(ls $folder 2>/dev/null | LC_ALL=C awk -v own=$own '/\.conf$/ && $0 < own')
if [ "$first" = "Include $folder/*.conf" ] && [ -z "$before" ]; then echo first=1; fi
ports() {{ sed -n 's/^[[:space:]]*[Pp][Oo][Rr][Tt][[:space:]=]\{{1,\}}\([0-9]\{{1,\}}\).*/\1/p' "$1" 2>/dev/null; }}
{{ ports $folder/$own; ports $alone; }} | sed 's/^/own_port=/'
for file in $main $folder/*.conf; do
    [ "$file" = "$folder/$own" ] || ports "$file" | sed 's/^/other_port=/'
done
pid=$$
while [ "${{pid:-0}}" -gt 1 ]; do
    connection=$(tr '\0' '\n' 2>/dev/null <"{PROC}/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
    [ -z "$connection" ] || {{ echo "used=${{connection##* }}"; break; }}
    pid=$(awk '/^PPid:/ {{print $2}}' "{PROC}/$pid/status" 2>/dev/null)
done
[ ! -e {LAYOUT.pending} ] || echo pending=1
true
"""


class SshdState(FactBase[Sshd]):
    """`Sshd`, in one round trip and with nothing but a shell and coreutils on the host."""

    default = Sshd

    @override
    def command(self) -> Question:
        return Question(_SSHD)

    @override
    def process(self, output: list[str]) -> Sshd:
        told: dict[str, list[str]] = {}
        for line in output:
            key, _, value = line.partition("=")
            told.setdefault(key, []).append(value)
        effective: dict[str, tuple[str, ...]] = {}
        for keyword, _, value in (line.partition(" ") for line in told.get("effective", [])):
            effective[keyword] = (*effective.get(keyword, ()), value)
        bits = (line.split() for line in told.get("bits", []))

        def numbers(key: str) -> frozenset[int]:
            return frozenset(int(value) for value in told.get(key, []) if value.isdigit())

        return Sshd(
            effective=effective,
            kex=frozenset(told.get("kex", [])),
            bits={words[0]: int(words[1]) for words in bits if len(words) > 1 and words[1].isdigit()},
            main=base64.b64decode(told.get("main", [""])[0]).decode(errors="replace"),
            main_mode=told.get("main_mode", ["644"])[0],
            first="first" in told,
            own_ports=numbers("own_port"),
            other_ports=numbers("other_port"),
            used=numbers("used"),
            pending="pending" in told,
        )
