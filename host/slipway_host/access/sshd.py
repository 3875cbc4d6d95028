"""sshd and its ports: reload sshd, and restart it if another process took one of its ports meanwhile.

During a reload sshd closes its ports for a moment. If another process takes one then, sshd ends for good.

`say` is called with messages for people, a line each.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import socket

from slipway_host.names import BUILDS, SSHD, SSHD_PROGRAM, SSHD_SOCKET
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from slipway_host.system import System

    Say = Callable[[str], object]

RELOAD_SECONDS = 5  # for sshd to listen again
PATIENCE_SECONDS = 1  # before we start it
START_SECONDS = 20  # for all tries to start it
LOOK_SECONDS = 2  # to search for the process that has a socket
LOOKED_AT = 70_000  # descriptors of a process; an app can't have more open
FREE_SECONDS = 3  # for killed processes to free their ports
LISTENS = "0A"  # in the kernel's list
PIDFD_GETFD = 438


class Refused(Failed):
    """The change was not made, or was reverted; the message says why."""


# ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────


def active(system: System, unit: str) -> bool:
    """Whether a unit runs."""
    return system.run("systemctl", "is-active", "--quiet", unit, check=False).code == 0


def wanted(system: System, unit: str) -> bool:
    """Whether a unit starts at boot."""
    return system.run("systemctl", "is-enabled", "--quiet", unit, check=False).code == 0


def dead(system: System) -> bool:
    """Whether sshd should run, but doesn't."""
    return wanted(system, SSHD) and not active(system, SSHD) and not active(system, SSHD_SOCKET)


def effective(system: System) -> dict[str, list[str]]:
    """sshd's effective configuration, as it prints it: keyword → values."""
    private_folder(system)
    found: dict[str, list[str]] = {}
    for line in system.run(SSHD_PROGRAM, "-T", raw=True).output.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def private_folder(system: System) -> None:
    """Make the folder that `sshd -t` needs; systemd removes it when sshd ends."""
    system.layout.sshd_private.mkdir(mode=0o755, parents=True, exist_ok=True)


def ports(system: System) -> set[int]:
    """The ports that sshd is configured for."""
    # Not `port`, which ListenAddress may override. A routing domain may follow the address.
    return {int(each.split()[0].rpartition(":")[2]) for each in effective(system).get("listenaddress", [])}


def main_process(system: System) -> int:
    """Process id of sshd; 0 if it doesn't run."""
    argv = ("systemctl", "show", "--property=MainPID", "--value", SSHD)
    told = system.run(*argv, check=False, raw=True).output.strip()
    return int(told) if told.isdigit() else 0


def sockets_of(system: System, process: int, most: int | None = None) -> dict[int, str]:
    """File descriptor → inode, of the open sockets of a process.

    + most: how many descriptors to look at
    """
    found: dict[int, str] = {}
    try:
        for each in itertools.islice((system.layout.proc / str(process) / "fd").iterdir(), most):
            if match := re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink())):
                found[int(each.name)] = match[1]
    except OSError:  # it has ended
        pass
    return found


def listening(system: System, wanted_ports: set[int]) -> dict[str, str]:
    """Inode → family ("tcp", "tcp6"), of the sockets on which sshd itself listens for these ports."""
    own = set(sockets_of(system, main_process(system)).values())
    found: dict[str, str] = {}
    for family in ("tcp", "tcp6"):
        try:
            lines = (system.layout.proc / "self/net" / family).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTENS and fields[9] in own and int(fields[1].rpartition(":")[2], 16) in wanted_ports:
                found[fields[9]] = family
    return found


# ── to let it read its configuration ─────────────────────────────────────────────────────────────────────────────


def reload(system: System, say: Say) -> None:
    """Let sshd read its configuration; sessions continue. Start it if it should run, but has ended.

    With socket activation, its socket gets the ports, too. Raises Failed if sshd refuses its configuration, and Refused
    if it doesn't listen afterwards.
    """
    private_folder(system)
    system.run(SSHD_PROGRAM, "-t")
    if active(system, SSHD_SOCKET) or (wanted(system, SSHD_SOCKET) and not active(system, SSHD)):
        # A generator writes the socket's addresses from sshd_config (Ubuntu since 22.10).
        system.run("systemctl", "daemon-reload")
        if system.run("systemctl", "restart", SSHD_SOCKET, check=False).code != 0:
            start(system, SSHD_SOCKET, say)
        if active(system, SSHD):
            system.run("systemctl", "reload", SSHD)
        return
    if active(system, SSHD):
        anew(system, ports(system), say)
    elif dead(system):
        start(system, SSHD, say)


def anew(system: System, wanted_ports: set[int], say: Say) -> None:
    """Reload sshd, and wait until it listens on new sockets, in each family that it had."""
    before, began = listening(system, wanted_ports), system.clock()
    system.run("systemctl", "reload", SSHD, check=False)
    restarted = False
    while True:
        now, waited = listening(system, wanted_ports), system.clock() - began
        if now and not now.keys() & before.keys() and set(before.values()) <= set(now.values()):
            return
        if not restarted and waited > PATIENCE_SECONDS and (not now or now.keys() - before.keys()):
            # It has ended, or lacks an address. A restart keeps sessions (KillMode=process).
            restarted = True
            start(system, SSHD, say)
        elif waited > RELOAD_SECONDS:
            raise Refused("sshd was reloaded, but doesn't listen again (`journalctl -u ssh`)")
        system.sleep(0.02)


