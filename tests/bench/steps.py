"""What a release and a rollback take, step by step, without traffic: python -m tests.bench.steps --os debian12

It brings a target up, deploys examples/notes over TLS, and then in turn releases it with one line of code changed, by
`slipway release`, and goes back to the release that is still warm, by `slipway rollback` on the host. The time beyond
the app's own is what is left of the whole command without the steps in which the app starts and has to prove itself
(start, prove, watch).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.example import BACK, change, deployed, options
from tests.e2e._driver import Host

OWN = ("start", "prove", "watch")
"""The steps that take as long as the app does, or as the operator set."""


def steps(host: Host) -> dict[str, float]:
    """Seconds of each step of the newest attempt."""
    newest, *_ = json.loads(host.ssh("/opt/slipway/bin/slipway releases --json notes"))
    return dict(newest["steps"])


def release(host: Host, app: Path, number: int) -> dict[str, float]:
    """Release other code; seconds of each step, of the whole command, and beyond the app's own."""
    change(app, number)
    began = time.monotonic()
    done = host.run_slipway("release")
    whole = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    taken = steps(host)
    beyond = whole - sum(taken.get(step, 0) for step in OWN)
    return taken | {"on the host": sum(taken.values()), "whole": whole, "beyond the app's own": beyond}


def rollback(host: Host) -> dict[str, float]:
    """Go back to the warm release, on the host; seconds of each step, and of the whole command there."""
    whole = float(host.ssh(f"bash -c 'TIMEFORMAT=%R; {{ time {BACK} >/dev/null; }} 2>&1'"))
    return steps(host) | {"whole, on the host": whole}


def show(what: str, rounds: Sequence[dict[str, float]]) -> None:
    """Print the median of each step, and the least and the most."""
    print(f"{what}, {len(rounds)} times, seconds: median (least, most)")
    for step in rounds[-1]:
        taken = [each.get(step, 0.0) for each in rounds]
        print(f"  {step:22} {statistics.median(taken):5.2f}  ({min(taken):.2f}, {max(taken):.2f})")


def main() -> int:
    """Run it all; returns the exit status."""
    given = options("tests.bench.steps", __doc__)
    with deployed(given) as (host, app):
        rounds = [(release(host, app, number), rollback(host)) for number in range(given.count + 1)][1:]
    print(f"\n{given.os}")
    show("release of other code", [each for each, _ in rounds])
    show("rollback to a warm release", [each for _, each in rounds])
    return 0


if __name__ == "__main__":
    sys.exit(main())
