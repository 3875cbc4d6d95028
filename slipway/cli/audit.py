"""`slipway vulnerabilities`: known vulnerabilities of the versions that the apps' lock files pin.

`uv audit` asks the OSV database (osv.dev) about every package of a uv.lock; for another lock file, one is made of its
versions. "None is known" and "could not look" are
different answers with different exit codes. A service that can't be reached, a source that can't be fetched and a lock
file without packages all mean "could not look".
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError
from slipway_host import lockfiles

from slipway import person, uv
from slipway.cli import pinned
from slipway.foreign import one_line
from slipway.settings import AppSettings, FolderSource, GitSource, load_inventory

NOTHING, WRONG, FOUND, UNKNOWN = 0, 1, 2, 3
"""Exit codes; `WRONG`: the command line or the inventory is wrong, as for every verb."""
SECONDS = 300
"""Time limit for fetching one app's source, and for its audit."""


@dataclass
class Audit:
    """Known vulnerabilities of one app's dependencies."""

    packages: int = 0
    """How many packages were looked up."""
    found: list[dict[str, Any]] = field(default_factory=list)
    """"package", "version", "id", "aliases", "summary" and "fixed" (versions) of each vulnerability."""
    unknown: str = ""
    """Why the audit could not look; empty when it did."""

    @property
    def lines(self) -> list[str]:
        """The audit as text, a line each."""
        if self.unknown:
            return [f"could not look: {self.unknown}"]
        if not self.found:
            return [f"{self.packages} packages, no known vulnerability"]
        return [
            f"{each['package']} {each['version']}: {', '.join([each['id'], *each['aliases']])}: {each['summary']}; "
            + (f"fixed in {', '.join(each['fixed'])}" if each["fixed"] else "no fixed version known")
            for each in self.found
        ]


class _CannotLookError(Exception):
    """The audit can't look; the message says why, in one line."""


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise _CannotLookError(f"{command[0]} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise _CannotLookError(f"{Path(command[0]).name} took longer than {SECONDS} s") from None


@contextmanager
def _project(app: AppSettings) -> Iterator[Path]:
    """A project with a uv.lock on this machine: the app's own, or a temporary one with the versions of its lock file.

    A git source is fetched into a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-") as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made"
        if isinstance(app.source, FolderSource):
            assert app.source_dir is not None
            source = app.source_dir
        else:
            source.mkdir()
            _fetch(app, app.source, source)
        try:
            lock = pinned.lock_of(app, source)
            if lockfiles.kind_of(lock) == "uv":
                yield source / app.source.subdir
                return
            versions = pinned.versions(app, source, lock)
        except pinned.UnpinnedError as error:
            raise _CannotLookError(str(error)) from error
        if not versions:
            raise _CannotLookError(f"its {lock} has no packages")
        made.mkdir()
        pinned.write_project(made, versions)
        yield made


def _fetch(app: AppSettings, source: GitSource, folder: Path) -> None:
    if source.git.startswith("file://"):
        raise _CannotLookError(
            f"{source.git} is a repository on the host, which this machine can't read; use a folder or a URL"
        )
    options = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
    if app.deploy_key_local:
        options += ["-i", str(app.deploy_key_local), "-o", "IdentitiesOnly=yes"]
    if app.known_hosts_local:
        options += ["-o", f"UserKnownHostsFile={app.known_hosts_local}"]
    environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": shlex.join(options)}
    for words in (
        ["init", "--quiet"],
        ["fetch", "--quiet", "--depth=1", "--", source.git, source.ref],
        ["checkout", "--quiet", "FETCH_HEAD"],
    ):
        done = _run(["git", "-C", str(folder), *words], environment)
        if done.returncode:
            advice = person.advice_on_ssh() if source.uses_ssh else ""
            raise _CannotLookError(f"{source.ref} of {source.git}: {_last(done.stderr)}{advice}")


def _last(text: str) -> str:
    """A program's error message in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("error:", "fatal:", "cause:", "No user exists"))]
    return "; ".join(wrong or lines[-1:]) or "no error message"


def audit(app: AppSettings, service: str | None = None) -> Audit:
    """Known vulnerabilities of the packages in the app's lock file.

    + service: URL of a service with OSV's API; None: osv.dev
    """
    command = [uv.program(), "audit", "--preview", "--frozen", "--no-dev", "--output-format=json", "--no-progress"]
    command += [f"--service-url={service}"] if service else []
    try:
        with _project(app) as folder:
            trust = os.environ.get("UV_SYSTEM_CERTS", "1")
            done = _run([*command, "--project", str(folder)], {"UV_SYSTEM_CERTS": trust, "VIRTUAL_ENV": ""})
    except _CannotLookError as error:
        return Audit(unknown=str(error))
    try:
        told = json.loads(done.stdout)
        packages = int(told["summary"]["audited_packages"])
        found = [_entry(each) for each in told["vulnerabilities"]]
    except (ValueError, KeyError, TypeError):
        return Audit(unknown=_last(done.stderr))
    if not packages:
        return Audit(unknown="its uv.lock has no packages")
    if done.returncode not in (0, 1):
        return Audit(unknown=_last(done.stderr))
    return Audit(packages, found)


def _entry(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "package": each["dependency"]["name"],
        "version": each["dependency"]["version"],
        "id": each["id"],
        "aliases": list(each["aliases"]),
        "summary": each["summary"] or "no summary",
        "fixed": list(each["fix_versions"]),
    }


def named(apps: Sequence[tuple[str, AppSettings]]) -> dict[str, AppSettings]:
    """Name → app. The host is part of the name where hosts have different apps of one name.

    + apps: (host, app); the same source on several hosts counts as one app
    """
    sources: dict[str, dict[tuple[str, Path | None], tuple[str, AppSettings]]] = {}
    for host, app in apps:
        sources.setdefault(app.name, {}).setdefault((app.source.model_dump_json(), app.app_dir), (host, app))
    made = {}
    for name, several in sources.items():
        for host, app in several.values():
            made[name if len(several) == 1 else f"{name} on {host}"] = app
    return made


def report(inventory: Path, *, app: str | None, service: str | None, as_json: bool) -> int:
    """Print the known vulnerabilities of each app of an inventory; return the exit code."""
    try:
        apps = named(
            [(host, each) for host, _, settings in load_inventory(inventory) for each in settings.apps.values()]
        )
    except PyinfraError as error:
        print(f"Error: {error}", file=sys.stderr)
        return WRONG
    names = list(dict.fromkeys(each.name for each in apps.values()))
    if app is not None and app not in names:
        print(f"Error: --app: there is no app {app}; the inventory has {', '.join(names)}", file=sys.stderr)
        return WRONG
    audits = {name: audit(each, service) for name, each in apps.items() if app in (None, each.name)}
    if as_json:
        print(json.dumps({"version": 1, "apps": {name: asdict(each) for name, each in audits.items()}}))
    else:
        for name, each in audits.items():
            for line in each.lines:
                print(one_line(f"{name}: {line}"))
    if any(each.found for each in audits.values()):
        return FOUND
    return UNKNOWN if any(each.unknown for each in audits.values()) else NOTHING
