"""The files of known SSH keys of hosts: that a new key can be kept, and what to do where a host has another one."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from paramiko import BadHostKeyException, HostKeys, PKey

from slipway.engine.pyinfra_api import SSHConnector, known_hosts_of

_CHANGED = (
    "The SSH key of {} isn't the one in {}. If you rebuilt the machine: `{}`. If not, don't go on: somebody may stand "
    "between you and the host"
)


def make_room() -> None:
    """Make the folder of the operator's own file, as ssh(1) does; where that can't be, connecting tells why."""
    with contextlib.suppress(OSError, RuntimeError):
        (Path.home() / ".ssh").mkdir(mode=0o700, exist_ok=True)


def advice(error: BadHostKeyException, connector: SSHConnector) -> str:
    """What to do about a host, or the jump host before it, that has another key than the known one."""
    own = Path("~/.ssh/known_hosts")
    address, port, files = known_hosts_of(connector)
    name = f"[{address}]:{port}" if error.hostname == address and port != 22 else error.hostname
    holding = [file for file in (*files, own.expanduser()) if error.expected_key in _known(file, name)]
    file = next(iter(holding), files[0])
    command = ["ssh-keygen", "-R", name]
    if file == own.expanduser():
        file = own
    else:
        command += ["-f", str(file)]
    return _CHANGED.format(name, file, shlex.join(command))


def _known(file: Path, name: str) -> list[PKey]:
    """The keys that a file has of a host."""
    keys = HostKeys()
    with contextlib.suppress(Exception):  # a line that can't be read ends it; those before it count
        keys.load(str(file))
    return list((keys.lookup(name) or {}).values())
