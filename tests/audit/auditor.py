"""The auditor: containers with the tools, each run in one of its own, so from an address of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from tests.target import image
from tests.target.engine import LABEL, call, client

HERE = Path(__file__).parent
FOLDER = "/work"
"""Where a tool runs in its container; the files it is given are there."""
_NUMBERS = count()

# The files come as an archive on stdin, so the engine may be on another machine.
_ENTRY = f'mkdir {FOLDER} && cd {FOLDER} && tar -xf - && exec "$@"'


@dataclass(frozen=True)
class Done:
    """How a tool's run ended."""

    code: int
    """Exit status; 124 where its time was over."""
    output: str
    errors: str


def auditor_image() -> str:
    """The image of the auditor, built unless it is there; returns its tag."""
    context = {"Dockerfile": (HERE / "auditor.Dockerfile").read_bytes(), "ca/": b""}
    context |= {name: (HERE / name).read_bytes() for name in ("requirements.txt", "package.json", "package-lock.json")}
    context |= {f"ca/{name}": data for name, data in image.extra_cas().items()}
    return image.build("slipway-auditor", "debian13", context)


@dataclass
class Auditor:
    """Runs tools against one host."""

    address: str
    """The host's."""
    site: str
    """Its site's name, which leads to that address in the containers."""
    network: str | None = None
    """Docker's network in which the host is; None is the engine's default, from where the Internet can be reached."""
    target: str | None = None
    """The target whose containers these become: they go with it where an audit was killed."""

    @cached_property
    def image(self) -> str:
        """Tag of the tools' image."""
        return auditor_image()

    def run(
        self,
        command: Sequence[str],
        files: Mapping[str, bytes | None] | None = None,
        *,
        timeout: float = 120,
        options: Sequence[str] = (),
    ) -> Done:
        """Run a command in a container of its own, in a folder with these files.

        + timeout: seconds after which the container is removed
        + options: of `docker run`
        """
        name = f"slipway-auditor-{os.getpid()}-{next(_NUMBERS)}"
        archive = image.archive({name: data for name, data in (files or {}).items() if data is not None})
        labels = [f"--label={LABEL}={self.target}"] if self.target else []
        network = [f"--network={self.network}"] if self.network else []
        placed = [f"--add-host={self.site}:{self.address}", *labels, *network, *options]
        try:
            done = call("run", "--rm", "--interactive", f"--name={name}", *placed, self.image, "sh", "-c", _ENTRY, "sh",
                        *command, stdin=archive, timeout=timeout)  # fmt: skip
        except subprocess.TimeoutExpired:
            return Done(124, "", f"nothing after {timeout:.0f} s")
        finally:
            subprocess.run([*client(), "rm", "--force", name], capture_output=True, check=False)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
