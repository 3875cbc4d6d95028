"""The project's folder: deploy.py, tasks, roles, templates, files, config.py and the tests of a host.

In a clone it is the clone. Installed, it is this package: the wheel carries all that beside this file, and nothing is
ever written there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def installed() -> bool:
    """Whether the project's folder came with the package, and not with a clone: nothing may be written there."""
    return (_HERE / "deploy.py").is_file()


def root() -> Path:
    """The folder with deploy.py in it, of which `roles` is a package."""
    return _HERE if installed() else _HERE.parents[1]


def find_roles() -> None:
    """Let `roles` be found before other packages of that name."""
    if sys.path[:1] != [str(root())]:
        sys.path.insert(0, str(root()))


def keep_bytecode_out(cache: Path | None) -> None:
    """Let Python, and what it starts, write no bytecode into an installed package: into `cache` instead, if any.

    If the installer has compiled bytecode, it is used, and none is written.
    """
    if not installed() or sys.flags.dont_write_bytecode or sys.pycache_prefix:
        return
    if cache is None or Path(importlib.util.cache_from_source(str(root() / "deploy.py"))).is_file():
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    else:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(cache / "slipway" / "bytecode")
