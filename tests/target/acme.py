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
from pathlib import Path

from tests.target.console import TargetError, tail
from tests.target.engine import call, docker
from tests.target.image import archive
from tests.target.keys import write_private

DIRECTORY = "https://acme:14000/dir"
"""ACME directory, as seen from inside a target's network."""

EAB = {"key_id": "slipway-test", "hmac_key": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
"""An external account binding the server knows and doesn't ask for (Pebble's documented example key)."""

CONFIG = {
    "pebble": {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble/acme.pem",
        "privateKey": "/etc/pebble/acme.key",
        # Challenges are looked up at the ports of a real CA; Pebble's own defaults are 5002 and 5001.
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "externalAccountMACKeys": {EAB["key_id"]: EAB["hmac_key"]},
        # 90 days in seconds, as Let's Encrypt's; Pebble's own default is 5 years.
        "certificateValidityPeriod": 90 * 24 * 3600,
    }
}
"""Pebble's configuration."""

READY_TIMEOUT = 30
"""Seconds Pebble has to answer; usual is under 1."""


def create(image: str, options: list[str], target_ip: str, folder: Path, mirror: Path | None) -> str:
    """Create the ACME server's container, not started yet; `mirror`: folder that it serves. Returns its id."""
    container = docker("create", *options, "--restart=unless-stopped", f"--env=TARGET_IP={target_ip}", image)
    files = {name: (folder / name).read_bytes() for name in ("acme.pem", "acme.key")}
    files["pebble.json"] = json.dumps(CONFIG, indent=1).encode()
    docker("cp", "-", f"{container}:/etc/pebble", stdin=archive(files))
    if mirror:
        served = {path.name: path.read_bytes() for path in mirror.iterdir()}
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
