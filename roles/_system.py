"""Facts and operations of roles/system.py: kernel settings, lines of a configuration file, modes, a swap file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from typing_extensions import override

from roles import _plan as plan
from roles._facts import Answer, Place, Places
from roles._operations import shell, shell_line
from roles._place import File, placing, text_diff
from roles._plan import Ask, Change, Commands
from slipway.questions import Question

# ── kernel settings ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class KernelSetting:
    """A file below /proc/sys."""

    value: str
    writable: bool
    """False in most containers: the setting is the machine's."""


class KernelSettings(FactBase[dict[str, KernelSetting]]):
    """Path below /proc/sys → what is there, of all that these patterns name; what the kernel doesn't have isn't told.

    + patterns: such as "kernel/kptr_restrict" or "net/ipv4/conf/*/send_redirects"
    """

    default = dict

    @override
    def command(self, patterns: tuple[str, ...]) -> Question:
        files = " ".join(each if re.fullmatch(r"[\w*/.-]+", each) else shlex.quote(each) for each in patterns)
        # Not `read`, whose one byte at a time these files don't bear. That root may write them says nothing where
        # /proc/sys is mounted read-only, as in containers; access(2), which find asks, knows of that.
        asked = f"grep -Hs '' {files}; find {files} -maxdepth 0 -writable -printf 'w %p\\n' 2>/dev/null"
        return Question(f"cd /proc/sys && {{ {asked}; }}; true")

    @override
    def process(self, output: list[str]) -> dict[str, KernelSetting]:
        writable = {line.removeprefix("w ") for line in output if line.startswith("w ")}
        read = (line.partition(":") for line in output if not line.startswith("w "))
        return {path: KernelSetting(" ".join(value.split()), path in writable) for path, _, value in read}


def sysctl_path(key: str) -> str:
    """Path below /proc/sys of a setting's name."""
    return key.replace(".", "/")


@dataclass(frozen=True)
class Wanted:
    """What a kernel setting is to be."""

    value: str
    at_least: bool = False
    """A larger number is stricter, and stays."""

    def fits(self, found: str) -> bool:
        """Whether a value is good enough."""
        if self.at_least and re.fullmatch(r"[0-9]+", found):
            return int(found) >= int(self.value)
        return found == self.value


def differing(found: Mapping[str, KernelSetting], key: str, want: Wanted) -> dict[str, KernelSetting]:
    """Those of the settings that `key` names, and that aren't what is wanted."""
    pattern = re.compile(re.escape(sysctl_path(key)).replace(r"\*", "[^/]+"))
    return {path: each for path, each in found.items() if pattern.fullmatch(path) and not want.fits(each.value)}


# $1 path below /proc/sys, $2 value, and so on
_SET = """
failed=0
while [ $# -gt 0 ]; do
    if ! { echo "$2" >"/proc/sys/$1"; } 2>/dev/null; then
        key=$(echo "$1" | tr / .)
        echo "The kernel refuses $key = $2; \\"sysctl\\": {\\"$key\\": None} in system leaves it as it is." >&2
        failed=1
    fi
    shift 2
done
exit $failed
"""


def _patterns(wanted: Mapping[str, Wanted]) -> tuple[str, ...]:
    return tuple(map(sysctl_path, wanted))


@plan.operation(lambda wanted: [plan.asking(KernelSettings, patterns=_patterns(wanted))])
def kernel_settings(wanted: Mapping[str, Wanted]) -> Commands:
    """Set what differs of the running kernel's settings; what can't be set on this host is told, and no failure.

    + wanted: name → value; ``*`` in a name stands for every interface
    """
    found = plan.known(KernelSettings, patterns=_patterns(wanted))
    changes, due, refused = [], [], []
    for key, want in wanted.items():
        wrong = differing(found, key, want)
        settable = {path: each.value for path, each in wrong.items() if each.writable}
        due += [word for path in settable for word in (path, want.value)]
        if settable:
            before = " and ".join(dict.fromkeys(settable.values()))
            where = f", at {', '.join(path.split('/')[-2] for path in settable)}" if "*" in key else ""
            changes.append(Change("kernel setting", f"{key} = {want.value}", "set", note=f"instead of {before}{where}"))
        if len(settable) < len(wrong):
            refused.append(f"{key} ({next(each.value for each in wrong.values() if not each.writable)})")
    left = f"; left to the machine that runs this container: {', '.join(refused)}" if refused else ""
    if not due:
        host.noop(f"the kernel is set as it should be{left}")
        return
    if left:
        plan.say(left.removeprefix("; "))
    plan.announce(*changes)
    yield shell(_SET, *due)


