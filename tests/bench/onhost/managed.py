"""Prints as JSON what is on this host at the places that it reads, as JSON, from its standard input.

Runs on the host as root, with nothing but its Python; tests/bench/state.py names the places.
"""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

UNITS = Path("/etc/systemd/system")


def about(path: Path) -> dict[str, str]:
    """Owner, group and mode of a path."""
    found = path.lstat()
    return {
        "path": str(path),
        "user": pwd.getpwuid(found.st_uid).pw_name,
        "group": grp.getgrgid(found.st_gid).gr_name,
        "mode": f"{stat.S_IMODE(found.st_mode):o}",
    }


def read(path: Path, into: dict[str, Any]) -> None:
    """Put one path where it belongs, once."""
    if any(each["path"] == str(path) for kind in ("links", "folders", "files") for each in into[kind]):
        return
    if path.is_symlink():
        into["links"].append({"path": str(path), "target": str(path.readlink())})
    elif path.is_dir():
        into["folders"].append(about(path))
    elif path.is_file():
        into["files"].append(about(path) | {"content": base64.b64encode(path.read_bytes()).decode()})


def walk(root: Path, pruned: list[str], into: dict[str, Any]) -> None:
    """Put `root` and all below it where it belongs, but for what is pruned."""
    if str(root) in pruned or not (root.exists() or root.is_symlink()):
        return
    read(root, into)
    if root.is_dir() and not root.is_symlink():
        for path in sorted(root.iterdir()):
            walk(path, pruned, into)


def says(*command: str) -> str:
    """What systemctl answers."""
    return subprocess.run(["systemctl", *command], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def main() -> None:
    """Read it all."""
    asked = json.load(sys.stdin)
    found: dict[str, Any] = {"folders": [], "files": [], "links": [], "users": [], "units": []}
    for root in asked["trees"]:
        walk(Path(root), asked["pruned"], found)
    for path in map(Path, asked["places"]):
        if path.exists() or path.is_symlink():
            read(path, found)
    units = [path for path in sorted(UNITS.iterdir()) if path.is_file() and not path.is_symlink()]
    for path in units:
        read(path, found)
    for name in asked["users"]:
        entry = pwd.getpwnam(name)
        found["users"].append({"name": name, "uid": entry.pw_uid, "home": entry.pw_dir, "shell": entry.pw_shell})
    for unit in [*asked["units"], *(path.name for path in units)]:
        if (says("is-enabled", unit), says("is-active", unit)) == ("enabled", "active"):
            found["units"].append(unit)
    found["uv"] = os.path.realpath("/opt/slipway/bin/uv")
    json.dump(found, sys.stdout)


main()
