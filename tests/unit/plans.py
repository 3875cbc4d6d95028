"""Plans of roles: what an operation would send to a host, in a form that a test reads well."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.files import Directory, Link
from pyinfra.facts.server import Groups, Hostname, Users

from roles import _operations as operations
from roles._facts import Answer, FileFacts, FileState, NginxStatus, NginxVersion, Overview, ReleaseStatus, Unit
from roles.nginx import configuration
from roles.settings import Settings

Facts = dict[type, Any]
"""Fact → its value, or a function of the fact's arguments that returns it."""


@dataclass(frozen=True)
class Write:
    """A file that a command makes."""

    path: str
    content: bytes
    user: str
    group: str
    mode: str

    @property
    def text(self) -> str:
        """Its content, decoded."""
        return self.content.decode()

    @property
    def facts(self) -> FileFacts:
        """What the host says of it afterwards."""
        digest = hashlib.sha256(self.content).hexdigest()
        return FileFacts(mode=self.mode, user=self.user, group=self.group, sha256=digest)


@dataclass(frozen=True)
class Command:
    """A command that an operation sends."""

    line: str
    """What the host's process list shows: unmasked."""
    shown: str
    """What pyinfra prints with -vv."""
    stdin: str
    prober: Any = None
    """The traffic that it runs under."""

    @cached_property
    def argv(self) -> list[str]:
        """Its words, as a shell reads them."""
        return shlex.split(self.line)

    @cached_property
    def write(self) -> Write | None:
        """The file it makes, if that is what it does (`operations.put`)."""
        argv = self.argv
        if argv[:4] != ["sh", "-c", operations._PUT, "slipway"]:
            return None
        content = base64.b64decode(self.stdin, validate=True)
        assert int(argv[5]) == len(content), self.line
        return Write(argv[4], content, argv[6], argv[7], argv[8])


@dataclass
class Operation:
    """An operation of a plan: its whole name, what it sends, and why it does nothing where it does nothing."""

    name: str
    commands: list[Command] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The command lines, unmasked."""
        return [command.line for command in self.commands]

    @property
    def writes(self) -> dict[str, Write]:
        """Path → file it makes."""
        return {write.path: write for command in self.commands if (write := command.write)}


class Plan(list[Operation]):
    """The operations of a role, in their order."""

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [operation.name for operation in self]

    @property
    def changes(self) -> list[str]:
        """Names of those that do anything."""
        return [operation.name for operation in self if operation.commands]

    @property
    def writes(self) -> dict[str, Write]:
        """Path → file, of all of them."""
        return {path: write for operation in self for path, write in operation.writes.items()}

    def __call__(self, name: str) -> Operation:
        """The operation of this name, without the role's part of it."""
        found = [operation for operation in self if operation.name.split(" | ")[-1] == name]
        assert len(found) == 1, f"{len(found)} operations are called {name!r}: {self.names}"
        return found[0]


Planner = Callable[..., Plan]
"""`plan(role, *arguments, facts=…, **named)`, or `plan_deploy(data, facts=…)`: see the fixtures of these names."""


def command_of(sent: object) -> Command:
    """What a test may look at of a command that an operation yields."""
    # SFTP to a temporary file would leave a secret readable by every user of the host meanwhile.
    assert isinstance(sent, StringCommand), f"not a plain command: {sent!r}"
    stdin = sent.connector_arguments.get("_stdin") or ""
    assert isinstance(stdin, str)
    return Command(sent.get_raw_value(), sent.get_masked_value(), stdin, getattr(sent, "prober", None))


def wanted_by(done: Plan) -> dict[str, dict[str, Any]]:
    """App → what its release is to be made from, of those that `done` releases."""
    asked = (command for operation in done for command in operation.commands if command.argv[:3] == DEPLOY)
    return {command.argv[3]: json.loads(command.stdin)["wanted"] for command in asked}


DEPLOY = ["/opt/slipway/bin/slipway-release", "deploy", "--request"]
"""The command that releases an app, whose name follows."""


def status_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """`ReleaseStatus` of an app whose release r1 serves as it should, and was made from what is wanted."""
    return {"release": "r1", "inputs": wanted["inputs"], "faults": [], "rolled_back": [], "wanted": wanted}


def after(done: Plan, before: Facts, settings: Settings) -> Facts:
    """Facts of the host once `done` was carried out, and its certificates came: all that it wrote, made and enabled."""
    writes = done.writes
    lines = [command.argv for operation in done for command in operation.commands]
    directories: dict[str, dict[str, Any]] = {argv[2]: {} for argv in lines if argv[:2] == ["mkdir", "-p"]}
    for argv in lines:
        if argv[0] == "chmod" and argv[2] in directories:
            directories[argv[2]]["mode"] = int(argv[1])
        if argv[0] == "chown" and argv[2] in directories:
            directories[argv[2]] |= dict(zip(("user", "group"), argv[1].split(":"), strict=True))
    owner = {"user": "root", "group": "root"}
    links = {argv[-1]: {"link_target": argv[-2], **owner} for argv in lines if argv[:2] == ["ln", "-s"]}
    users = {}
    for argv in (argv for argv in lines if argv[0] == "useradd"):
        home, shell = argv[argv.index("-d") + 1], argv[argv.index("-s") + 1]
        users[argv[-1]] = {"home": home, "shell": shell, "group": argv[-1], "groups": []}
    released = wanted_by(done)
    homes = {name: user["home"] for name, user in users.items()}
    installs = [argv for argv in lines if argv[:3] == ["sh", "-c", operations._APT]]
    names = [argv[-1] for argv in lines if argv[0] in ("hostname", "hostnamectl")]
    made = configuration(settings, (1, 22, 1), lambda path: True)
    files = {path: text.replace("@GENERATION@", "g") for path, text in made.items()}
    return before | {
        FileState: lambda path: writes[path].facts if path in writes else None,
        Answer: lambda question: "" if question == operations.INTERRUPTED else "yes",
        Unit: {"ActiveState": "active", "UnitFileState": "enabled"},
        DebPackages: before[DebPackages] | {package: {"1"} for argv in installs for package in argv[4:]},
        NginxVersion: (1, 22, 1),
        NginxStatus: {"generation": "g", "managed": True, "live": True, "files": files},
        Overview: dataclasses.replace(before[Overview], users=before[Overview].users | homes),
        ReleaseStatus: lambda app: status_of(released[app]),
        Directory: directories.get,
        Link: links.get,
        Users: users,
        Groups: list(users),
        Hostname: names[-1] if names else before[Hostname],
    }
