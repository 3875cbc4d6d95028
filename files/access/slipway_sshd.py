"""sshd and its ports: let it read its configuration anew, and bring it back where somebody else took a port meanwhile.

sshd closes its ports for a moment when it does that, and ends for good if it can't have one of them again. Managed by
Slipway (roles/access.py); needs Python 3.10 or newer and nothing else.
"""

import errno
import itertools
import os
import pwd
import re
import socket
import subprocess
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
PROCESSES = Path("/proc")
PRIVATE = Path("/run/sshd")  # which sshd needs to check its configuration; systemd removes it when sshd ends
BUILDS = "builds.slice"
SERVICE, SOCKET = "ssh.service", "ssh.socket"
RELOAD_SECONDS = 5  # until sshd listens anew
PATIENCE_SECONDS = 1  # after which it doesn't by itself
START_SECONDS = 20  # while it is tried again
LOOK_SECONDS = 2  # at who has which socket
LOOKED_AT = 70_000  # descriptors of a process: no app may have more open
FREE_SECONDS = 3  # until what was ended is gone, with its ports
PIDFD_GETFD = 438


class Refused(Exception):
    """The change was not made, or was taken back; the message says why."""


def run(*argv, check=True, **given):
    """Run a command; what it printed is the message when it fails and `check` is set."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **given)
    if check and done.returncode != 0:
        raise Refused(f"`{' '.join(argv)}` ended with {done.returncode}:\n{done.stdout.strip()}")
    return done


def active(unit):
    """Whether a unit runs."""
    return run("systemctl", "is-active", "--quiet", unit, check=False).returncode == 0


def wanted(unit):
    """Whether a unit is to run from boot on."""
    return run("systemctl", "is-enabled", "--quiet", unit, check=False).returncode == 0


def dead():
    """Whether sshd doesn't run, though it should."""
    return wanted(SERVICE) and not active(SERVICE) and not active(SOCKET)


def effective():
    """What sshd goes by, as it says itself: keyword → values."""
    private_folder()
    found = {}
    for line in run("/usr/sbin/sshd", "-T").stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def private_folder():
    """Make the folder without which sshd checks nothing."""
    PRIVATE.mkdir(mode=0o755, parents=True, exist_ok=True)


def ports():
    """Ports that sshd is to listen on."""
    # Not `port`, which ListenAddress may overrule; behind the address a routing domain may stand.
    return {int(each.split()[0].rpartition(":")[2]) for each in effective().get("listenaddress", [])}


def main_process():
    """Process id of sshd itself; 0 where it doesn't run."""
    told = run("systemctl", "show", "--property=MainPID", "--value", SERVICE, check=False).stdout.strip()
    return int(told) if told.isdigit() else 0


def sockets_of(process, most=None):
    """File descriptor → inode of the sockets that a process has open.

    + most: descriptors that are looked at
    """
    found = {}
    try:
        for each in itertools.islice((PROCESSES / str(process) / "fd").iterdir(), most):
            if match := re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink())):
                found[int(each.name)] = match[1]
    except OSError:  # it has ended
        pass
    return found


def listening(wanted_ports):
    """Inode → family ("tcp", "tcp6") of the sockets through which sshd itself listens on these ports."""
    own, found = {*sockets_of(main_process()).values()}, {}
    for family in ("tcp", "tcp6"):
        try:
            lines = (PROCESSES / "self/net" / family).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and fields[9] in own and int(fields[1].rpartition(":")[2], 16) in wanted_ports:
                found[fields[9]] = family
    return found


def reload():
    """Let sshd read its configuration, sessions go on; start it where it has ended, though it should run.

    With socket activation, its socket follows the ports.
    """
    private_folder()
    run("/usr/sbin/sshd", "-t")
    if active(SOCKET) or (wanted(SOCKET) and not active(SERVICE)):
        # A generator makes the socket's addresses from sshd_config (Ubuntu since 22.10).
        run("systemctl", "daemon-reload")
        if run("systemctl", "restart", SOCKET, check=False).returncode != 0:
            start(SOCKET)
        if active(SERVICE):
            run("systemctl", "reload", SERVICE)
        return
    if active(SERVICE):
        anew(ports())
    elif dead():
        start(SERVICE)


