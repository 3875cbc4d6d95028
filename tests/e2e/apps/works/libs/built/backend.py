"""A build backend (PEP 517, PEP 660) without dependencies: it builds a module with the hash of the token it got."""

import hashlib
import importlib
import json
import os
import zipfile
from pathlib import Path

TOKEN = os.environ.get("UV_INDEX_INTERNAL_PASSWORD", "")
METADATA = "Metadata-Version: 2.1\nName: built\nVersion: 1.0.0\nRequires-Python: >=3.11\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    """Write the wheel; fail, and tell the token, where a file named "fail" lies beside this one.

    In the wheel is what an attack.py beside this file has SEEN.
    """
    if Path("fail").exists():
        raise SystemExit(f"the index refused {TOKEN}")
    seen: dict[str, str] = {}
    if Path("attack.py").exists():
        seen = importlib.import_module("attack").SEEN
    name, info = "built-1.0.0-py3-none-any.whl", "built-1.0.0.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, name), "w") as wheel:
        told = (
            f'TOKEN = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\nUSER = {os.getuid()}\nSEEN = {json.dumps(seen)}\n'
        )
        wheel.writestr("built.py", told)
        wheel.writestr(f"{info}/METADATA", METADATA)
        wheel.writestr(f"{info}/WHEEL", WHEEL)
        wheel.writestr(f"{info}/RECORD", "")
    return name


build_editable = build_wheel