# ── lines of a configuration file ────────────────────────────────────────────────────────────────────────────────────

# $1 path, $2 keys joined by |
_LINES = """grep -E "^[[:space:]]*($2)[[:space:]]" "$1" 2>/dev/null || true"""
# $1 path, then key and value, and so on. The last line of a key is changed, further ones are taken out.
_LINE = r"""
set -eu
file=$1; shift
new=$file.slipway
rm -f "$new"; cp -p "$file" "$new"
while [ $# -gt 0 ]; do
    awk -v key="$1" -v value="$2" '
        $1 == key { if (!done) print key "\t" value; done = 1; next }
        { print }
        END { if (!done) print key "\t" value }' "$new" >"$new.next"
    cat "$new.next" >"$new"; rm "$new.next"
    shift 2
done
mv -f "$new" "$file"
"""


def _lines(path: str, values: Mapping[str, str]) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_LINES, path, "|".join(values)))


@plan.operation(_lines)
def configuration_lines(path: str, values: Mapping[str, str]) -> Commands:
    """Set single values in a file of lines "KEY value" that is the distribution's, and keep all else.

    + path: the file, which is there
    + values: key → value
    """
    (question,) = _lines(path, values)
    there = [line.split() for line in str(plan.known(question[0], **dict(question[1]))).splitlines()]
    found = {key: [words[1:] for words in there if words[0] == key] for key in values}
    due = {key: value for key, value in values.items() if found[key] != [[value]]}
    if not due:
        host.noop(f"{path} says {', '.join(f'{key} {value}' for key, value in values.items())}")
        return
    before = "".join(f"{key}\t{' '.join(words)}\n" for key in due for words in found[key])
    after = "".join(f"{key}\t{value}\n" for key, value in due.items())
    plan.announce(Change("file", path, "modify", text_diff(path, before, after)), makes=[path])
    yield shell(_LINE, path, *(word for pair in due.items() for word in pair))


# ── modes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _at(modes: Mapping[str, str]) -> Iterator[Ask]:
    yield plan.asking(Places, accounts=(), folders=tuple(modes), files=(), others=())


@plan.operation(_at)
def restrict(modes: Mapping[str, str]) -> Commands:
    """Take rights away from files and folders that are there; who has fewer already keeps those.

    A folder that isn't there is made, before a package brings it with more rights.

    + modes: path → the most that its mode may be, in octal; a folder's has the bit that lets its owner enter
    """
    (question,) = _at(modes)
    there: dict[str, Place] = plan.known(question[0], **dict(question[1]))
    less = {
        path: f"{int(there[path].mode, 8) & int(mode, 8):o}"
        for path, mode in modes.items()
        if path in there and int(there[path].mode, 8) & ~int(mode, 8)
    }
    new = {path: mode for path, mode in modes.items() if path not in there and int(mode, 8) & 0o100}
    if not less and not new:
        host.noop("nobody has more rights than they should")
        return
    kinds = {"d": "folder", "f": "file"}
    plan.announce(
        *(
            Change(kinds.get(there[path].kind, "file"), path, "modify", note=f"{there[path].mode} becomes {mode}")
            for path, mode in less.items()
        ),
        *(Change("folder", path, "create", note=f"root:root {mode}") for path, mode in new.items()),
    )
    steps = [f"[ -d {path} ] || mkdir {path}" for path in map(shlex.quote, new)]
    steps += [f"chmod {mode} {shlex.quote(path)}" for path, mode in (less | new).items()]
    yield StringCommand("; ".join(steps))


# ── somebody else's file ─────────────────────────────────────────────────────────────────────────────────────────────

_FOREIGN = """{ [ ! -e "$1" ] && [ ! -L "$1" ]; } || grep -qs 'Managed by Slipway' "$1" || echo foreign"""


def _whose(path: str, file: File) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_FOREIGN, path))
    yield plan.asking(Places, accounts=(), folders=(), files=(path,), others=())


