"""The example app on a target of its own, for what is measured of its releases."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e._driver import Host
from tests.e2e.apps import copy_example

BACK = "/opt/slipway/bin/slipway rollback notes"
"""What goes back to the release from before, on the host."""


def options(program: str, documentation: str) -> argparse.Namespace:
    """What the command line says: `os`, `count` and `name`.

    + documentation: of the program; its first paragraph is told by --help
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=documentation.split("\n\n")[0])
    parser.add_argument("--os", choices=("debian12", "debian13"), default="debian13", help="system of the target")
    parser.add_argument("--count", type=int, default=10, help="releases, and rollbacks (10)")
    parser.add_argument("--name", default=f"bench-{os.getpid()}", help="name of the target; it is removed in the end")
    return parser.parse_args()


@contextmanager
def deployed(given: argparse.Namespace, **settings: Any) -> Iterator[tuple[Host, Path]]:
    """A target that serves a copy of examples/notes over TLS, and the folder of that copy; gone afterwards.

    + settings: more of the inventory's, as `Host.settings` takes them
    """
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        host = Host.up(given.name, given.os, Path(folder))
        try:
            app = copy_example("notes", Path(folder))
            host.settings(apps__notes__source={"path": str(app)}, **settings)
            host.deploy()
            yield host, app
        finally:
            host.down()


def change(app: Path, number: int) -> None:
    """Give the app other code, and nothing else."""
    (app / "number.py").write_text(f"NUMBER = {number}\n")
