"""uv on the operator's machine."""

from __future__ import annotations

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


def outdated(folder: Path, root: Path) -> bool:
    """Whether the uv.lock in `root` no longer fits the project in `folder`. uv judges; False if it can't tell.

    What was found to fit once is asked no more, as long as the lock file and its projects stay as they are.
    """
    known = _known(root)
    if known is not None and known.exists():
        return False
    fits, stale = _ask(folder)
    if fits and known is not None:
        try:
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()
        except OSError:
            pass  # no cache: the next run asks again
    return stale


def _ask(folder: Path) -> tuple[bool, bool]:
    """Whether uv says that the lock file fits, and whether it says that it doesn't."""
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
            return False, False
    return done.returncode == 0, done.returncode != 0 and "needs to be updated" in done.stderr


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
