"""The load generator: wrk, in a container beside a target, from where it asks as the public does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from types import TracebackType

from tests.bench.subject import BenchError
from tests.target import container, image
from tests.target.engine import LABEL, call, docker
from tests.target.lifecycle import Description

CONNECTIONS = 64
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
"""wrk's units of time, in milliseconds."""
# The shell tells on its last line what its children took: seconds of a processor in the program, and in the kernel.
_TIMED = '"$@"; times'


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    rate: float
    """Answers a second."""
    failed: int
    """Answers that aren't 2xx or 3xx, and broken connections."""
    count: int
    """Answers."""
    middle: float = nan
    """Milliseconds in which half of them came."""
    late: float = nan
    """Milliseconds in which 99 of 100 came."""
    own: float = nan
    """Microseconds of a processor that wrk took for each."""


def parse(printed: str) -> Load:
    """What wrk printed; BenchError where it measured nothing."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)$", printed, re.MULTILINE)
    count = re.search(r"^\s*(\d+) requests in ", printed, re.MULTILINE)
    if not (rate and count and float(rate[1]) > 0):
        raise BenchError(f"wrk measured nothing:\n{printed}")
    failed = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)$", printed, re.MULTILINE)
    broken = re.search(
        r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$", printed, re.MULTILINE
    )
    parts = re.findall(r"^\s*(\d+)%\s+([\d.]+)(us|ms|s|m)$", printed, re.MULTILINE)
    within = {int(part): float(value) * _UNITS[unit] for part, value, unit in parts}
    took = re.search(r"^(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*\Z", printed, re.MULTILINE)
    seconds = 60 * (int(took[1]) + int(took[3])) + float(took[2]) + float(took[4]) if took else nan
    return Load(
        float(rate[1]),
        int(failed[1] if failed else 0) + sum(map(int, broken.groups() if broken else ())),
        int(count[1]),
        within.get(50, nan),
        within.get(99, nan),
        seconds * 1e6 / int(count[1]),
    )


class Generator:
    """A container with wrk in a target's network, as a context manager; it goes with the target if it is left.

    + target: the target
    + names: of its sites, which lead to it in the container
    + cores: processors that it may use, as Docker takes them; None: all
    """

    def __init__(self, target: Description, names: Sequence[str], cores: str | None = None) -> None:
        self._name = f"{container.host_name(target['name'])}-generator"
        places = [f"--add-host={name}:{target['ip']}" for name in names]
        self._options = [
            f"--name={self._name}", f"--label={LABEL}={target['name']}", f"--network={target['network']}", *places,
            *([f"--cpuset-cpus={cores}"] if cores else []),
        ]  # fmt: skip

    def __enter__(self) -> Generator:
        dockerfile = (Path(__file__).parent / "generator.Dockerfile").read_bytes()
        tag = image.build("slipway-generator", "debian13", {"Dockerfile": dockerfile})
        call("rm", "--force", self._name)  # of a run that was killed
        docker("run", "--detach", "--init", *self._options, tag, "sleep", "infinity")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call("rm", "--force", self._name)

    def load(self, url: str, seconds: int, *, headers: Mapping[str, str] | None = None, check: bool = True) -> Load:
        """Ask for a URL over `CONNECTIONS` connections, as fast as answers come.

        + check: raise BenchError where a request failed: it would be a figure of something else
        """
        tool = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", "--latency"]
        more = [f"--header={name}: {value}" for name, value in (headers or {}).items()]
        done = call("exec", self._name, "sh", "-c", _TIMED, "sh", *tool, *more, url, timeout=seconds + 60)
        found = parse((done.stdout + done.stderr).decode(errors="replace"))
        if check and found.failed:
            raise BenchError(f"{found.failed} of {found.count} requests to {url} failed: {done.stdout.decode()}")
        return found
