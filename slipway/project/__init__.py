"""The project's folder: deploy.py, tasks, roles, templates, files, config.py and the tests of a host.

In a clone it is the clone. Installed, it is this package: the wheel carries all that beside this file.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def installed() -> bool:
    """Whether the project's folder came with the package, and not with a clone: nothing may be written there."""
    return (_HERE / "deploy.py").is_file()


def root() -> Path:
    """The folder with deploy.py in it, of which `roles` is a package."""
    return _HERE if installed() else _HERE.parents[1]
