"""Packs a local folder as the source of a release: the same files always give the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
from pathlib import Path

from pyinfra.api.exceptions import PyinfraError

LEFT_OUT = {
    ".git",
    ".venv",
    "__pycache__",
    "node_modules",
    ".env",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".DS_Store",
}
"""Never part of a release, tracked by git or not: what is built anew, and a developer's secrets."""


class SourceError(PyinfraError):
    """A local folder can't be packed as it is; the message says why and what to do."""


def listed(folder: Path) -> list[Path]:
    """Files of `folder`, relative and sorted: what git would take (.gitignore counts), or all outside of git.

    Raises SourceError where that would leave something out, or take in something, that nobody asked for.
    """
    git = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    try:
        done = subprocess.run(git, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"})
    except FileNotFoundError:
        done = None
    if done is not None and done.returncode == 0:
        found = [Path(name) for name in os.fsdecode(done.stdout).split("\0") if name]
        if not found:
            raise SourceError(f"{folder}: git ignores this folder; take it out of .gitignore, or name another source")
    elif done is None or b"not a git repository" in done.stderr:
        found = [path.relative_to(folder) for path in folder.rglob("*")]
    else:  # what git ignores may be secret: never guess
        raise SourceError(f"{folder}: git can't list its files: {os.fsdecode(done.stderr).strip()}")
    taken = sorted(path for path in set(found) if not LEFT_OUT & set(path.parts))
    for path in taken:
        if done is not None and done.returncode == 0 and (folder / path).is_dir() and not (folder / path).is_symlink():
            raise SourceError(f"{folder / path} is a git submodule, which a release can't hold; make it a dependency")
    return [path for path in taken if (folder / path).is_file() or (folder / path).is_symlink()]


def pack(folder: Path) -> bytes:
    """The folder as a tar.gz without owners and times, so that its digest tells whether the source changed."""
    import tarfile  # only here: the settings' check loads this module before it connects

    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path in listed(folder):
            info = tarfile.TarInfo(str(path))
            if (folder / path).is_symlink():
                info.type, info.linkname = tarfile.SYMTYPE, str((folder / path).readlink())
                archive.addfile(info)
                continue
            data = (folder / path).read_bytes()
            info.size = len(data)
            info.mode = 0o755 if (folder / path).stat().st_mode & 0o100 else 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
