"""Packs a local folder as the source of a release: the same files always give the same bytes."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

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


def listed(folder: Path) -> list[Path]:
    """Files of `folder`, relative and sorted: what git would take (.gitignore counts), or all outside of git."""
    git = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    try:
        done = subprocess.run(git, capture_output=True, check=False)
        known = done.stdout.decode().split("\0") if done.returncode == 0 else None
    except FileNotFoundError:
        known = None
    found = (
        [Path(name) for name in known if name]
        if known is not None
        else [path.relative_to(folder) for path in folder.rglob("*")]
    )
    return sorted(
        path
        for path in set(found)
        if not LEFT_OUT & set(path.parts) and ((folder / path).is_file() or (folder / path).is_symlink())
    )


def pack(folder: Path) -> bytes:
    """The folder as a tar.gz without owners and times, so that its digest tells whether the source changed."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path in listed(folder):
            info = archive.gettarinfo(folder / path, arcname=str(path))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            if info.isreg():
                with (folder / path).open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return buffer.getvalue()
