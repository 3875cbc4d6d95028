"""The container that plays the VPS: how it is created, and when it is up."""

from __future__ import annotations

import io
import re
import socket
import tarfile
import time
from collections.abc import Sequence

from tests.target import likeness
from tests.target.console import TargetError, tail
from tests.target.engine import DockerError, docker, exec_in, inspect

DOMAINS = ("notes.test", "litestar.test", "extra.test")
"""Names that lead to a target inside its network, and for its ACME server."""

USER = "deploy"
"""The sudo user of a target; root takes the same key."""

STOP_SIGNAL = "SIGRTMIN+3"
"""Asks systemd for a clean shutdown."""

OWN = (
    ".image", "etc/hostname", "etc/machine-id", "etc/ssh/ssh_host_*", "root/.ssh", f"home/{USER}/.ssh",
    "var/log/journal/*", "var/lib/systemd/random-seed", "var/lib/systemd/timers/*", "var/cache/apt/archives/*.deb",
)  # fmt: skip
"""Patterns of what is one target's own, or only large: an image of its disk has none of it."""

READY_TIMEOUT = 90
"""Seconds a target has to finish booting; usual are 1 to 3."""

DROPPED = ("SYS_RESOURCE", "SYS_TIME", "SYS_MODULE")
"""Capabilities a target does without: an engine may lack the first itself; the clock and the kernel are the machine's.

With SYS_TIME, `timedatectl set-timezone` on a target moves the clock of a machine whose own init isn't systemd: the
kernel takes the first time zone it is told for that of the hardware clock (settimeofday(2)).
"""

CGROUP_PROBE = "/engine/cgroup"
"""Where the engine's own cgroup tree is mounted for a look at it."""


def cgroup_mode(mounts: str, root: str = "/sys/fs/cgroup") -> str:
    """How a machine mounts its cgroups below `root`, from the text of its /proc/mounts.

    "unified": version 2 alone; "hybrid": version 2 beside version 1, where a container still gets a part of its own;
    "legacy": version 1 alone, where containers would share one version 2 tree, so a target can't run.
    """
    kinds = {fields[1]: fields[2] for line in mounts.splitlines() if len(fields := line.split()) > 2}
    if kinds.get(root) == "cgroup2":
        return "unified"
    return "hybrid" if kinds.get(f"{root}/unified") == "cgroup2" else "legacy"


def require_cgroups(image: str) -> None:
    """Raise TargetError where the engine's machine, which may be another one, has no cgroup version 2."""
    mounts = docker("run", "--rm", "--volume", f"/sys/fs/cgroup:{CGROUP_PROBE}:ro", image, "cat", "/proc/self/mounts")
    if cgroup_mode(mounts, CGROUP_PROBE) == "legacy":
        raise TargetError(
            "the Docker engine's machine has cgroup version 1 only, and systemd in a container needs version 2; "
            "boot it with systemd.unified_cgroup_hierarchy=1"
        )


def privileges(dropped: Sequence[str]) -> list[str]:
    """Options that give a target what systemd needs, less the capabilities `dropped`."""
    unconfined = ["--cap-add=ALL", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
    return [*unconfined, *(f"--cap-drop={capability}" for capability in dropped)]


def lacking(error: str) -> str | None:
    """The capability that an engine refuses to drop because it has none, from its message; None for another message.

    Engines since 25 say: invalid CapDrop: capability not supported by your kernel […]: "CAP_SYS_RESOURCE"
    """
    found = re.search(r'invalid CapDrop.*"CAP_(\w+)"', error)
    return found[1] if found else None


def create(image: str, options: Sequence[str], privileges: Sequence[str], public_key: bytes) -> str:
    """Create a target's container, not started yet, with the key that may log in; returns its id.

    `privileges`: what `privileges()` tells to try.
    """
    limits = likeness.limits(image, privileges)
    common = [
        *options,
        *likeness.options(limits),
        "--env=container=docker",
        f"--stop-signal={STOP_SIGNAL}",
        "--cgroupns=private",
        "--restart=unless-stopped",  # so that `reboot` on the target is a reboot
        "--shm-size=256m",
        "--tmpfs=/run:mode=755",  # Docker's default is 1777, open to every user
        "--tmpfs=/run/lock",
        "--tmpfs=/tmp:exec",
    ]
    container = docker("create", *common, *privileges, image, *likeness.command(limits))
    docker("cp", "-", f"{container}:/", stdin=authorized_keys(public_key))
    return container


def authorized_keys(public_key: bytes) -> bytes:
    """A tar archive of `authorized_keys` for root and the sudo user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for home, owner in (("root", 0), (f"home/{USER}", 1000)):
            folder = tarfile.TarInfo(f"{home}/.ssh")
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, owner, owner
            tar.addfile(folder)
            file = tarfile.TarInfo(f"{home}/.ssh/authorized_keys")
            file.size, file.mode, file.uid, file.gid = len(public_key), 0o600, owner, owner
            tar.addfile(file, io.BytesIO(public_key))
    return buffer.getvalue()


POWER_CUT = "open(my $root, '<', '/'); my $how = pack('L', 2); ioctl($root, 0x8004587d, $how) or die $!"
"""Perl, which every Debian has: EXT4_IOC_SHUTDOWN of the root, without its journal being flushed (linux/ext4.h).

From then on nothing reaches the disk, and what the kernel had yet to write is lost, as if the power went.
"""


def kill(container: str, *, disk: bool) -> None:
    """End a target as by pulling the plug. `disk`: it has one of its own; a machine's keeps what was yet to be written.

    Raises DockerError.
    """
    if disk:
        docker("exec", container, "perl", "-e", POWER_CUT)
    docker("kill", "--signal", "KILL", container)


def wait(container: str, ssh_port: int) -> list[str]:
    """Wait until systemd has booted and sshd greets at 127.0.0.1:`ssh_port`; returns the units that failed."""
    until = time.monotonic() + READY_TIMEOUT
    state = ""
    while time.monotonic() < until:
        state = exec_in(container, "systemctl", "is-system-running").stdout.decode().strip()
        if state in {"running", "degraded"} and greets(ssh_port):
            listed = exec_in(container, "systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout.decode()
            return [line.split()[0] for line in listed.splitlines() if line.strip()]
        found = inspect("container", container)
        if found is None or found["State"]["Status"] in {"exited", "dead"}:
            break
        time.sleep(0.3)
    try:
        log = tail(docker("logs", "--tail", "15", container).encode())
    except DockerError as error:
        log = str(error)
    raise TargetError(
        f"the target did not come up within {READY_TIMEOUT} s: systemd says {state or 'nothing'!r}, "
        f"sshd {'greets' if greets(ssh_port) else 'does not greet'}; remove it with `down`, then `up`\n{log}"
    )


def greets(port: int) -> bool:
    """True where an SSH server greets at 127.0.0.1:`port`; Docker's proxy accepts before it does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def known_hosts(container: str, ssh_port: int) -> bytes:
    """Lines for a known_hosts file with the target's host keys, read on the target itself."""
    return known_lines(exec_in(container, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub").stdout.decode(), ssh_port)


def known_lines(keys: str, ssh_port: int) -> bytes:
    """Lines for a known_hosts file from a host's public keys, a line each."""
    return "".join(
        f"[127.0.0.1]:{ssh_port} {' '.join(line.split()[:2])}\n" for line in sorted(keys.splitlines()) if line.strip()
    ).encode()