@plan.operation(_whose)
def place_unless_foreign(path: str, file: File) -> Commands:
    """Put a file in a place that is the administrator's as well: one of theirs stays."""
    (ask, question), (places, asked) = _whose(path, file)
    if plan.known(ask, **dict(question)):
        host.noop(f"{path} is somebody else's, and stays")
        return
    there = plan.known(places, **dict(asked)).get(path)
    if there == Place("f", file.mode, file.user, file.group, file.digest):
        host.noop(f"{path} is in its place")
        return
    diff = "" if there else text_diff(path, "", file.content)
    plan.announce(Change("file", path, "modify" if there else "create", diff, file.note), makes=[path])
    yield placing(files={path: file})


# ── swap ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

SWAP_FILE = "/swapfile"
SWAP_UNIT = "/etc/systemd/system/swapfile.swap"
"""systemd.swap(5): a unit is called after its file."""
SMALL_MB = 2000
"""Memory below which a host gets swap by itself: one that is sold with 2 GB shows a little less."""
SPARE_MB = 2048
"""Disk space that a swap file must leave: Python, tools and two releases of a small app take about 700 MB."""
SWAP_FILE_SYSTEMS = ("ext2/ext3", "ext4", "xfs")
"""Those on which a plain file can hold swap; as `stat --file-system` names them. Not btrfs, zfs, overlay."""


class SwapFacts(FactBase[dict[str, str]]):
    """What decides on a swap file: "swaps" (how many there are), "type" of the root file system, "free" MB there."""

    default = dict

    @override
    def command(self) -> Question:
        asked = (
            'echo "swaps=$(($(wc -l </proc/swaps) - 1))"; echo "type=$(stat --file-system --format=%T /)"; '
            "echo \"free=$(df -Pm / | awk 'NR == 2 {print $4}')\""
        )
        return Question(f"{{ {asked}; }} 2>/dev/null; true")

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output if "=" in line)


def swap_size(wanted: int | None, memory_mb: int) -> int:
    """MB of the swap file that a host should have; 0 for none."""
    if wanted is not None:
        return wanted
    return memory_mb if memory_mb < SMALL_MB else 0


def no_swap(size: int, found: Mapping[str, Any], *, container: bool) -> str:
    """Why there will be no swap file of `size` MB; empty if there will be one."""
    if not size:
        return "no swap file is wanted"
    if container:
        return "in a container, swap is the machine's"
    if found.get("swaps", "0") != "0":
        return "there is swap"
    if found.get("type") not in SWAP_FILE_SYSTEMS:
        return f"a file on {found.get('type') or 'this file system'} can't hold swap"
    if int(found.get("free") or 0) < size + SPARE_MB:
        return f"{found.get('free')} MB are free: too few for {size} MB of swap and {SPARE_MB} MB beside it"
    return ""


_UNIT = f"""\
# Managed by Slipway (roles/system.py): system.swap_mb of the inventory.
[Unit]
Description=Swap file

[Swap]
What={SWAP_FILE}

[Install]
WantedBy=swap.target
"""
# $1 file, $2 MB. A file of a run that was killed is made anew, unless the host still goes on with it; swap must have no
# holes.
_SWAP = """
set -eu
umask 077
exec 9>/run/swapfile.lock
flock 9
! grep -q "^$1 " /proc/swaps || exit 0
rm -f "$1"
fallocate -l "$2MiB" "$1" || dd if=/dev/zero of="$1" bs=1M count="$2" status=none
mkswap "$1" >/dev/null
systemctl daemon-reload
systemctl enable --now --quiet swapfile.swap
"""


@plan.operation(lambda wanted, memory_mb, container: [plan.asking(SwapFacts)])
def swap_file(wanted: int | None, memory_mb: int, *, container: bool) -> Commands:
    """Give a host without swap a swap file, where one can be.

    + wanted: MB; None: by the memory
    + memory_mb: of the host
    + container: it is one
    """
    size, found = swap_size(wanted, memory_mb), plan.known(SwapFacts)
    if why := no_swap(size, found, container=container):
        if size and not container and found.get("swaps", "0") == "0":
            plan.say(f"no swap file is made: {why}")
        host.noop(why)
        return
    plan.announce(
        Change("file", SWAP_UNIT, "create", text_diff(SWAP_UNIT, "", _UNIT)),
        Change("file", SWAP_FILE, "create", note=f"{size} MB of swap; the memory is {memory_mb} MB"),
        makes=[SWAP_UNIT, SWAP_FILE],
    )
    yield placing(files={SWAP_UNIT: File(_UNIT)})
    yield shell(_SWAP, SWAP_FILE, str(size))
