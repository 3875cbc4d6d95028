"""What reaches a host of some inventories, as texts: made by whole runs of deploy.py, kept in ``tests/unit/golden/``.

Each case is a folder there. A text lies at the path that it has on the host, complete; what else a case holds:

- ``files.txt``: mode, owner and path of every file of the case;
- ``release/APP.json``: what a release of an app is asked for with, its sandbox and that of its build among it;
- ``access.json``: what sshd, the firewall and the operator's account are asked for with;
- ``unsent/``: what is rendered and reaches no host of the case;
- ``commands.txt``, of the two large cases: all that is sent, and asked, operation by operation; a script by its name.

A case with a base holds only what differs from that of its base: what its change does can be read there in one look.
``scripts/`` holds the shell scripts of roles/ and slipway/engine/, a file each.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template

from roles import program
from roles.nginx.facts import NginxVersion, Versions
from roles.ssh.facts import Sshd, SshdState
from slipway.engine import templates
from slipway.engine.facts import Answer, Existing
from slipway.engine.host import PROGRAM
from tests.unit.inventories import MAXIMAL, MINIMAL, write_folder
from tests.unit.plans import (
    ROOT,
    Facts,
    Operation,
    Plan,
    bare_facts,
    deploy_planner,
    good_overview,
    planner,
    wanted_by,
    ways_in,
)

GOLDEN = Path(__file__).with_name("golden")
NO_TEXT = {"chain.pem", "key.pem", "deploy_key"}
"""Files of the inventories that are made anew by every run of the tests: named in place of their text."""
NGINX = "/etc/nginx/slipway"
VERSIONS = {
    "debian 12": Versions((1, 22, 1), (3, 0)),
    "debian 13": Versions((1, 26, 3), (3, 5)),
    "ubuntu 24.04": Versions((1, 24, 0), (3, 0)),
}
"""System → its nginx and OpenSSL."""
_KEX = {
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "sntrup761x25519-sha512@openssh.com",
}
KEX = {
    "debian 12": frozenset(_KEX),
    "ubuntu 24.04": frozenset(_KEX),
    "debian 13": frozenset(_KEX | {"mlkem768x25519-sha256", "sntrup761x25519-sha512"}),
}
"""System → the key exchanges that its sshd knows (`ssh -Q kex`)."""


@dataclass(frozen=True)
class Case:
    """An inventory, and a host that it is for."""

    of: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Path of a setting, with dots → its value; Ellipsis takes it out."""
    base: str = ""
    """The case whose texts are those of this one, unless it has its own."""
    system: str = "debian 12"
    overview: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say of the host."""
    ipv6: bool = True
    first: bool = False
    """As it is before there is a certificate."""
    commands: bool = False


CASES = {
    "minimal": Case(MINIMAL, commands=True),
    "maximal": Case(MAXIMAL, commands=True),
    "minimal-debian-13": Case(MINIMAL, base="minimal", system="debian 13"),
    "maximal-debian-13": Case(MAXIMAL, base="maximal", system="debian 13"),
    "maximal-before-certificates": Case(MAXIMAL, base="maximal", first=True),
    "maximal-without-ipv6": Case(MAXIMAL, base="maximal", ipv6=False),
    "maximal-debian-13-without-ipv6": Case(MAXIMAL, base="maximal-debian-13", system="debian 13", ipv6=False),
    "minimal-ubuntu": Case(MINIMAL, base="minimal", system="ubuntu 24.04"),
    "small-host-with-two-ways-out": Case(
        MINIMAL, base="minimal", overview={"memory_mb": 960, "cores": 1, "multihomed": True}
    ),
    "without-tls": Case(MINIMAL, {"apps.notes.tls": {"mode": "off"}}, base="minimal"),
    "without-firewall": Case(MINIMAL, {"firewall.enabled": False}, base="minimal"),
    "without-sshd": Case(MINIMAL, {"ssh.enabled": False}, base="minimal"),
    "without-limits": Case(
        MINIMAL,
        {
            "firewall.ssh_rate": 0,
            "firewall.connections": 0,
            "apps.notes.connections_per_client": None,
            "apps.notes.static": {"path": "static", "url": "/assets.v1/"},
            "apps.notes.rate_limits": {"/login": {"rate": "1r/s", "burst": 0}},
        },
        base="minimal",
    ),
    "without-hardening": Case(
        MINIMAL,
        {
            "nginx.sandbox": False,
            "updates": {"automatic": False, "restart": False},
            "system": {
                "hardened_kernel": False,
                "denied_modules": [],
                "core_dumps": True,
                "banner": None,
                "umask": None,
                "strong_passwords": False,
                "time_sync": False,
                "swap_mb": 0,
                "restrict_files": False,
                "verify_packages": False,
            },
        },
        base="minimal",
    ),
    "without-network": Case(
        MINIMAL,
        {
            "apps.notes.sandbox": {"network": "unix"},
            "apps.notes.env": {"DATABASE_URL": "postgresql:///notes?host=/run/postgresql"},
        },
        base="minimal",
    ),
    "some-system-settings": Case(MINIMAL, {"system.umask": None, "system.swap_mb": 512}, base="minimal"),
    "other-system-settings": Case(MINIMAL, {"system.core_dumps": True}, base="minimal"),
    "own-limits": Case(
        MINIMAL,
        {
            "apps.notes.limits": {
                "memory_mb": 700,
                "tasks": 64,
                "cpu_weight": 50,
                "shm_mb": 32,
                "tmp_mb": 128,
                "log_mb": 16,
            },
            "apps.notes.trusted_proxies": ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32", "2001:dba::/32"],
            "firewall.tcp_ports": [8443, 9443],
            "firewall.udp_ports": [51820, 51821],
            "ssh.port": 22022,
            "acme.staging": True,
        },
        base="minimal",
    ),
}


def inventory(case: Case) -> dict[str, Any]:
    """The ``slipway`` mapping of a case."""
    data: dict[str, Any] = copy.deepcopy(dict(case.of))
    for path, value in case.changes.items():
        *way, last = path.split(".")
        place = data
        for part in way:
            place = place.setdefault(part, {})
        place[last] = copy.deepcopy(value)
    return data


def facts(case: Case, asked: list[str]) -> Facts:
    """Facts of a bare host, which notes its questions in `asked`."""
    distribution, release = case.system.split()
    given = {"distribution": distribution, "release": release, **case.overview}
    overview = dataclasses.replace(good_overview(), **given)
    there = {"/proc/net/if_inet6"} if case.ipv6 else set()

    def answer(question: str) -> str:
        asked.append(question)
        return ""

    sshd = Sshd({"port": ("22",)}, KEX[case.system], {"ed25519": 256, "rsa": 3072}, used=frozenset({22}))
    return bare_facts(overview) | {
        Answer: answer,
        Existing: lambda paths: frozenset(there & {*paths}),
        NginxVersion: VERSIONS[case.system],
        SshdState: sshd,
    }


@dataclass(frozen=True)
class Call:
    """A template that was rendered."""

    case: str
    template: str
    values: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class Noted:
    """A template that notes what it is rendered with."""

    maker: Maker
    name: str
    template: Template

    def render(self, **values: Any) -> str:
        """As jinja2's."""
        text = self.template.render(**values)
        self.maker.calls.append(Call(self.maker.case, self.name, values, text))
        return text


