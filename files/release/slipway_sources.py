"""What a source is unpacked from, a commit or an archive: how large that is, before it takes the host's disk.

Whoever may commit says what is in it: a few kilobytes of a repository can stand for a folder without end. Managed by
Slipway (roles/release.py); needs Python 3.10 or newer and nothing else.
"""

import contextlib
import os
import subprocess
import threading
import zlib

from slipway_trees import DEEPEST, Strange, Tally, short

WHAT = "The source"
MOST_MB = 4096  # of a source, unpacked
MOST_FILES = 200_000
CHUNK = 1 << 18  # bytes read at once
LONGEST = 1 << 20  # bytes of one entry of git's list: its path, as a rule
# For git, before what a commit's own .gitattributes say: by these, few bytes would become many, or others.
ATTRIBUTES = "* -export-subst -text -ident -filter !eol !working-tree-encoding\n"


class Incomplete(Exception):
    """A repository can't be read."""


def survey(git, commit):
    """Strange if a commit has more, or deeper folders, than a source may have; says whether git could list it.

    + git: the beginning of a command line, up to the repository
    """
    tally, rest = Tally(WHAT, MOST_MB, MOST_FILES), b""
    # With its folders (-t), which count as well: of those without files it would tell nothing, and never end.
    command = [*git, "ls-tree", "-r", "-t", "-l", "-z", commit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as listing:
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


@contextlib.contextmanager
def exported(git, commit):
    """The read end of a pipe with a tar of a commit; Strange if there is more of it than a source may have.

    Its files are as they were committed: what .gitattributes says may make them as long as it likes.

    + git: the beginning of a command line, up to the repository
    """
    command = [*git, "archive", "--format=tar", commit]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        try:
            with _bounded(iter(lambda: archive.stdout.read(CHUNK), b"")) as reading:
                yield reading
        except BaseException:
            archive.kill()
            raise
    if archive.returncode != 0:
        raise Incomplete(f"`git archive` of {commit} ended with {archive.returncode}.")


@contextlib.contextmanager
def plain(archive):
    """The read end of a pipe with the tar that a .tar.gz holds; Strange if there is more of it than a source may have.

    + archive: path of the file
    """
    with archive.open("rb") as file, _bounded(_unpacked(file, archive)) as reading:
        yield reading


def _unpacked(file, archive):
    """Pieces of what an open .tar.gz holds."""
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        while data := unzip.unconsumed_tail or file.read(CHUNK):
            yield unzip.decompress(data, CHUNK)
        yield unzip.flush()
    except zlib.error as error:
        raise Strange(f"{archive} is damaged: {error}.") from error


@contextlib.contextmanager
def _bounded(pieces):
    """The read end of a pipe with these; Strange if they are more than a source may have, or as they are made."""
    seen = []
    reading, writing = os.pipe()

    def feed():
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
        os.close(reading)  # who feeds somebody who has gone, ends
        feeder.join()
        if seen:  # which says more than who has read a part of it
            raise seen[0]
