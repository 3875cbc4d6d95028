"""`python -m tests.target`: a throw-away VPS, in a container of this machine's Docker engine or as a virtual machine.

verbs:
  up        bring a target up, or heal it; prints how to reach it. --machine: a virtual machine
  status    how to reach a target; exit code 1 unless it runs
  ssh       a shell on a target, or a command there: ssh --name demo -- systemctl --failed
  reboot    restart its host; --hard as by pulling the plug
  cut       cut its power: what it had not flushed to its disk is lost; `up` boots it again
  down      remove everything of a target
  engine    install and start a Docker engine where none answers

verbs of a machine:
  reset     press its reset button: reboot --hard
  clock     set its clock, also for later boots: clock +90d, clock -1h, from what it is; clock now
  memory    boot it with another size of memory: memory 512 (MB)
  snapshot  keep its memory and disk under a name: snapshot provisioned; the machine goes on
  restore   go on from a snapshot within seconds, as often as wanted: restore provisioned

A machine is made from Debian's packages once a system (about 2 minutes), runs by KVM where that works and is emulated
elsewhere, about twenty times slower than a container: then it boots in about a minute. It has a kernel, boot loader,
disk (--disk GB), memory (--memory MB, no swap) and clock of its own; its user, keys and host name come by cloud-init.
All that its console said is in `.target/<name>/console.log`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys

from tests.target import engine, lifecycle, machine, qemu
from tests.target.console import TargetError, paint, say
from tests.target.image import SUITES
from tests.target.lifecycle import Description

MACHINE_VERBS = ("cut", "reset", "clock", "memory", "snapshot", "restore")


def seconds(change: str) -> int:
    """Seconds of a change of a clock such as "+90d" or "-1h"; raises TargetError for anything else."""
    found = re.fullmatch(r"([+-])(\d+)([dhms])", change)
    if not found:
        raise TargetError(f"clock {change!r}: use + or -, a number, and d, h, m or s, such as +90d; or now")
    return int(found[1] + found[2]) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[found[3]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.target", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in ("up", "down", "status", "ssh", "reboot", "engine", *MACHINE_VERBS):
        sub = verbs.add_parser(verb)
        if verb != "engine":
            sub.add_argument("--name", default="demo", help="the target's name (default: demo)")
        if verb in {"up", "status", "reboot", *MACHINE_VERBS}:
            sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        if verb == "up":
            sub.add_argument("--os", choices=sorted(SUITES), help=f"its system (default: {lifecycle.DEFAULT_OS})")
            sub.add_argument("--machine", action="store_true", default=None, help="a virtual machine, not a container")
            sub.add_argument(
                "--arch",
                choices=sorted(qemu.ARCHITECTURES),
                help=f"of a new machine: its processor (default: {qemu.OWN})",
            )
            for what, unit in (("memory", "MB"), ("cpus", "number of processors"), ("disk", "GB")):
                default = getattr(machine.Settings, what)
                sub.add_argument(f"--{what}", type=int, help=f"of a new machine: {unit} (default: {default})")
        if verb == "reboot":
            sub.add_argument("--hard", action="store_true", help="kill it instead of shutting it down")
        if verb == "clock":
            sub.add_argument("change", help="+ or - and days, hours, minutes or seconds, such as +90d; or now")
        if verb == "memory":
            sub.add_argument("megabytes", type=int, help="MB")
        if verb in {"snapshot", "restore"}:
            sub.add_argument("snapshot", help="the snapshot's name")
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
    print(f"{paint(target['name'], '1', stream=sys.stdout)} · {target['os']} · {target['kind']} · {target['state']}")
    print(
        f"  ssh        python -m tests.target ssh --name {target['name']}   ({ssh['user']}@{ssh['host']}:{ssh['port']})"
    )
    print(f"  http       127.0.0.1:{target['http_port']}, https 127.0.0.1:{target['https_port']}")
    print(f"  domains    {', '.join(target['domains'])}")
    print(f"  ca file    {target['ca_file']}")
    print(f"  acme       {target['acme_directory']} (as it sees it)")
    print(f"  python     {target['python']['version']} from {target['python']['downloads_json_url'] or 'upstream'}")


def _up(options: argparse.Namespace) -> Description:
    hardware = {what: getattr(options, what) for what in ("arch", "memory", "cpus", "disk")}
    return lifecycle.up(options.name, options.os, machine=options.machine, **hardware)


def _machine(options: argparse.Namespace) -> Description:
    """Do what only a machine can."""
    name: str = options.name
    match options.verb:
        case "cut":
            return lifecycle.cut(name)
        case "reset":
            return lifecycle.reset(name)
        case "memory":
            return lifecycle.memory(name, options.megabytes)
        case "snapshot":
            return lifecycle.snapshot(name, options.snapshot)
        case "restore":
            return lifecycle.restore(name, options.snapshot)
    if options.change == "now":
        return lifecycle.clock(name, 0)
    return lifecycle.clock(name, lifecycle.status(name).get("clock", 0) + seconds(options.change))


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        match options.verb:
            case "engine":
                engine.ensure()
            case "up":
                report(_up(options), as_json=options.json)
            case "reboot":
                report(lifecycle.reboot(options.name, hard=options.hard), as_json=options.json)
            case "cut" | "reset" | "clock" | "memory" | "snapshot" | "restore":
                report(_machine(options), as_json=options.json)
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
