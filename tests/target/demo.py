"""`make demo`: a target, the example app deployed to it and verified, and how to look at the result.

SLIPWAY_TARGET, SLIPWAY_APPS and SLIPWAY_SSH_USER mean what they mean to inventories/docker.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.target import engine, lifecycle
from tests.target.console import TargetError, paint, say
from tests.target.image import SUITES

ROOT = lifecycle.ROOT.parent
INVENTORY = "inventories/docker.py"
SITE = "notes.test"
"""Domain of the example app in that inventory."""


class StageFailed(TargetError):
    """A stage's command failed; its own output says why."""


class Stages:
    """The stages of a demo and the seconds each took."""

    def __init__(self) -> None:
        """Start with what `make` did before: SLIPWAY_STARTED is its own start, in seconds since the epoch."""
        self.took: list[tuple[str, float]] = []
        started = os.environ.get("SLIPWAY_STARTED")
        self.before = max(0.0, time.time() - float(started)) if started else 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage and take its time."""
        say(paint(f"▸ {title}", "1"))
        start = time.monotonic()
        yield
        before, self.before = self.before, 0.0
        self.took.append((title, before + time.monotonic() - start))

    def table(self) -> str:
        """One line a stage, and their sum."""
        rows = [*self.took, ("all", sum(seconds for _, seconds in self.took))]
        return "\n".join(f"  {title:<14}{seconds:7.1f} s" for title, seconds in rows)


def call(command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a stage's command in the repository's folder, its output as it comes; raises StageFailed."""
    tool = Path(sys.executable).parent / command[0]
    code = subprocess.run([str(tool), *command[1:]], cwd=ROOT, env=environment, check=False).returncode
    if code:
        raise StageFailed(
            f"`{' '.join(command)}` ended with {code}; its output above says why, and `make demo` goes on"
        )


def closing(target: lifecycle.Description, stages: Stages) -> str:
    """What to do with the result, and the time of each stage."""
    name, port = target["name"], target["https_port"]
    own = "" if name == "demo" else f" NAME={name}"
    return f"""
{paint(f"https://{SITE}:{port}/", "1;32", stream=sys.stdout)} is served by {target["kind"]} {name} ({target["os"]}).

  curl       curl --cacert {target["ca_file"]} --resolve {SITE}:{port}:127.0.0.1 https://{SITE}:{port}/
  browser    add `127.0.0.1 {SITE}` to /etc/hosts and trust the CA file below (it is of this target alone)
  CA file    {target["ca_file"]}
  SSH        make demo-ssh{own}
             {" ".join(lifecycle.ssh_options(target))}
  again      make demo{own}    (keeps what is there)
  remove     make demo-down{own}

{stages.table()}"""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="A throw-away VPS with the example app.")
    parser.add_argument("--name", default=os.environ.get("SLIPWAY_TARGET") or "demo", help="the target's name")
    parser.add_argument("--os", choices=sorted(SUITES), help="its system")
    parser.add_argument("--machine", action="store_true", default=None, help="a virtual machine, not a container")
    options = parser.parse_args(arguments)
    environment = {**os.environ, "SLIPWAY_TARGET": options.name}
    stages = Stages()
    try:
        with stages.stage("prerequisites"):
            engine.ensure()
        with stages.stage("target"):
            target = lifecycle.up(options.name, options.os, machine=options.machine)
        with stages.stage("deploy"):
            call(["pyinfra", "-y", INVENTORY, "deploy.py"], environment)
        with stages.stage("verify"):
            call(["pytest", "tests/host", "--inventory", INVENTORY, "-q"], environment)
    except TargetError as error:
        say(f"{paint('Error:', '31')} {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; `make demo` goes on from here.")
        return 130
    print(closing(target, stages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
