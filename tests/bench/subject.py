"""The host that is measured: how it is reached, what it has, and what a tool is to release there."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import state
from tests.bench.state import Present, State
from tests.e2e._driver import ROOT, Host

APP = "notes"
RUN_SECONDS = 600
"""Time after which a run counts as hung."""
PLAIN_PORT = 8999
PLAIN = "plain"
"""What the app is called where the other tools release it: beside Slipway's, which must not see its own touched."""
PLAIN_UNIT = """[Unit]
Description=The app as the other tools release it
[Service]
Type=notify
User={app}
WorkingDirectory={current}
Environment=STATE_DIRECTORY=/var/lib/{app}
EnvironmentFile=/etc/{app}/env
ExecStart={current}/.venv/bin/gunicorn -k uvicorn_worker.UvicornWorker -w 2 -b 127.0.0.1:{port} {module}
"""


class BenchError(Exception):
    """A tool didn't do what it is measured at; the message shows what it said."""


@dataclass(frozen=True)
class Outcome:
    """What a run took and did."""

    seconds: float
    changed: int
    """Number of steps that changed something, or would."""


@dataclass(frozen=True)
class Address:
    """How a host is reached: the target itself, or a relay in front of it."""

    host: str
    port: int
    user: str
    key: str
    known_hosts: str

    @property
    def options(self) -> list[str]:
        """Options of ssh."""
        settings = {
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        return ["-i", self.key, *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]

    def ssh(self, command: str) -> list[str]:
        """The command line that runs a shell command on the host as root, over a connection of its own."""
        words = ["ssh", *self.options, "-o", "ControlPath=none", "-p", str(self.port)]
        return [*words, f"{self.user}@{self.host}", f"sudo sh -c {shlex.quote(command)}"]


def run(
    command: Sequence[str],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    given: bytes | None = None,
) -> tuple[float, str]:
    """Run a command to its good end; returns the seconds that it took, and what it wrote to stdout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYINFRA_", "ANSIBLE_", "SLIPWAY_"))}
    began = time.monotonic()
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env=kept | {"NO_COLOR": "1", "PYINFRA_PROGRESS": "off"} | dict(environment or {}),
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
            input=given or b"",
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{shlex.join(command)[:200]} took more than {RUN_SECONDS} s") from error
    seconds = time.monotonic() - began
    told = done.stdout.decode(errors="replace")
    if done.returncode:
        said = (told + done.stderr.decode(errors="replace"))[-3000:]
        raise BenchError(f"{shlex.join(command)[:200]} ended with {done.returncode}:\n{said}")
    return seconds, told


def pack(folder: Path, archive: Path) -> None:
    """Pack an app's source, as people do."""
    run(["tar", "-czf", str(archive), "--exclude=.venv", "--exclude=__pycache__", "-C", str(folder), "."])


@dataclass(frozen=True)
class Release:
    """A release of the app as the other tools make it."""

    number: int
    archive: Path
    steps: Mapping[str, str]
    """What → shell command in the release's folder."""

    @property
    def folder(self) -> str:
        """Where it is unpacked."""
        return f"/srv/{PLAIN}/releases/{self.number}"

    @property
    def current(self) -> str:
        """The link to the release that serves."""
        return f"/srv/{PLAIN}/current"


class Bench:
    """What all tools share: the target near and far, the app's source, the description, a folder for their files."""

    def __init__(self, near: Host, far: Host, app: Path, folder: Path, bare: Present) -> None:
        """+ bare: what there was on the target before Slipway provisioned it"""
        self.near, self.far, self.app, self.folder, self.bare = near, far, app, folder, bare
        self.state: State
        self.releases = 0
        self.describe()

    def describe(self) -> None:
        """Read the description anew: Slipway has changed the host."""
        self.state = state.read(self.near, self.bare)
        sources = self.folder / "sources"
        sources.mkdir(exist_ok=True)
        self.sources: dict[str, Path] = {}
        for number, file in enumerate(self.state.files):
            path = self.sources[file.path] = sources / str(number)
            path.write_bytes(file.content)

    @property
    def address(self) -> Address:
        """The way through the relay."""
        ssh = self.far.target["ssh"]
        return Address(ssh["host"], ssh["port"], ssh["user"], ssh["key"], ssh["known_hosts"])

    def new_code(self) -> int:
        """Change the app's code; returns the number of this change."""
        self.releases += 1
        (self.app / "number.py").write_text(f"NUMBER = {self.releases}\n")
        return self.releases

    def plain_release(self) -> Release:
        """A release of new code, for the other tools."""
        number = self.new_code()
        environment = state.assignments(state.uv_environment(self.near) | {"UV_CACHE_DIR": f"/var/cache/{PLAIN}"})
        return Release(
            number,
            self.folder / f"{APP}.tar.gz",
            {
                "build": f"env {environment} {state.OPT}/bin/uv sync --quiet --frozen --no-dev",
                "migrate": f"env STATE_DIRECTORY=/var/lib/{APP} .venv/bin/alembic upgrade head",
            },
        )

    def prepare_plain(self) -> None:
        """The place where the other tools release: a unit, and a first release that fills uv's cache."""
        release = self.plain_release()
        text = PLAIN_UNIT.format(app=APP, current=release.current, port=PLAIN_PORT, module=self.near.app(APP)["app"])
        self.near.ssh(f"mkdir -p /usr/local/lib/systemd/system /var/cache/{PLAIN} /srv/{PLAIN}/releases")
        self.near.ssh(f"cat >/usr/local/lib/systemd/system/{PLAIN}.service", stdin=text)
        self.near.ssh("systemctl daemon-reload")

    def damage(self, command: str) -> None:
        """Change something on the host, beside the relay."""
        self.near.ssh(command)

    def differs(self) -> list[str]:
        """What on the host isn't as described now."""
        now = state.read(self.near, self.bare)
        return [
            each.name
            for each in dataclasses.fields(State)
            if sorted(map(repr, getattr(now, each.name))) != sorted(map(repr, getattr(self.state, each.name)))
        ]
