"""Small projects that the stories release, and what they ask about a release on the host."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e._driver import ROOT, Host

HERE = Path(__file__).parent
ON_HOST = HERE / "onhost"
"""Small programs that run on the host; `run_on_host`."""

LEFT_OUT = shutil.ignore_patterns(".venv", "__pycache__", ".*_cache", "*.db", "*.db-*")


def author_uv(folder: Path, *words: str) -> None:
    """Run uv in a project's folder, as its author does."""
    subprocess.run([*author_command(*words)], cwd=folder, env=author_environment(), check=True, capture_output=True)


def author_command(*words: str) -> list[str]:
    """The command line of uv, of the development environment."""
    return [str(Path(sys.executable).with_name("uv")), *words]


def author_environment() -> dict[str, str]:
    """What uv needs to take this Python, and an environment of the project's own."""
    return {**os.environ, "VIRTUAL_ENV": "", "UV_PYTHON": sys.executable}


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example app, to be changed; returns its folder."""
    return shutil.copytree(ROOT / "examples" / name, folder / name, ignore=LEFT_OUT)


def add_revision(folder: Path, revision: str, before: str, *statements: str) -> Path:
    """Write a revision of Alembic whose `upgrade` has these statements; returns its file."""
    path = folder / f"{revision}_added.py"
    lines = [f'"""Revision {revision}."""', "import sqlalchemy as sa", "from alembic import op"]
    lines += [f'revision, down_revision = "{revision}", "{before}"', "def upgrade() -> None:"]
    path.write_text("\n".join([*lines, *(f"    {each}" for each in statements)]) + "\n")
    return path


def make_tiny(folder: Path, **hooks: Any) -> Path:
    """Make the project "tiny" in a new folder, with these hooks (see tiny/main.py); returns the folder."""
    shutil.copytree(HERE / "tiny", folder, ignore=LEFT_OUT)
    set_hooks(folder, **hooks)
    return folder


def make_works(folder: Path, **hooks: Any) -> Path:
    """Make a uv workspace in a new folder, with "tiny" as its member apps/tiny; returns the folder."""
    shutil.copytree(HERE / "works", folder, ignore=LEFT_OUT)
    shutil.copytree(HERE / "tiny/tiny", folder / "apps/tiny/tiny", ignore=LEFT_OUT)
    set_hooks(folder / "apps/tiny", **hooks)
    return folder


def set_hooks(folder: Path, **hooks: Any) -> None:
    """Let the project "tiny" behave so, and not as before: that is a change of its code."""
    (folder / "tiny/hooks.json").write_text(json.dumps(hooks))


def let_build_run(works: Path, statements: str, number: int) -> None:
    """Let the dependency of `make_works` run these statements while it is built, by the next release.

    + number: another one each time. What was built before is in the cache, and an environment as it was is taken along
    """
    attack = f"{(ON_HOST / 'attack.py').read_text()}\n\nSEEN = {{}}\n{statements}\n"
    (works / "libs/built/attack.py").write_text(attack)
    let_build_be_anew(works, number)


def let_build_be_anew(works: Path, number: int) -> None:
    """Let the next release of `make_works` build all of it, with another number each time."""
    for path in ("libs/built/pyproject.toml", "apps/tiny/pyproject.toml"):
        text = (works / path).read_text().partition("\n# ")[0]
        (works / path).write_text(f"{text}\n# {number}\n")


def settings(source: Path | dict[str, str], domain: str, **options: Any) -> dict[str, Any]:
    """Settings of an app "tiny" from a local folder, or from a mapping as the inventory takes it; plain HTTP."""
    given = source if isinstance(source, dict) else {"path": str(source)}
    paths = {"liveness_path": "/healthz", "readiness_path": "/readyz"}
    return {"domains": [domain], "source": given, "app": "tiny.main:app", "tls": {"mode": "off"}, **paths, **options}


def facts(host: Host, path: str = "/", domain: str = "extra.test") -> dict[str, Any]:
    """The JSON that the app answers with, as an object."""
    answer = host.get(path, domain=domain, scheme="http")
    assert answer.status_code == 200, f"{path} answered {answer.status_code}: {answer.text[:300]}"
    value: dict[str, Any] = answer.json()
    return value


def run_on_host(host: Host, program: str, *arguments: str, given: Any = None, timeout: float = 120) -> Any:
    """Run a program of `ON_HOST` as root; returns the JSON that it prints.

    + given: what it reads as JSON
    """
    host.ssh(f"cat >/root/{program}.py", stdin=(ON_HOST / f"{program}.py").read_text())
    call = shlex.join(["python3", f"/root/{program}.py", *arguments])
    return json.loads(host.ssh(call, stdin=None if given is None else json.dumps(given), timeout=timeout))


def release_changed(host: Host, app: str, folder: Path, version: str) -> str:
    """Release the project "tiny" with this version, which must come to serve; returns the release of before."""
    before = host.release(app)
    set_hooks(folder, version=version)
    host.task("tasks/release.py", app=app)
    assert host.release(app) != before
    return before


def in_sandbox(host: Host, app: str, script: str, *options: str) -> str:
    """A command that runs a Python program as the unit taken-over, in an app's own sandbox.

    + options: more of systemd-run's
    """
    lines = json.loads(host.ssh(f"cat /etc/{app}/release.json"))["sandbox"]
    flags = [*options, *(f"--property={line}" for line in lines)]
    return shlex.join(["systemd-run", "--quiet", "--collect", "--unit=taken-over", *flags, "python3", "-c", script])


TAKE_MEMORY = "held = []\nwhile True: held.append(bytearray(2**25))"
FORK = """
import os, time
number = 0
try:
    while number < 5000:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        number += 1
except BlockingIOError:
    pass
print(number, flush=True)
os.killpg(0, 9)
"""
"""Programs that take all that they can get."""


def leftovers(host: Host, app: str) -> list[str]:
    """What is on the host of this app beyond the release that serves, fully, and those kept to go back to."""
    found: list[str] = run_on_host(host, "leftovers", app)
    return found


def status(host: Host, app: str) -> dict[str, Any]:
    """What `slipway status --json` says."""
    told: dict[str, Any] = json.loads(host.ssh(f"/opt/slipway/bin/slipway status --json {app}"))
    return told


def record(host: Host, app: str) -> dict[str, Any]:
    """The record of the newest release, good or not."""
    read: dict[str, Any] = json.loads(host.ssh(f"ls -1 /var/lib/slipway/{app}/*.json | tail -n 1 | xargs cat"))
    return read
