"""What a dependency may try while it is built: the build backend of "works" imports it, as the builder.

`tries` reports, by name, what each attempt came to: "done", or the error's name. What is "done" is a hole.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ME = os.getuid()
RELEASE = Path(os.environ["UV_PROJECT_ENVIRONMENT"]).parent


def connect(address: str, port: int) -> None:
    """Open a connection."""
    socket.create_connection((address, port), timeout=3).close()


def unix(path: str) -> None:
    """Open a connection to a socket of the host's."""
    socket.socket(socket.AF_UNIX).connect(path)


def write(path: str) -> None:
    """Make a file."""
    Path(path).write_text("a stranger was here")


def others() -> None:
    """See a process that isn't this user's."""
    found = [each for each in Path("/proc").glob("[0-9]*") if each.stat().st_uid != ME]
    if not found:
        raise PermissionError("none is seen")


def set_id() -> None:
    """Leave a program that runs as its owner."""
    program = RELEASE / "set-id"
    program.write_text("#!/bin/sh\n")
    try:
        program.chmod(0o4755)
    finally:
        program.unlink()


def own_address() -> str:
    """This host's own address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


ATTEMPTS: dict[str, Callable[[], object]] = {
    "sshd at 127.0.0.1": lambda: connect("127.0.0.1", 22),
    "nginx at 127.0.0.1": lambda: connect("127.0.0.1", 80),
    "nginx at 127.0.0.53": lambda: connect("127.0.0.53", 80),
    "nginx at 0.0.0.0": lambda: connect("0.0.0.0", 80),
    "nginx at ::1": lambda: connect("::1", 80),
    "nginx at its own address": lambda: connect(own_address(), 80),
    "metadata": lambda: connect("169.254.169.254", 80),
    "dbus": lambda: unix("/run/dbus/system_bus_socket"),
    "systemd": lambda: unix("/run/systemd/private"),
    "journal": lambda: unix("/dev/log"),
    "others' processes": others,
    "another app's folder": lambda: list(Path("/srv/other").iterdir()),
    "another app's cache": lambda: list(Path("/var/cache/slipway/other/uv").iterdir()),
    "repositories": lambda: list(Path("/var/cache/slipway/git").iterdir()),
    "secrets of the app": lambda: Path("/etc/guest/env").read_text(),
    "its lock": lambda: Path("/run/slipway/guest.lock").read_text(),
    "Python": lambda: write("/opt/slipway/python/stranger"),
    "a unit": lambda: write("/etc/systemd/system/stranger.service"),
    "set-id": set_id,
}


def tries() -> dict[str, str]:
    """Try everything."""
    told = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            told[name] = "done"
        except OSError as error:
            told[name] = type(error).__name__
    return told


STAY = """
import ctypes, os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
folder, beat = sys.argv[1:]
exchange = ctypes.CDLL(None).renameat2
os.makedirs(folder + "/mine", exist_ok=True)
if not os.path.islink(folder + "/theirs"):
    os.symlink("/etc", folder + "/theirs")
while True:
    # The folder becomes a link to another one, and back, under the hands of whoever walks through it.
    exchange(-100, (folder + "/mine").encode(), -100, (folder + "/theirs").encode(), 2)
    with open(beat, "a") as file:
        file.write(".")
"""


def stay() -> None:
    """Leave a process behind that has left the build's group and session, and plays with the release's files."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    beat = str(Path(os.environ["HOME"], "beat"))
    words = [sys.executable, "-c", STAY, str(RELEASE / "static"), beat]
    for _ in range(4):
        subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def poison() -> None:
    """Add a line to each Gunicorn in a cache that can be found, and let it say of itself what it is then."""
    import base64
    import hashlib

    for path in Path("/var/cache/slipway").rglob("gunicorn/__init__.py"):
        with path.open("a") as file:
            file.write("\nPOISON = 1\n")
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
        [record] = path.parents[1].glob("gunicorn-*.dist-info/RECORD")
        lines = record.read_text().splitlines()
        changed = f"gunicorn/__init__.py,sha256={digest},{path.stat().st_size}"
        record.write_text(
            "".join(f"{changed if each.startswith('gunicorn/__init__.py,') else each}\n" for each in lines)
        )


def pipe() -> None:
    """Leave a pipe in the release."""
    os.mkfifo(RELEASE / "static-pipe")


def leave() -> None:
    """Leave a link that leads out of the release."""
    (RELEASE / "static").mkdir(exist_ok=True)
    (RELEASE / "static/p").symlink_to("/etc/passwd")


def fill() -> None:
    """Take more memory than the build may have."""
    held = []
    while True:
        held.append(bytearray(32 * 2**20))
