"""`python -m tests.target`: a throw-away VPS on this machine's Docker engine.

verbs:
  up      bring a target up, or heal it; prints how to reach it
  status  how to reach a target; exit code 1 unless it runs
  ssh     a shell on a target, or a command there: ssh --name demo -- systemctl --failed
  reboot  restart its host; --hard as by pulling the plug
  down    remove everything of a target
  engine  install and start a Docker engine where none answers
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.target import engine, lifecycle
from tests.target.console import TargetError, paint, say
from tests.target.image import SUITES
from tests.target.lifecycle import Description


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.target", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in ("up", "down", "status", "ssh", "reboot", "engine"):
        sub = verbs.add_parser(verb)
        if verb != "engine":
            sub.add_argument("--name", default="demo", help="the target's name (default: demo)")
        if verb in {"up", "status", "reboot"}:
            sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        if verb == "up":
            sub.add_argument("--os", choices=sorted(SUITES), help=f"its system (default: {lifecycle.DEFAULT_OS})")
        if verb == "reboot":
            sub.add_argument("--hard", action="store_true", help="kill it instead of shutting it down")
        if verb == "ssh":
            sub.add_argument("--user", help="log in as this user (default: the sudo user)")
            sub.add_argument("command", nargs=argparse.REMAINDER, help="command to run (default: a shell)")
    return top


def report(target: Description, *, as_json: bool) -> None:
    """Print a target's description, for people or as JSON."""
    if as_json:
        print(json.dumps(target, indent=1))
        return
    ssh = target["ssh"]
    print(f"{paint(target['name'], '1', stream=sys.stdout)} · {target['os']} · {target['state']}")
    print(
        f"  ssh        python -m tests.target ssh --name {target['name']}   ({ssh['user']}@{ssh['host']}:{ssh['port']})"
    )
    print(f"  http       127.0.0.1:{target['http_port']}, https 127.0.0.1:{target['https_port']}")
    print(f"  domains    {', '.join(target['domains'])}")
    print(f"  ca file    {target['ca_file']}")
    print(f"  acme       {target['acme_directory']} (inside its network)")
    print(f"  python     {target['python']['version']} from {target['python']['downloads_json_url'] or 'upstream'}")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        match options.verb:
            case "engine":
                engine.ensure()
            case "up":
                report(lifecycle.up(options.name, options.os), as_json=options.json)
            case "reboot":
                report(lifecycle.reboot(options.name, hard=options.hard), as_json=options.json)
            case "status":
                target = lifecycle.status(options.name)
                report(target, as_json=options.json)
                if target["state"] != "running":
                    raise TargetError(
                        f"target {options.name} is {target['state']}; `up --name {options.name}` starts it"
                    )
            case "ssh":
                command = options.command[1:] if options.command[:1] == ["--"] else options.command
                call = lifecycle.ssh_command(options.name, command, options.user)
                os.execvp(call[0], call)
            case "down":
                removed = lifecycle.down(options.name)
                say(
                    f"Removed target {options.name}: {', '.join(removed)}." if removed else f"No target {options.name}."
                )
    except TargetError as error:
        say(f"{paint('Error:', '31')} {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; the same command goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
