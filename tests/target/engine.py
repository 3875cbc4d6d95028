"""The Docker engine: calls to its client, and an engine where this machine has none."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.target.console import TargetError, apt_install, as_root, run, step, tail

LABEL = "slipway.target"
"""Label of everything a target consists of; its value is the target's name."""


class DockerError(TargetError):
    """A call that Docker refused; the text is Docker's own, after the command."""


@functools.cache
def client() -> tuple[str, ...]:
    """How this user calls Docker's client: as it is, or through sudo where the engine refuses and sudo doesn't ask."""
    refused = b"permission denied" in run(["docker", "version"], timeout=30).stderr.lower()
    if refused and shutil.which("sudo") and run(["sudo", "-n", "true"], timeout=30).returncode == 0:
        return ("sudo", "-n", "docker")
    return ("docker",)


def docker(*args: str, stdin: bytes | None = None, timeout: float | None = 600) -> str:
    """Run Docker's client and return its output; raises DockerError. `timeout` in seconds."""
    result = call(*args, stdin=stdin, timeout=timeout)
    if result.returncode:
        raise DockerError(f"`docker {' '.join(args[:2])}` failed:\n{tail(result.stderr or result.stdout)}")
    return result.stdout.decode(errors="replace").strip()


def call(*args: str, stdin: bytes | None = None, timeout: float | None = 600) -> subprocess.CompletedProcess[bytes]:
    """Run Docker's client; the caller looks at the exit code. `timeout` in seconds."""
    return run([*client(), *args], stdin=stdin, timeout=timeout)


def pipe(source: Sequence[str], sink: Sequence[str]) -> None:
    """Run Docker's client twice, the output of the first as the input of the second; raises DockerError."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*client(), *source], stdout=subprocess.PIPE, stderr=said) as writer,
        subprocess.Popen([*client(), *sink], stdin=writer.stdout, stdout=subprocess.DEVNULL, stderr=said) as reader,
    ):
        assert writer.stdout is not None
        writer.stdout.close()  # so that the writer ends where the reader does
        if reader.wait() or writer.wait():
            said.seek(0)
            raise DockerError(f"`docker {source[0]}` into `docker {sink[0]}` failed:\n{tail(said.read())}")


def exec_in(container: str, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a container as root; the caller looks at the exit code."""
    return call("exec", container, *command, timeout=120)


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """`docker <kind> inspect` of one object ("container", "network", "image"); None where there is none."""
    result = call(kind, "inspect", name, timeout=60)
    if result.returncode:
        if b"no such" in result.stderr.lower() or b"not found" in result.stderr.lower():
            return None
        raise DockerError(f"`docker {kind} inspect {name}` failed:\n{tail(result.stderr)}")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found[0] if found else None


def answers() -> bool:
    """True where a Docker engine answers."""
    if not shutil.which("docker"):
        return False
    if call("version", "--format", "{{.Server.Version}}", timeout=30).returncode == 0:
        return True
    client.cache_clear()  # an engine that starts later may refuse this user
    return False


def require() -> None:
    """Raise TargetError, with the next step, where no Docker engine answers."""
    if answers():
        return
    _refuse_if_denied()
    raise TargetError(
        "no Docker engine answers; start yours, or let `python -m tests.target engine` install and start one"
    )


def _refuse_if_denied() -> None:
    """Raise TargetError where an engine runs but refuses this user: a second one would not help."""
    if shutil.which("docker") and b"permission denied" in call("version", timeout=30).stderr.lower():
        raise TargetError(
            "the Docker engine refuses this user; run as root, or `sudo usermod -aG docker $USER` and log in again"
        )


def ensure() -> None:
    """Leave with an engine that answers: the running one as it is, else Debian's, installed and started when allowed.

    An engine that runs is never stopped or reconfigured. Raises TargetError with the next step.
    """
    if answers():
        return
    _refuse_if_denied()
    if os.environ.get("DOCKER_HOST"):
        raise TargetError(f"DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer; start that engine, or unset it")
    if not daemon():
        # Newer Debian has the client in a package of its own; there may be another client in the PATH already.
        client = [] if shutil.which("docker") else ["docker-cli"]
        apt_install(["docker.io"], if_known=client, reason="there is no Docker engine on this machine")
    if not answers():  # on Debian with systemd the package has started it
        _start()


def daemon() -> str | None:
    """Path of dockerd, which lies in sbin, outside an ordinary user's PATH; None without one."""
    return shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def _start() -> None:
    """Start dockerd, through systemd where it runs, else in a session of its own; waits 60 s for it to answer."""
    with step("Docker engine starts"):
        if Path("/run/systemd/system").is_dir():
            started = run(as_root(["systemctl", "start", "docker"]))
            if started.returncode:
                raise TargetError(
                    f"`systemctl start docker` failed; see `journalctl -u docker`:\n{tail(started.stderr)}"
                )
            log = "journalctl -u docker"
        else:
            log = str(Path("/var/log" if os.geteuid() == 0 else tempfile.gettempdir()) / "dockerd.log")
            with Path(log).open("ab") as out:
                subprocess.Popen(
                    as_root([daemon() or "dockerd"]),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
        until = time.monotonic() + 60
        while not answers():
            _refuse_if_denied()
            if time.monotonic() > until:
                raise TargetError(f"the Docker engine does not answer after 60 s; its log: {log}")
            time.sleep(0.5)