class Maker:
    """Makes the texts of cases; each is planned once."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        """`patch` undoes what planning takes; `folder` is an empty one for what inventories name."""
        write_folder(folder)
        self.folder = folder
        plan = planner(patch, bare_facts(good_overview()))
        self.plan = deploy_planner(patch, plan, folder / "production.py", {})
        self.known: dict[str, dict[str, str]] = {}
        self.calls: list[Call] = []
        self.case = ""
        load = templates.load
        self.environment = load(templates.names()[0]).environment
        patch.setattr(templates, "load", lambda name: Noted(self, name, load(name)))

    def texts(self, name: str) -> dict[str, str]:
        """Path within the case's folder → text."""
        if name not in self.known:
            self.case, case, asked, before = name, CASES[name], list[str](), len(self.calls)
            done = self.plan(inventory(case), facts=facts(case, asked))
            applied = [json.loads(one.stdin) for each in done for one in each.commands if one.argv == NGINX_APPLY]
            self.known[name] = {**self._files(done, applied[0 if case.first else -1]), **self._requests(done)}
            sent = {*self.known[name].values()}.union(*(each.values() for each in applied))
            unsent = {f"unsent/{each.template.removesuffix('.j2')}": each.text for each in self.calls[before:]}
            self.known[name] |= {path: text for path, text in unsent.items() if text not in sent}
            if case.commands:
                self.known[name]["commands.txt"] = commands(done, asked)
        return self.known[name]

    def _files(self, done: Plan, sites: Mapping[str, str]) -> dict[str, str]:
        made = {path: (each.mode, each.user, each.group, each.text) for path, each in done.writes.items()}
        request = ways_in(done) if _changes_ways_in(done) else {"files": []}
        for each in request["files"]:
            owner = request["account"] if each["owned"] else "root"
            made[each["path"]] = (each["mode"], owner, owner, each["content"])
        for path, text in sites.items():
            made[f"{NGINX}/{path}"] = ("644", "root", "root", text)
        for app, wanted in wanted_by(done).items():
            for kind, text in wanted["units"].items():
                made[f"/etc/systemd/system/{app}@@RELEASE@.{kind}"] = ("644", "root", "root", text)
        listed = "".join(f"{mode} {user}:{group} {path}\n" for path, (mode, user, group, _) in sorted(made.items()))
        return {"files.txt": listed} | {path.lstrip("/"): self._told(text) for path, (*_, text) in made.items()}

    def rendered(self) -> list[Call]:
        """What was rendered for texts of cases; of what nginx serves, not what another part of the run replaces."""
        texts = {name: {*self.texts(name).values()} for name in CASES}
        return [call for call in self.calls if call.text in texts[call.case]]

    def _told(self, text: str) -> str:
        own = (each for each in sorted(NO_TEXT) if (self.folder / each).read_text(encoding="utf-8") == text)
        return next((f"({each} of the inventory)\n" for each in own), text)

    def _requests(self, done: Plan) -> dict[str, str]:
        made = {}
        for app, wanted in wanted_by(done).items():
            # The units are files of their own; digests change with whatever they are of.
            kept = {key: value for key, value in wanted.items() if key not in ("units", "inputs")}
            kept["source"] = {key: value for key, value in kept["source"].items() if key != "commit"}
            made[f"release/{app}.json"] = _pretty(kept | {"inputs": sorted(wanted["inputs"])})
        if _changes_ways_in(done):
            request = ways_in(done)
            short = {"files": [each["path"] for each in request["files"]]}
            short["options"] = [" ".join(each) for each in request["options"]]
            made["access.json"] = _pretty(request | short)
        return made


