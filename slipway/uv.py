"""uv on the operator's machine."""

from __future__ import annotations

import enum
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway import person

SECONDS = 120
"""Time limit for a look at a lock file. It usually takes some tenths of a second."""
GIVEN = {"UV_PYTHON_DOWNLOADS": "never", "VIRTUAL_ENV": ""}
"""Variables by which uv looks at a lock file."""
_FOLDER = re.compile(r'^source = \{ (?:editable|virtual|directory) = "([^"]+)"', re.MULTILINE)


def program() -> str:
    """The uv of this environment, else the one in the PATH."""
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.is_file() else shutil.which("uv") or "uv"


def folder_of_cache() -> Path | None:
    """Where it is noted which lock files fit; None where no place is known."""
    cache = person.cache()
    return None if cache is None else cache / "slipway/locks"


class Verdict(enum.Enum):
    """What uv says of a lock file."""

    FITS = "fits"
    OUTDATED = "outdated"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    """uv can't tell here, for example for want of an index."""


def verdict(folder: Path, root: Path) -> Verdict:
    """Whether the uv.lock in `root` fits the project in `folder`. uv judges.

    What was found to fit once is asked no more, as long as the lock file and its projects stay as they are.
    """
    known = _known(root)
    if known is not None and known.exists():
        return Verdict.FITS
    told = _ask(folder)
    if told is Verdict.FITS and known is not None:
        try:
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()
        except OSError:
            pass  # no cache: the next run asks again
    return told


def _ask(folder: Path) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="slipway-") as empty:
        # The project's own settings of uv count; those of the user and of this machine don't: the host has others.
        (Path(empty) / "uv").mkdir()
        (Path(empty) / "uv/uv.toml").touch()
        environment = {"XDG_CONFIG_HOME": empty, "XDG_CONFIG_DIRS": empty, **GIVEN}
        environment |= {"UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "1")}
        try:
            done = subprocess.run(
                [program(), "lock", "--check", "--quiet", "--project", str(folder)],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return Verdict.UNKNOWN
    if done.returncode == 0:
        return Verdict.FITS
    if "needs to be updated" in done.stderr:
        return Verdict.OUTDATED
    return Verdict.UNREADABLE if re.search(r"[Ff]ailed to parse[^\n]*uv\.lock", done.stderr) else Verdict.UNKNOWN


def _known(root: Path) -> Path | None:
    """A file that exists if this very lock file, with its projects, was found to fit; None where there is no cache."""
    cache = folder_of_cache()
    try:
        lock = (root / "uv.lock").read_bytes()
    except OSError:
        return None
    if cache is None:
        return None
    told = hashlib.sha256(lock)
    for name in sorted({".", *_FOLDER.findall(lock.decode(errors="replace"))}):
        project = root / name / "pyproject.toml"
        told.update(f"{name}\0".encode() + (project.read_bytes() if project.is_file() else b""))
    return cache / told.hexdigest()
