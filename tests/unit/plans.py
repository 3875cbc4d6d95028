"""Plans of roles: what an operation would send to a host, in a form that a test reads well."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import logging
import runpy
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.api.config import Config
from pyinfra.api.host import Host, HostData
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import ctx_host, ctx_state

from roles.base import operations as base_operations
from roles.base.facts import PackageFacts, Packages
from roles.firewall.facts import Firewall, FirewallState
from roles.nginx import configuration
from roles.nginx.facts import NginxVersion, Versions
from roles.release.facts import GitCommits, ReleasePlan
from roles.ssh import HOST_KEYS, MODULI
from roles.ssh.facts import Sshd, SshdState
from roles.system import RESTRICTED, kernel, login_lines
from roles.system.facts import KernelSetting, KernelSettings, SwapFacts, sysctl_path
from slipway.engine import place as place_module
from slipway.engine.facts import Answer, Changed, Existing, Place, Places, Texts, Unit
from slipway.engine.host import PROGRAM, HostFacts
from slipway.engine.overview import HostOverview, Overview
from slipway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""What a git source's branch points to."""
KEX = frozenset({"sntrup761x25519-sha512@openssh.com", "curve25519-sha256", "diffie-hellman-group14-sha1"})
"""Key exchanges that a host's sshd knows."""
VERSIONS = Versions((1, 22, 1), (3, 0))
"""Debian 12's."""
Facts = dict[type, Any]
"""Fact → its value, or a function of the fact's arguments that returns it."""


class NginxStatus:
    """Among facts: what `HostFacts` tells of nginx."""


class ReleaseStatus:
    """Among facts: what `HostFacts` tells of an app; a function gets its name."""


class Certificates:
    """Among facts: what `HostFacts` tells of certbot's."""


class RollbackTarget:
    """Among facts: what `HostFacts` tells of where an app would go back to; a function gets its name, and what for."""


def host_facts(facts: Facts, apps: tuple[str, ...], targets: tuple[tuple[str, str | None], ...] = ()) -> dict[str, Any]:
    """`HostFacts`, made of these."""

    def told(kind: type, *arguments: Any) -> Any:
        return facts[kind](*arguments) if callable(facts[kind]) else facts[kind]

    return {
        "nginx": told(NginxStatus),
        "apps": {app: told(ReleaseStatus, app) for app in apps},
        "certificates": told(Certificates),
        "targets": {app: told(RollbackTarget, app, to) for app, to in targets},
    }


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
    def place(self) -> Place:
        """What the host says of it afterwards."""
        return Place("f", self.mode, self.user, self.group, hashlib.sha256(self.content).hexdigest())


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
    def steps(self) -> list[list[str]]:
        """The steps that it puts things in their place by (`placing`), each as words."""
        if self.argv[:2] != ["sh", "-c"] or not self.argv[2].startswith(place_module._STEPS):
            return []
        lines = self.argv[2].removeprefix(place_module._STEPS).splitlines()
        return [words for line in lines if (words := shlex.split(line))]

    @cached_property
    def writes(self) -> dict[str, Write]:
        """Path → file that it makes."""
        rest = gzip.decompress(base64.b64decode(self.stdin, validate=True)) if self.stdin and self.steps else b""
        made = {}
        for verb, *words in self.steps:
            if verb == "receive":
                path, length, digest, owner, mode = words
                content, rest = rest[: int(length)], rest[int(length) :]
                assert hashlib.sha256(content).hexdigest() == digest, path
                user, _, group = owner.partition(":")
                made[path] = Write(path, content, user, group, mode)
        assert [words[1] for words in self.steps if words[0] == "put"] == list(made)
        assert rest == b""
        return made


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
        return {path: write for command in self.commands for path, write in command.writes.items()}

    def steps(self, verb: str) -> dict[str, list[str]]:
        """What the steps of a kind are about → the rest of their words."""
        return {words[1]: words[2:] for command in self.commands for words in command.steps if words[0] == verb}


