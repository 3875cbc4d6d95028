"""The throw-away VPS of `python -m tests.target up`, as `make demo` uses it.

SLIPWAY_TARGET=name      which target (default: demo)
SLIPWAY_APPS=a,b         which apps of those below (default: notes)
SLIPWAY_SSH_USER=root    log in as root and use no sudo (default: the target's sudo user)
"""

import json
import os
from pathlib import Path

from pyinfra.api.exceptions import InventoryError

_name = os.environ.get("SLIPWAY_TARGET") or "demo"
_description = Path(__file__).resolve().parents[1] / ".target" / _name / "target.json"
if not _description.is_file():
    _command = "make demo" if _name == "demo" else f"python -m tests.target up --name {_name}"
    raise InventoryError(f"no target {_name} is up; `{_command}` brings it up, SLIPWAY_TARGET names another one")
_target = json.loads(_description.read_text())

_probe = {  # both examples have these, for `--data prove=true`
    "short": ["/api/whoami", "/healthz"],
    "slow": "/api/slow?seconds=1.5",
    "upload": "/api/upload",
    "websocket": "/ws",
    "stream": "/api/events",
}
_examples = {
    "notes": {
        "domains": ["notes.test"],
        "source": {"path": "../examples/notes"},
        "app": "notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "static": {"path": "static"},
        "probe": _probe,
    },
    "litestar-notes": {
        "domains": ["litestar.test"],
        "source": {"path": "../examples/litestar-notes"},
        "app": "litestar_notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "static": {"path": "static"},
        "probe": _probe,
    },
}
_chosen = [_app.strip() for _app in (os.environ.get("SLIPWAY_APPS") or "notes").split(",")]
if _unknown := [_app for _app in _chosen if _app not in _examples]:
    raise InventoryError(f"SLIPWAY_APPS: there is no {', '.join(_unknown)}; it takes {' and '.join(_examples)}")

_user = os.environ.get("SLIPWAY_SSH_USER") or _target["ssh"]["user"]

hosts = [
    (
        f"@slipway/{_target['container']}",
        {
            "ssh_hostname": _target["ssh"]["host"],
            "ssh_port": _target["ssh"]["port"],
            "ssh_user": _user,
            "ssh_key": _target["ssh"]["key"],
            "ssh_known_hosts_file": _target["ssh"]["known_hosts"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "_sudo": _user != "root",
            # Where tests/host finds the sites: at its ports on 127.0.0.1, with certificates of the test CA.
            "verify": {
                "address": "127.0.0.1",
                "http_port": _target["http_port"],
                "https_port": _target["https_port"],
                "ca_file": _target["ca_file"],
            },
            "slipway": {
                "acme": {
                    "email": "ops@example.com",
                    "directory": _target["acme_directory"],
                    "ca_file": _target["acme_ca_file"],
                },
                "python": _target["python"],
                "apps": {_app: _examples[_app] for _app in _chosen},
            },
        },
    )
]
