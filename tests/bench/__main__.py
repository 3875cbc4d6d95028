"""How long provisioning takes, side by side: python -m tests.bench

It brings a target up, lets Slipway provision it, and reads from it what Slipway manages. From this one description it
makes what others would write for the same: a pyinfra deploy of its stock operations, an Ansible playbook (run plain,
and with Mitogen) and a shell script. Each must mend what is damaged there and find nothing to change then, before it is
measured; and every figure is thrown away, with the whole run, if the host isn't as it should be after it.

The host is far away by a relay in front of its SSH port, which adds a round trip's delay, the handshake of each
connection included. "round trips" is how many of them a case makes one after the other: the slope of the seconds over
the delays, by least squares. "to Slipway" and "to the script" tell how many times as long as these a tool takes, at the
shortest and at the longest delay. All seconds are medians of interleaved rounds; compare those of one run only.

cases:
  converged  nothing is to be changed             release  a release of the example app: code only
  dry        the same, when it only looks         files    what 50 further files cost a converged run of Slipway
  file       one managed file's content differs   apps     what further apps cost it: hosts with 1, 10 and 100
  first      a bare host, every download nearby: Slipway and the shell script
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from slipway.settings import load_inventory
from tests.bench import apps, cases
from tests.bench.cases import CASES, MORE_FILES, Plan
from tests.bench.figures import Figures, aligned, slope, table
from tests.bench.subject import APP, BenchError
from tests.bench.switching import waited
from tests.bench.tools import TOOLS, Ansible, Slipway
from tests.target.console import TargetError

ALONE = ("files", apps.CASE, "first")
"""Cases of Slipway alone, or of it and the shell script."""

LEGEND = """What each does and doesn't do
  {count} resources: packages, users, folders, files, links, units, and what commands make. Where Slipway asks whether
  the certificate is valid and nginx serves it, whether nginx and the app run what is on disk and answer, and which code
  a release is made from, the others look whether a file is there. Nor do they look at what runs (the kernel's values,
  sshd's settings), at lines in packages' own files (logins, PAM), or at modes that packages set.
  stock pyinfra: an operation a resource. Ansible: pipelining, ControlPersist, loops, no gathering of facts; the
  host has python3-apt for it.
  Shell script: all of it in one text, with no plan, no diff, and no more than `set -e` between a failure and its end.
  A release by Slipway runs checks and migrations, starts beside the old one, proves itself, switches nginx without a
  lost request, is watched for {watch} s (which are part of its seconds), recorded, and can be taken back. All others
  unpack, `uv sync`, migrate, point the link, and restart the service: no proof, no way back, and requests are lost
  meanwhile; they end when systemd says that Gunicorn's first process is up, not when the app answers.
  First provisioning: packages, uv and wheels are in the host's caches, and the Python comes from a mirror in the next
  container, for both. Both end with the same packages, programs, certificate and release, which serves. Slipway
  installs programs while packages are, and its release is checked and proven, but not watched: there is none to go
  back to. The shell script does one thing after the other, isn't resumable, and pins uv by its version only.
"""


def milliseconds(text: str) -> list[float]:
    """Delays as the command line takes them, in seconds."""
    try:
        values = sorted({float(part) / 1000 for part in text.split(",")})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write milliseconds with commas between, such as 0,50") from error
    if any(not 0 <= value <= 2 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: 0 to 2000 ms")
    return values


def names_of(known: Sequence[str], text: str) -> list[str]:
    """Names with commas between, each of which must be known."""
    given = [part.strip() for part in text.split(",")]
    if unknown := [name for name in given if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
    return [name for name in known if name in given]


def count(text: str) -> int:
    """A number from 1 to 100."""
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 to 100")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*CASES, *ALONE]
    top.add_argument("--delays", type=milliseconds, default="0,20,50,100", metavar="MS,…",
                     help="added round trips in milliseconds (0,20,50,100)")  # fmt: skip
    top.add_argument("--rounds", type=count, default=3, metavar="N", help="runs of each cell (3)")
    top.add_argument("--slow-delays", type=milliseconds, metavar="MS,…",
                     help=f"for what takes more than {cases.QUICK_SECONDS:.0f} s at the first delay "
                     "(the first two of --delays)")  # fmt: skip
    top.add_argument("--slow-rounds", type=count, default=1, metavar="N", help="runs of each cell of theirs (1)")
    top.add_argument("--tools", type=lambda text: names_of(list(TOOLS), text), default=",".join(TOOLS),
                     metavar="NAME,…", help=f"which of {', '.join(TOOLS)}")  # fmt: skip
    top.add_argument("--cases", type=lambda text: names_of(every, text), default=",".join(every),
                     metavar="NAME,…", help=f"which of {', '.join(every)}")  # fmt: skip
    top.add_argument("--os", choices=("debian12", "debian13"), default="debian12", help="system of the target")
    top.add_argument("--name", default=f"bench-{os.getpid()}", help="name of the target; it is removed in the end")
    return top


@dataclass(frozen=True)
class Measured:
    """What a run brought beside the figures."""

    resources: int
    """Number of those described."""
    watch: int
    """Seconds for which Slipway watches a release of the app."""


def measured(given: argparse.Namespace, folder: Path, figures: Figures) -> Measured:
    """Bring a target up and measure what was asked for."""
    plan = Plan(given.delays, given.rounds, given.slow_delays or given.delays[:2], given.slow_rounds)
    if not {*CASES, "first"} & {*given.cases}:
        given.tools = [Slipway.name]  # the only one that the other cases are about
    if any(issubclass(TOOLS[name], Ansible) for name in given.tools):
        Ansible.install()
    with cases.target(given.name, given.os, folder) as (bench, relay):
        chosen = [TOOLS[name](bench) for name in given.tools]
        described = bench.state.count
        cases.say(f"{described} resources are described; each tool shows that it holds them …")
        for tool in chosen:
            tool.describe()
            cases.prove(bench, tool)
        cases.compare(bench, relay, chosen, [name for name in CASES if name in given.cases], plan, figures)
        if "files" in given.cases:
            cases.more_files(bench, relay, plan, figures)
        if apps.CASE in given.cases:
            cases.more_apps(bench, plan, figures)
        if "first" in given.cases:
            cases.first(bench, relay, plan, chosen, figures)
        [(_, _, settings)] = load_inventory(bench.near.write_inventory())
        return Measured(described, settings.apps[APP].watch)


def versions(chosen: Sequence[str]) -> list[str]:
    """Names and versions of the tools that were measured."""
    others = Ansible.versions() if any(issubclass(TOOLS[name], Ansible) for name in chosen) else []
    return [f"pyinfra {version('pyinfra')}", *others]


def show(given: argparse.Namespace, figures: Figures) -> None:
    """Print the tables."""
    titles = {name: TOOLS[name].title for name in given.tools}
    delays = sorted({*given.delays, *(given.slow_delays or [])})
    for case, (title, _) in CASES.items():
        if figures.has(case):
            print(f"\n{title} (seconds; medians of up to {figures.runs(case)} runs)")
            print(table(figures, case, titles, delays))
    if figures.has("first"):
        runs = figures.runs("first")
        print(f"\nFirst provisioning of a bare host, every download nearby (seconds; medians of up to {runs} runs)")
        print(table(figures, "first", titles, delays))
    without, with_ = figures.of("files", "without"), figures.of("files", "with")
    if added := {delay: with_[delay] - without[delay] for delay in with_}:
        trips = slope(added)
        cells = [f"{added[delay]:+.2f}" if delay in added else "·" for delay in delays]
        row = [f"{MORE_FILES} further files", *cells, "·" if trips is None else f"{trips:+.0f}"]
        print("\nWhat a converged run of Slipway takes longer (seconds)")
        print(aligned([["", *(f"{delay * 1000:.0f} ms" for delay in delays), "round trips"], row]))
    if figures.has(apps.CASE):
        print(f"\nHosts with more and more apps (seconds; medians of up to {figures.runs(apps.CASE)} runs)")
        print(apps.table(figures, delays))


def main(arguments: list[str] | None = None) -> int:
    """Run it all; returns the exit status."""
    given = parser().parse_args(arguments)
    began, idle, figures = time.monotonic(), waited(), Figures()
    try:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            done = measured(given, Path(folder), figures)
    except (BenchError, TargetError, AssertionError) as error:
        print(f"Error: {error}\nThis was measured until then:", file=sys.stderr)
        show(given, figures)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the target is removed. This was measured until then:", file=sys.stderr)
        show(given, figures)
        return 130
    seconds, busy = time.monotonic() - began, waited()
    print(f"{given.os}, {os.cpu_count()} cores, {seconds / 60:.0f} minutes, {', '.join(versions(given.tools))}")
    if idle is not None and busy is not None:
        print(f"Some process waited for a processor in {(busy - idle) / seconds:.0%} of the time.")
    show(given, figures)
    print()
    print(LEGEND.format(count=done.resources, watch=done.watch), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
