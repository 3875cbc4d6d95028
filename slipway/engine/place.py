"""`place`: accounts, folders, files and links as they should be: one question, and one command for all that differs.

Contents go through standard input, compressed, never through an argument list or a file that others can read.
"""

from __future__ import annotations

import base64
import difflib
import gzip
import hashlib
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from pyinfra import host
from pyinfra.api import StringCommand
from slipway_host.names import BESIDE, NO_SHELL

from slipway.engine import plan, pyinfra_api
from slipway.engine.facts import Place, Places, Texts
from slipway.engine.plan import Ask, Change, Commands


@dataclass(frozen=True)
class Folder:
    """A folder as it should be."""

    mode: str = "755"
    """As `chmod` takes it, without a leading zero."""
    user: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class File:
    """A file as it should be; its folder is there, or made by the same operation."""

    content: str
    mode: str = "644"
    """As `chmod` takes it, without a leading zero."""
    user: str = "root"
    group: str = "root"
    secret: bool = False
    """Its content is never shown."""
    program: bool = False
    """Slipway's own and long: shown is only how it changes, not all of it where it is new."""
    note: str = ""
    """What follows from its change."""

    @property
    def data(self) -> bytes:
        """Its content as it is written."""
        return self.content.encode()

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Account:
    """A system user without a login, with a group of its name. Its home folder is made as any other folder."""

    name: str
    home: str
    """If it is there already, whoever owned it: a user that was deleted gets its number back, if that is free."""


SHELL = NO_SHELL
EXPIRED = "1"
"""The day, counted from 1970, from which nobody can log in as an account: long ago. sshd asks no shell for a connection
that runs nothing, and its login would start a systemd of the user's own, out of every sandbox."""

MOST_PLACES = 150
"""Places that one command makes. It is one argument, and Linux takes none of more than 128 KiB (MAX_ARG_STRLEN)."""
Item = TypeVar("Item")

# Files are written beside their place, while nobody else can read them; when all have come whole, each is put in place
# in one step. A leftover of a killed run is swept away by the next write beside it.
_STEPS = f"""
set -eu
umask 077
account() {{ # name, home
    if ! getent passwd "$1" >/dev/null; then
        uid=; gid=
        if [ -d "$2" ]; then
            uid=$(stat -c %u "$2"); ! getent passwd "$uid" >/dev/null || uid=
            gid=$(stat -c %g "$2"); ! getent group "$gid" >/dev/null || gid=
        fi
        getent group "$1" >/dev/null || groupadd --system ${{gid:+--gid "$gid"}} "$1"
        useradd --system --gid "$1" ${{uid:+--uid "$uid"}} --home-dir "$2" --no-create-home --shell {SHELL} \
            --expiredate {EXPIRED} "$1"
    fi
    [ "$(getent shadow "$1" | cut -d : -f 8)" = {EXPIRED} ] || usermod --expiredate {EXPIRED} "$1"
    [ "$(getent passwd "$1" | cut -d : -f 7)" = {SHELL} ] || usermod --shell {SHELL} "$1"
}}
folder() {{ # path, owner, mode
    [ -d "$1" ] || mkdir "$1"
    chown "$2" "$1"
    chmod "$3" "$1"
}}
sweep() {{ rm -f "$1"/{BESIDE}*; }}
beside() {{ partial=${{1%/*}}/{BESIDE}${{1##*/}}; }}
receive() {{ # path, length, digest, owner, mode
    beside "$1"
    head -c "$2" >"$partial"
    [ "$(sha256sum <"$partial")" = "$3  -" ] || {{ echo "$1 did not arrive whole" >&2; exit 1; }}
    chown "$4" "$partial"
    chmod "$5" "$partial"
}}
# Put in its place before it is on the disk, a file would be empty after a power cut.
written() {{ for path; do beside "$path"; set -- "$@" "$partial"; shift; done; sync "$@"; }}
put() {{ beside "$1"; mv -fT "$partial" "$1"; }}
link() {{ beside "$1"; ln -s "$2" "$partial"; put "$1"; }} # path, target
"""


