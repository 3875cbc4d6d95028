"""What a source is unpacked from, a commit or an archive: how large that is, before it takes the host's disk.

Whoever may commit says what is in it: a few kilobytes of a repository can stand for a folder without end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from slipway_host.release.trees import DEEPEST, Strange, Tally
from slipway_host.text import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WHAT = "The source"
MOST_MB = 4096  # of a source, unpacked
MOST_FILES = 200_000
CHUNK = 1 << 18  # bytes read at once
LONGEST = 1 << 20  # bytes of one entry of git's list: its path, as a rule


def survey(git: Sequence[str], commit: str) -> bool:
    """Strange if a commit has more, or deeper folders, than a source may have; says whether git could list it.

    + git: the beginning of a command line, up to the repository
    """
    tally, rest = Tally(WHAT, MOST_MB, MOST_FILES), b""
    command = [*git, "ls-tree", "-r", "-l", "-z", commit]
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


@contextlib.contextmanager
def plain(archive: Path) -> Iterator[int]:
    """The read end of a pipe with the tar that a .tar.gz holds; Strange if there is more of it than a source may have.

    + archive: path of the file
    """
    import threading
    import zlib

    file, seen = archive.open("rb"), []
    reading, writing = os.pipe()

    def feed() -> None:
        unpacked, unzip = 0, zlib.decompressobj(16 + zlib.MAX_WBITS)
        with file, os.fdopen(writing, "wb") as sink, contextlib.suppress(BrokenPipeError):
            try:
                while data := unzip.unconsumed_tail or file.read(CHUNK):
                    made = unzip.decompress(data, CHUNK)
                    unpacked += len(made)
                    if unpacked > MOST_MB << 20:
                        seen.append(Strange(f"{WHAT} is larger than {MOST_MB:,} MB."))
                        return
                    sink.write(made)
                sink.write(unzip.flush())
            except zlib.error as error:
                seen.append(Strange(f"{archive} is damaged: {error}."))

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield reading
    finally:
        os.close(reading)  # who feeds somebody who has gone, ends
        feeder.join()
        if seen:  # which says more than who has read a part of it
            raise seen[0]