def start(system: System, unit: str, say: Say) -> None:
    """Start sshd or its socket, with several tries: another process may have its port."""
    until = system.clock() + START_SECONDS
    while True:
        free(system, ports(system), say)
        system.run("systemctl", "reset-failed", unit, check=False)
        done = system.run("systemctl", "restart", unit, check=False)
        if done.code == 0 and active(system, unit):
            return
        if system.clock() > until:
            raise Refused(f"{unit} doesn't start (`journalctl -u {unit}`):\n{done.output.strip()}")
        system.sleep(0.2)


# ── who else has its ports ───────────────────────────────────────────────────────────────────────────────────────


def taken(wanted_ports: set[int]) -> bool:
    """Whether another process has one of these ports. It binds them the way sshd does."""
    for port in wanted_ports:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                with socket.socket(family) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    one.bind((everywhere, port))
                    one.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
    return False


def takers(system: System, wanted_ports: set[int]) -> dict[int, int]:
    """Process id → user, of processes not of root with a socket on one of these ports, listening or not."""
    found: dict[int, int] = {}
    until = system.clock() + LOOK_SECONDS
    for process in system.layout.proc.glob("[0-9]*"):
        number = int(process.name)
        try:
            owner = process.stat().st_uid
            for each in sockets_of(system, number, LOOKED_AT) if owner else {}:
                if system.clock() > until:  # who holds millions of them means it to take long
                    return found
                if bound(number, each) in wanted_ports:
                    found[number] = owner
                    break
        except OSError:  # it has ended
            continue
    return found


def bound(process: int, descriptor: int) -> int | None:
    """The port to which a socket of another process is bound. /proc lists only sockets that listen or are connected."""
    import ctypes  # here, since it wants memory that is written and run, which those who only reload don't get

    library = ctypes.CDLL(None, use_errno=True)
    watched = os.pidfd_open(process)
    try:
        number = library.syscall(PIDFD_GETFD, watched, descriptor, 0)
    finally:
        os.close(watched)
    if number < 0:
        return None
    with socket.socket(fileno=number) as copy:
        try:
            name = copy.getsockname()
        except OSError:
            return None
        inet = copy.family in (socket.AF_INET, socket.AF_INET6)
        return int(name[1]) if inet and copy.type == socket.SOCK_STREAM else None


def unit_of(system: System, process: int) -> str | None:
    """The app's slice or the build's unit that a process belongs to; None for other processes."""
    # Only the part that systemd names: below it, users can name groups as they like. Of the hierarchies, systemd's is
    # the one that has itself in init.scope: there may be an old one beside it that knows only "/".
    of = system.groups(1)
    hierarchy = next((each for each in ("name=systemd", "") if of.get(each, "").endswith("/init.scope")), "")
    top = re.escape(of.get(hierarchy, "").removesuffix("/init.scope"))
    builds, any_app = re.escape(BUILDS), system.layout.app("APP")
    own = re.escape(any_app.slice).replace("APP", "[^/]+")
    build = re.escape(f"{any_app.helper('build')}.service").replace("APP", "[^/]+")
    path = system.groups(process).get(hierarchy, "")
    found = re.match(rf"{top}/app\.slice/({own})(?:/|$)|{top}/{builds}/({build})(?:/|$)", path)
    if not found or not (system.layout.units / (found[1] or BUILDS)).is_file():
        return None
    return found[1] or found[2]


def free(system: System, wanted_ports: set[int], say: Say) -> None:
    """End the apps and builds that have a port of sshd. systemd starts them again, but sshd is faster.

    Other processes are named, but not ended. If no process is found, all apps and builds are ended: a socket can be
    hidden (in a message to another process, for example), and a running sshd is worth more.
    """
    until = system.clock() + FREE_SECONDS
    while taken(wanted_ports) and system.clock() < until:
        found = takers(system, wanted_ports)
        units = {each for each in (unit_of(system, process) for process in found) if each} if found else _slices(system)
        if not units:
            if users := ", ".join(sorted({name_of(owner) for owner in found.values()})):
                say(f"sshd's port is taken by a process of {users} (`ss -ltnp`)")
            return
        for each in sorted(units):
            say(f"{each} is ended: it {'has' if found else 'may have'} a port of sshd")
            system.run("systemctl", "kill", "--signal=SIGKILL", each, check=False)
        system.sleep(0.05)


def _slices(system: System) -> set[str]:
    """The slices of all apps and builds."""
    layout = system.layout
    return {path.name for path in [*layout.units.glob(layout.app("*").slice), layout.builds] if path.is_file()}


def name_of(owner: int) -> str:
    """Name of a user."""
    import pwd

    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
