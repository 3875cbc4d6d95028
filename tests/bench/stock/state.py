"""Stock pyinfra makes a state, by its own operations only: pyinfra INVENTORY tests/bench/stock/state.py

The host's data names the description (`state`, a JSON file: see tests/bench/tools.py).
"""

import json
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api.operation import OperationMeta
from pyinfra.facts import files as facts
from pyinfra.operations import apt, files, server, systemd
from pyinfra.operations.util import any_changed

state: dict[str, Any] = json.loads(Path(host.data.state).read_text())
changes: list[tuple[str, OperationMeta]] = []

apt.packages(name="packages", packages=state["packages"], no_recommends=True)
for user in state["users"]:
    server.user(name=user["name"], user=user["name"], system=True, home=user["home"], shell=user["shell"])
for folder in state["folders"]:
    files.directory(
        name=folder["path"], path=folder["path"], user=folder["user"], group=folder["group"], mode=folder["mode"]
    )
for file in state["files"]:
    put = files.template if file["template"] else files.put
    done = put(
        name=file["path"],
        src=file["source"],
        dest=file["path"],
        user=file["user"],
        group=file["group"],
        mode=file["mode"],
    )
    changes.append((file["path"], done))
for made in state["made"]:
    if not host.get_fact(facts.File, path=made["creates"]):
        server.shell(name=made["what"], commands=[made["command"]])
changes += [
    (link["path"], files.link(name=link["path"], path=link["path"], target=link["target"])) for link in state["links"]
]
for path in state["absent"]:
    files.link(name=f"no {path}", path=path, present=False)
for begin, command in state["afterwards"].items():
    server.shell(
        name=command, commands=[command], _if=any_changed(*(each for path, each in changes if path.startswith(begin)))
    )
for unit in state["units"]:
    systemd.service(name=unit, service=unit, running=True, enabled=True)
