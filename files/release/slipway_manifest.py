"""What a release consists of, file by file, and whether it still does.

A power cut takes what was not on the disk yet: it leaves files that are empty, cut off, or not there, in a folder that
looks whole. So each release has a manifest, and is compared with it by content: once a boot, and then what has changed.
Managed by Slipway (roles/release.py); needs Python 3.10 or newer and nothing else.

A manifest is JSON: path → [size in bytes, mode, SHA-256] of a file, or the target of a link.
"""

import base64
import binascii
import csv
import hashlib
import json
import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHUNK = 1 << 20  # bytes read at once
NAMED = 3  # files that a message names

_digests = {}  # stamp with its device → SHA-256: releases share most files by hard links


def flush(*paths):
    """Write to the disk all that is due, of the file systems of these paths: each once, however many the files are."""
    devices = {Path(path).stat().st_dev: path for path in paths}
    subprocess.run(["sync", "--file-system", *map(str, devices.values())], check=True)


def stamp(told):
    """What changes when a file is written to, or its mode is, from its lstat: size, mode, time in ns, inode."""
    return [told.st_size, told.st_mode, told.st_mtime_ns, told.st_ino]


def entries(folder):
    """Relative path → lstat, of each file and link below a folder."""
    found, folders = {}, [("", str(folder))]
    while folders:
        prefix, path = folders.pop()
        with os.scandir(path) as listed:
            for each in listed:
                if each.is_dir(follow_symlinks=False):
                    folders.append((f"{prefix}{each.name}/", each.path))
                else:
                    found[prefix + each.name] = each.stat(follow_symlinks=False)
    return found


def sha256(path, told):
    """SHA-256 of a file's content, which is read once for each of its stamps."""
    key = (told.st_dev, *stamp(told))
    if key not in _digests:
        digest = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        _digests[key] = digest.hexdigest()
    return _digests[key]


def entry(path, told):
    """What a manifest says of a file or a link."""
    if stat.S_ISLNK(told.st_mode):
        return str(Path(path).readlink())
    mode = f"{stat.S_IMODE(told.st_mode):04o}"
    return [told.st_size, mode, sha256(path, told) if stat.S_ISREG(told.st_mode) else "no regular file"]


def take(folder, known=None, seen=None):
    """The manifest of a folder as it is, and the stamps of its files.

    + known: manifest of another folder, found whole just now, which this one shares files with by hard links
    + seen: the stamps of that one's files
    """
    found, known, seen = entries(folder), known or {}, seen or {}
    stamps = {path: stamp(told) for path, told in found.items()}
    manifest = {path: known[path] for path in found if path in known and seen.get(path) == stamps[path]}
    new = [path for path in found if path not in manifest]
    with ThreadPoolExecutor() as pool:
        manifest |= zip(new, pool.map(lambda path: entry(f"{folder}/{path}", found[path]), new), strict=True)
    return manifest, stamps


def compare(folder, manifest, seen):
    """What is wrong with a folder (path → words), and the stamps of those of its files that are right.

    + seen: stamps of files that were right before: what has the same one needn't be read again
    """
    stamps, wrong, doubtful = {}, {}, {}
    for path, wanted in manifest.items():
        try:
            told = os.lstat(f"{folder}/{path}")
        except OSError:
            wrong[path] = "is missing"
            continue
        stamps[path] = stamp(told)
        if seen.get(path) == stamps[path]:
            continue
        if isinstance(wanted, list) and stat.S_ISREG(told.st_mode) and told.st_size != wanted[0]:
            wrong[path] = f"has {told.st_size:,} of {wanted[0]:,} bytes" if told.st_size else "is empty"
        else:
            doubtful[path] = told
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: entry(f"{folder}/{path}", doubtful[path]), doubtful)
        wrong |= {
            path: difference(manifest[path], told)
            for path, told in zip(doubtful, found, strict=True)
            if told != manifest[path]
        }
    return wrong, {path: each for path, each in stamps.items() if path not in wrong}


def difference(wanted, found):
    """How a file that is there differs from its entry, in words."""
    if isinstance(wanted, list) and isinstance(found, list) and wanted[2] == found[2]:
        return f"has mode {found[1]} instead of {wanted[1]}"
    return "has other content"


def unchanged(folder, seen):
    """Whether each file of a folder is as it was when it was found right: a question of milliseconds."""
    try:
        return all(stamp(os.lstat(f"{folder}/{path}")) == each for path, each in seen.items())
    except OSError:
        return False


def listed(wrong):
    """What is wrong, in words: the first files, and how many more there are."""
    first = [f"{path} {what}" for path, what in sorted(wrong.items())[:NAMED]]
    more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return ", ".join(first + more)


def unlike_records(folder, manifest):
    """Names of the installed distributions that differ from what they say of themselves.

    Each names its files with their digests in its RECORD (packaging.python.org, "Recording installed projects"); those
    that come from a cache which a power cut has damaged don't agree with it.
    """
    differing = set()
    for record in [path for path in manifest if path.endswith(".dist-info/RECORD")]:
        packages, named = Path(record).parents[1], 0
        with Path(folder, record).open(newline="", encoding="utf-8", errors="replace") as file:
            for path, digest, *_ in (row for row in csv.reader(file) if len(row) >= 2):
                named += 1
                kind, _, value = digest.partition("=")
                installed = manifest.get(os.path.normpath(packages / path))
                if kind == "sha256" and (not isinstance(installed, list) or installed[2] != from_record(value)):
                    differing.add(record)
        if not named:
            differing.add(record)
    return sorted(Path(record).parent.name.removesuffix(".dist-info").partition("-")[0] for record in differing)


def from_record(value):
    """A SHA-256 of a RECORD, which has it in base64 without its padding, as a manifest has it."""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except binascii.Error:
        return ""


def dump(manifest):
    """A manifest or stamps as the text that is kept."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"))
