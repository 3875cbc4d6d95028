"""The shell script that makes a state: one text, sent over one SSH connection, that looks before it changes."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping

from tests.bench.state import File, Made, State

# Each function says what it changes (or would, when dry), and looks before that.
_FUNCTIONS = r"""set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
count=0 paths=
wrong() { count=$((count + 1)) paths="$paths $1"; echo "changed: $1"; [ -z "$dry" ]; }
is() { [ "$(stat -c %U:%G:%a "$1" 2>/dev/null)" = "$2:$3:$4" ]; }
packages() {
    has=$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed) || true
    [ "$has" = $# ] || ! wrong packages || {
        find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 | grep -q . || apt-get -qq update
        apt-get -qq -y --no-install-recommends install "$@" >/dev/null
    }
}
user() {
    [ "$(getent passwd "$1" | cut -d: -f6,7)" = "$3:$4" ] || ! wrong "user $1" ||
        useradd --system --user-group --uid "$2" --home-dir "$3" --no-create-home --shell "$4" "$1"
}
folder() {
    { [ -d "$1" ] && is "$@"; } || ! wrong "$1" || { mkdir -p "$1"; chown "$2:$3" "$1"; chmod "$4" "$1"; }
}
file() {
    { is "$@" && [ "$(sha256sum <"$1")" = "$5  -" ]; } || ! wrong "$1" || {
        (umask 077; base64 -d >"$1.new"); chown "$2:$3" "$1.new"; chmod "$4" "$1.new"; mv -fT "$1.new" "$1"
    }
}
link() { [ "$(readlink "$1")" = "$2" ] || ! wrong "$1" || ln -sfn "$2" "$1"; }
absent() { { [ ! -e "$1" ] && [ ! -L "$1" ]; } || ! wrong "$1" || rm -f "$1"; }
made() { [ -e "$2" ] || ! wrong "$1" || eval "$3" >&2; }
unit() {
    { systemctl is-enabled -q "$1" && systemctl is-active -q "$1"; } || ! wrong "$1" || systemctl enable -q --now "$1"
}
after() { case "$paths " in *" $1"*) [ -n "$dry" ] || eval "$2" ;; esac; }
"""


def _line(*words: str) -> str:
    return shlex.join(words)


def _file(file: File) -> str:
    digest = hashlib.sha256(file.content).hexdigest()
    call = _line("file", file.path, file.user, file.group, file.mode, digest)
    return f"{call} <<'END'\n{base64.encodebytes(file.content).decode()}END"


def _made(made: Made) -> str:
    return _line("made", made.what, made.creates, made.command)


def script(state: State, *, dry: bool = False) -> str:
    """The script; `dry`: it only says what it would change."""
    lines: list[str] = [f"dry={'yes' if dry else ''}", _FUNCTIONS]
    lines += [_line("packages", *state.packages)] if state.packages else []
    lines += [_line("user", each.name, str(each.uid), each.home, each.shell) for each in state.users]
    lines += [_line("folder", each.path, each.user, each.group, each.mode) for each in state.folders]
    lines += [_line("absent", each) for each in state.absent]
    lines += [_file(each) for each in state.files]
    lines += map(_made, state.made)
    lines += [_line("link", each.path, each.target) for each in state.links]
    lines += _afterwards(state, first="systemctl daemon-reload")
    lines += [_line("unit", each) for each in state.units]
    lines.append('echo "$count changed"')
    return "\n".join(lines) + "\n"


def _afterwards(state: State, first: str) -> Iterable[str]:
    paths = [*(file.path for file in state.files), *(link.path for link in state.links)]
    commands = {command: begin for begin, command in state.afterwards(paths).items()}
    for command in sorted(commands, key=lambda command: command != first):
        yield _line("after", commands[command], command)


def release(steps: Mapping[str, str], folder: str, current: str, unit: str, user: str) -> str:
    """The shell command that makes a release of the archive on its standard input.

    + steps: what → shell command in the release's folder; those named "migrate" run as `user`
    + folder: of the release
    + current: link to it
    + unit: service to restart
    """
    lines = ["set -eu", f"mkdir -p {folder}", f"tar -xzf - -C {folder}", f"cd {folder}"]
    lines += [f"runuser -u {user} -- {each}" if what == "migrate" else each for what, each in steps.items()]
    return "\n".join([*lines, f"ln -sfn {folder} {current}", f"systemctl restart {unit}"])
