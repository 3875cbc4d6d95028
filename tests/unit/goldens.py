"""What reaches a host of some inventories, as texts: made by whole runs of deploy.py, kept in ``tests/unit/golden/``.

Each case is a folder there. A text lies at the path that it has on the host, complete; what else a case holds:

- ``files.txt``: mode, owner and path of every file of the case;
- ``release/APP.json``: what a release of an app is asked for with, its sandbox and that of its build among it;
- ``access.json``: what sshd, the firewall and the operator's account are asked for with;
- ``unsent/``: what is rendered and reaches no host of the case;
- ``commands.txt``, of minimal and maximal: all that is sent, and asked, operation by operation; a script by its name.

A case with a base holds only what differs from that of its base: what its change does can be read there in one look.
``scripts/`` holds the shell scripts of roles/ and slipway/engine/, a file each, and what starts the host's program.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template
from slipway_host.layout import LAYOUT

from roles import program
from slipway.engine import templates
from slipway.engine.host import PROGRAM
from tests.unit.golden_cases import CASES, facts, inventory
from tests.unit.inventories import write_folder
from tests.unit.plans import (
    ROOT,
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
            at, units = LAYOUT.app(app), {}
            for kind, text in wanted["units"].items():
                units[at.unit("@RELEASE@", kind)] = text
            for name, job in wanted["jobs"].items():
                units |= {at.job(name, kind): text for kind, text in job["units"].items()}
            made |= {f"/etc/systemd/system/{unit}": ("644", "root", "root", text) for unit, text in units.items()}
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
            kept["jobs"] = {name: {**job, "units": sorted(job["units"])} for name, job in kept["jobs"].items()}
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
    found["scripts/roles.program/starter.py"] = program.texts()[program.STARTER].decode()
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
