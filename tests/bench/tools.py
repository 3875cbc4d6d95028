"""The tools that are measured: each makes the same state over SSH, looks what it would do, and releases an app."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pprint
import re
import shlex
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from tests.bench import script, state
from tests.bench.playbook import release_playbook, state_playbook
from tests.bench.state import File, State
from tests.bench.subject import APP, PLAIN, Bench, BenchError, Outcome, pack, run
from tests.e2e._driver import ROOT, Run


class Tool(ABC):
    """One tool; its runs go through the relay, over connections of their own."""

    name: ClassVar[str]
    """As the command line names it."""
    title: ClassVar[str]
    """As the table does."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @abstractmethod
    def describe(self) -> None:
        """Write the tool's files for the description as it is now."""

    @abstractmethod
    def converge(self) -> Outcome:
        """Make the state."""

    @abstractmethod
    def dry(self) -> Outcome:
        """Look what would be changed."""

    @abstractmethod
    def release(self) -> Outcome:
        """Release new code."""


class Slipway(Tool):
    """This project, by the commands of its README."""

    name, title = "slipway", "Slipway"

    @override
    def describe(self) -> None:
        """Its own inventory is the description."""

    @staticmethod
    def _outcome(done: Run) -> Outcome:
        return Outcome(done.seconds, len(done.changed))

    @override
    def converge(self) -> Outcome:
        return self._outcome(self.bench.far.deploy())

    @override
    def dry(self) -> Outcome:
        return self._outcome(self.bench.far.deploy("--dry"))

    @override
    def release(self) -> Outcome:
        self.bench.new_code()
        return self._outcome(self.bench.far.task("tasks/release.py", app=APP))


class Stock(Tool):
    """pyinfra by its own operations and its own connector."""

    name, title = "pyinfra", "stock pyinfra"

    def _run(self, entry: str, *options: str, **data: str) -> tuple[float, str]:
        address = self.bench.address
        connection: dict[str, Any] = {
            "ssh_hostname": address.host, "ssh_port": address.port, "ssh_user": address.user, "ssh_key": address.key,
            "ssh_known_hosts_file": address.known_hosts, "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False, "ssh_look_for_keys": False, "_sudo": True, **data,
        }  # fmt: skip
        inventory = self.bench.folder / "stock.py"
        inventory.write_text(f"hosts = {pprint.pformat([('stock', connection)])}\n")
        pyinfra = Path(sys.executable).with_name("pyinfra")
        entry_file = Path(__file__).parent / "stock" / entry
        # Not in this project's folder: its config.py is for its own inventories.
        return run([str(pyinfra), *options, str(inventory), str(entry_file)], cwd=self.bench.folder)

    @staticmethod
    def changed(told: str) -> int:
        """How many operations changed something, from pyinfra's JSON."""
        operations = json.loads(told)["results"]["operations"]
        return sum(bool(each["success"]) for each in operations)

    @override
    def describe(self) -> None:
        described = self.bench.state
        values = dataclasses.asdict(dataclasses.replace(described, files=())) | {
            "files": [
                {"path": each.path, "user": each.user, "group": each.group, "mode": each.mode,
                 "source": str(self.bench.sources[each.path]), "template": each.is_template}
                for each in described.files
            ],
            "afterwards": state.AFTERWARDS,
        }  # fmt: skip
        (self.bench.folder / "stock.json").write_text(json.dumps(values))

    @override
    def converge(self) -> Outcome:
        seconds, told = self._run("state.py", "-y", "--json", state=str(self.bench.folder / "stock.json"))
        return Outcome(seconds, self.changed(told))

    @override
    def dry(self) -> Outcome:
        seconds, _ = self._run("state.py", "--dry", state=str(self.bench.folder / "stock.json"))
        return Outcome(seconds, 0)

    @override
    def release(self) -> Outcome:
        release = self.bench.plain_release()
        values = {
            "folder": release.folder, "current": release.current, "unit": PLAIN, "user": APP,
            "archive": str(release.archive), "steps": dict(release.steps),
        }  # fmt: skip
        path = self.bench.folder / "release.json"
        path.write_text(json.dumps(values))
        began = time.monotonic()
        pack(self.bench.app, release.archive)
        _, told = self._run("release.py", "-y", "--json", release=str(path))
        return Outcome(time.monotonic() - began, self.changed(told))


