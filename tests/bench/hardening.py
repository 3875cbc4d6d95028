"""What the hardening costs in throughput, side by side: python -m tests.bench.hardening

A target gets an app from Slipway. Then it is made, in turn, a plain host, a hardened one, and one with the firewall
too, as Slipway makes it; plain is without the sandbox of the app's and nginx's processes, and without nginx's limits,
time-outs and headers of security. wrk asks it from a container beside it. They are measured in rounds whose order
changes, each with new processes, and the ratio of a round's two figures is what counts: hardened to plain, the
geometric mean of all rounds. How many of the connections each process of nginx happens to take changes a figure by some
percent, so the ratio's standard error is told. An error as an answer, or a broken connection, ends the run: it would be
a figure of something else. The bar is nginx's and the units'; the ratio with the firewall is told beside it: tracking
connections costs something for each packet.

shapes:
  small   HTTPS on kept connections, an answer of some bytes from the app
  static  HTTPS on kept connections, a style sheet from nginx
  new     HTTPS, a new connection and its whole handshake for each request
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.cases import exit_status, expect, say
from tests.bench.figures import aligned, paired
from tests.bench.generator import CONNECTIONS, Generator
from tests.e2e._driver import Host, wait_until

BAR = 0.97
"""The hardened host's part of the plain one's throughput, at least."""
SITE, WORKERS = "notes.test", 2
SHAPES: dict[str, tuple[str, str, dict[str, str]]] = {
    "small": ("small answers, kept connections", "/healthz", {}),
    "static": ("static file, kept connections", "/static/style.css", {}),
    "new": ("a new TLS connection each", "/healthz", {"Connection": "close"}),
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
files() {{ find -L /etc/nginx/slipway /etc/nginx/nginx.conf -type f | xargs -r realpath | sort -u; }}
units() {{
    ls /etc/systemd/system/notes@*.service /etc/systemd/system/notes@*.service.d/*.conf \
        /etc/systemd/system/nginx.service.d/*.conf /etc/systemd/system/service.d/*.conf 2>/dev/null || true
}}
keep() {{ {{ units; files; }} | tar -cPf "/root/$1.tar" --files-from=-; }}
keep hardened
for unit in $(units); do strip {sandbox} "$unit"; done
for file in $(files); do strip {nginx} "$file"; done
keep plain
if nft list table inet slipway >/dev/null; then echo "the firewall's rules"; fi
"""
_BECOME = """set -e
tar -xPf /root/{kept}.tar
{firewall}
nginx -t -q
systemctl daemon-reload
systemctl restart nginx.service 'notes@*.service'
"""
PLAIN, HARDENED, WHOLE = "plain", "hardened", "with the firewall"
OFF, ON = "nft flush ruleset", "nft -f /etc/slipway/firewall.nft"
STATES = {PLAIN: ("plain", OFF), HARDENED: ("hardened", OFF), WHOLE: ("hardened", ON)}
"""State of the target → which configuration it has, and how its firewall becomes what it is to be."""

Rates = dict[str, float]
"""Answers a second, by state of the target."""


def load(generator: Generator, shape: str, seconds: int) -> float:
    """Answers a second to a shape of requests."""
    _, path, more = SHAPES[shape]
    return generator.load(f"https://{SITE}{path}", seconds, headers=more).rate


def strip(host: Host) -> list[str]:
    """Keep a hardened host's configuration, and one of it without the hardening; returns what the latter lacks."""
    patterns = {
        "sandbox": shlex.quote(rf"^\s*({SANDBOX})="),
        "nginx": shlex.quote(rf"^\s*({NGINX})\s.*;\s*$"),
    }
    taken = host.ssh(f"PATH=$PATH:/usr/sbin\n{_STRIP.format(**patterns)}").splitlines()
    units = [f"lines of /etc/systemd/system/{each}" for each in ("notes@", "nginx.")]
    for what in (*units, "lines of /etc/nginx/", "the firewall's rules"):
        expect(any(what in line for line in taken), f"the hardened host had no {what}")
    return taken


def become(host: Host, state: str) -> None:
    """Make the target one of `STATES`."""
    kept, firewall = STATES[state]
    host.ssh(f"PATH=$PATH:/usr/sbin\n{_BECOME.format(kept=kept, firewall=firewall)}")
    wait_until(lambda: host.get("/readyz").status_code == 200, 20, f"the host is ready, {state}")


def table(rates: dict[str, list[Rates]]) -> tuple[str, bool]:
    """The figures as text, and whether each shape of requests meets the bar; by shape the rounds."""
    lines = [
        ["", *(f"{state} /s" for state in STATES), "hardened to plain", f"bar {BAR}", "with the firewall to plain"]
    ]
    good = True
    for shape, rounds in rates.items():
        (mean, error), whole = paired(rounds, HARDENED, PLAIN), paired(rounds, WHOLE, PLAIN)
        verdict = "meets" if mean >= BAR else "falls short"
        good = good and mean >= BAR
        lines.append([
            SHAPES[shape][0], *(f"{median(each[state] for each in rounds):.0f}" for state in STATES),
            f"{mean:.3f} +- {error:.3f}", verdict, f"{whole[0]:.3f} +- {whole[1]:.3f}",
        ])  # fmt: skip
    return aligned(lines), good


def measured(given: argparse.Namespace, folder: Path) -> bool:
    """Bring a target up, measure it in each state, print the table; whether the bar is met."""
    rates: dict[str, list[Rates]] = {shape: [] for shape in given.shapes}
    with ExitStack() as stack:
        host = Host.up(given.name, given.os, folder)
        stack.callback(host.down)
        host.settings(apps__notes__workers=WORKERS)
        host.deploy()
        taken = strip(host)
        say("The plain host lacks:\n" + "\n".join(f"  {line}" for line in taken))
        generator = stack.enter_context(Generator(host.target, [SITE]))
        for round_ in range(given.rounds):
            seen: dict[str, Rates] = {shape: {} for shape in given.shapes}
            first = round_ % len(STATES)
            for state in [*STATES][first:] + [*STATES][:first]:
                become(host, state)
                load(generator, given.shapes[0], 1)  # new processes' first answers don't count
                for shape in given.shapes:
                    seen[shape][state] = load(generator, shape, given.seconds)
            for shape, found in seen.items():
                rates[shape].append(found)
                told = ", ".join(f"{found[state]:.0f} {state}" for state in STATES)
                say(f"  round {round_ + 1}, {shape}: {told}")
    text, good = table(rates)
    print(f"{given.os}, {os.cpu_count()} cores, {given.rounds} rounds of {given.seconds} s, {CONNECTIONS} connections")
    print(text)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status: 1 where the bar isn't met."""
    top = argparse.ArgumentParser(
        prog="python -m tests.bench.hardening", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    top.add_argument("--os", choices=("debian12", "debian13"), default="debian12", help="system of the target")
    top.add_argument("--rounds", type=int, default=12, metavar="N", help="rounds (12)")
    top.add_argument("--seconds", type=int, default=2, metavar="S", help="how long each load lasts (2)")
    top.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="which shapes (all)")
    top.add_argument("--name", default=f"cost-{os.getpid()}", help="the target's name")
    given = top.parse_args(arguments)
    return exit_status(lambda folder: measured(given, folder))


if __name__ == "__main__":
    sys.exit(main())
