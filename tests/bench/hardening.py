"""What the hardening costs in throughput, side by side: python -m tests.bench.hardening

Two targets of the same system get the same app from Slipway, with the same number of workers. From one of them the
hardening is taken away again: the sandbox of the app's and nginx's processes, nginx's limits, time-outs and headers of
security, and the firewall. wrk asks both in turn from a container beside each, in rounds whose order alternates, and
the ratio of a round's two figures is what counts: hardened to plain, the geometric mean of all rounds. How many of the
connections each process of nginx happens to take changes a figure by some percent, so there are many short rounds, each
with a new nginx, and the ratio's standard error is told. An answer that isn't 2xx, or a broken connection, ends the
run: it would be a figure of something else.

shapes:
  small   HTTPS on kept connections, an answer of some bytes from the app
  static  HTTPS on kept connections, a style sheet from nginx
  new     HTTPS, a new connection and its whole handshake for each request
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import geometric_mean, median, stdev

from tests.audit.auditor import Auditor
from tests.bench.cases import expect, say
from tests.bench.figures import aligned
from tests.bench.switching import waited
from tests.bench.tools import BenchError
from tests.e2e._driver import Host
from tests.target.console import TargetError

BAR = 0.97
"""The hardened host's part of the plain one's throughput, at least."""
SITE, CONNECTIONS, WORKERS = "notes.test", 16, 2
SHAPES = {
    "small": ("small answers, kept connections", "/healthz", ()),
    "static": ("static file, kept connections", "/static/style.css", ()),
    "new": ("a new TLS connection each", "/healthz", ("--header", "Connection: close")),
}

SANDBOX = (
    "AmbientCapabilities|CapabilityBoundingSet|DeviceAllow|DevicePolicy|IPAddress\\w+|InaccessiblePaths|KeyringMode|"
    "LockPersonality|MemoryDenyWriteExecute|NoExecPaths|NoNewPrivileges|Private\\w+|ProcSubset|Protect\\w+|"
    "RemoveIPC|Restrict\\w+|SystemCall\\w+|SocketBind\\w+"
)
"""Directives of systemd.exec(5) that shut a process off."""
NGINX = (
    "limit_(conn|req)\\w*|client_(header|body)_timeout|send_timeout|reset_timedout_connection|"
    "large_client_header_buffers|client_header_buffer_size|"
    "add_header (Strict-Transport-Security|X-Content-Type-Options|X-Frame-Options|Referrer-Policy|Permissions-Policy|"
    "Content-Security-Policy|Cross-Origin-[\\w-]+|X-Permitted-Cross-Domain-Policies)"
)
"""Directives of nginx that limit a client, or tell its browser to be careful."""

# Prints how many lines it took away from what; each must be one directive.
_STRIP = """set -e
strip() {{
    [ -e "$2" ] || return 0
    grep -cP "$1" "$2" | sed "s|$| lines of $2|" | grep -v '^0 ' || true
    perl -ni -e "print unless m{{$1}}" "$2"
}}
for unit in /etc/systemd/system/notes@*.service /etc/systemd/system/notes@*.service.d/*.conf \
        /etc/systemd/system/nginx.service.d/*.conf /etc/systemd/system/service.d/*.conf; do
    strip {sandbox} "$unit"
done
find -L /etc/nginx/slipway /etc/nginx/nginx.conf -type f | xargs -r realpath | sort -u | while read -r file; do
    strip {nginx} "$file"
done
if command -v nft >/dev/null && [ -n "$(nft list ruleset)" ]; then nft flush ruleset; echo "the firewall's rules"; fi
nginx -t -q
systemctl daemon-reload
systemctl restart nginx.service 'notes@*.service'
"""


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    rate: float
    """Answers a second."""
    failed: int
    """Answers that aren't 2xx or 3xx, and broken connections."""


def parse(printed: str) -> Load:
    """What wrk printed; BenchError where it measured nothing."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)$", printed, re.MULTILINE)
    expect(rate is not None and float(rate[1]) > 0, f"wrk measured nothing:\n{printed}")
    assert rate
    failed = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)$", printed, re.MULTILINE)
    broken = re.search(
        r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$", printed, re.MULTILINE
    )
    return Load(float(rate[1]), int(failed[1] if failed else 0) + sum(map(int, broken.groups() if broken else ())))


def load(auditor: Auditor, shape: str, seconds: int) -> float:
    """Answers a second to a shape of requests."""
    _, path, more = SHAPES[shape]
    tool = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s", *more]
    done = auditor.run([*tool, f"https://{SITE}{path}"], timeout=seconds + 60)
    found = parse(done.output + done.errors)
    expect(not found.failed, f"{found.failed} requests failed under the load of {shape!r}: {done.output}")
    return found.rate


def host(name: str, os_name: str, folder: Path, stack: ExitStack) -> Host:
    """A target with the app, which is removed in the end."""
    folder.mkdir()
    made = Host.up(name, os_name, folder)
    stack.callback(made.down)
    made.settings(apps__notes__workers=WORKERS)
    made.deploy()
    return made


def strip(plain: Host) -> list[str]:
    """Take the hardening away; returns what was taken."""
    patterns = {
        "sandbox": shlex.quote(rf"^\s*({SANDBOX})="),
        "nginx": shlex.quote(rf"^\s*({NGINX})\s.*;\s*$"),
    }
    taken = plain.ssh(_STRIP.format(**patterns)).splitlines()
    expect(any("lines of /etc/systemd/system/notes@" in line for line in taken), "the app's unit had no sandbox")
    answer = plain.get("/readyz")
    expect(answer.status_code == 200, f"the plain host answers {answer.status_code}")
    return taken


def table(rates: dict[str, list[tuple[float, float]]]) -> tuple[str, bool]:
    """The figures as text, and whether each ratio meets the bar; by shape the rounds' (plain, hardened) rates."""
    lines = [["", "plain /s", "hardened /s", "ratio", "+-", "lowest", "highest", f"bar {BAR}"]]
    good = True
    for shape, rounds in rates.items():
        ratios = [hardened / plain for plain, hardened in rounds]
        ratio = geometric_mean(ratios)
        met = ratio >= BAR
        error = ratio * stdev(map(log, ratios)) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
        good = good and met
        lines.append([
            SHAPES[shape][0], f"{median(plain for plain, _ in rounds):.0f}",
            f"{median(hardened for _, hardened in rounds):.0f}", f"{ratio:.3f}", f"{error:.3f}",
            f"{min(ratios):.3f}", f"{max(ratios):.3f}", "meets" if met else "falls short",
        ])  # fmt: skip
    return aligned(lines), good


def measured(given: argparse.Namespace, folder: Path) -> bool:
    """Bring two targets up, measure them, print the table; whether the bar is met."""
    rates: dict[str, list[tuple[float, float]]] = {shape: [] for shape in given.shapes}
    with ExitStack() as stack:
        hosts = [host(f"{given.name}-{kind}", given.os, folder / kind, stack) for kind in ("plain", "hardened")]
        taken = strip(hosts[0])
        say("Taken from the plain host:\n" + "\n".join(f"  {line}" for line in taken))
        ends = [Auditor(each.target["ip"], SITE, each.target["network"], each.name) for each in hosts]
        for end in ends:  # neither's first requests count
            for shape in given.shapes:
                load(end, shape, 1)
        idle = waited()
        for round_ in range(given.rounds):
            for each in hosts:
                each.ssh("systemctl restart nginx.service")
            for shape in given.shapes:
                order = (0, 1) if round_ % 2 == 0 else (1, 0)
                seen = {which: load(ends[which], shape, given.seconds) for which in order}
                rates[shape].append((seen[0], seen[1]))
                say(f"  round {round_ + 1}, {shape}: {seen[0]:.0f} plain, {seen[1]:.0f} hardened")
        busy = waited()
    text, good = table(rates)
    print(f"{given.os}, {os.cpu_count()} cores, {given.rounds} rounds of {given.seconds} s, {CONNECTIONS} connections")
    if idle is not None and busy is not None:
        print(f"Processes waited for a processor for {busy - idle:.0f} s; the load itself makes them wait.")
    print(text)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status: 1 where the bar isn't met."""
    top = argparse.ArgumentParser(
        prog="python -m tests.bench.hardening", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    top.add_argument("--os", choices=("debian12", "debian13"), default="debian12", help="system of the targets")
    top.add_argument("--rounds", type=int, default=30, metavar="N", help="rounds of each shape (30)")
    top.add_argument("--seconds", type=int, default=1, metavar="S", help="how long each load lasts (1)")
    top.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="which shapes (all)")
    top.add_argument("--name", default=f"cost-{os.getpid()}", help="beginning of the targets' names")
    given = top.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            return 0 if measured(given, Path(folder)) else 1
    except (BenchError, TargetError, AssertionError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the targets are removed.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
