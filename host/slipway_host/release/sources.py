"""Read a commit or an archive, and limit its size before it fills the host's disk.

The source isn't trusted: a few kilobytes of a repository can unpack to a huge folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

from slipway_host.lockfiles import DESCRIBE
from slipway_host.release.trees import DEEPEST, Strange, Tally
from slipway_host.text import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from slipway_host.release.app import App

WHAT = "The source"
MOST_MB = 4096  # of a source, unpacked
MOST_FILES = 200_000
CHUNK = 1 << 18  # bytes read at once
LONGEST = 1 << 20  # bytes of one entry of git's list: its path, as a rule
VERSIONED = (
    *("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "UV_DYNAMIC_VERSIONING_BYPASS"),
    "POETRY_DYNAMIC_VERSIONING_BYPASS",
)
"""Variables by which tools that take a project's version from git's tags are told it."""
UNTAGGED = "0.1.dev0"
VERSION = (
    r"v?(?:\d+!)?\d+(?:\.\d+)*(?:[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?"
    r"(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?:[-_.]?dev[-_.]?\d*)?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?"
)
"""What Python's packages may have for a version (packaging.python.org/specifications/version-specifiers)."""
ATTRIBUTES = "* -export-subst -text -ident -filter !eol !working-tree-encoding\n"
"""For git, overriding a commit's own .gitattributes, which could multiply or change bytes."""


class Incomplete(Exception):
    """A repository can't be read."""


def survey(git: Sequence[str], commit: str) -> bool:
    """Raise Strange if a commit is too large or too deep. Returns whether git could list it.

    + git: the beginning of a command line, up to the repository
    """
    tally, rest = Tally(WHAT, MOST_MB, MOST_FILES), b""
    # With folders (-t), which count, too: without it, git lists nothing of nested empty folders, and never ends.
    command = [*git, "ls-tree", "-r", "-t", "-l", "-z", commit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as listing:
        assert listing.stdout is not None
        try:
            while chunk := listing.stdout.read(CHUNK):
                *entries, rest = (rest + chunk).split(b"\0")
                for entry in entries:
                    about, _, path = entry.partition(b"\t")
                    size = about.split()[-1]
                    tally.add(int(size) if size.isdigit() else 0)
                    if path.count(b"/") > DEEPEST:
                        tally.depth(DEEPEST + 1, os.fsdecode(path))
                if len(rest) > LONGEST:
                    raise Strange(f"{WHAT} has a path of more than {LONGEST:,} bytes: {short(os.fsdecode(rest))}.")
        except BaseException:
            listing.kill()
            raise
    return listing.returncode == 0


def version(app: App) -> dict[str, str]:
    """Variables that tell a build the version of its source, which has git's tags no more."""
    source = app.wanted["source"]
    told = str(source.get("described", ""))
    if source["kind"] == "git":
        done = app.system.run("git", "-C", str(app.at.mirror), *DESCRIBE, source["commit"], check=False, raw=True)
        told = done.output.strip() if done.code == 0 else ""
    given = app.wanted["build"].get("env", {})  # what the operator sets, counts
    return {name: as_version(told) for name in VERSIONED if name not in given}


def as_version(described: str) -> str:
    """The version that `git describe --long` tells: of a commit behind a tag it is a development version of the next.

    A tag needn't be a version alone: the longest end of it that is one counts (release-1.2, app/v1.2-rc1), else its
    first numbers. Without a tag: UNTAGGED.
    """
    found = re.fullmatch(r"(.+)-(\d+)-g([0-9a-f]+)", described)
    if not found:
        return UNTAGGED
    tag, distance, commit = found.groups()
    starts = [0, *(each.end() for each in re.finditer(r"[^0-9A-Za-z.+!]|(?<=[A-Za-z])(?=\d)", tag))]
    ends = (tag[at:] for at in starts if re.fullmatch(VERSION, tag[at:], re.IGNORECASE))
    numbers = re.search(r"\d+(?:\.\d+)*", tag)
    version = next(ends, numbers[0] if numbers else "").lstrip("vV")
    if not version:
        return UNTAGGED
    if distance == "0":
        return version
    return f"{_next(version.partition('+')[0])}.dev{distance}+g{commit}"


def _next(version: str) -> str:
    """The version after a version: its last number is one higher, as setuptools-scm guesses."""
    if found := re.fullmatch(r"(.+?)[-_.]?dev[-_.]?\d*", version, re.IGNORECASE):
        return found[1]
    found = re.fullmatch(r"(.*?)(\d+)", version)
    return f"{found[1]}{int(found[2]) + 1}" if found else f"{version}1"


@contextlib.contextmanager
def exported(git: Sequence[str], commit: str) -> Iterator[int]:
    """The read end of a pipe with a tar of a commit. Raises Strange if it is too large.

    + git: the beginning of a command line, up to the repository

    Raises Incomplete if the repository can't be read.
    """
    command = [*git, "archive", "--format=tar", commit]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        output = archive.stdout
        assert output is not None
        try:
            with _bounded(iter(lambda: output.read(CHUNK), b"")) as reading:
                yield reading
        except BaseException:
            archive.kill()
            raise
    if archive.returncode != 0:
        raise Incomplete(f"`git archive` of {commit} ended with {archive.returncode}.")


@contextlib.contextmanager
def plain(archive: Path) -> Iterator[int]:
    """The read end of a pipe with the tar of a .tar.gz. Raises Strange if it is too large.

    + archive: path of the file
    """
    with archive.open("rb") as file, _bounded(_unpacked(file, archive)) as reading:
        yield reading


def _unpacked(file: BinaryIO, archive: Path) -> Iterator[bytes]:
    """The content of an open .tar.gz, in pieces."""
    import zlib

    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        while data := unzip.unconsumed_tail or file.read(CHUNK):
            yield unzip.decompress(data, CHUNK)
        yield unzip.flush()
    except zlib.error as error:
        raise Strange(f"{archive} is damaged: {error}.") from error


@contextlib.contextmanager
def _bounded(pieces: Iterable[bytes]) -> Iterator[int]:
    """The read end of a pipe with these pieces. Raises Strange if they are too large, or from `pieces` itself."""
    import threading

    seen: list[Strange] = []
    reading, writing = os.pipe()

    def feed() -> None:
        size = 0
        with os.fdopen(writing, "wb") as sink, contextlib.suppress(BrokenPipeError):
            try:
                for piece in pieces:
                    size += len(piece)
                    if size > MOST_MB << 20:
                        raise Strange(f"{WHAT} is larger than {MOST_MB:,} MB.")
                    sink.write(piece)
            except Strange as strange:
                seen.append(strange)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield reading
    finally:
        os.close(reading)  # this ends the feeder
        feeder.join()
        if seen:  # it says more than an error of the reader
            raise seen[0]
