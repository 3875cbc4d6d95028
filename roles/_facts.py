"""What is true on the host: each fact is one command that only looks, is cheap, and ends well on any host.

What can't be told, since its tool isn't installed yet or is broken, is the fact's default.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pyinfra.api.facts import FactBase
from typing_extensions import override

from slipway.questions import Question

SLIPWAY_NGINX = "/opt/slipway/bin/slipway-nginx"
SLIPWAY_RELEASE = "/opt/slipway/bin/slipway-release"


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
    multihomed: bool = False
    """Packets may rightly come in by another interface than the answers leave by: several default routes, or rules."""

    @property
    def name(self) -> str:
        """ "debian 12" and the like."""
        return f"{self.distribution} {self.release}"


# Everything else waits for this answer, so it starts few processes; `[` and `read` are the shell's own.
_OVERVIEW = r"""
. /etc/os-release
systemd=0 container=0 multihomed=0
[ ! -d /run/systemd/system ] || systemd=1
# What systemd was told, what other managers leave behind, and OpenVZ: see systemd-detect-virt(1).
for sign in /run/systemd/container /run/host/container-manager /.dockerenv /run/.containerenv; do
    [ ! -e $sign ] || container=1
done
[ ! -d /proc/vz ] || [ -d /proc/bc ] || container=1
routes=$(awk '$2 == "00000000" && $8 == "00000000" && !seen[$1]++ {number++} END {print 0 + number}' \
    /proc/net/route 2>/dev/null)
rules=$(ip -4 rule 2>/dev/null | wc -l)  # three are there on every host
[ "${routes:-0}" -le 1 ] && [ "$rules" -le 3 ] || multihomed=1
cat <<END
distribution=$ID
release=$VERSION_ID
architecture=$(uname -m)
systemd=$systemd
root=$([ "$(id -u)" = 0 ] && echo 1 || echo 0)
cores=$(nproc)
memory_mb=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
disk_free_mb=$(df -Pm /srv | awk 'NR == 2 {print $4}')
clock=$(date +%s)
container=$container
multihomed=$multihomed
END
# Who listens: the sockets of both ports in state 0A (LISTEN), then the first process that has each of them open. Only
# processes of the users whose sockets they are: who else holds what, and how much, may be meant to take long.
sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '
    $4 == "0A" && $2 ~ /:0050$/ {print "80", "socket:[" $10 "]", $8}
    $4 == "0A" && $2 ~ /:01BB$/ {print "443", "socket:[" $10 "]", $8}')
users=$(echo "$sockets" | awk 'NF {print $3}' | sort -u | paste -s -d '|')
[ -z "$users" ] || {
    echo "$sockets"
    grep -lsE "^Uid:[[:space:]]+($users)[[:space:]]" /proc/[0-9]*/status | sed 's:status$:fd:' |
        xargs -r sh -c 'find "$@" -maxdepth 1 -lname "socket:*" -printf "%p %l\\n" 2>/dev/null' find
} | awk '
    $1 ~ /^[0-9]/ {port[$2] = $1}
    $1 ~ /^\// && $2 in port {split($1, part, "/"); print port[$2], part[3]; delete port[$2]}' |
while read -r port pid; do
    program=; { read -r program </proc/$pid/comm; } 2>/dev/null; echo "listener=$port $program (process $pid)"
