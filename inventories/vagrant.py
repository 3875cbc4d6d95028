"""The virtual machine of `vagrant up` (see Vagrantfile), deployed to by: pyinfra inventories/vagrant.py deploy.py

No ACME server can reach it, so its certificate is self-signed.
SLIPWAY_VAGRANT=trixie   which of the Vagrantfile's machines (default: bookworm)
"""

import os
import shutil
import subprocess
from pathlib import Path

from pyinfra.api.exceptions import InventoryError

_machine = os.environ.get("SLIPWAY_VAGRANT") or "bookworm"
_root = Path(__file__).resolve().parents[1]

if not shutil.which("vagrant"):
    raise InventoryError("Vagrant is not installed; install it, then run `vagrant up`")


def _vagrant(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["vagrant", *arguments], cwd=_root, capture_output=True, text=True, check=False)


def _port(inside: int) -> int:
    """Port on 127.0.0.1 that leads to the machine's; the Vagrantfile's own number may have been taken."""
    asked = _vagrant("port", _machine, "--guest", str(inside))
    return int(asked.stdout) if asked.returncode == 0 else {80: 8080, 443: 8443}[inside]


_asked = _vagrant("ssh-config", _machine)
if _asked.returncode:
    raise InventoryError(f"machine {_machine} is not up; run `vagrant up {_machine}`")

# Lines of ssh's own format: "  Port 2222", values quoted where they have spaces.
_pairs = (_line.strip().split(None, 1) for _line in _asked.stdout.splitlines())
_ssh = {_pair[0]: _pair[1].strip('"') for _pair in _pairs if len(_pair) == 2}

hosts = [
    (
        f"slipway-{_machine}",
        {
            "ssh_hostname": _ssh["HostName"],
            "ssh_port": int(_ssh["Port"]),
            "ssh_user": _ssh["User"],
            "ssh_key": _ssh["IdentityFile"],
            # Vagrant's forwarded port is another machine after every `vagrant destroy`, with another host key.
            "ssh_known_hosts_file": "/dev/null",
            "ssh_strict_host_key_checking": "no",
            "_sudo": True,
            # Where tests/host finds the site.
            "verify": {"address": "127.0.0.1", "http_port": _port(80), "https_port": _port(443)},
            "slipway": {
                "apps": {
                    "notes": {
                        "domains": ["notes.test"],
                        "source": {"path": "../examples/notes"},
                        "app": "notes.main:app",
                        "tls": {"mode": "self-signed"},
                    },
                },
            },
        },
    )
]
