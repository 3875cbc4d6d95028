"""What a host is: all that a role may decide on before anything is changed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api import FactBase
from slipway_host.layout import LAYOUT
from slipway_host.names import PROC
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class HostOverview:
    """What a role may decide on before anything is changed: none of it changes during a run."""

    distribution: str
    """ID of /etc/os-release: "debian", "ubuntu"."""
    release: str
    """VERSION_ID of /etc/os-release: "12", "24.04"."""
    architecture: str
    """`uname -m`: "x86_64", "aarch64"."""
    systemd: bool
    """systemd is process 1."""
    root: bool
    """Commands run as root (directly, or through sudo)."""
    cores: int
    memory_mb: int
    disk_free_mb: int
    """Free space where /srv is, in MB."""
    clock: int
    """Seconds since 1970."""
    listeners: dict[int, str]
    """Port (80 or 443) → the program that listens there."""
    users: dict[str, str]
    """System user → its home."""
    names: frozenset[str] = frozenset()
    """Paths in /etc, /run, /srv, /var/lib, our folder there and systemd's of units, and the groups ("group x")."""
    firewall: str = ""
    """Program that is in charge of the firewall, and would contradict ours: "ufw", "firewalld"."""
    container: bool = False
    """It is a container: kernel and clock belong to the machine that runs it."""
    format: int = 1
    """Form of what Slipway keeps on it (protocol.FORMAT)."""
    slipway: str = ""
    """Version of the Slipway that brought it to that form."""
    multihomed: bool = False
    """Packets may rightly come in by another interface than the answers leave by: several default routes, or rules."""

    @property
    def name(self) -> str:
        """ "debian 12" and the like."""
        return f"{self.distribution} {self.release}"


_SHARED = f"/etc /run {LAYOUT.apps} {LAYOUT.data} {LAYOUT.state}"
_UNITS = f"{LAYOUT.units} {LAYOUT.packaged_units} {LAYOUT.warm_units}"

# Everything else waits for this answer, so it starts few processes; `[` and `read` are the shell's own.
_OVERVIEW = rf"""
. /etc/os-release
systemd=0 container=0 multihomed=0
[ ! -d {LAYOUT.warm_units} ] || systemd=1
# What systemd was told, what other managers leave behind, and OpenVZ: see systemd-detect-virt(1).
for sign in /run/systemd/container /run/host/container-manager /.dockerenv /run/.containerenv; do
    [ ! -e $sign ] || container=1
done
[ ! -d {PROC}/vz ] || [ -d {PROC}/bc ] || container=1
routes=$(awk '$2 == "00000000" && $8 == "00000000" && !seen[$1]++ {{number++}} END {{print 0 + number}}' \
    {PROC}/net/route 2>/dev/null)
rules=$(ip -4 rule 2>/dev/null | wc -l)  # three are there on every host
[ "${{routes:-0}}" -le 1 ] && [ "$rules" -le 3 ] || multihomed=1
cat <<END
distribution=$ID
release=$VERSION_ID
architecture=$(uname -m)
systemd=$systemd
root=$([ "$(id -u)" = 0 ] && echo 1 || echo 0)
cores=$(nproc)
memory_mb=$(awk '/^MemTotal/ {{print int($2 / 1024)}}' {PROC}/meminfo)
disk_free_mb=$(df -Pm {LAYOUT.apps} | awk 'NR == 2 {{print $4}}')
clock=$(date +%s)
container=$container
multihomed=$multihomed
kept=$(cat "$format" 2>/dev/null)
END
# Who listens: the sockets of both ports in state 0A (LISTEN), then the first process that has each of them open. Only
# processes of the users whose sockets they are: who else holds what, and how much, may be meant to take long.
sockets=$(cat {PROC}/net/tcp {PROC}/net/tcp6 2>/dev/null | awk '
    $4 == "0A" && $2 ~ /:0050$/ {{print "80", "socket:[" $10 "]", $8}}
    $4 == "0A" && $2 ~ /:01BB$/ {{print "443", "socket:[" $10 "]", $8}}')
users=$(echo "$sockets" | awk 'NF {{print $3}}' | sort -u | paste -s -d '|')
[ -z "$users" ] || {{
    echo "$sockets"
    grep -lsE "^Uid:[[:space:]]+($users)[[:space:]]" {PROC}/[0-9]*/status | sed 's:status$:fd:' |
        xargs -r sh -c 'find "$@" -maxdepth 1 -lname "socket:*" -printf "%p %l\\n" 2>/dev/null' find
}} | awk '
    $1 ~ /^[0-9]/ {{port[$2] = $1}}
    $1 ~ /^\// && $2 in port {{split($1, part, "/"); print port[$2], part[3]; delete port[$2]}}' |
while read -r port pid; do
    program=; {{ read -r program <{PROC}/$pid/comm; }} 2>/dev/null; echo "listener=$port $program (process $pid)"
done
! grep -qsx 'ENABLED=yes' /etc/ufw/ufw.conf || echo "firewall=ufw"
[ ! -e /usr/sbin/firewalld ] || ! systemctl is-active --quiet firewalld 2>/dev/null || echo "firewall=firewalld"
while IFS=: read -r user _ _ _ _ home _; do echo "user=$user $home"; done <{LAYOUT.users}
while IFS=: read -r group _; do echo "name=group $group"; done </etc/group
for folder in {_SHARED}; do for path in "$folder"/*; do echo "name=$path"; done; done
for folder in {_UNITS}; do
    for path in "$folder"/*; do echo "name=$path"; done
done
"""


class Overview(FactBase[HostOverview]):
    """`HostOverview`, in one round trip and with nothing but a shell and coreutils on the host."""

    @override
    def command(self) -> Question:
        return Question(f"format={LAYOUT.format}\n{_OVERVIEW}")

    @override
    def process(self, output: list[str]) -> HostOverview:
        values: dict[str, str] = {}
        listeners: dict[int, str] = {}
        users: dict[str, str] = {}
        names: set[str] = set()
        for line in output:
            key, _, value = line.partition("=")
            if key == "listener":
                port, _, program = value.partition(" ")
                listeners[int(port)] = program
            elif key == "user":
                user, _, home = value.partition(" ")
                users[user] = home
            elif key == "name":
                names.add(value)
            else:
                values[key] = value
        form, version = _kept(values.get("kept", ""))
        return HostOverview(
            distribution=values["distribution"],
            release=values["release"],
            architecture=values["architecture"],
            systemd=values["systemd"] == "1",
            root=values["root"] == "1",
            cores=int(values["cores"]),
            memory_mb=int(values["memory_mb"]),
            disk_free_mb=int(values["disk_free_mb"]),
            clock=int(values["clock"]),
            listeners=listeners,
            users=users,
            names=frozenset(names),
            firewall=values.get("firewall", ""),
            container=values["container"] == "1",
            multihomed=values["multihomed"] == "1",
            format=form,
            slipway=version,
        )


def _kept(text: str) -> tuple[int, str]:
    """Form of what Slipway keeps on a host, and the version that brought it to that, by what the host's file says."""
    try:
        told = json.loads(text)
        return int(told["format"]), str(told["slipway"])
    except (ValueError, TypeError, KeyError):  # a bare host, or one of Slipway 0.1
        return 1, ""
