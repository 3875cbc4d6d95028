"""What each server gives behind nginx, beside uvicorn alone: python -m tests.bench.servers

A target gets an app from Slipway for each server and interface: FastAPI's for ASGI, Flask's for WSGI, which answer the
same bytes. wrk asks for these over kept connections, from a container beside the target: through the whole stack, as
the public does, with TLS, firewall, nginx and the sandbox; and uvicorn alone, on a port of its own, without any of
that. All share two processors, wrk too, and have two workers. Each is measured once a round, with new processes, while
the others are stopped, and the order changes. A ratio is that of two figures of one round, the geometric mean of all
rounds; how many connections each process happens to take changes a figure by some percent, so its standard error is
told. An answer that is an error, or a broken connection, ends the run.

columns:
  to alone      answers a second, as a part of what uvicorn alone gives; held to the bars
  to first      the same, to the server that an app gets which names none
  p50, p99      milliseconds until an answer came, of 64 requests that always wait for one
  memory        of the app's processes: what is theirs alone, and their part of what is shared (PSS)
  wrk … app     microseconds of a processor that an answer took: of wrk, which has more to do with TLS; of nginx; of the
                app's processes; each with what the kernel does for it
  equal wrk     the ratio of processor times, if wrk took no more for TLS than for plain text: a visitor's TLS is
                no cost of the host's
  without wrk   the same, if wrk had processors of its own

A busy machine makes every ratio worse: more processes wait for each other. --profile compares by samples, to which that
matters little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from slipway.servers import SERVERS, USUAL
from tests.bench import perf
from tests.bench.apps import with_memory
from tests.bench.cases import exit_status, expect, say
from tests.bench.figures import aligned, paired
from tests.bench.generator import CONNECTIONS, Generator, Load
from tests.bench.hardening import OFF, ON
from tests.e2e._driver import ROOT, Host, wait_until
from tests.e2e.apps import LEFT_OUT
from tests.target import container
from tests.target.engine import docker

BARS = {"usual": 0.75, "quickest": 0.85}
"""Part of what uvicorn alone gives that the server of an app that names none, and the quickest one, give at least."""
WORKERS, CORES = 2, "0,1"
PORT, UNIT = 8000, "alone.service"
ALONE, ALONE_TLS = "alone", "alone-tls"
TITLES = {ALONE: "uvicorn alone", ALONE_TLS: "uvicorn alone, its own TLS"}
MODULES = {"asgi": "with_fastapi:app", "wsgi": "with_flask:app"}
"""Interface → the application of tests/apps/hello."""
MEMORY_MB = 3072
WARM_SECONDS = 1
"""How long new processes are asked before they are measured."""

# The release's own Python and packages, without a sandbox; the key is root's.
_ALONE = """set -e
cd /srv/{app}/current
systemd-run --quiet --collect --unit={unit} --working-directory="$(pwd -P)" -- \
    "$(pwd -P)/.venv/bin/uvicorn" {module} --host 0.0.0.0 --port {port} --workers {workers} \
    --loop uvloop --http httptools --no-access-log --log-level warning {tls}
until bash -c '</dev/tcp/127.0.0.1/{port}' 2>/dev/null; do sleep 0.1; done
"""
_TLS = "--ssl-certfile /etc/letsencrypt/live/{app}/fullchain.pem --ssl-keyfile /etc/letsencrypt/live/{app}/privkey.pem"
_GROUP = '"/sys/fs/cgroup$(systemctl show -P ControlGroup {unit})"'
_USED = "sed -n 's/^usage_usec //p' {group}/cpu.stat"
_PSS = (
    "for pid in $(cat {group}/cgroup.procs); do cat /proc/$pid/smaps_rollup; done"
    " | awk '/^Pss:/ {{ kb += $2 }} END {{ print kb }}'"
)


@dataclass(frozen=True)
class Subject:
    """What is measured: a server with an interface, or uvicorn alone."""

    name: str
    """Its app's, or `ALONE` or `ALONE_TLS`."""
    title: str
    server: str
    interface: str

    @property
    def domain(self) -> str:
        """The name of its site."""
        return f"{self.name}.test"

    def settings(self, source: Path) -> dict[str, Any]:
        """Those of its app."""
        return {
            "domains": [self.domain], "source": {"path": str(source)}, "app": MODULES[self.interface],
            "server": self.server, "workers": WORKERS, "migrate": None, "watch": 0, "keep_warm": 0,
            "liveness_path": "/", "readiness_path": "/",
        }  # fmt: skip


def subjects() -> dict[str, Subject]:
    """Every server of Slipway's with each interface that it serves, by name; an app's own default is the first."""
    ordered = sorted(SERVERS.values(), key=lambda each: each.name != USUAL)
    pairs = [(server, interface) for server in ordered for interface in server.interfaces]
    return {
        f"{server.name}-{interface}": Subject(
            f"{server.name}-{interface}", f"{server.name}, {interface.upper()}", server.name, interface
        )
        for server, interface in pairs
    }


FIRST = next(iter(subjects()))
"""Name of the subject that an app gets which names no server."""


