"""What the public notices of releases, rollbacks and restarts: python -m tests.bench.switching --os debian12

It brings a target up, deploys examples/notes over TLS, and sends traffic over 50 connections, with slow requests,
uploads, a WebSocket and a stream beside them: while releases go out, each with other code, and while the host goes back
down the chain. For comparison, then: while nothing is done, while the service of that app is restarted, and while
Gunicorn on a TCP port behind the same nginx is, as people do without this project. Exit status 1 if a release or a
rollback lost a request, or if there was no answer for longer than 0.1 s meanwhile. A busy machine makes gaps of
its own: the row of nothing done, and the share of time in which processes waited for a processor, tell of it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.prober import Prober, Result
from tests.bench.example import BACK, change, deployed, options
from tests.e2e._driver import Host
from tests.e2e.apps import status

CONNECTIONS = 50
LONGEST_GAP = 0.1
"""Seconds without an answer that a release or a rollback may cost."""
QUIET_SECONDS = 30
"""How long nothing is done, for comparison."""
PLAIN = "litestar.test"
"""A name that leads to the target, for the site that isn't ours."""
PORT = 8999
LOAD: dict[str, Any] = {
    "slow": "/api/slow?seconds=1",
    "upload": "/api/upload",
    "websocket": "/ws",
    "stream": "/api/events",
    "connections": CONNECTIONS,
    "rate": 100,
}
UNIT = """[Service]
User=notes
WorkingDirectory={folder}
EnvironmentFile={env}
ExecStart={folder}/.venv/bin/gunicorn -k uvicorn_worker.UvicornWorker -w 2 -b 127.0.0.1:{port} notes.main:app
Restart=always
"""
SITE = """server {{
    listen 80;
    server_name {name};
    location / {{
        proxy_pass http://127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $host;
        proxy_buffering off;
    }}
}}
"""

PRESSURE = Path("/proc/pressure/cpu")


@dataclass
class Row:
    """What was done under traffic."""

    what: str
    count: int
    """How often."""
    seen: Result
    """What the public saw."""
    waited: float | None
    """Share of the time in which some process of this machine waited for a processor; None where Linux doesn't tell."""


def waited() -> float | None:
    """Seconds in which some process waited for a processor, since the machine was started."""
    found = re.search(r"^some .*total=(\d+)", PRESSURE.read_text(), re.MULTILINE) if PRESSURE.exists() else None
    return int(found[1]) / 1e6 if found else None


def measured(what: str, count: int, public: Prober, act: Callable[[int], object]) -> Row:
    """Do something so often under traffic."""
    began, before = time.monotonic(), waited()
    with public:
        for number in range(count):
            act(number)
    seconds, after = time.monotonic() - began, waited()
    print(f"{what}: {count} in {seconds:.0f} s: {public.result.line}", flush=True)
    for fault in public.result.faults[:10]:
        print(f"    {fault.at:.3f} s {fault.kind}: {fault.what}", flush=True)
    return Row(what, count, public.result, None if before is None or after is None else (after - before) / seconds)


def releases(host: Host, app: Path, count: int) -> Row:
    """Release so often, each time with other code, in pyinfra's own time; then go back on the host so often."""

    def release(number: int) -> None:
        change(app, number)
        host.task("tasks/release.py", app="notes")

    return measured("release", count, host.prober(**LOAD), release)


def rollbacks(host: Host, count: int) -> Row:
    """Go back down the chain so often."""

    def back(_number: int) -> None:
        host.ssh(BACK)

    return measured("rollback", count, host.prober(**LOAD), back)


def nothing(host: Host) -> Row:
    """Do nothing for a while: what this machine itself makes of the traffic."""
    return measured("nothing", 1, host.prober(**LOAD), lambda _number: time.sleep(QUIET_SECONDS))


def restarts(host: Host, count: int) -> Row:
    """Restart the service of the release that serves; its socket stays."""

    def restart(_number: int) -> None:
        unit = f"notes@{host.release()}.service"
        host.ssh(f"systemctl reset-failed {unit}; systemctl restart {unit}")  # five starts a minute are its limit
        time.sleep(3)

    return measured("restart of the release", count, host.prober(**LOAD), restart)


def plain_restarts(host: Host, count: int) -> Row:
    """Restart Gunicorn on a TCP port behind a site of its own."""
    release = host.release()
    values = {"folder": f"/srv/notes/releases/{release}", "env": f"/etc/notes/releases/{release}.env", "port": PORT}
    host.ssh("cat >/etc/systemd/system/plain.service", stdin=UNIT.format(**values))
    host.ssh("cat >/etc/nginx/sites-enabled/plain", stdin=SITE.format(name=PLAIN, port=PORT))
    host.ssh("systemctl daemon-reload; systemctl start plain; /opt/slipway/bin/slipway nginx reload")
    time.sleep(4)

    def restart(_number: int) -> None:
        host.ssh("systemctl restart plain")
        time.sleep(3)

    return measured("restart of plain Gunicorn", count, host.prober(PLAIN, scheme="http", **LOAD), restart)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    lines = [["action", "times", "requests", "failed", "p50", "p99", "longest gap", "CPU waited for"]]
    for row in rows:
        seen = row.seen
        times = [f"{each * 1000:.0f} ms" for each in (seen.p50, seen.p99, seen.longest_gap)]
        share = "" if row.waited is None else f"{row.waited:.0%}"
        lines.append([row.what, str(row.count), f"{seen.requests:,}", f"{seen.failed:,}", *times, share])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


def main() -> int:
    """Run it all; returns the exit status."""
    given = options("tests.bench.switching", __doc__)
    settings = {
        "apps__notes__keep_releases": min(100, 2 * given.count + 2),
        "apps__notes__drain_timeout": 3,
        "apps__notes__watch": 1,
    }
    with deployed(given, **settings) as (host, app):
        half = max(1, given.count // 2)
        rows = [releases(host, app, given.count), rollbacks(host, given.count)]
        rows += [nothing(host), restarts(host, half), plain_restarts(host, half)]
        faults = status(host, "notes")["faults"]
    print(f"\n{given.os}, {CONNECTIONS} connections, {LOAD['rate']} requests a second, TLS")
    show(rows)
    wrong = [row.what for row in rows[:2] if row.seen.failed or row.seen.longest_gap > LONGEST_GAP]
    if faults:
        print("faults:", json.dumps(faults))
    if wrong:
        print(f"lost requests, or stood still for more than {LONGEST_GAP} s: {', '.join(wrong)}")
    return 1 if wrong or faults else 0


if __name__ == "__main__":
    sys.exit(main())