def placing(
    accounts: Collection[Account] = (),
    folders: Mapping[str, Folder] = MappingProxyType({}),
    files: Mapping[str, File] = MappingProxyType({}),
    links: Mapping[str, str] = MappingProxyType({}),
    absent: Collection[str] = (),
) -> StringCommand:
    """The command that makes all of these, whatever exists; it reads the contents from standard input."""
    lines = [shlex.join(["account", each.name, each.home]) for each in accounts]
    lines += [shlex.join(["folder", path, f"{each.user}:{each.group}", each.mode]) for path, each in folders.items()]
    beside = dict.fromkeys(path.rpartition("/")[0] for path in [*files, *links])
    lines += [shlex.join(["sweep", path]) for path in beside]
    if files:
        lines += ["base64 -d | gzip -dc | {"]
        for path, each in files.items():
            owner, length = f"{each.user}:{each.group}", str(len(each.data))
            lines += [shlex.join(["receive", path, length, each.digest, owner, each.mode])]
        lines += ["}", shlex.join(["written", *files])]
    lines += [shlex.join(["put", path]) for path in files]
    lines += [shlex.join(["link", path, target]) for path, target in links.items()]
    lines += [shlex.join(["rm", "-f", path]) for path in absent]
    command = shlex.join(["sh", "-c", _STEPS + "\n".join(lines) + "\n"])
    if not files:
        return StringCommand(command)
    packed = gzip.compress(b"".join(each.data for each in files.values()), mtime=0)
    return StringCommand(command, _stdin=base64.b64encode(packed).decode())


def text_diff(path: str, before: str, after: str) -> str:
    """Unified diff of a file's text; empty where it doesn't change."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), path, path, n=2)
    ended = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return "".join(ended)


def _look(
    accounts: Collection[Account] = (),
    folders: Mapping[str, Folder] = MappingProxyType({}),
    files: Mapping[str, File | None] = MappingProxyType({}),
    links: Mapping[str, str] = MappingProxyType({}),
    absent: Mapping[str, str] = MappingProxyType({}),
) -> Ask:
    """The one question of all that `place` is given."""
    names = tuple(each.name for each in accounts)
    return plan.asking(Places, accounts=names, folders=tuple(folders), files=tuple(files), others=(*links, *absent))


@plan.operation(lambda **given: [_look(**given)])
def place(
    accounts: Collection[Account] = (),
    folders: Mapping[str, Folder] = MappingProxyType({}),
    files: Mapping[str, File | None] = MappingProxyType({}),
    links: Mapping[str, str] = MappingProxyType({}),
    absent: Mapping[str, str] = MappingProxyType({}),
) -> Commands:
    """Make accounts, folders, files and links as they should be: all that differ by one command.

    + accounts: system users, made before what they own
    + folders: path → folder, each after the one above it
    + files: path → file, replaced in one step; None where there must be none
    + links: path → what it points to
    + absent: path of a file or a link that must not be there → the package that brings it; empty for none
    """
    fact, arguments = _look(accounts, folders, files, links, absent)
    there: dict[str, Place] = plan.known(fact, **dict(arguments))
    absent = {**absent, **dict.fromkeys((path for path, each in files.items() if each is None), "")}
    present = {path: each for path, each in files.items() if each}
    if obstacles := _obstacles(there, folders, [*present, *links, *absent]):
        plan.announce(*obstacles)
        yield plan.failure("; ".join(f"{each.target}: {each.note}" for each in obstacles))
        return
    due_accounts = [each for each in accounts if not _closed(there.get(each.name))]
    # What an operation before this one makes (a program that two roles need) is in its place by now.
    due_folders = {
        path: each
        for path, each in folders.items()
        if not _fits(there.get(path), "d", each) and not plan.changed("folder", path)
    }
    due_files = {path: each for path, each in due(present, there).items() if not plan.made(path)}
    due_links = {
        path: target
        for path, target in links.items()
        if path not in there or (there[path].kind, there[path].target) != ("l", target)
    }
    due_absent = [path for path, package in absent.items() if path in there or plan.changed("package", package)]
    if not (due_accounts or due_folders or due_files or due_links or due_absent):
        host.noop("all is in its place")
        return
    changes = [
        Change("user", each.name, "modify" if each.name in there else "create", note=f"home {each.home}, no login")
        for each in due_accounts
    ]
    changes += [
        Change("folder", path, "modify" if path in there else "create", note=_owner(there.get(path), each))
        for path, each in due_folders.items()
    ]
    changes += changes_of(due_files, there)
    for path, target in due_links.items():
        changes.append(Change("link", path, "modify" if path in there else "create", note=f"to {target}"))
    for path in due_absent:
        note = "" if path in there else f"{absent[path]} brings it"
        changes.append(
            Change("link" if path in there and there[path].kind == "l" else "file", path, "remove", "", note)
        )
    plan.announce(*changes, makes=[*due_files, *due_links, *due_absent])
    yield from _in_parts(due_accounts, due_folders, due_files, due_links, due_absent)


def _in_parts(
    accounts: Collection[Account],
    folders: Mapping[str, Folder],
    files: Mapping[str, File],
    links: Mapping[str, str],
    absent: Collection[str],
) -> Commands:
    """What `placing` makes in one command, or in several of at most MOST_PLACES each, in the same order."""
    if len(accounts) + len(folders) + len(files) + len(links) + len(absent) <= MOST_PLACES:
        yield placing(accounts, folders, files, links, absent)
        return
    yield from (placing(accounts=part) for part in _slices(accounts))
    yield from (placing(folders={path: folders[path] for path in part}) for part in _slices(folders))
    yield from (placing(files={path: files[path] for path in part}) for part in _slices(files))
    yield from (placing(links={path: links[path] for path in part}) for part in _slices(links))
    yield from (placing(absent=part) for part in _slices(absent))


def _slices(items: Collection[Item]) -> Iterator[list[Item]]:
    listed = list(items)
    yield from (listed[at : at + MOST_PLACES] for at in range(0, len(listed), MOST_PLACES))


def _closed(found: Place | None) -> bool:
    """Whether an account is there, and nobody can log in as it."""
    return found is not None and (found.target, found.expires) == (SHELL, EXPIRED)


def _obstacles(there: Mapping[str, Place], folders: Collection[str], others: Collection[str]) -> list[Change]:
    """Where a folder stands in the place of a file, or the reverse: what may hold somebody's data isn't replaced."""
    found = [path for path in folders if path in there and there[path].kind != "d"]
    what = [Change("folder", path, plan.FAIL, note="something else stands there; move it away") for path in found]
    found = [path for path in others if path in there and there[path].kind == "d"]
    return what + [Change("file", path, plan.FAIL, note="a folder stands there; move it away") for path in found]


def due(files: Mapping[str, File], there: Mapping[str, Place]) -> dict[str, File]:
    """Those of `files` that aren't what they should be."""
    return {path: each for path, each in files.items() if not _fits(there.get(path), "f", each)}


