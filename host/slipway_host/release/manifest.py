"""The files of a release, and whether they are still whole.

A power cut can leave files empty, cut off or missing in a folder that looks whole. So each release has a manifest, and
its content is compared with it: once after each boot, and when a file changes.

A manifest is JSON: path → [size in bytes, whether it is executable, SHA-256] of a file, or the target of a link.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import os
import stat
import subprocess
from pathlib import Path

from slipway_host.release.trees import Strange, read
from slipway_host.text import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    Entry: TypeAlias = list[int | bool | str] | str
    Manifest: TypeAlias = dict[str, Entry]
    Stamps: TypeAlias = dict[str, list[int]]

CHUNK = 1 << 20  # bytes read at once
NAMED = 3  # files that a message names
RECORDS_BYTES = 20_000_000  # of all RECORDs together: those of a large environment have 5 MB

_digests: dict[tuple[int, int, int, int], str] = {}
"""Device, inode, size, time → SHA-256: releases share most files by hard links."""


def flush(*paths: Path) -> None:
    """Write everything pending to the disk, for the file systems of these paths; each only once."""
    devices = {Path(path).stat().st_dev: path for path in paths}
    subprocess.run(["sync", "--file-system", *map(str, devices.values())], check=True)


def stamp(told: os.stat_result) -> list[int]:
    """A file's stamp, from its lstat: size, mode, time in ns, inode. It changes with the file or its mode."""
    return [told.st_size, told.st_mode, told.st_mtime_ns, told.st_ino]


def stamps(folder: Path, paths: Iterable[str]) -> Stamps:
    """Path → stamp, of those paths that exist."""
    found: Stamps = {}
    for path in paths:
        try:
            found[path] = stamp(os.lstat(f"{folder}/{path}"))
        except OSError:
            continue
    return found


def look(folder: Path, paths: Sequence[bytes], *more: str) -> bytes:
    """How files look, to be compared with a later look: a digest of `stamp` of each; then the paths, behind zeros.

    It is what a run asks of each app: reading the manifest, which it goes without, takes as long as all the rest.

    + more: what the look is to change with, too
    """
    before, stamps = os.fsencode(folder) + b"/", [os.fsencode(each) for each in more]
    for path in paths:
        try:
            told = os.lstat(before + path)
        except OSError:
            stamps.append(b"gone")
        else:
            stamps.append(b"%d %d %d %d" % (told.st_size, told.st_mode, told.st_mtime_ns, told.st_ino))
    return b"\0".join([hashlib.sha256(b"\0".join([*stamps, *paths])).hexdigest().encode(), *paths])


def looked_at(look: bytes) -> list[bytes]:
    """The paths of a look."""
    return look.split(b"\0")[1:]


def entries(folder: Path) -> dict[str, os.stat_result]:
    """Relative path → lstat, of each file and link below a folder."""
    found: dict[str, os.stat_result] = {}
    folders = [("", str(folder))]
    while folders:
        prefix, path = folders.pop()
        with os.scandir(path) as listed:
            for each in listed:
                if each.is_dir(follow_symlinks=False):
                    folders.append((f"{prefix}{each.name}/", each.path))
                else:
                    found[prefix + each.name] = each.stat(follow_symlinks=False)
    return found


def sha256(path: str, told: os.stat_result) -> str:
    """SHA-256 of a file's content; the file is read only once until it changes."""
    key = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns)
    if key not in _digests:
        digest = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        _digests[key] = digest.hexdigest()
    return _digests[key]


def entry(path: str, told: os.stat_result) -> Entry:
    """The manifest's entry for a file or a link."""
    if stat.S_ISLNK(told.st_mode):
        return str(Path(path).readlink())
    executable = bool(told.st_mode & stat.S_IXUSR)
    return [told.st_size, executable, sha256(path, told) if stat.S_ISREG(told.st_mode) else "no regular file"]


def take(folder: Path, known: Manifest | None = None, known_stamps: Stamps | None = None) -> Manifest:
    """The manifest of a folder as it is now.

    + known: manifest of another folder that was just found whole and shares files by hard links
    + known_stamps: the stamps of that folder's files
    """
    found, known, known_stamps = entries(folder), known or {}, known_stamps or {}
    manifest = {path: known[path] for path, told in found.items() if known_stamps.get(path) == stamp(told)}
    new = [path for path in found if path not in manifest]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        manifest |= zip(new, pool.map(lambda path: entry(f"{folder}/{path}", found[path]), new), strict=True)
    return manifest


def compare(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Path → what is wrong in words, by content."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda item: difference(f"{folder}/{item[0]}", item[1]), manifest.items())
        return {path: what for path, what in zip(manifest, found, strict=True) if what}


def difference(path: str, wanted: Entry) -> str:
    """How a file or a link differs from its entry, in words; empty if it doesn't."""
    try:
        told = os.lstat(path)
        if isinstance(wanted, list) and stat.S_ISREG(told.st_mode) and told.st_size != wanted[0]:
            return f"has {told.st_size:,} of {wanted[0]:,} bytes" if told.st_size else "is empty"
        found = entry(path, told)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:  # of a damaged file system
        return f"can't be read ({error.strerror})"
    if isinstance(wanted, list) and isinstance(found, list) and wanted[2] == found[2] and wanted[1] != found[1]:
        return "is no longer executable" if wanted[1] else "has become executable"
    return "" if found == wanted else "has other content"


def listed(wrong: Mapping[str, str]) -> str:
    """What is wrong, in words: the first files, and how many more there are."""
    first = [f"{short(path)} {what}" for path, what in sorted(wrong.items())[:NAMED]]
    more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return ", ".join(first + more)


def unlike_records(folder: Path, manifest: Manifest) -> list[str]:
    """Names of installed distributions that differ from their RECORD.

    A RECORD lists a distribution's files with digests (packaging.python.org, "Recording installed projects"). Files
    from a cache that a power cut has damaged don't match. If two distributions have the same file, the last one counts.

    The files aren't trusted: a RECORD that can't be read counts as a difference.
    """
    named: dict[str, dict[str, str]] = {}
    differing: set[str] = set()
    left = RECORDS_BYTES
    for record in [path for path in manifest if path.endswith(".dist-info/RECORD")]:
        about = Path(record).parent
        try:
            content = read(folder, record, left)
        except Strange:
            content = None
        content = content or b""
        left -= len(content)
        missing = {f"{about.name}/METADATA", f"{about.name}/WHEEL"}
        for path, digest in rows(content):
            missing.discard(path)
            kind, _, value = digest.partition("=")
            if kind == "sha256":
                named.setdefault(os.path.normpath(about.parent / path), {})[from_record(value)] = record
        if missing:
            differing.add(record)
    for path, digests in named.items():
        installed = manifest.get(path)
        if not isinstance(installed, list) or installed[2] not in digests:
            differing |= set(digests.values())
    return sorted(Path(record).parent.name.removesuffix(".dist-info").partition("-")[0] for record in differing)


def rows(content: bytes) -> Iterator[list[str]]:
    """The first two columns of a RECORD, path and digest, up to the first line that isn't of that form."""
    with contextlib.suppress(csv.Error):
        for row in csv.reader(io.StringIO(content.decode(errors="replace"), newline="")):
            if len(row) >= 2:
                yield row[:2]


def from_record(value: str) -> str:
    """A SHA-256 from a RECORD (base64 without padding) in the manifest's form."""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:  # binascii.Error is one
        return ""


def dump(manifest: Manifest) -> str:
    """A manifest as text."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"))
