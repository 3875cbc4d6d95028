"""The host's own program: one folder a version, of which a link names the one that is started from now on."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import slipway_host
from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.layout import LAYOUT
from slipway_host.names import BESIDE, FORMER, PYTHON

from slipway.engine import plan
from slipway.engine.facts import Answer
from slipway.engine.host import PROGRAM
from slipway.engine.operations import shell_line
from slipway.engine.plan import Ask, Change, Commands
from slipway.engine.role import role
from slipway.engine.templates import host_file

PACKAGE = Path(slipway_host.__file__).parent
STARTER = "slipway"
"""Beside the package: what is started by name."""
NAME = 12  # digits of its digest in a version's name

_LINK = LAYOUT.lib.name
# $1 folder of the versions, $2 name of the wanted one, $3 its digest, $4 the program, $5 its digest, then programs of
# Slipway 0.1: names that lead to this one, or folders (slipway_host/release/former.py)
_CURRENT = f"""
[ "$(readlink "$1/{_LINK}")" = "$2" ] && cd "$1/{_LINK}" 2>/dev/null || exit 0
told=$(find slipway_host -name '*.py' -type f -exec sha256sum {{}} + | LC_ALL=C sort | sha256sum)
[ "$told $({{ sha256sum <"$4"; }} 2>/dev/null)" = "$3  - $5  -" ] || exit 0
[ "$(stat -c '%F %a %u:%g' "$4")" = 'regular file 755 0:0' ] || exit 0
strange=$(find "$1" -name __pycache__ -prune -o \\( -not -user 0 -o -not -group 0 -o -type d -not -perm 755 \
    -o -type f -not -perm 644 \\) -print -quit)
[ -z "$strange" ] || exit 0
shift 5; for former do [ -d "$former" ] || [ -L "$former" ] || exit 0; done
echo current
"""
# The first five of them; a tar.gz of it all is on standard input, in base64. Put in its place is what came whole and is
# on the disk; what runs goes on with the version that it was started from.
_INSTALL = f"""
set -eu
umask 022
folder=$1 name=$2 digest=$3 program=$4 starter=$5
mkdir -p "$folder"
rm -rf "$folder"/.*.partial
partial=$folder/.$name.partial
mkdir "$partial"
base64 -d | gzip -dc | tar -x -m --no-same-owner --no-same-permissions -C "$partial"
cd "$partial"
told=$(find slipway_host -name '*.py' -type f -exec sha256sum {{}} + | LC_ALL=C sort | sha256sum)
[ "$told $(sha256sum <slipway)" = "$digest  - $starter  -" ] || {{ echo "$program did not arrive whole" >&2; exit 1; }}
{PYTHON} -ISm compileall -q -s "$partial" -p "$folder/$name" slipway_host
sync --file-system .
before=$(readlink "$folder/{_LINK}" || true)
rm -rf "${{folder:?}}/$name"
mv -T "$partial" "$folder/$name"
ln -s "$name" "$folder/.{_LINK}.partial"
mv -T "$folder/.{_LINK}.partial" "$folder/{_LINK}"
beside=${{program%/*}}/{BESIDE}${{program##*/}}
cp "$folder/$name/slipway" "$beside"
chmod 755 "$beside"
sync "$beside" "$folder"
mv -fT "$beside" "$program"
for each in "$folder"/*; do
    case ${{each##*/}} in {_LINK} | "$name" | "$before") ;; *) rm -rf "$each" ;; esac
done
"""


@cache
def texts() -> dict[str, bytes]:
    """Path → content of what the host gets: the package, and beside it the program that starts it."""
    found = {str(path.relative_to(PACKAGE.parent)): path.read_bytes() for path in PACKAGE.rglob("*.py")}
    return found | {STARTER: host_file("program/slipway").encode()}


def digest() -> str:
    """Digest of the package, as `sha256sum` makes it of a list of its files' own."""
    files = {path: data for path, data in texts().items() if path != STARTER}
    lines = sorted(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def archive() -> str:
    """A tar.gz of it all, in base64."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, data in sorted(texts().items()):
            about = tarfile.TarInfo(path)
            about.size, about.mode = len(data), 0o644
            tar.addfile(about, io.BytesIO(data))
    return base64.b64encode(gzip.compress(made.getvalue(), mtime=0)).decode()


def _words() -> tuple[str, ...]:
    """What both scripts get."""
    starter = hashlib.sha256(texts()[STARTER]).hexdigest()
    return str(LAYOUT.versions), digest()[:NAME], digest(), PROGRAM, starter


def current() -> str:
    """A shell question that prints a line if the host has just this program."""
    return shell_line(_CURRENT, *_words(), *map(str, map(LAYOUT.former, FORMER)))


def _asked(**_: object) -> Iterator[Ask]:
    yield plan.asking(Answer, question=current())


@plan.operation(_asked)
def host_program() -> Commands:
    """Bring the host's program to this version, and take away what earlier ones were."""
    if plan.known(Answer, question=current()):
        host.noop(f"{PROGRAM} is of this version")
        return
    note = f"version {slipway_host.VERSION}, {len(texts())} files; a run under way goes on with the one from before"
    plan.announce(Change("program", PROGRAM, "install", note=note), makes=[PROGRAM])
    yield StringCommand(shell_line(_INSTALL, *_words()), _stdin=archive())
    yield StringCommand(PROGRAM, "former")


@role("Program")
def program() -> None:
    """The host's program: releases, changes of nginx, access, certificates."""
    host_program(name="Bring the host's program to this version")