def anew(wanted_ports):
    """Reload sshd, and wait until it listens through other sockets than before, in each family that it had."""
    before, began = listening(wanted_ports), time.monotonic()
    run("systemctl", "reload", SERVICE, check=False)
    restarted = False
    while True:
        now, waited = listening(wanted_ports), time.monotonic() - began
        if now and not now.keys() & before.keys() and {*before.values()} <= {*now.values()}:
            return
        if not restarted and waited > PATIENCE_SECONDS and (not now or now.keys() - before.keys()):
            # It has ended, or is without one of its addresses. Sessions go on all the same (KillMode=process).
            restarted = True
            start(SERVICE)
        elif waited > RELOAD_SECONDS:
            raise Refused("sshd was reloaded, but doesn't listen anew (`journalctl -u ssh`)")
        time.sleep(0.02)


def start(unit):
    """Start sshd, or its socket, anew; for a while, since somebody may have its port."""
    until = time.monotonic() + START_SECONDS
    while True:
        free(ports())
        run("systemctl", "reset-failed", unit, check=False)
        done = run("systemctl", "restart", unit, check=False)
        if done.returncode == 0 and active(unit):
            return
        if time.monotonic() > until:
            raise Refused(f"{unit} doesn't start (`journalctl -u {unit}`):\n{done.stdout.strip()}")
        time.sleep(0.2)


# --- Who else has its ports ------------------------------------------------------------------------------------------


def taken(wanted_ports):
    """Whether somebody has one of these ports: sshd asks for them just so."""
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


def takers(wanted_ports):
    """Processes other than root's that have a socket on one of these ports, whether or not it listens: id → user."""
    found = {}
    until = time.monotonic() + LOOK_SECONDS
    for process in PROCESSES.glob("[0-9]*"):
        try:
            owner = process.stat().st_uid
            inodes = sockets_of(process.name, LOOKED_AT) if owner else {}
            for number in inodes:
                if time.monotonic() > until:  # who holds millions of them means it to take long
                    return found
                if bound(int(process.name), number) in wanted_ports:
                    found[int(process.name)] = owner
                    break
        except OSError:  # it has ended
            continue
    return found


def bound(process, descriptor):
    """Port that a socket of another process is bound to: /proc tells only of those that listen, or are connected."""
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
        return name[1] if inet and copy.type == socket.SOCK_STREAM else None


def unit_of(process):
    """The app's slice, or the build, that a process is in; None where it is neither of Slipway's."""
    # From systemd's own group on: below their own, users may name groups as they like.
    top = re.escape(group_of(1).removesuffix("/init.scope"))
    path = group_of(process)
    found = re.match(
        rf"{top}/app\.slice/(app-[^/]+\.slice)(?:/|$)|{top}/builds\.slice/([^/]+-build\.service)(?:/|$)", path
    )
    if not found or not (UNITS / (found[1] or BUILDS)).is_file():
        return None
    return found[1] or found[2]


def group_of(process):
    """The control group in which systemd has a process (cgroups(7)); empty where it has ended."""
    try:
        lines = (PROCESSES / str(process) / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    of = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    return of.get("name=systemd") or of.get("", "")


def free(wanted_ports):
    """End the apps, and builds, that keep sshd from its ports: systemd starts them again, but sshd is faster.

    Others are named, and left alone. Where nobody is found, all apps and builds are ended: a socket can be open where
    nobody sees it (on its way to another process, say), and that sshd comes back counts more.
    """
    until = time.monotonic() + FREE_SECONDS
    while taken(wanted_ports) and time.monotonic() < until:
        found = takers(wanted_ports)
        units = {each for each in map(unit_of, found) if each} if found else slices()
        if not units:
            if users := ", ".join(sorted({name_of(owner) for owner in found.values()})):
                print(f"sshd's port is taken by a process of {users} (`ss -ltnp`)", flush=True)
            return
        for each in units:
            print(f"{each} is ended: it {'has' if found else 'may have'} a port of sshd's", flush=True)
            run("systemctl", "kill", "--signal=SIGKILL", each, check=False)
        time.sleep(0.05)


def slices():
    """The slices of all apps and builds."""
    return {path.name for path in [*UNITS.glob("app-*.slice"), UNITS / BUILDS] if path.is_file()}


def name_of(owner):
    """Name of a user."""
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
