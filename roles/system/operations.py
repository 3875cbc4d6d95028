"""Kernel settings, lines of a configuration file, modes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.names import PROC

from roles.system.facts import KernelSetting, KernelSettings, sysctl_path
from slipway.engine import plan
from slipway.engine.facts import Answer, Place, Places
from slipway.engine.operations import shell, shell_line
from slipway.engine.place import text_diff
from slipway.engine.plan import Ask, Change, Commands


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
_SET = f"""
failed=0
while [ $# -gt 0 ]; do
    if ! {{ echo "$2" >"{PROC}/sys/$1"; }} 2>/dev/null; then
        key=$(echo "$1" | tr / .)
        echo "The kernel refuses $key = $2; \\"sysctl\\": {{\\"$key\\": None}} in system leaves it as it is." >&2
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