@dataclass(frozen=True)
class Cell:
    """What one load showed."""

    load: Load
    app: float
    """Microseconds of a processor that an answer took in the app's processes."""
    nginx: float
    """And in nginx's; 0 without it."""
    memory: float
    """MB of the app's processes."""


Round = Mapping[str, Cell]
"""Name of a subject → what it gave."""


class Stage:
    """A target with all apps, of which one runs at a time."""

    def __init__(self, host: Host, generator: Generator, seconds: int, known: Mapping[str, Subject]) -> None:
        self.host, self.generator, self.seconds, self.known = host, generator, seconds, known
        self.releases = {name: host.release(name) for name in known}

    def root(self, script: str) -> str:
        """Run a script on the host as root."""
        return self.host.ssh(f"PATH=$PATH:/usr/sbin\n{script}")

    def unit(self, name: str) -> str:
        """The unit of a subject."""
        return f"{name}@{self.releases[name]}.service" if name in self.known else UNIT

    def url(self, name: str) -> str:
        """Where it is asked."""
        if name in self.known:
            return f"https://{self.known[name].domain}/"
        return f"{'https' if name == ALONE_TLS else 'http'}://{ALONE}.test:{PORT}/"

    def start(self, name: str) -> None:
        """Start new processes of this one alone."""
        if name in self.known:
            self.root(f"set -e\n{ON}\nsystemctl restart nginx.service {self.unit(name)}")
            domain = self.known[name].domain
            wait_until(lambda: self.host.get("/", domain=domain).status_code == 200, 30, f"{name} answers")
            return
        app = next(each for each in self.known.values() if each.interface == "asgi").name
        tls = _TLS.format(app=app) if name == ALONE_TLS else ""
        values = {"app": app, "unit": UNIT, "module": MODULES["asgi"], "port": PORT, "workers": WORKERS, "tls": tls}
        self.root(f"{OFF}\n{_ALONE.format(**values)}")

    def stop(self, name: str) -> None:
        """Stop its processes; a release's socket stays."""
        self.root(f"systemctl stop {self.unit(name)}")

    def used(self, unit: str) -> float:
        """Microseconds of a processor that a unit has taken."""
        told = self.root(_USED.format(group=_GROUP.format(unit=unit)))
        expect(told.isdigit(), f"the host's control groups don't tell what {unit} took: {told!r}")
        return float(told)

    def cell(self, name: str) -> Cell:
        """Measure one, from new processes on."""
        self.start(name)
        try:
            self.generator.load(self.url(name), WARM_SECONDS, check=False)
            units = [self.unit(name), *(["nginx.service"] if name in self.known else [])]
            before = [self.used(unit) for unit in units]
            load = self.generator.load(self.url(name), self.seconds)
            took = [(self.used(unit) - start) / load.count for unit, start in zip(units, before, strict=True)]
            pss = self.root(_PSS.format(group=_GROUP.format(unit=units[0])))
            return Cell(load, took[0], sum(took[1:]), int(pss) / 1024)
        finally:
            self.stop(name)

    def profile(self, name: str) -> perf.Seen:
        """Where the processors' time goes under a load, by perf of this machine."""
        self.start(name)
        try:
            self.generator.load(self.url(name), WARM_SECONDS, check=False)
            names = {"nginx": "nginx.service", "app": self.unit(name)} if name in self.known else {"app": UNIT}
            groups = {what: self.root(f"cat {_GROUP.format(unit=unit)}/cgroup.procs") for what, unit in names.items()}
            inside = {what: [int(pid) for pid in told.split()] for what, told in groups.items()}
            pids = perf.outside(self.host.target["container"], inside)
            return perf.profile(pids, lambda: self.generator.load(self.url(name), perf.HANDSHAKES + perf.SECONDS + 1))
        finally:
            self.stop(name)


def columns(rounds: Sequence[Round], known: Mapping[str, Subject]) -> list[list[str]]:
    """The table's rows: what was measured of each."""
    rates = [{name: cell.load.rate for name, cell in round_.items()} for round_ in rounds]
    # The other way round: it is the time of uvicorn alone that is divided.
    times = [{name: 1 / (cell.app + cell.nginx) for name, cell in round_.items()} for round_ in rounds]
    equal = [
        {name: 1 / (round_[ALONE].load.own + cell.app + cell.nginx) for name, cell in round_.items()}
        for round_ in rounds
    ]
    heads = ["/s", "to alone", "to first", "p50 ms", "p99 ms", "memory MB", "wrk us", "nginx us", "app us"]
    lines = [["", *heads, "equal wrk", "without wrk"]]
    for name in (*TITLES, *known):
        cells = [round_[name] for round_ in rounds if name in round_]
        if not cells:
            continue
        loads = [cell.load for cell in cells]
        (alone, error), first = paired(rates, name, ALONE), paired(rates, name, FIRST)[0]
        lines.append([
            TITLES[name] if name in TITLES else known[name].title,
            f"{median(load.rate for load in loads):.0f}", f"{alone:.2f} +- {error:.2f}", f"{first:.2f}",
            *(f"{median(each):.1f}" for each in ([load.middle for load in loads], [load.late for load in loads])),
            *(f"{median(each):.0f}" for each in (
                [cell.memory for cell in cells], [load.own for load in loads],
                [cell.nginx for cell in cells], [cell.app for cell in cells],
            )),
            *(f"{paired(each, name, ALONE)[0]:.2f}" for each in (equal, times)),
        ])  # fmt: skip
    return lines


