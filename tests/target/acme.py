"""The ACME server beside a target: Pebble with a DNS of its own, and the web server of the mirror of Pythons.

Pebble keeps accounts and certificates in memory and makes a new root at every start: it stays up while the target
reboots, and `up` and `status` fetch its root again.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.target.console import TargetError, tail
from tests.target.engine import call, docker
from tests.target.image import Context, archive
from tests.target.keys import write_private

DIRECTORY = "https://acme:14000/dir"
"""ACME directory, as seen from inside a target's network."""

EAB = {"key_id": "slipway-test", "hmac_key": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
"""An external account binding the server knows and doesn't ask for (Pebble's documented example key); see
`demand_binding`."""


@dataclass(frozen=True)
class Addresses:
    """Where the processes of an ACME server's container listen, and where its challenges go.

    The defaults are for a container in a network of its own, beside a target in a container.
    """

    acme: str = "0.0.0.0:14000"
    management: str = "0.0.0.0:15000"
    dns: str = ":8053"
    dns_management: str = ":8055"
    mirror: str = "8080"
    """As busybox's httpd takes it: a port, or address:port."""
    # Challenges are looked up at the ports of a real CA; Pebble's own defaults are 5002 and 5001.
    http_port: int = 80
    tls_port: int = 443

    def environment(self) -> dict[str, str]:
        """What acme-run.sh reads."""
        return {"DNS": self.dns, "DNS_MANAGEMENT": self.dns_management, "MIRROR": self.mirror}


def config(addresses: Addresses) -> dict[str, dict[str, Any]]:
    """Pebble's configuration."""
    return {
        "pebble": {
            "listenAddress": addresses.acme,
            "managementListenAddress": addresses.management,
            "certificate": "/etc/pebble/acme.pem",
            "privateKey": "/etc/pebble/acme.key",
            "httpPort": addresses.http_port,
            "tlsPort": addresses.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "externalAccountMACKeys": {EAB["key_id"]: EAB["hmac_key"]},
            # 90 days in seconds, as Let's Encrypt's; Pebble's own default is 5 years.
            "certificateValidityPeriod": 90 * 24 * 3600,
        }
    }


def demand_binding(container: str) -> None:
    """Let the ACME server of a running container refuse accounts that are bound to none (EAB); it begins anew."""
    known = 's/"externalAccountBindingRequired": false/"externalAccountBindingRequired": true/'
    docker("exec", container, "sed", "--in-place", known, "/etc/pebble/pebble.json")
    docker("restart", "--time", "5", container)


READY_TIMEOUT = 30
"""Seconds Pebble has to answer; usual is under 1."""


def create(
    image: str, options: list[str], target_ip: str, folder: Path, served: Context, addresses: Addresses = Addresses()
) -> str:
    """Create the ACME server's container, not started yet; returns its id.

    `target_ip`: what its DNS says of every name; `served`: the files of the mirror of Pythons; `addresses`: where it
    listens.
    """
    environment = {"TARGET_IP": target_ip, **addresses.environment()}
    given = [f"--env={name}={value}" for name, value in environment.items()]
    container = docker("create", *options, "--restart=unless-stopped", *given, image)
    files = {name: (folder / name).read_bytes() for name in ("acme.pem", "acme.key")}
    files["pebble.json"] = json.dumps(config(addresses), indent=1).encode()
    docker("cp", "-", f"{container}:/etc/pebble", stdin=archive(files))
    if served:
        docker("cp", "-", f"{container}:/srv/mirror", stdin=archive(served))
    return container


def wait(container: str, management_url: str, folder: Path) -> None:
    """Wait until Pebble answers, and leave the root of the certificates it issues in the folder's `ca.pem`."""
    until = time.monotonic() + READY_TIMEOUT
    while not refresh_root(management_url, folder):
        if time.monotonic() > until:
            logs = call("logs", "--tail", "15", container)
            raise TargetError(
                f"the ACME server does not answer after {READY_TIMEOUT} s; remove the target with `down`, then `up`\n"
                f"{tail(logs.stdout + logs.stderr)}"
            )
        time.sleep(0.2)


def refresh_root(management_url: str, folder: Path) -> bool:
    """Fetch the root of the issued certificates into the folder's `ca.pem`; False where Pebble does not answer."""
    try:
        context = ssl.create_default_context(cafile=str(folder / "acme-ca.pem"))
        with urllib.request.urlopen(f"{management_url}/roots/0", timeout=5, context=context) as answer:
            root: bytes = answer.read()
    except (urllib.error.URLError, OSError):
        return False
    path = folder / "ca.pem"
    if not path.is_file() or path.read_bytes() != root:
        write_private(path, root)
    return True
