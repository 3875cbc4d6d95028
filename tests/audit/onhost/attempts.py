"""Which attempts are made from where: everything of the host's that is there, and everything of a neighbour's."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Attempt = list[object]
"""Kind of tries.py, and its arguments."""
LINK_LOCAL = "169.254.169.254"
"""Where a cloud tells a machine its secrets."""
BUS = "/run/dbus/system_bus_socket"
MOST_LOGINS, MOST_VISITS, MOST_CALLS = 700, 12_000, 400
"""Connections that are more than sshd, nginx and the bus take at once; sshd refuses some from 10 on."""
LOCKS = {
    "flock": (
        "/var/lib/apt/daily_lock",  # the daily updates
        "/var/cache/debconf/config.dat",  # packages, while they are configured
        "/var/cache/debconf/passwords.dat",
        "/var/cache/debconf/templates.dat",
        "/var/lib/logrotate/status",
        "/run/swapfile.lock",
        "/run/slipway/*.lock",
    ),
    "lockf": (
        "/etc/.pwd.lock",
        "/etc/letsencrypt/.certbot.lock",
        "/run/unattended-upgrades.lock",
        "/run/utmp",  # logins, where something writes there
        "/var/cache/apt/archives/lock",
        "/var/lib/apt/lists/lock",
        "/var/lib/dpkg/lock",
        "/var/lib/dpkg/lock-frontend",
        "/var/lib/dpkg/triggers/Lock",
        "/var/log/wtmp",
    ),
}
"""What root's programs lock, and how, as they say in their sources."""
SECRET = {
    "passwords": "/etc/shadow",
    "passwords of before": "/etc/shadow-",
    "who may use sudo": "/etc/sudoers",
    "root's files": "/root",
    "keys of sshd": "/etc/ssh/ssh_host_*_key",
    "keys of certificates": "/etc/letsencrypt/archive/*/privkey*.pem",
    "certificates' accounts": "/etc/letsencrypt/accounts",
    "other keys of certificates": "/etc/slipway/tls",
    "nginx's logs": "/var/log/nginx/*.log",
    "the host's journal": "/var/log/journal/*[0-9a-f]/system.journal",
    "the history of releases": "/var/lib/slipway/*/*.json",
    "requests of runs": "/run/slipway/*/*/request.json",
    "what ways in were before": "/var/lib/slipway/access",
    "copies of repositories": "/var/cache/slipway/git",
    "sources": "/var/cache/slipway/sources",
    "the firewall": "/etc/slipway/firewall.nft",
    "the first process' environment": "/proc/1/environ",
}
BELIEVED = (
    "/etc", "/etc/apt/apt.conf.d", "/etc/cron.d", "/etc/letsencrypt/renewal-hooks/deploy", "/etc/nginx/conf.d",
    "/etc/nginx/upstreams", "/etc/profile.d", "/etc/slipway", "/etc/ssh/sshd_config.d", "/etc/sudoers.d",
    "/etc/sysctl.d", "/etc/systemd/system", "/opt/slipway/bin", "/opt/slipway/host", "/opt/slipway/python", "/root",
    "/run", "/run/slipway", "/run/systemd/system", "/usr/local/bin", "/usr/local/lib", "/var/lib/slipway",
    "/var/lib/slipway/acme/.well-known/acme-challenge", "/var/spool/cron/crontabs",
)  # fmt: skip
"""Folders whose files root's programs believe."""
SHARED = ("/dev/mqueue", "/dev/shm", "/run/lock", "/tmp", "/var/log", "/var/tmp")
"""Folders that all of a host may fill."""


@dataclass(frozen=True)
class Neighbour:
    """The stand-in for another app."""

    name: str
    """Of its user, its service and its journal."""
    uid: int
    pid: int
    ports: dict[str, int]
    segment: int
    """Key of its shared memory."""

    @property
    def folders(self) -> dict[str, tuple[str, int, str]]:
        """What it is → its path, mode and owner, as an app of Slipway's has them."""
        return {
            "environment": (f"/etc/{self.name}", 0o750, "root"),
            "release": (f"/srv/{self.name}/releases/1", 0o750, "root"),
            "data": (f"/var/lib/{self.name}", 0o750, self.name),
            "caches": (f"/var/cache/slipway/{self.name}/uv", 0o700, self.name),
        }


def there(pattern: str) -> list[str]:
    """Paths of what matches a pattern."""
    return sorted(map(str, Path("/").glob(pattern.lstrip("/"))))


def filled(path: str) -> bool:
    """Whether there is something in a file or a folder."""
    if Path(path).is_dir():
        return any(Path(path).iterdir())
    with Path(path).open("rb") as file:
        return bool(file.read(1))


def main_pid(unit: str) -> int:
    """Its first process; 0 where it doesn't run."""
    words = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout or 0)


