"""Images of provisioned hosts without an app: what most stories start from, within seconds.

There is one a system, made by the first story that asks, and kept until what decides how a host is provisioned changes.
Keys, ids and logs of the host that it was made of aren't in it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e._driver import ROOT, Host
from tests.target import image, lifecycle, mirror
from tests.target.console import exclusive
from tests.target.engine import call, docker, inspect

ENTRY = "tests/e2e/provision.py"
DECIDING = (
    *("roles", "templates", "files", "slipway", "host", "config.py", "uv.lock"),
    *(ENTRY, "tests/e2e/_provisioned.py", "tests/e2e/_driver.py", "tests/target/host.py", "tests/target/container.py"),
)
"""Files and folders that decide what a provisioned host is."""
LABEL = "slipway.provisioned"
"""Label of such an image: whose it is, a clone's folder and a system."""


def provisioned(os_name: str) -> str:
    """The image of a provisioned host, made unless it is there; returns its tag. `os_name`: a key of image.SUITES."""
    with exclusive(lifecycle.ROOT / ".locks" / f"provisioned-{os_name}.lock"):
        bare = image.host_image(os_name)
        tag = f"slipway-provisioned:{os_name}-{digest(ROOT, bare, json.dumps(mirror.choice(os_name)))}"
        if inspect("image", tag) is None:
            _forget(os_name)
            _make(os_name, tag)
        return tag


def digest(project: Path, *more: str) -> str:
    """Twelve hex digits that change with what decides how a host is provisioned.

    + project: folder of the project
    + more: what else decides
    """
    files = {str(path.relative_to(project)): path.read_bytes() for path in _deciding(project)}
    return image.recipe_hash(files, *more)


def _deciding(project: Path) -> Iterator[Path]:
    for name in DECIDING:
        path = project / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and "__pycache__" not in each.parts)


def _label(os_name: str) -> str:
    return f"{LABEL}={ROOT}:{os_name}"


def _forget(os_name: str) -> None:
    """Remove this clone's image of a system from before, unless a target that was left up still has it."""
    old = docker("image", "ls", "--quiet", "--filter", f"label={_label(os_name)}").split()
    if old:
        call("image", "rm", *old)


def _make(os_name: str, tag: str) -> None:
    name = f"provisioned-{os_name[-2:]}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]}"
    with tempfile.TemporaryDirectory() as folder:
        host = Host.up(name, os_name, Path(folder))
        try:
            host.task(ENTRY)
            host.ssh("sync")
            lifecycle.keep_image(name, tag, _label(os_name))
        finally:
            host.down()