class Ansible(Tool):
    """Ansible with pipelining, over one connection a run that it keeps (ControlPersist)."""

    name, title = "ansible", "Ansible"
    environment: ClassVar[Path] = ROOT / ".venv/bench"

    @classmethod
    def install(cls) -> None:
        """Make the environment that Ansible and Mitogen have to themselves, as uv.lock has them."""
        uv = Path(sys.executable).with_name("uv")
        sync = [str(uv), "sync", "--quiet", "--locked", "--only-group", "bench", "--python", sys.executable]
        run(sync, environment={"UV_PROJECT_ENVIRONMENT": str(cls.environment)})

    @classmethod
    def versions(cls) -> list[str]:
        """Names and versions of what was installed there."""
        names = ("ansible_core", "mitogen")
        found = (path.name for name in names for path in cls.environment.glob(f"lib/python3*/site-packages/{name}-*"))
        return [" ".join(name.removesuffix(".dist-info").split("-")) for name in found]

    def _settings(self) -> dict[str, str]:
        """Variables that Ansible gets beside its usual ones."""
        return {}

    @contextlib.contextmanager
    def _sockets(self) -> Iterator[Path]:
        """A folder for kept connections, which are closed in the end: each run makes its own."""
        with tempfile.TemporaryDirectory(prefix="slb") as folder:
            try:
                yield Path(folder)
            finally:
                for control in Path(folder).iterdir():
                    if control.is_socket():
                        subprocess.run(
                            ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "any"],
                            capture_output=True,
                            check=False,  # it may have ended by itself
                        )

    def _run(self, playbook: Path, *options: str) -> Outcome:
        address = self.bench.address
        inventory = self.bench.folder / "ansible.ini"
        values = {
            "ansible_host": address.host,
            "ansible_port": str(address.port),
            "ansible_user": address.user,
            "ansible_ssh_private_key_file": address.key,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"'{shlex.join(address.options)}'",
        }
        inventory.write_text(" ".join(["far", *(f"{key}={value}" for key, value in values.items())]) + "\n")
        with self._sockets() as sockets:
            given = {
                "ANSIBLE_PIPELINING": "True",
                "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
                "ANSIBLE_LOCAL_TEMP": str(self.bench.folder / "ansible"),
                "ANSIBLE_NOCOLOR": "True",
                "ANSIBLE_HOME": str(self.bench.folder / "ansible"),
                "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}",
                "LC_ALL": "C.UTF-8",
            }
            seconds, told = run(
                [str(self.environment / "bin/ansible-playbook"), "-i", str(inventory), *options, str(playbook)],
                cwd=self.bench.folder,
                environment=given | self._settings(),
            )
        found = re.search(r"ok=\d+\s+changed=(\d+)", told)
        if not found:
            raise BenchError(f"{self.title} didn't say what it did:\n{told[-2000:]}")
        return Outcome(seconds, int(found[1]))

    @override
    def describe(self) -> None:
        (self.bench.folder / "state.yml").write_text(state_playbook(self.bench.state, self.bench.sources))
        # What its module for packages runs on: it would fetch it by itself, in its first run, and not with Mitogen.
        install = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-apt >/dev/null 2>&1"
        self.bench.near.ssh(f"{install} && apt-mark -qq auto python3-apt")

    @override
    def converge(self) -> Outcome:
        return self._run(self.bench.folder / "state.yml")

    @override
    def dry(self) -> Outcome:
        return self._run(self.bench.folder / "state.yml", "--check")

    @override
    def release(self) -> Outcome:
        release = self.bench.plain_release()
        path = self.bench.folder / "release.yml"
        path.write_text(release_playbook(release.steps, release.archive, release.folder, release.current, PLAIN, APP))
        began = time.monotonic()
        pack(self.bench.app, release.archive)
        done = self._run(path)
        return dataclasses.replace(done, seconds=time.monotonic() - began)


class Mitogen(Ansible):
    """Ansible with Mitogen in the place of its way to run modules."""

    name, title = "mitogen", "Ansible with Mitogen"

    @override
    def _settings(self) -> dict[str, str]:
        [plugins] = self.environment.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy")
        return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}


class Script(Tool):
    """A shell script on the standard input of one ssh."""

    name, title = "shell", "shell script"

    @override
    def describe(self) -> None:
        """The script is made for each run."""

    def _run(self, given: State, *, dry: bool = False) -> Outcome:
        text = script.script(given, dry=dry).encode()
        seconds, told = run(self.bench.address.ssh("exec sh -s"), given=text)
        return Outcome(seconds, int(told.split()[-2]))

    @override
    def converge(self) -> Outcome:
        return self._run(self.bench.state)

    @override
    def dry(self) -> Outcome:
        return self._run(self.bench.state, dry=True)

    @override
    def release(self) -> Outcome:
        release = self.bench.plain_release()
        text = script.release(release.steps, release.folder, release.current, PLAIN, APP)
        began = time.monotonic()
        pack(self.bench.app, release.archive)
        run(self.bench.address.ssh(text), given=release.archive.read_bytes())
        return Outcome(time.monotonic() - began, 1)

    def provision(self, archive: Path) -> Outcome:
        """Make the state on a bare host, the release included."""
        pack(self.bench.app, archive)
        source = File(state.archive_of(APP), "root", "root", "644", archive.read_bytes())
        return self._run(dataclasses.replace(self.bench.state, files=(*self.bench.state.files, source)))


TOOLS: Mapping[str, type[Tool]] = {each.name: each for each in (Slipway, Stock, Ansible, Mitogen, Script)}
"""By the name that the command line takes, in the table's order."""