done
! grep -qsx 'ENABLED=yes' /etc/ufw/ufw.conf || echo "firewall=ufw"
[ ! -e /usr/sbin/firewalld ] || ! systemctl is-active --quiet firewalld 2>/dev/null || echo "firewall=firewalld"
while IFS=: read -r user _ _ _ _ home _; do echo "user=$user $home"; done </etc/passwd
while IFS=: read -r group _; do echo "name=group $group"; done </etc/group
for folder in /etc /run /srv /var/lib /var/lib/slipway; do for path in "$folder"/*; do echo "name=$path"; done; done
for folder in /etc/systemd/system /usr/lib/systemd/system /run/systemd/system; do
    for path in "$folder"/*; do echo "name=$path"; done
done
"""


class Overview(FactBase[HostOverview]):
    """`HostOverview`, in one round trip and with nothing but a shell and coreutils on the host."""

    @override
    def command(self) -> Question:
        return Question(_OVERVIEW)

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
        )


@dataclass(frozen=True)
class Place:
    """What there is at a path."""

    kind: str
    """As `find` says it: "f" a regular file, "d" a folder, "l" a symbolic link, …; "account" for a user."""
    mode: str = ""
    """Octal, without a leading zero."""
    user: str = ""
    """Name of the owner; its number where the host has no such user. So with `group`."""
    group: str = ""
    digest: str = ""
    """SHA-256 of a file's content, where it was asked for."""
    target: str = ""
    """Where a link points; an account's shell."""
    expires: str = ""
    """Of an account: the day from which nobody can log in as it, counted from 1970; empty for never."""


SHADOW = 8
"""Colons of a line of shadow(5); one of passwd(5) has fewer."""


class Places(FactBase[dict[str, Place]]):
    """What there is at paths, and the accounts that there are, in one round trip; what isn't there isn't told.

    + accounts: names of users
    + folders: links to folders among these are followed
    + files: those whose content counts
    + others: the rest
    """

    default = dict

    @override
    def command(
        self, accounts: tuple[str, ...], folders: tuple[str, ...], files: tuple[str, ...], others: tuple[str, ...]
    ) -> Question:
        looked = "-maxdepth 0 -printf '%y\\t%m\\t%u\\t%g\\t%p\\t%l\\n' 2>/dev/null"
        asked = [f"getent passwd {shlex.join(accounts)}; getent shadow {shlex.join(accounts)}"] if accounts else []
        if folders:
            asked.append(f"find -H {shlex.join(folders)} {looked}")
        if files or others:
            asked.append(f"find {shlex.join([*files, *others])} {looked}")
        if files:
            asked.append(f"find {shlex.join(files)} -maxdepth 0 -type f -exec sha256sum {{}} + 2>/dev/null")
        return Question("; ".join([*asked, "true"]))

    @override
    def process(self, output: list[str]) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for line in output:
            kind, *told = line.split("\t")
            if told:
                mode, user, group, path, target = told
                found[path] = Place(kind, mode, user, group, target=target)
            elif "  " in line:
                digest, _, path = line.partition("  ")
                found[path] = replace(found[path], digest=digest)
            elif line.count(":") == SHADOW:
                user, *rest = line.split(":")
                found[user] = replace(found[user], expires=rest[-2])
            else:
                user, *_, shell = line.split(":")
                found[user] = Place("account", target=shell)
        return found


class Texts(FactBase[dict[str, str]]):
    """Content of text files, for diffs; empty where there is none."""

    default = dict

    @override
    def command(self, paths: tuple[str, ...]) -> Question:
        each = 'for path do [ ! -f "$path" ] || { echo "$path"; base64 -w 0 <"$path"; echo; }; done'
        return Question(shlex.join(["sh", "-c", each, "slipway", *paths]))

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        pairs = zip(output[::2], output[1::2], strict=True)
        return {path: base64.b64decode(text).decode(errors="replace") for path, text in pairs}


class Existing(FactBase[frozenset[str]]):
    """Those of `paths` that are there; links are followed."""

    default = frozenset

    @override
    def command(self, paths: tuple[str, ...]) -> Question:
        each = 'for path do [ ! -e "$path" ] || echo "$path"; done'
        return Question(shlex.join(["sh", "-c", each, "slipway", *paths]))

    @override
    def process(self, output: list[str]) -> frozenset[str]:
        return frozenset(output)


@dataclass(frozen=True)
class PackageFacts:
    """What dpkg says."""

    installed: frozenset[str]
    """Those of the packages asked for that are installed, fully."""
    interrupted: bool
    """dpkg was interrupted, and refuses everything until it is repaired."""


class Packages(FactBase[PackageFacts]):
    """Which of `packages` are installed, and whether dpkg is in order."""

    @override
    @staticmethod
    def default() -> PackageFacts:
        return PackageFacts(frozenset(), False)

    @override
    def command(self, packages: tuple[str, ...]) -> Question:
        asked = f"dpkg-query --show --showformat='${{db:Status-Abbrev}} ${{Package}}\\n' {shlex.join(packages)}"
        interrupted = '[ -z "$(ls -A /var/lib/dpkg/updates)" ] && [ -z "$(dpkg --audit)" ] || echo interrupted'
        return Question(f"! command -v dpkg >/dev/null || {{ {asked} 2>/dev/null; {interrupted}; }}")

    @override
    def process(self, output: list[str]) -> PackageFacts:
        stated = [line.split() for line in output]
        installed = {words[1] for words in stated if len(words) == 2 and words[0][1:2] == "i"}
        return PackageFacts(frozenset(installed), "interrupted" in output)


class _JsonFact(FactBase[dict[str, Any]]):
    """A host program's status as an object; empty where the program isn't there yet or can't tell."""

    default = dict

    @override
    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            answer = json.loads("\n".join(output))
        except ValueError:  # no program of ours: whatever stands at its path is replaced by this run
            return {}
        return answer if isinstance(answer, dict) else {}


class NginxStatus(_JsonFact):
    """`slipway-nginx status`: generation, whether it is live, and its files."""

    @override
    def command(self) -> Question:
        return Question(f"{SLIPWAY_NGINX} status 2>/dev/null || true")


class ReleaseStatus(_JsonFact):
    """`slipway-release status`: the release that serves, its inputs and what is wrong with it."""

    @override
    def command(self, app: str) -> Question:
        return Question(f"{SLIPWAY_RELEASE} status {app} 2>/dev/null || true")


class RollbackTarget(_JsonFact):
    """`slipway-release target`: the release that a rollback would let serve, or the error that says why there is none.

    Empty where the host's program doesn't know that command: an older one, which the run replaces.
    """

    @override
    def command(self, app: str, to: str | None) -> Question:
        named = shlex.quote(f"--to={to}") if to else ""
        return Question(f"{SLIPWAY_RELEASE} target {app} {named} 2>/dev/null || true")


class ReleasePlan(_JsonFact):
    """`slipway-release plan`: commits and migrations of a release that would be made; its request is the `_stdin`."""

    @override
    def command(self, app: str) -> str:
        unknown = json.dumps({"error": "the host's slipway-release is an older one, which this run replaces"})
        return f"{SLIPWAY_RELEASE} plan {app} 2>/dev/null || echo {shlex.quote(unknown)}"


class ReleaseHistory(FactBase[list[str]]):
    """`slipway-release history`: a table of every release and rollback, newest first; or one line of JSON."""

    default = list

    @override
    def command(self, app: str, as_json: bool = False) -> Question:
        form = "--json " if as_json else ""
        return Question(f"[ ! -x {SLIPWAY_RELEASE} ] || {SLIPWAY_RELEASE} history {form}{app}")

    @override
    def process(self, output: list[str]) -> list[str]:
        return output


class Versions(NamedTuple):
    """What decides how nginx is configured."""

    nginx: tuple[int, int, int]
    openssl: tuple[int, int]
    """Of the library that nginx runs with: major, minor."""


class NginxVersion(FactBase["Versions | None"]):
    """Versions of the nginx that is installed and of its OpenSSL; None where there is none."""

    @override
    @staticmethod
    def default() -> None:
        return None

    @override
    def command(self) -> Question:
        return Question("! command -v nginx >/dev/null || nginx -V 2>&1 | head -n 3")

    @override
    def process(self, output: list[str]) -> Versions | None:
        text = "\n".join(output)
        nginx = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", text)
        # "built with OpenSSL …", and "(running with OpenSSL …)" behind it where that is another.
        libraries = re.findall(r"OpenSSL (\d+)\.(\d+)", text)
        if nginx is None:
            return None
        major, minor = libraries[-1] if libraries else (0, 0)
        return Versions((int(nginx[1]), int(nginx[2]), int(nginx[3])), (int(major), int(minor)))


class GitCommit(FactBase[str]):
    """Commit that a ref of a remote repository names now, or ``error: …`` with git's own words; empty without git.

    git says nothing of a ref that doesn't exist, and pyinfra asks `process` only about something: hence "answered".
    """

    default = str

    @override
    def command(self, url: str, ref: str, ssh: str = "") -> Question:
        environment = "GIT_TERMINAL_PROMPT=0 " + (f"GIT_SSH_COMMAND={shlex.quote(ssh)} " if ssh else "")
        full = ref == "HEAD" or ref.startswith("refs/")
        # A tag that is an object of its own is named twice: the line with ^{} is the commit.
        names = [ref] if full else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
        patterns = " ".join(shlex.quote(each) for each in names)
        ask = f"{environment}timeout 60 git ls-remote -- {shlex.quote(url)} {patterns} 2>&1"
        told = 'echo answered || echo "error: git ls-remote ended with $?"'
        return Question(f"! command -v git >/dev/null || {{ {ask} && {told}; }}")

    @override
    def process(self, output: list[str]) -> str:
        if any(line.startswith("error: git ls-remote ended") for line in output):
            return "error: " + "\n".join(line.removeprefix("error: ") for line in output)
        found = [tuple(line.split("\t")) for line in output if re.fullmatch(r"[0-9a-f]{40,64}\t\S+", line)]
        branches = [commit for commit, full in found if full.startswith("refs/heads/")]
        peeled = [commit for commit, full in found if full.endswith("^{}")]
        return next(
            iter([*branches, *peeled, *(commit for commit, _ in found)]), "error: there is no such branch or tag"
        )


_UNIT = "ActiveState,UnitFileState,NeedDaemonReload"


class Unit(FactBase[dict[str, str]]):
    """Whether a systemd unit runs, starts at boot, and is as it is on disk; as `systemctl show` prints it."""

    default = dict

    @override
    def command(self, unit: str) -> Question:
        return Question(f"systemctl show --property={_UNIT} {shlex.quote(unit)} 2>/dev/null || true")

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output if "=" in line)


class Stale(FactBase[bool]):
    """True if a unit has been running since before one of `paths` was last changed."""

    default = bool

    @override
    def command(self, unit: str, paths: tuple[str, ...]) -> Question:
        # Whole seconds would restart it twice when both happened within one.
        entered = f"systemctl show --timestamp=us+utc --property=ActiveEnterTimestamp --value {shlex.quote(unit)}"
        files = " ".join(shlex.quote(path) for path in paths)
        return Question(f'since=$({entered}); [ -z "$since" ] || find {files} -newerct "$since" 2>/dev/null || true')

    @override
    def process(self, output: list[str]) -> bool:
        return any(line.strip() for line in output)


class Answer(FactBase[str]):
    """What a shell command prints, stripped; for one-line questions whose command never fails."""

    default = str

    @override
    def command(self, question: str) -> Question:
        return Question(question)

    @override
    def process(self, output: list[str]) -> str:
        return "\n".join(output).strip()


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
    """Nothing that sshd reads stands before sshd_config.d/00-slipway.conf."""
    own_ports: frozenset[int] = frozenset()
    """Ports that our file names."""
    other_ports: frozenset[int] = frozenset()
    """Ports that other files name."""
    used: frozenset[int] = frozenset()
    """The host's port that this run connects to; none where that can't be told."""
    pending: bool = False
    """A change of the ways in hasn't been confirmed."""


# sudo keeps no SSH_CONNECTION: it is looked up in the environment of the processes above.
_SSHD = r"""
folder=/etc/ssh/sshd_config.d main=/etc/ssh/sshd_config own=00-slipway.conf alone=/etc/ssh/slipway.conf
[ -x /usr/sbin/sshd ] || exit 0
/usr/sbin/sshd -T 2>/dev/null | sed 's/^/effective=/'
ssh -Q kex 2>/dev/null | sed 's/^/kex=/'
for kind in ed25519 rsa; do
    [ ! -e "/etc/ssh/ssh_host_${kind}_key" ] ||
        echo "bits=$kind $(ssh-keygen -lf "/etc/ssh/ssh_host_${kind}_key.pub" 2>/dev/null)"
done
echo "main=$(base64 -w 0 <$main)"
echo "main_mode=$(stat -c %a $main)"
first=$(grep -v -e '^[[:space:]]*\(#\|$\)' -e "^Include $alone\$" $main | head -n 1)
before=$(ls $folder 2>/dev/null | LC_ALL=C awk -v own=$own '/\.conf$/ && $0 < own')
if [ "$first" = "Include $folder/*.conf" ] && [ -z "$before" ]; then echo first=1; fi
ports() { sed -n 's/^[[:space:]]*[Pp][Oo][Rr][Tt][[:space:]=]\{1,\}\([0-9]\{1,\}\).*/\1/p' "$1" 2>/dev/null; }
{ ports $folder/$own; ports $alone; } | sed 's/^/own_port=/'
for file in $main $folder/*.conf; do
    [ "$file" = "$folder/$own" ] || ports "$file" | sed 's/^/other_port=/'
done
pid=$$
while [ "${pid:-0}" -gt 1 ]; do
    connection=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
    [ -z "$connection" ] || { echo "used=${connection##* }"; break; }
    pid=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null)
done
[ ! -e /var/lib/slipway/access/pending.json ] || echo pending=1
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


@dataclass(frozen=True)
class Firewall:
    """What filters packets."""

    loaded: bool = False
    """Our table is loaded."""
    live: bool = False
    """It is just what its file says."""
    others: tuple[str, ...] = ()
    """Other tables that drop what comes in unless they accept it too."""


# What the file says is asked of nft itself, in a network namespace of its own.
_FIREWALL = r"""
command -v nft >/dev/null || exit 0
list="nft --stateless --terse list table inet slipway"
if loaded=$($list 2>/dev/null); then
    echo loaded=1
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
        others = tuple(dict.fromkeys(line.removeprefix("other=") for line in output if line.startswith("other=")))
        return Firewall("loaded=1" in output, "live=1" in output, others)
