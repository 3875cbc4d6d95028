"""Send steady traffic to a site while something happens to it, and tell whether a request was lost.

  python -m slipway.prober inventories/production.py --seconds 60
      for a minute, while you do something elsewhere
  python -m slipway.prober inventories/production.py -- ssh root@203.0.113.5 certbot renew --force-renewal
      while a command runs

The site is the app's first domain, asked as its visitors do; what is sent is the app's `probe` in the inventory. Where
DNS doesn't lead to the host, or its certificate isn't publicly trusted, "verify" beside "slipway" in the host's data
tells: {"address": "127.0.0.1", "http_port": 8080, "https_port": 8443, "ca_file": "ca.pem"}, each of them optional.

Nothing happens before each kind of traffic was answered well once. At the end one line is printed, such as
  1,523 requests (12 slow, 8 uploads, 340 messages), 0 failed, 2 sent again; p50 3 ms, p99 11 ms, longest gap 38 ms
where "sent again" are requests whose kept connection the server closed before it answered, as any browser sends them
again, and the gap is the longest time without an answer. After it come the requests that were lost.

exit status: that of the command, if it failed; 3 if a request was lost; 2 if nothing was begun, because of a wrong
argument or inventory, or because the site doesn't answer; 0 otherwise.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LOST = 3
"""Exit status when a request was lost, or when that is unknown."""

_SHOWN = 10  # lost requests that are listed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slipway.prober",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s INVENTORY [--limit HOST] [--app NAME] (--seconds N | -- COMMAND ...)",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="inventory file of the site's host")
    parser.add_argument("--limit", metavar="HOST", help="host of the inventory; needed where several have such an app")
    parser.add_argument("--app", metavar="NAME", help="app of the inventory; needed where it has several")
    parser.add_argument("--seconds", metavar="N", type=float, help="send for so long; ^C ends it sooner")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. SystemExit(2) for a wrong one."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--serve"]:
        from slipway.prober.process import serve

        serve()
        return 0
    split = words.index("--") if "--" in words else len(words)
    parser, command = _parser(), words[split + 1 :]
    options = parser.parse_args(words[:split])
    if bool(command) == (options.seconds is not None):
        parser.error("say how long: either --seconds N, or a command after --")
    if options.seconds is not None and not options.seconds > 0:
        parser.error("--seconds: a number greater than 0")
    return _run(parser, options, command)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, command: Sequence[str]) -> int:
    # The child process needs none of these, and must start quickly.
    from pyinfra.api.exceptions import PyinfraError

    from slipway.prober import Prober, ProberError, site_and_load
    from slipway.settings import load_inventory

    if not options.inventory.is_file():
        parser.error(f"there is no inventory {options.inventory}")
    try:
        hosts = load_inventory(options.inventory)
    except PyinfraError as error:
        parser.error(str(error))
    found = [
        (f"--limit {name} --app {app.name}", app, data.get("verify", {}))
        for name, data, settings in hosts
        for app in settings.apps.values()
        if options.limit in (None, name) and options.app in (None, app.name)
    ]
    if len(found) != 1:
        every = [f"--limit {name} --app {app}" for name, _, settings in hosts for app in settings.apps]
        parser.error(f"{'choose one app' if found else 'there is no such app'}: {', '.join(every)}")
    _, app, verify = found[0]
    try:
        site, load = site_and_load(app, verify)
        prober = Prober(site, load)
        prober.start()
    except ProberError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    try:
        status = _wait(options.seconds) if options.seconds is not None else _command(command)
        result = prober.stop()
    except ProberError as error:
        print(f"Error: {error}", file=sys.stderr)
        return LOST
    finally:
        prober.close()
    from slipway.foreign import one_line

    print(result.line, flush=True)
    for fault in result.faults[:_SHOWN]:
        print(f"  after {fault.at:.1f} s: {one_line(fault.what)}")
    if result.failed > _SHOWN:
        print(f"  and {result.failed - _SHOWN:,} more")
    return status or (LOST if result.failed else 0)


def _wait(seconds: float) -> int:
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0


def _command(command: Sequence[str]) -> int:
    """Run a command to its end; its exit status as a shell tells it."""
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"Error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    # ^C reaches the command too, which decides; the result of the traffic is wanted either way.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the traffic has ended with it
        sys.exit(130)
