"""The playbooks that make a state and a release with Ansible, as people write them: a task a kind, with `loop`.

They are written as JSON, which YAML contains. Facts aren't gathered, since nothing here needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.state import File, State

Task = dict[str, Any]


def _play(tasks: Sequence[Task], handlers: Sequence[Task] = ()) -> str:
    play = {"hosts": "all", "become": True, "gather_facts": False, "tasks": list(tasks), "handlers": list(handlers)}
    return json.dumps([play], indent=1)


def _loop(name: str, module: str, arguments: Mapping[str, str], items: Sequence[Mapping[str, str]]) -> Task:
    """A task over items, whose values stand in `arguments` as ``{{ item.… }}``."""
    given = {key: f"{{{{ item.{value[1:]} }}}}" if value.startswith("@") else value for key, value in arguments.items()}
    return {
        "name": name, f"ansible.builtin.{module}": given, "loop": list(items), "loop_control": {"label": "{{ item }}"}
    }  # fmt: skip


def _files(name: str, module: str, files: Sequence[File], sources: Mapping[str, Path]) -> Task:
    arguments = {"src": "@src", "dest": "@path", "owner": "@user", "group": "@group", "mode": "@mode"}
    items = [
        {
            "src": str(sources[file.path]),
            "path": file.path,
            "user": file.user,
            "group": file.group,
            "mode": f"0{file.mode}",
        }
        for file in files
    ]
    return _loop(name, module, arguments, items)


def state_playbook(state: State, sources: Mapping[str, Path]) -> str:
    """The playbook of a state.

    + sources: path on the host → file here with its content
    """
    handlers = {
        begin: {"name": f"after {begin}", "ansible.builtin.shell": command}
        for begin, command in state.afterwards([*sources, *(link.path for link in state.links)]).items()
    }
    tasks: list[Task] = [
        {"name": "packages", "ansible.builtin.apt": {"name": list(state.packages), "install_recommends": False}}
    ]
    tasks.append(
        _loop(
            "users",
            "user",
            {"name": "@name", "home": "@home", "shell": "@shell", "system": "true", "create_home": "false"},
            [{"name": each.name, "home": each.home, "shell": each.shell} for each in state.users],
        )
    )
    tasks.append(
        _loop(
            "folders",
            "file",
            {"path": "@path", "state": "directory", "owner": "@user", "group": "@group", "mode": "@mode"},
            [
                {"path": each.path, "user": each.user, "group": each.group, "mode": f"0{each.mode}"}
                for each in state.folders
            ],
        )
    )
    begins = [*handlers, ""]
    by_begin: dict[str, list[File]] = {begin: [] for begin in begins}
    for file in state.files:
        by_begin[next(begin for begin in begins if file.path.startswith(begin))].append(file)
    for begin, files in by_begin.items():
        for module in ("template", "copy"):
            chosen = [each for each in files if each.is_template == (module == "template")]
            if chosen:
                task = _files(f"{module} {begin}", module, chosen, sources)
                tasks.append(task | ({"notify": f"after {begin}"} if begin else {}))
    tasks += [
        {"name": each.what, "ansible.builtin.shell": {"cmd": each.command, "creates": each.creates}}
        for each in state.made
    ]
    tasks.append(
        _loop(
            "links",
            "file",
            {"path": "@path", "src": "@target", "state": "link", "force": "true"},
            [{"path": each.path, "target": each.target} for each in state.links],
        )
    )
    tasks.append(_loop("absent", "file", {"path": "@path", "state": "absent"}, [{"path": p} for p in state.absent]))
    tasks.append(
        _loop(
            "units",
            "systemd_service",
            {"name": "@name", "enabled": "true", "state": "started"},
            [{"name": each} for each in state.units],
        )
    )
    return _play(tasks, list(handlers.values()))


def release_playbook(steps: Mapping[str, str], archive: Path, folder: str, current: str, unit: str, user: str) -> str:
    """The playbook of a release.

    + steps: what → shell command in the release's folder; those named "migrate" run as `user`
    + archive: the source, here
    + folder: of the release
    + current: link to it
    + unit: service to restart
    """
    tasks: list[Task] = [
        {"name": "folder", "ansible.builtin.file": {"path": folder, "state": "directory", "mode": "0755"}},
        {"name": "code", "ansible.builtin.unarchive": {"src": str(archive), "dest": folder}},
    ]
    for what, command in steps.items():
        task: Task = {"name": what, "ansible.builtin.shell": {"cmd": command, "chdir": folder}}
        tasks.append(task | ({"become_user": user} if what == "migrate" else {}))
    tasks += [
        {"name": "link", "ansible.builtin.file": {"path": current, "src": folder, "state": "link"}},
        {"name": "restart", "ansible.builtin.systemd_service": {"name": unit, "state": "restarted"}},
    ]
    return _play(tasks)
