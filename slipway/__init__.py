"""Slipway: from a machine that only answers SSH to an ASGI app served over HTTPS, checked and kept that way."""

import sys
from pathlib import Path

if (Path(__file__).parent / "project" / "deploy.py").is_file():
    # Installed: nothing is written there. The command finds another place for bytecode (slipway.project).
    sys.dont_write_bytecode = True