def own_address() -> str:
    """This host's own address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def listening() -> Iterator[tuple[str, int]]:
    """Path and type of each socket of the host's that takes connections or packets."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, kind, _, _, *path = line.split()
        # A socket of packets has no flag that says that it listens.
        if path and path[0].startswith("/run/") and (int(flags, 16) & 0x10000 or int(kind, 16) == socket.SOCK_DGRAM):
            yield path[0], int(kind, 16)


def reads(neighbour: Neighbour) -> dict[str, Attempt]:
    """What is to be read by nobody but its owner."""
    found: dict[str, Attempt] = {}
    for what, pattern in SECRET.items():
        if path := next(filter(filled, there(pattern)), None):
            found[f"reads {what} ({path})"] = ["read", path]
    for what, (folder, _, _) in neighbour.folders.items():
        found[f"lists the neighbour's {what}"] = ["read", folder]
        found[f"reads the neighbour's {what}"] = ["read", f"{folder}/file"]
    for what in ("environ", "cmdline", "status"):
        found[f"reads the neighbour's {what}"] = ["read", f"/proc/{neighbour.pid}/{what}"]
    for folder in ("/dev/shm", "/tmp", "/var/tmp"):
        found[f"reads the neighbour's file in {folder}"] = ["read", f"{folder}/{neighbour.name}"]
    return found | {
        "sees the neighbour's processes": ["processes", neighbour.uid],
        "sees root's processes": ["processes", 0],
        "reads the neighbour's journal": ["read", there(f"/var/log/journal/*.{neighbour.name}/system.journal")[0]],
        "reads the neighbour's message queue": ["read", f"/dev/mqueue/{neighbour.name}"],
        "opens the neighbour's shared memory": ["shared_segment", neighbour.segment],
    }


def holds(neighbour: Neighbour) -> dict[str, Attempt]:
    """What holds up others."""
    found: dict[str, Attempt] = {}
    data = f"{neighbour.folders['data'][0]}/file"
    for how, patterns in LOCKS.items():
        for path in [path for each in patterns for path in there(each)] + [data]:
            status = Path(path).stat()
            if path.endswith("tmp") and not status.st_size:
                continue  # no program of this host's writes logins there
            found[f"locks {path} ({how})"] = ["lock", path, how, status.st_dev, status.st_ino]
    if Path(BUS).exists():
        holding = ["systemd-inhibit", "--what=shutdown", "--mode=block", "true"]
        found["holds up a shutdown"] = ["command", *holding]
    return found


def crowds_out(site: str) -> dict[str, Attempt]:
    """What takes all connections of a service, so that nobody else gets one.

    That an app may ask what listens on this host is by design; that nobody else may then isn't.
    """
    host = f"GET / HTTP/1.1\r\nHost: {site}\r\n"
    visit = f"{host}Connection: close\r\n\r\n"
    found: dict[str, Attempt] = {
        "crowds others out of sshd": ["crowd_out", 22, MOST_LOGINS, "", "SSH-2.0-visitor\r\n", "SSH-"],
        "crowds others out of nginx": ["crowd_out", 80, MOST_VISITS, host, visit, "HTTP/"],
    }
    if Path(BUS).exists():
        found["crowds others out of the bus"] = ["crowd_out", BUS, MOST_CALLS, "", "\0AUTH\r\n", "REJECTED"]
    return found


def fills(own: list[str], segment: int) -> dict[str, Attempt]:
    """What takes room of others.

    + own: folders that are this place's by design
    + segment: key of a shared memory to be made
    """
    found: dict[str, Attempt] = {f"makes files in {folder}": ["make", folder] for folder in SHARED if there(folder)}
    return found | {
        "finds a place to write to": ["search", *own],
        "makes files in /dev/shm without end": ["files_without_end", "/dev/shm"],
        "leaves shared memory on the host": ["leave_segment", segment],
        "takes terminals of the host's": ["terminal", os.stat("/dev/pts").st_dev],  # noqa: PTH116
    }


def reaches(neighbour: Neighbour, app: str) -> dict[str, Attempt]:
    """Sockets that nobody but their owner's own clients may reach.

    Not all of the host's: an app may ask the bus and its like what every user may. What it may do there is in `ends`
    and `fakes`.
    """
    paths = dict(listening())
    found: dict[str, Attempt] = {"connects to the neighbour's socket": ["unix", f"/run/{neighbour.name}/app.sock", 1]}
    for path in ("/run/systemd/private", "/run/systemd/journal/io.systemd.journal", "/run/systemd/io.systemd.sysext"):
        if path in paths:
            found[f"connects to {path}"] = ["unix", path, paths[path]]
    for number, path in enumerate(sorted(each for each in paths if each.startswith(f"/run/{app}/")), 1):
        found[f"connects to socket {number} of {app}, which is nginx's"] = ["unix", path, 1]
    return found


