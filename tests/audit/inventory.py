"""inventories/docker.py, with a secret for its apps: the file that SLIPWAY_AUDIT_ENV names."""

import os
import runpy
from pathlib import Path

_docker = Path(__file__).resolve().parents[2] / "inventories/docker.py"
hosts = runpy.run_path(str(_docker))["hosts"]
for _, _data in hosts:
    for _app in _data["slipway"]["apps"].values():
        _app["source"]["path"] = str((_docker.parent / _app["source"]["path"]).resolve())
        _app["env_file"] = os.environ["SLIPWAY_AUDIT_ENV"]
