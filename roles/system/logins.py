"""Operations about accounts: what PAM asks of a password, and who may read a person's home."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT

from slipway.engine import plan
from slipway.engine.facts import Answer, Place, Places
from slipway.engine.operations import shell, shell_line
from slipway.engine.place import File, changes_of, due, placing
from slipway.engine.plan import Ask, Change, Commands

# ── PAM ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_COMMON = f"{LAYOUT.pam}/common-*"
PROFILES = str(LAYOUT.pam_profiles)
"""Where packages describe what they add to PAM; pam-auth-update(8) makes /etc/pam.d/common-* of that."""
LEFT = str(LAYOUT.pam_left)

# $1 where the digest is, $2 names of the profiles, $3 their folder: what PAM does, in a word. A profile that
# pam-auth-update has seen and that isn't in use was turned off by the administrator.
_PAM = f"""
cd {LAYOUT.pam} && [ -f common-auth ] && command -v pam-auth-update >/dev/null || {{ echo none; exit; }}
tries=$(cat common-auth common-account | grep -c '^[a-z].*pam_faillock[.]so')
history=$(grep -c '^[a-z].*pam_pwhistory[.]so' common-password)
for each in $2; do [ -e "$3/$each" ] || missing=1; grep -qsx "$each" {LAYOUT.data}/pam/seen || unseen=1; done
if [ -n "$missing" ] && [ "$tries$history" != 00 ]; then echo foreign
elif [ "$tries" -ge 3 ] && [ "$history" -ge 1 ]; then echo used
elif [ -z "$unseen" ]; then echo off
elif [ "$(cat common-auth common-account common-password | sha256sum)" = "$(cat "$1" 2>/dev/null)" ]; then echo left
fi
"""
# $1 as above. PAM is tested right after the change: with a broken PAM nobody can log in to repair it.
_ADD = f"""
set -eu
export DEBIAN_FRONTEND=noninteractive
pam-auth-update --package
if ! su root -s /bin/sh -c true </dev/null; then
    pam-auth-update --remove $2
    for each in $2; do rm -f "$3/$each"; done
    echo "PAM refuses root with pam_faillock and pam_pwhistory, so they were taken out again: see journalctl" >&2
    exit 1
fi
if grep -q pam_faillock.so {LAYOUT.pam}/common-auth; then
    rm -f "$1"
else
    cd {LAYOUT.pam}
    cat common-auth common-account common-password | sha256sum >"$1"
    echo "{_COMMON} were changed by hand and stay; \\`pam-auth-update --force\\` would replace them." >&2
fi
"""
_REMOVE = """
set -eu
export DEBIAN_FRONTEND=noninteractive
pam-auth-update --remove $2
for each in $2; do rm -f "$3/$each"; done
rm -f "$1"
"""
_WHY = {
    "none": "this host has no pam-auth-update",
    "foreign": "PAM has pam_faillock or pam_pwhistory by somebody else, and is left as it is",
    "off": "the administrator has turned pam_faillock or pam_pwhistory off, by pam-auth-update",
    "left": f"{_COMMON} were changed by hand and stay; `pam-auth-update --force` would replace them",
    "used": "PAM limits wrong passwords, and remembers old ones",
}


def _asked_pam(profiles: Mapping[str, File], *, wanted: bool) -> Iterator[Ask]:
    yield plan.asking(Answer, question=shell_line(_PAM, LEFT, " ".join(profiles), PROFILES))
    yield plan.asking(
        Places, accounts=(), folders=(), files=tuple(f"{PROFILES}/{name}" for name in profiles), others=()
    )


@plan.operation(_asked_pam)
def pam_profiles(profiles: Mapping[str, File], *, wanted: bool) -> Commands:
    """Let PAM use these profiles, by Debian's own pam-auth-update; what somebody else has set there stays.

    + profiles: name → file, below `PROFILES`
    + wanted: False takes them out
    """
    (ask, question), (places, asked) = _asked_pam(profiles, wanted=wanted)
    state: str = plan.known(ask, **dict(question)).strip()
    there: dict[str, Place] = plan.known(places, **dict(asked))
    files = {f"{PROFILES}/{name}": each for name, each in profiles.items()}
    arguments = (LEFT, " ".join(profiles), PROFILES)
    if not wanted:
        if not any(path in there for path in files):
            host.noop("PAM has nothing of Slipway's")
            return
        plan.announce(*(Change("file", path, "remove") for path in files if path in there))
        yield shell(_REMOVE, *arguments)
        return
    differing = due(files, there)
    if state in ("none", "foreign") or (state and not differing):
        if state == "left":
            plan.say(_WHY[state])
        host.noop(_WHY[state])
        return
    plan.announce(
        *changes_of(differing, there),
        Change("setting", _COMMON, "modify", note="pam-auth-update adds pam_faillock and pam_pwhistory"),
        makes=list(differing),
    )
    if differing:
        yield placing(files=differing)
    yield shell(_ADD, *arguments)


# ── homes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# People's accounts, by the numbers that Debian gives them (Debian Policy, 9.2.2). A home with more than dot files may
# be one from which a web server serves: it stays. Of the dot files, only those which a shell reads when it starts.
_HOMES = rf"""
while IFS=: read -r user _ uid _ _ home login; do
    {{ [ "$uid" -ge 1000 ] && [ "$uid" -lt 60000 ]; }} 2>/dev/null || continue
    case $login in *nologin | */false) continue ;; esac
    case $home in {LAYOUT.homes}/*) ;; *) continue ;; esac
    [ -d "$home" ] && [ ! -L "$home" ] && [ "$(stat -c %U "$home")" = "$user" ] || continue
    if [ -z "$(find "$home" -mindepth 1 -maxdepth 1 ! -name '.*' -print -quit)" ]; then
        find "$home" -maxdepth 0 -perm /027 -printf "$user %y %m %p\n"
    fi
    find "$home" -mindepth 1 -maxdepth 1 -type f -user "$user" -perm /027 -regextype posix-extended \
        -regex '.*/[.](((ba|z|k|c|tc)sh(rc|env|_profile|_login|_logout|_aliases))|z?profile|login|logout)' \
        -printf "$user %y %m %p\n"
done <{LAYOUT.users}
"""


def _home_changes(told: str) -> list[tuple[str, Change, str]]:
    """Of each line that `_HOMES` prints: the owner, what is to change, and the path."""
    found = []
    for line in told.splitlines():
        user, kind, mode, path = line.split(" ", 3)
        note = f"{mode} becomes {int(mode, 8) & 0o7750:o}"
        found.append((user, Change("folder" if kind == "d" else "file", path, "modify", note=note), path))
    return found


@plan.operation(lambda: [plan.asking(Answer, question=_HOMES)])
def private_homes() -> Commands:
    """Take others' rights off the homes of people in which there is nothing yet, and off what their shells read.

    An app or a stranger could read there what somebody keeps. As each user, who could lead root elsewhere by a link.
    """
    found = _home_changes(str(plan.known(Answer, question=_HOMES)))
    if not found:
        host.noop("nobody else may read people's homes")
        return
    plan.announce(*(change for _, change, _ in found))
    paths: dict[str, list[str]] = {}
    for user, _, path in found:
        paths.setdefault(user, []).append(path)
    chmod = ("chmod", "g-w,o-rwx", "--")
    steps = [shlex.join(["runuser", "-u", user, "--", *chmod, *own]) for user, own in paths.items()]
    yield StringCommand("; ".join(steps))
