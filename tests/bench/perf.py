"""Where processors' time goes in the processes of a target, by Linux's perf on the machine where its engine runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import nan
from pathlib import Path

from tests.bench.subject import BenchError
from tests.target.engine import docker

SECONDS = 3
"""How long is looked at."""
HANDSHAKES = 1
"""Seconds of a load that aren't looked at: its connections are made then."""
EVENT = "cpu-clock"
"""By the clock: a virtual machine often has no counters of its processor's."""
A_SECOND = 1999
"""Samples, for each processor."""
OBJECTS, SYMBOLS = 8, 14
"""How many are shown for each kind of process."""
LEAST = 0.005
"""Part of the whole below which nothing is shown."""
KERNEL = "[kernel"
"""How perf's name of the kernel begins."""
_SAMPLE = re.compile(r"^\s*(?P<pid>\d+)\s+[0-9a-f]+ (?P<symbol>.+) \((?P<object>[^()]+)\)$")


def require() -> None:
    """Raise BenchError where perf can't be used."""
    if not shutil.which("perf"):
        raise BenchError("perf isn't installed on this machine: apt install linux-perf, or leave out --profile")
    tried = subprocess.run(["perf", "stat", "-a", "-e", EVENT, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise BenchError(f"perf may not look at this machine's processes; run as root:\n{tried.stderr.strip()}")


def outside(container: str, inside: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """This machine's numbers of processes in a container, each with its kind.

    + inside: kind → numbers in the container
    """
    kinds = {pid: kind for kind, pids in inside.items() for pid in pids}
    found = {}
    for line in docker("top", container, "-eo", "pid").splitlines()[1:]:
        status = Path(f"/proc/{line.strip()}/status")
        if not status.exists():  # it has ended, or the engine is on another machine
            continue
        numbers = re.search(r"^NSpid:\s*(\d.*)$", status.read_text(), re.MULTILINE)
        own = int(numbers[1].split()[-1]) if numbers else 0
        if own in kinds:
            found[int(line)] = kinds[own]
    if not found:
        raise BenchError("no process of the target runs on this machine, so perf can't see it: leave out --profile")
    return found


Seen = Counter[tuple[str, str, str]]
"""(kind of process, object, symbol) → samples."""


def profile(pids: Mapping[int, str], load: Callable[[], object]) -> Seen:
    """Look at processes while a load lasts.

    + pids: number on this machine → kind of process
    + load: lasts for `HANDSHAKES` and `SECONDS`, at least; its error is raised
    """
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        data = f"{folder}/perf.data"
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(load)
            time.sleep(HANDSHAKES)
            _run(["perf", "record", "--quiet", f"--event={EVENT}", f"--freq={A_SECOND}", f"--output={data}",
                  f"--pid={','.join(map(str, pids))}", "--", "sleep", str(SECONDS)])  # fmt: skip
            loaded.result()  # what failed is a figure of something else
        return samples(_run(["perf", "script", f"--input={data}", "--fields=pid,ip,sym,dso"]), pids)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise BenchError(f"`{' '.join(command[:2])}` failed:\n{done.stderr.strip()}")
    return done.stdout


def samples(script: str, pids: Mapping[int, str]) -> Seen:
    """What `perf script` prints, of these processes."""
    found: Seen = Counter()
    for line in script.splitlines():
        seen = _SAMPLE.match(line)
        kind = pids.get(int(seen["pid"])) if seen else None
        if seen and kind:
            found[kind, Path(seen["object"]).name, seen["symbol"]] += 1
    return found


def to_code(found: Seen, kind: str) -> float:
    """All time, as a multiple of what a kind of process spends outside of the kernel; not a number without any.

    An app's own code does the same for each answer, whatever stands before it and however busy the machine is. So what
    this is without nginx, divided by what it is with it, is the part of the answers that is left by nginx.
    """
    own = sum(count for (each, name, _), count in found.items() if each == kind and not name.startswith(KERNEL))
    return found.total() / own if own else nan


def shown(found: Seen) -> str:
    """The text: each kind of process, with the objects and the symbols in which it is most often."""
    whole = found.total()
    if not whole:
        return "perf saw nothing"
    lines = []
    for kind in sorted({kind for kind, _, _ in found}):
        own = Counter({key[1:]: count for key, count in found.items() if key[0] == kind})
        objects: Counter[str] = Counter()
        for (name, _), count in own.items():
            objects[name] += count
        lines.append(f"{own.total() / whole:6.1%}  {kind}")
        lines += [f"  {count / whole:6.1%}  {name}" for name, count in objects.most_common(OBJECTS)
                  if count >= LEAST * whole]  # fmt: skip
        lines += [f"    {count / whole:6.1%}  {symbol} ({name})" for (name, symbol), count in own.most_common(SYMBOLS)
                  if count >= LEAST * whole]  # fmt: skip
    return "\n".join(lines)
