"""What the target's commands share: errors for people, progress on stderr, and leave to change the machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class TargetError(Exception):
    """Something the reader can act on: its text is the whole message, and no traceback is shown."""


def paint(text: str, style: str, *, stream: object = None) -> str:
    """`text` in an ANSI style ("1" bold, "2" dim, "31" red, "32" green) where the stream is a terminal."""
    out = stream or sys.stderr
    is_terminal = bool(getattr(out, "isatty", lambda: False)()) and "NO_COLOR" not in os.environ
    return f"\033[{style}m{text}\033[0m" if is_terminal else text


def say(text: str) -> None:
    """One line of progress, to stderr: stdout belongs to the answer."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a slow step and say how long it took, in seconds."""
    say(paint(f"  {title} …", "2"))
    start = time.monotonic()
    yield
    say(f"  {title}: {time.monotonic() - start:.1f} s")


def run(
    command: Sequence[str],
    *,
    stdin: bytes | None = None,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command without a shell, its output captured; the caller looks at the exit code. `timeout` in seconds."""
    return subprocess.run(list(command), input=stdin, capture_output=True, timeout=timeout, env=env, check=False)


def consent(action: str) -> bool:
    """True where `action` may change this machine: ``YES=1``, ``CI=true``, or a "y" typed at the terminal."""
    if os.environ.get("YES") == "1" or os.environ.get("CI") == "true":
        return True
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{action}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def as_root(command: Sequence[str]) -> list[str]:
    """`command` as root: as it is for root, through sudo otherwise; raises TargetError without either."""
    if os.geteuid() == 0:
        return list(command)
    if shutil.which("sudo"):
        return ["sudo", *command]
    raise TargetError(f"this needs root, and there is no sudo; run it as root: {' '.join(command)}")


def apt_install(packages: Sequence[str], *, reason: str, if_known: Sequence[str] = (), allowed: bool = False) -> None:
    """Install Debian packages on this machine after saying so; raises TargetError when refused or impossible.

    `if_known`: packages that not every Debian has. `allowed`: the caller has leave already, so nobody is asked.
    """
    by_hand = f"apt install {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise TargetError(f"{reason}, and no apt to install one; install {' '.join(packages)} by hand")
    command = as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"])
    if not allowed and not consent(f"{reason[0].upper()}{reason[1:]}. Run `{by_hand}`"):
        raise TargetError(f"{reason}; allow it to be installed with YES=1, or run: {by_hand}")
    with step(by_hand):
        updated = run([*command, "update"])
        known = [name for name in if_known if run(["apt-cache", "show", name]).returncode == 0]
        installed = run([*command, "install", "-y", "--no-install-recommends", *packages, *known])
    if installed.returncode:
        why = tail(updated.stderr if updated.returncode else b"") + "\n" + tail(installed.stderr)
        raise TargetError(f"`{by_hand}` failed:\n{why.strip()}")


def tail(output: bytes, lines: int = 15) -> str:
    """The last lines of a command's output, for an error message."""
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-lines:])


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file: one command at a time works on what it stands for; a killed holder leaves nothing behind."""
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another command works on this target; waiting for it ({lock.name}).")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