def _fits(found: Place | None, kind: str, wanted: Folder | File) -> bool:
    """Whether what is there is what is wanted."""
    if found is None or found.kind != kind:
        return False
    if isinstance(wanted, File) and found.digest != wanted.digest:
        return False
    return (found.mode, found.user, found.group) == (wanted.mode, wanted.user, wanted.group)


def _owner(found: Place | None, wanted: Folder | File) -> str:
    """Owner and mode as they will be, and as they were where they differ."""
    after = f"{wanted.user}:{wanted.group} {wanted.mode}"
    if found is None:
        return after
    before = f"{found.user}:{found.group} {found.mode}"
    return "" if before == after else f"{before} becomes {after}"


def changes_of(files: Mapping[str, File], there: Mapping[str, Place]) -> list[Change]:
    """The changes of these files, with diffs in a plan and where ``--diff`` asks for them."""
    edited = {
        path
        for path, each in files.items()
        if path in there and there[path].kind == "f" and each.digest != there[path].digest
    }
    shown = plan.planning() or pyinfra_api.shows_diffs()
    asked = tuple(sorted(path for path in edited if shown and not files[path].secret))
    texts = plan.known(Texts, paths=asked) if asked else {}
    changes = []
    for path, each in files.items():
        diff, count = "", len(each.content.splitlines())
        lines = "1 line" if count == 1 else f"{count} lines"
        if path in edited or path not in there:
            if each.secret:
                diff = f"{lines}, not shown: it may hold secrets"
            elif each.program and path not in there:
                diff = f"{lines}, not shown: a program of Slipway's"
            elif shown:
                diff = text_diff(path, texts.get(path, ""), each.content)
        notes = [_owner(there.get(path), each) if path in there else "", each.note]
        action = "modify" if path in there else "create"
        changes.append(Change("file", path, action, diff, "; ".join(filter(None, notes))))
    return changes