NGINX_APPLY = [PROGRAM, "nginx", "apply"]


def _changes_ways_in(done: Plan) -> bool:
    return any(one.argv == [PROGRAM, "access", "apply"] for each in done for one in each.commands)


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# ── commands and scripts ─────────────────────────────────────────────────────────────────────────────────────────────


def scripts() -> dict[str, str]:
    """``module/NAME.sh`` → every text among the constants of roles/ and slipway/engine/ that a shell is given."""
    found = {}
    for path in sorted([*(ROOT / "roles").rglob("*.py"), *(ROOT / "slipway/engine").glob("*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for constant, value in vars(importlib.import_module(name)).items():
            if re.fullmatch(r"_[A-Z_]+", constant) and isinstance(value, str) and re.search(r"\n|\$", value):
                if value.startswith("# Managed"):  # a file, which lies among those of its host
                    continue
                found[f"scripts/{name}/{constant.lstrip('_')}.sh"] = value
    return found


def commands(done: Plan, asked: list[str]) -> str:
    """All that a plan sends and asks, in its order; scripts by their names, texts on standard input left out."""
    lines = ["# Asked", *sorted({_named(each) for each in asked}), ""]
    for operation in done:
        lines += [f"# {operation.name}", *_sent(operation), ""]
    return "\n".join(lines)


def _sent(operation: Operation) -> Iterator[str]:
    for command in operation.commands:
        if command.steps:
            yield from (_step(*words) for words in command.steps if words[0] in STEPS)
        else:
            yield _named(command.line) + (" <<…" if command.stdin else "")


STEPS = ("account", "folder", "receive", "link", "rm")
"""Of the steps by which files get to their place, those that say what comes there."""


def _step(verb: str, *words: str) -> str:
    """A step, without the length and the digest of what is received."""
    return shlex.join(["file", words[0], *words[3:]] if verb == "receive" else [verb, *words])


def _named(line: str) -> str:
    """A command with the names of scripts in place of their texts, and of what changes with the host's program."""
    for path, text in sorted(scripts().items(), key=lambda each: -len(each[1])):
        name = f"<{path.removeprefix('scripts/')}>"
        quoted = [shlex.quote(text)]
        while len(quoted) < QUOTED:
            quoted.append(quoted[-1].replace("'", "'\"'\"'"))
        for each in [*reversed(quoted), text]:
            line = line.replace(each, name)
    digests = [hashlib.sha256(text).hexdigest() for text in (program.texts()[program.STARTER], _requirements())]
    for text in (program.digest(), program.digest()[: program.NAME], *digests):
        line = line.replace(text, "DIGEST")
    return line


QUOTED = 5
"""How deep a script lies within others, at most."""


def _requirements() -> bytes:
    return templates.host_file("tls/certbot-requirements.txt").encode()


# ── what is kept, and what is made ───────────────────────────────────────────────────────────────────────────────────


def place_of(case: str, path: str) -> Path:
    """Where a case's own text of this path would lie. One of Python isn't the tests' own to check and to format."""
    place = GOLDEN / case / path if case else GOLDEN / path
    return place.with_name(f"{place.name}.txt") if place.suffix == ".py" else place


def kept(case: str, path: str) -> str | None:
    """The golden text of a case, its own or its base's; None where there is none."""
    while case:
        place = place_of(case, path)
        if place.is_file():
            return place.read_text(encoding="utf-8")
        case = CASES[case].base
    return None


def own(maker: Maker, case: str) -> dict[str, str]:
    """The texts of a case that differ from those of its base: what is kept of it."""
    made = maker.texts(case)
    base = CASES[case].base
    return {path: text for path, text in made.items() if not base or maker.texts(base).get(path) != text}
