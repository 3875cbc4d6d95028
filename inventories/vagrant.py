"""The virtual machine of `vagrant up` (see Vagrantfile), deployed to by: slipway apply inventories/vagrant.py

No ACME server can reach it, so its certificate is self-signed.
SLIPWAY_VAGRANT=trixie   which of the Vagrantfile's machines (default: bookworm)
"""

import os
import shutil
import subprocess
from pathlib import Path

from pyinfra.api.exceptions import InventoryError

_machine = os.environ.get("SLIPWAY_VAGRANT") or "bookworm"
if _machine not in ("bookworm", "trixie"):
    raise InventoryError(f"SLIPWAY_VAGRANT: there is no {_machine}; it takes bookworm and trixie")
if not shutil.which("vagrant"):
    raise InventoryError("Vagrant is not installed; install it, then run `vagrant up`")


def _vagrant(*arguments: str) -> list[str]:
    """Lines that Vagrant answers; none where it fails."""
    root = Path(__file__).resolve().parents[1]
    asked = subprocess.run(["vagrant", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return [] if asked.returncode else asked.stdout.splitlines()


# In ssh's own format: "  Port 2222", values quoted where they have spaces. Of several keys the first is the machine's
# own; the others are those that a new box comes with.
_ssh: dict[str, str] = {}
for _line in _vagrant("ssh-config", _machine):
    _name, _, _value = _line.strip().partition(" ")
    _ssh.setdefault(_name, _value.strip('"'))
if "HostName" not in _ssh:
    raise InventoryError(f"machine {_machine} is not up; run `vagrant up {_machine}`")

# A machine of libvirt has an address of its own; VirtualBox's are behind ports of 127.0.0.1.
_ports = {80: 80, 443: 443}
if _ssh["HostName"] == "127.0.0.1":
    # As "1764435600,bookworm,forwarded_port,443,8443".
    _fields = [_line.split(",") for _line in _vagrant("port", _machine, "--machine-readable")]
    _forwarded = {int(_field[3]): int(_field[4]) for _field in _fields if _field[2:3] == ["forwarded_port"]}
    if not _forwarded.keys() >= _ports.keys():
        raise InventoryError(
            f"no ports of 127.0.0.1 lead to 80 and 443 of machine {_machine}; run `vagrant reload {_machine}`"
        )
    _ports = _forwarded

hosts = [
    (
        f"@slipway/slipway-{_machine}",
        {
            "ssh_hostname": _ssh["HostName"],
            "ssh_port": int(_ssh["Port"]),
            "ssh_user": _ssh["User"],
            "ssh_key": _ssh["IdentityFile"],
            # Vagrant's address is another machine after every `vagrant destroy`, with another host key.
            "ssh_known_hosts_file": "/dev/null",
            "ssh_strict_host_key_checking": "no",
            "_sudo": True,
            # Where tests/host finds the site.
            "verify": {"address": _ssh["HostName"], "http_port": _ports[80], "https_port": _ports[443]},
            "slipway": {
                "apps": {
                    "notes": {
                        "domains": ["notes.test"],
                        "source": {"path": "../examples/notes"},
                        "app": "notes.main:app",
                        "liveness_path": "/healthz",
                        "readiness_path": "/readyz",
                        "tls": {"mode": "self-signed"},
                    },
                },
            },
        },
    )
]
