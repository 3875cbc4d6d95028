"""Stock pyinfra releases an app, by its own operations only: pyinfra INVENTORY tests/bench/stock/release.py

The host's data says what (`release`, a JSON file: see tests/bench/tools.py).
"""

import json
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.operations import files, server, systemd

release: dict[str, Any] = json.loads(Path(host.data.release).read_text())
folder, archive = release["folder"], f"{release['folder']}.tar.gz"

files.directory(name="folder", path=folder, mode="755")
files.put(name="code", src=release["archive"], dest=archive)
server.shell(name="unpack", commands=[f"tar -xzf {archive} -C {folder} && rm {archive}"])
for what, command in release["steps"].items():
    user = {"_sudo_user": release["user"]} if what == "migrate" else {}
    server.shell(name=what, commands=[f"cd {folder} && {command}"], **user)
files.link(name="link", path=release["current"], target=folder)
systemd.service(name="restart", service=release["unit"], restarted=True)