def verdicts(rounds: Sequence[Round], known: Mapping[str, Subject]) -> tuple[list[str], bool]:
    """Whether the bars are met, in words, and whether all are."""
    rates = [{name: cell.load.rate for name, cell in round_.items()} for round_ in rounds]
    measured = {name: paired(rates, name, ALONE) for name in known if any(name in round_ for round_ in rounds)}
    # The quickest of those that serve the same app: another framework is a figure of that.
    same = {name: ratio for name, ratio in measured.items() if known[name].interface == known[FIRST].interface}
    if not same:
        return [], True
    held = {"quickest": max(same, key=lambda name: same[name][0])} | ({"usual": FIRST} if FIRST in same else {})
    lines, good = [], True
    for what, name in sorted(held.items(), reverse=True):
        (mean, error), bar = same[name], BARS[what]
        good = good and mean >= bar
        verdict = "meets" if mean >= bar else "FALLS SHORT OF"
        lines.append(f"The {what} server, {known[name].title}, gives {mean:.3f} +- {error:.3f} of uvicorn alone: "
                     f"{verdict} the bar of {bar}.")  # fmt: skip
    return lines, good


def measured(given: argparse.Namespace, folder: Path) -> bool:
    """Bring a target up, measure on it, print the table; whether the bars are met."""
    known = {name: each for name, each in subjects().items() if name in given.servers or name == FIRST}
    source = shutil.copytree(ROOT / "tests/apps/hello", folder / "hello", ignore=LEFT_OUT)
    rounds: list[Round] = []
    with ExitStack() as stack:
        host = Host.up(given.name, given.os, folder, ())
        stack.callback(host.down)
        with_memory(host, MEMORY_MB)
        docker("update", f"--cpuset-cpus={CORES}", container.host_name(host.name))
        host.change({"acme": {"check": False}, "apps": {name: each.settings(source) for name, each in known.items()}})
        say(f"Slipway provisions a host with {len(known)} apps …")
        host.deploy()
        sites = [f"{ALONE}.test", *(each.domain for each in known.values())]
        generator = stack.enter_context(Generator(host.target, sites, CORES))
        stage = Stage(host, generator, given.seconds, known)
        for name in known:
            stage.stop(name)
        names = [*TITLES, *known]
        for number in range(given.rounds):
            first, seen = number % len(names), {}
            for name in names[first:] + names[:first]:
                seen[name] = stage.cell(name)
            rounds.append(seen)
            told = ", ".join(f"{name} {seen[name].load.rate:.0f}" for name in names)
            say(f"  round {number + 1}: {told}")
        profiles = {name: stage.profile(name) for name in (ALONE, FIRST)} if given.profile else {}
    print(f"{given.os}, two processors, {given.rounds} rounds of {given.seconds} s, {CONNECTIONS} connections")
    print(aligned(columns(rounds, known)))
    lines, good = verdicts(rounds, known)
    print("\n".join(lines))
    for name, found in profiles.items():
        print(f"\n{TITLES.get(name) or known[name].title}: where the time goes\n{perf.shown(found)}")
    if profiles:
        part = perf.to_code(profiles[ALONE], "app") / perf.to_code(profiles[FIRST], "app")
        print(f"\nBy samples, {known[FIRST].title}, without wrk: {part:.2f} of uvicorn alone")
    return good


def names_of(text: str) -> list[str]:
    """Names of subjects with commas between."""
    given = [part.strip() for part in text.split(",")]
    if unknown := [name for name in given if name not in subjects()]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(subjects())}")
    return given


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.bench.servers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    top.add_argument("--os", choices=("debian12", "debian13"), default="debian13", help="system of the target")
    top.add_argument("--rounds", type=int, default=8, metavar="N", help="rounds (8)")
    top.add_argument("--seconds", type=int, default=5, metavar="S",
                     help="how long each load lasts (5); in a short one the first handshakes weigh")  # fmt: skip
    top.add_argument("--servers", type=names_of, default=list(subjects()), metavar="NAME,…",
                     help=f"which beside {FIRST} (all): {', '.join(subjects())}")  # fmt: skip
    top.add_argument("--profile", action="store_true", help="show by perf where the time goes; needs root, and perf")
    top.add_argument("--name", default=f"servers-{os.getpid()}", help="the target's name; it is removed in the end")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status: 1 where a bar isn't met."""
    given = parser().parse_args(arguments)

    def measure(folder: Path) -> bool:
        if given.profile:
            perf.require()
        return measured(given, folder)

    return exit_status(measure)


if __name__ == "__main__":
    sys.exit(main())