class Plan(list[Operation]):
    """The operations of a role, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, set[str]] = {}
        """Name of a fact → the arguments that it was asked with."""

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

    def steps(self, verb: str) -> dict[str, list[str]]:
        """What the steps of a kind are about → the rest of their words."""
        return {about: words for operation in self for about, words in operation.steps(verb).items()}

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
    asked = (command for operation in done for command in operation.commands if command.argv[:3] == RELEASE)
    return {command.argv[3]: json.loads(command.stdin)["wanted"] for command in asked}


RELEASE = [PROGRAM, "release", "--request"]
"""The command that releases an app, whose name follows."""


def ways_in(done: Plan) -> dict[str, Any]:
    """What `slipway access` is asked to change."""
    apply = [PROGRAM, "access", "apply"]
    asked = [command for operation in done for command in operation.commands if command.argv == apply]
    assert len(asked) == 1
    request: dict[str, Any] = json.loads(asked[0].stdin)
    return request


def status_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """`ReleaseStatus` of an app whose release r1 serves as it should, and was made from what is wanted."""
    return {"release": "r1", "inputs": wanted["inputs"], "faults": [], "rolled_back": [], "wanted": wanted}


def after(done: Plan, before: Facts, settings: Settings) -> Facts:
    """Facts of the host once `done` was carried out, and its certificates came: all that it wrote, made and enabled."""
    lines = [command.argv for operation in done for command in operation.commands]
    there = {path: write.place for path, write in done.writes.items()}
    for path, (owner, mode) in done.steps("folder").items():
        user, _, group = owner.partition(":")
        there[path] = Place("d", mode, user, group)
    there |= {path: Place("l", target=target) for path, (target,) in done.steps("link").items()}
    there |= {
        name: Place("account", target=place_module.SHELL, expires=place_module.EXPIRED)
        for name in done.steps("account")
    }
    there |= {path: Place("d", mode, "root", "root") for path, mode in RESTRICTED.items()}
    access = ways_in(done)
    for each in access["files"]:
        user = access["account"] if each["owned"] else "root"
        there[each["path"]] = Place("f", each["mode"], user, user, hashlib.sha256(each["content"].encode()).hexdigest())
    there[MODULI] = Place("f", "644", "root", "root")
    if access["account"]:
        there[access["account"]] = Place("account", target="/bin/bash")
    effective: dict[str, tuple[str, ...]] = {}
    for keyword, value in access["options"]:
        effective[keyword] = (*effective.get(keyword, ()), value)
    ports = frozenset(int(port) for port in effective.get("port", ()))
    sshd = dataclasses.replace(before[SshdState], effective=effective, bits=HOST_KEYS, own_ports=ports)
    homes = {name: home for name, (home,) in done.steps("account").items()}
    released = wanted_by(done)
    installs = [argv for argv in lines if argv[:3] == ["sh", "-c", base_operations._APT]]
    installed = before[Packages].installed | {package for argv in installs for package in argv[6:]}
    made = configuration(settings, VERSIONS, lambda path: True)
    files = {path: text.replace("@GENERATION@", "g") for path, text in made.items()}
    login = "\n".join(f"{key} {value}" for key, value in login_lines(settings).items())
    signed = "\n".join(
        f"{app.certificate_path} {' '.join(f'DNS:{domain},' for domain in app.domains)}"
        for app in settings.apps.values()
    )
    answers = {"/etc/login.defs": login, "pam-auth-update": "used", "/etc/passwd": "", "openssl x509": signed}
    users = frozenset(app.user for app in settings.apps.values())
    ports = frozenset(app.port for app in settings.apps.values() if app.port)
    return before | {
        Places: lambda **asked: {path: there[path] for paths in asked.values() for path in paths if path in there},
        Answer: lambda question: next((told for asked, told in answers.items() if asked in question), "yes"),
        KernelSettings: {
            sysctl_path(key): KernelSetting(each.value, writable=True)
            for _, values in kernel(settings, multihomed=False)
            for key, each in values.items()
        },
        SwapFacts: {"swaps": "1"},
        Existing: lambda paths: frozenset(paths),
        Changed: {},
        Unit: {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"},
        Packages: PackageFacts(installed, interrupted=False),
        NginxVersion: VERSIONS,
        NginxStatus: {"generation": "g", "managed": True, "live": True, "files": files},
        Certificates: {
            name: {"server": settings.acme_directory_url, "domains": sorted(app.domains), "valid": True}
            for name, app in settings.apps.items()
        },
        Overview: dataclasses.replace(before[Overview], users=before[Overview].users | homes),
        ReleaseStatus: lambda app: status_of(released[app]),
        SshdState: sshd,
        FirewallState: Firewall(loaded=True, live=True, users=users, ports=ports),
    }


# ── a host of facts, and plans for it ────────────────────────────────────────────────────────────────────────────────


def good_overview() -> HostOverview:
    """A host that nothing speaks against."""
    return HostOverview(
        distribution="debian",
        release="12",
        architecture="x86_64",
        systemd=True,
        root=True,
        cores=4,
        memory_mb=4000,
        disk_free_mb=20000,
        clock=int(time.time()),
        listeners={},
        users={"root": "/root", "www-data": "/var/www"},
    )


def bare_facts(overview: HostOverview) -> Facts:
    """Facts of a host that has nothing but systemd, sshd and IPv6."""
    return {
        Overview: overview,
        Places: {},
        Texts: lambda paths: dict.fromkeys(paths, ""),
        Answer: "",
        # Only what comes with the kernel is there yet.
        Existing: lambda paths: frozenset({"/proc/net/if_inet6"} & {*paths}),
        Unit: {},
        Changed: {},
        KernelSettings: {"kernel/kptr_restrict": KernelSetting("0", writable=True)},
        SwapFacts: {"swaps": "0", "type": "ext2/ext3", "free": "20000"},
        Packages: PackageFacts(frozenset({"python3"}), interrupted=False),
        NginxVersion: None,
        NginxStatus: {},
        ReleaseStatus: {},
        ReleasePlan: {},
        Certificates: {},
        RollbackTarget: {},
        GitCommits: lambda sources: dict.fromkeys(range(len(sources)), COMMIT),
        SshdState: Sshd({"port": ("22",)}, KEX, {"ed25519": 256, "rsa": 3072}, used=frozenset({22})),
        FirewallState: Firewall(),
    }


def planner(patch: pytest.MonkeyPatch, bare: Facts) -> Planner:
    """What the fixture `plan` gives; `patch` undoes what it takes."""
    patch.setattr(logging.getLogger("pyinfra"), "propagate", True)
    reasons: list[str] = []
    patch.setattr(Host, "noop", lambda host, reason: reasons.append(reason))

    def make(
        role: Callable[..., Any],
        *arguments: Any,
        facts: Facts | None = None,
        failing: tuple[str, ...] = (),
        diff: bool = False,
        **named: Any,
    ) -> Plan:
        known = bare if facts is None else facts

        planned = Plan()

        def get_fact(host: Host, fact: type, *arguments: Any, **named: Any) -> Any:
            planned.asked.setdefault(fact.__name__, set()).add(repr((arguments, sorted(named.items()))))
            if fact is HostFacts:
                return host_facts(known, *arguments, **named)
            assert fact in known, f"undeclared fact: {fact.__name__}{arguments}{named}"
            value = known[fact]
            return value(*arguments, **named) if callable(value) else value

        patch.setattr(Host, "get_fact", get_fact)
        inventory = Inventory((["@fake"], {}), production=(["@fake"], {}))  # type: ignore[no-untyped-call]
        state = State(inventory, Config(DIFF=diff))  # type: ignore[no-untyped-call]
        host = inventory.get_host("@fake")
        state.activate_host(host)
        state.set_stage(StateStage.Prepare)
        with ctx_state.use(state), ctx_host.use(host):
            role(*arguments, **named)
            state.set_stage(StateStage.Execute)
            state.is_executing = True
            for key, operation in state.ops[host].items():
                (name,) = state.op_meta[key].names
                reasons.clear()
                sent = list(operation.command_generator())
                operation.operation_meta.set_complete(name not in failing, sent, CommandOutput([]))
                planned.append(Operation(name, [command_of(each) for each in sent], list(reasons)))
        return planned

    return make


def deploy_planner(patch: pytest.MonkeyPatch, plan: Planner, inventory: Path, bare_plans: dict[str, Plan]) -> Planner:
    """What the fixture `plan_deploy` gives, for an `inventory` that need not say anything."""

    def make(data: Mapping[str, Any], *arguments: str, entry: str = "deploy.py", **options: Any) -> Plan:
        patch.setattr(sys, "argv", ["pyinfra", str(inventory), entry, *arguments])
        given = {name: value for name, _, value in (word.partition("=") for word in arguments if "=" in word)}
        patch.setattr(HostData, "dict", lambda self: {"ssh_user": "deploy", "slipway": data} | given)
        if options or arguments or entry != "deploy.py":
            return plan(runpy.run_path, str(ROOT / entry), **options)
        key = json.dumps(data)
        if key not in bare_plans:
            bare_plans[key] = plan(runpy.run_path, str(ROOT / "deploy.py"))
        return bare_plans[key]

    return make
