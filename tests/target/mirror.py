"""A mirror of Pythons for `uv python install`, for networks that don't reach python-build-standalone on GitHub.

It serves Debian's own Python repacked, with the libraries that a bare host lacks: good for tests, not for production.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.target.console import TargetError, exclusive, step, tail
from tests.target.engine import call, docker
from tests.target.image import HERE, recipe_hash

UPSTREAM = "https://github.com/astral-sh/python-build-standalone"
"""Where uv fetches Pythons by default."""

PYTHONS = {"debian12": "3.11", "debian13": "3.13"}
"""Debian's own Python on each system: what the mirror can offer there."""

DEFAULT_PYTHON = "3.13"
"""Python of a target that reaches UPSTREAM."""

URL = "http://acme:8080"
"""The mirror, as seen from inside a target's network."""


def upstream_answers() -> bool:
    """True where this machine reaches python-build-standalone within 3 seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(UPSTREAM, method="HEAD"), timeout=3) as answer:
            return bool(answer.status < 400)
    except (urllib.error.URLError, TimeoutError, OSError):
        return False


def downloads(version: str, arch: str, archive: str, sha256: str) -> dict[str, object]:
    """uv's list of downloads with one Python: `version` such as "3.11.2", `arch` "x86_64", `archive` a file at URL."""
    major, minor, patch = (int(part) for part in version.split("."))
    return {
        f"cpython-{version}-linux-{arch}-gnu": {
            "name": "cpython",
            "arch": {"family": arch, "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "url": f"{URL}/{archive}",
            "sha256": sha256,
            "variant": None,
            "build": None,
        }
    }


def choice(os_name: str, url: str = URL) -> dict[str, Any]:
    """What a target of a system can install: a version, and the list of downloads of the mirror at `url` if need be."""
    if upstream_answers():
        return {"version": DEFAULT_PYTHON, "downloads_json_url": None}
    return {"version": PYTHONS[os_name], "downloads_json_url": f"{url}/downloads.json"}


def files(os_name: str, image: str, cache: Path, url: str = URL, arch: str | None = None) -> dict[str, bytes]:
    """What the mirror of a system serves at `url`, by name; see `build`."""
    read = {path.name: path.read_bytes() for path in build(os_name, image, cache, arch).iterdir()}
    return read | {"downloads.json": read["downloads.json"].replace(URL.encode(), url.encode())}


def build(os_name: str, image: str, cache: Path, arch: str | None = None) -> Path:
    """A folder with the mirror's files for a system, built in a container of its image unless the cache has it.

    `arch`: the kernel's name of the processor that the image is for; None is the engine's.
    """
    version = PYTHONS[os_name]
    script = (HERE / "python-mirror.sh").read_bytes()
    arch = arch or docker("info", "--format", "{{.Architecture}}")
    folder = cache / f"python-{os_name}-{arch}-{recipe_hash({'script': script}, image)}"
    with exclusive(cache / "python.lock"):
        if not folder.is_dir():
            with step(f"mirror of Python {version} from Debian's packages"):
                _build(version, arch, image, script, folder)
    return folder


def _build(version: str, arch: str, image: str, script: bytes, folder: Path) -> None:
    # Built aside and renamed: a folder with this name is complete.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    container = docker("create", "--interactive", image, "sh", "-s", version)
    try:
        built = call("start", "--attach", "--interactive", container, stdin=script, timeout=1800)
        if built.returncode:
            raise TargetError(
                f"the mirror of Python {version} could not be built:\n{tail(built.stderr + built.stdout)}"
            )
        # As a stream: written here, by this user, wherever the engine runs and as whom.
        results = call("cp", f"{container}:/out", "-").stdout
    finally:
        docker("rm", "--force", "--volumes", container)
    with tarfile.open(fileobj=io.BytesIO(results)) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                (partial / Path(member.name).name).write_bytes(file.read())
    archive = f"python-{version}.tar.gz"
    sha256 = hashlib.sha256((partial / archive).read_bytes()).hexdigest()
    full = (partial / "version").read_text().strip()
    (partial / "downloads.json").write_text(json.dumps(downloads(full, arch, archive, sha256), indent=1))
    partial.rename(folder)