def asks_everybody(neighbour: Neighbour) -> dict[str, Attempt]:
    """All that listens on this host, for whom its network isn't: a build, and an app whose settings say so."""
    found: dict[str, Attempt] = {f"connects to {path}": ["unix", path, kind] for path, kind in listening()}
    found["connects to the neighbour's abstract socket"] = ["unix", f"@{neighbour.name}", 1]
    addresses = ("127.0.0.1", "127.0.0.53", "0.0.0.0", "::1", own_address(), LINK_LOCAL)
    for address in addresses:
        found[f"connects to nginx at {address}"] = ["tcp", address, 80]
    found["connects to sshd at 127.0.0.1"] = ["tcp", "127.0.0.1", 22]
    found["connects to the neighbour's port"] = ["tcp", "127.0.0.1", neighbour.ports["tcp"]]
    found["sends packets to the neighbour's port"] = ["udp", "127.0.0.1", neighbour.ports["udp"]]
    return found


def ends(neighbour: Neighbour, others: dict[str, int]) -> dict[str, Attempt]:
    """What ends, or takes over, processes of others.

    + others: whose → a process
    """
    found: dict[str, Attempt] = {}
    for whose, pid in {"the neighbour": neighbour.pid, "systemd": 1, **others}.items():
        if pid:
            found[f"sends signals to {whose}"] = ["send_signal", pid]
    for what in ("trace", "descriptor", "memory", "slow_down", "offer_for_killing"):
        found[f"{what.replace('_', ' ')}: the neighbour"] = [what, neighbour.pid]
    if Path(BUS).exists():
        kill = ["systemctl", "--no-ask-password", "kill", "--signal=CONT", neighbour.name]
        found["sends signals to the neighbour's service by the bus"] = ["command", *kill]
        start = ["systemd-run", "--no-ask-password", "--quiet", "--collect", "--wait", "true"]
        found["starts a service by the bus"] = ["command", *start]
    return found


def fakes(neighbour: Neighbour) -> dict[str, Attempt]:
    """What passes for another's.

    Not a process' title: everybody may choose one, and there is nothing to be shown by root's. That Slipway believes
    none is told by tests/e2e/test_neighbours.py.
    """
    found: dict[str, Attempt] = {f"makes files in {folder}": ["make", folder] for folder in BELIEVED if there(folder)}
    for what, (folder, _, _) in neighbour.folders.items():
        found[f"makes files in the neighbour's {what}"] = ["make", folder]
    groups = there(f"/sys/fs/cgroup/**/{neighbour.name}.service/cgroup.procs")
    return found | {
        "listens beside the neighbour's socket": ["bind", f"/run/{neighbour.name}"],
        "listens on port 81": ["low_port", 81],
        "forges packets": ["raw"],
        "becomes the neighbour": ["command", "setpriv", "--reuid", str(neighbour.uid), "--clear-groups", "true"],
        "becomes root": ["command", "setpriv", "--reuid", "0", "--clear-groups", "true"],
        "is of the neighbour's service": ["join_group", groups[0]],
        "tells systemd the neighbour's state": ["notify", neighbour.pid],
        "writes into the host's journal as sshd": ["log", "/run/systemd/journal/socket", "sshd"],
        "writes into the host's log as sudo": ["syslog", "/run/systemd/journal/dev-log", "sudo"],
        "writes into the neighbour's journal": ["log", f"/run/systemd/journal.{neighbour.name}/socket", neighbour.name],
    }


def of_the_app(app: str) -> dict[str, Attempt]:
    """What is the app's own, and so nothing to its builds."""
    return _owned([f"/etc/{app}/env", f"/etc/{app}/release.json", f"/var/lib/{app}", f"/srv/{app}/current"],
                  [f"/etc/{app}", f"/var/lib/{app}", f"/srv/{app}/current"])  # fmt: skip


def of_the_release(app: str) -> dict[str, Attempt]:
    """What a release of the app is made from, and how: root's and the builder's, and so nothing to the app."""
    caches = [f"/var/cache/slipway/{app}/{each}" for each in ("home", "uv")]
    made = [f"/etc/{app}", f"/srv/{app}", f"/srv/{app}/releases", f"/srv/{app}/current", f"/run/{app}", *caches]
    return _owned([f"/etc/{app}/release.json", f"/etc/{app}/build.env", *caches], made)


def _owned(read: list[str], made: list[str]) -> dict[str, Attempt]:
    found: dict[str, Attempt] = {
        f"reads {path}": ["read", path] for path in read if Path(path).exists() and filled(path)
    }
    return found | {f"makes files in {path}": ["make", path] for path in made if Path(path).is_dir()}
