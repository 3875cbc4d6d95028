"""A target that is a virtual machine of QEMU: a kernel, a disk, a clock and a boot of its own.

It is what one rents: Debian's kernel for clouds, booted by GRUB from its own disk; a sudo user, SSH keys and a host
name that cloud-init takes from a seed (NoCloud); no swap; a small disk that cloud-init grows to its size. Without KVM
it is emulated, about twenty times slower than a container. `lifecycle` holds the target's lock while one of these runs.

Its network is QEMU's own (user mode), which needs no root: the machine is 10.0.2.15 and sees this machine's 127.0.0.1
as 10.0.2.2, where its ACME server listens; its ports 22, 80 and 443 are forwarded from 127.0.0.1. What it is made of
stands in ``machine.json`` in its folder; whether it runs is read from QEMU's process.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.target import acme, container, disk, host, image, keys, mirror, qemu
from tests.target.console import TargetError, exclusive, run, say, step, tail
from tests.target.engine import LABEL, docker
from tests.target.folders import ROOT, Description, NoTarget, free_ports, ssh_options
from tests.target.qmp import Qmp

SETTINGS = "machine.json"
"""File in a machine's folder with its Settings, by which a target is known as a machine."""

GATEWAY, ADDRESS = "10.0.2.2", "10.0.2.15"
"""This machine and the target, as the target sees them: QEMU's defaults."""

BOOT_SECONDS = 600
"""Time a machine has to boot and finish cloud-init; usual are 60 to 90 at first and 30 to 50 later, in software."""

ASKED = "; echo; echo --; ".join(
    (
        "cat /proc/sys/kernel/random/boot_id",
        "systemctl is-system-running --wait",
        "systemctl list-units --failed --plain --no-legend",
        "cat /etc/ssh/ssh_host_*_key.pub",
    )
)
"""What a machine is asked once it greets: which boot it is, how that went, and its host keys."""

QUIET = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR")
"""SSH without questions, which ends when the machine does."""

OFF_SECONDS = 180
"""Time a machine has to shut down by itself."""

PORTS = ("ssh", "http", "https", "acme", "management", "dns", "dns_management", "mirror")
"""What a machine and its ACME server need a port of 127.0.0.1 for."""


@dataclass(frozen=True)
class Settings:
    """What a machine is made of; what is not in its disk."""

    os: str
    """A key of image.SUITES."""
    ports: dict[str, int]
    """Ports on 127.0.0.1 by PORTS: kept, since the machine's own configuration has that of its ACME server."""
    python: dict[str, Any]
    """See lifecycle.status."""
    image: str
    """Folder of the image below its disk; see disk.image."""
    memory: int = 1024
    """MB."""
    cpus: int = 2
    """Number of processors."""
    disk: int = 10
    """GB."""
    arch: str = qemu.OWN
    """A key of qemu.ARCHITECTURES."""
    clock: int = 0
    """Seconds by which its clock is ahead of this machine's."""

    @property
    def hardware(self) -> qemu.Hardware:
        """The machine as QEMU knows it."""
        forwards = {22: self.ports["ssh"], 80: self.ports["http"], 443: self.ports["https"]}
        return qemu.Hardware(self.memory, self.cpus, forwards, self.arch, self.clock)


def is_one(folder: Path) -> bool:
    """True where the target of a folder is a machine."""
    return (folder / SETTINGS).is_file()


def settings(folder: Path) -> Settings:
    """What the machine of a folder is made of."""
    return Settings(**json.loads((folder / SETTINGS).read_text()))


def save(folder: Path, what: Settings) -> None:
    """Keep what the machine of a folder is made of."""
    keys.write_private(folder / SETTINGS, json.dumps(asdict(what), indent=1).encode() + b"\n")


def up(name: str, folder: Path, os_name: str, hardware: Mapping[str, Any]) -> Description:
    """Bring a machine up, or heal it: started, booted, reachable. Off, it boots the disk it has.

    `os_name`: of a new one, a key of image.SUITES; `hardware`: of a new one, those of "arch", "memory", "cpus" and
    "disk" that aren't Settings' defaults.
    """
    _, acme_found = container.own(name, folder)
    if not is_one(folder):
        _create(name, folder, os_name, hardware)
    made = settings(folder)
    qemu.require(made.arch)
    for what, wanted in hardware.items():
        if getattr(made, what) != wanted:
            raise TargetError(
                f"machine {name} has {what} {getattr(made, what)}, not {wanted}; `memory --name {name} MB` changes its "
                f"memory, for the rest `down --name {name}` and `up`"
            )
    if not (folder / qemu.DISK).is_file():
        _seed(name, folder)
        disk.overlay(folder / qemu.DISK, Path(made.image) / qemu.DISK, made.disk)
    if acme_found is None or acme_found["State"]["Status"] in {"created", "dead", "removing"}:
        container.remove(acme_found)
        _create_acme(name, folder, made)
    container.start(container.acme_name(name))
    if qemu.pid(folder) is None:
        boot(name, folder)
    return ready(name, folder)


def _create(name: str, folder: Path, os_name: str, hardware: Mapping[str, Any]) -> None:
    arch = hardware.get("arch", Settings.arch)
    qemu.require(arch)
    below = disk.image(os_name, arch, ROOT / ".cache")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys.ssh_key(folder)
    ports = dict(zip(PORTS, free_ports(len(PORTS), container.taken()), strict=True))
    python = mirror.choice(os_name, f"http://acme:{ports['mirror']}")
    save(folder, Settings(os_name, ports, python, str(below), **hardware))


def _seed(name: str, folder: Path) -> None:
    """Write what cloud-init reads at the first boot: who it is, who may log in, and its neighbours' names."""
    key = (folder / "id_ed25519.pub").read_text().strip()
    files = folder / qemu.SEED
    files.mkdir(exist_ok=True)
    (files / "meta-data").write_text(json.dumps({"instance-id": f"{name}-{time.time():.0f}"}))
    told = user_data(container.host_name(name), key)
    (files / "user-data").write_text("#cloud-config\n" + json.dumps(told, indent=1))


def user_data(hostname: str, key: str) -> dict[str, Any]:
    """cloud-init's instructions for a new machine. `key`: the line of the SSH key that may log in."""
    hosts = f"{GATEWAY} acme\n{ADDRESS} {' '.join(host.DOMAINS)}\n"
    return {
        "hostname": hostname,
        # These two as in Debian's own images for clouds.
        "apt": {"preserve_sources_list": True},
        "locale": "C.UTF-8",
        "disable_root": False,  # root takes the key too, as in a container
        "manage_etc_hosts": "localhost",  # its own name there, and what else is in /etc/hosts stays
        "users": [
            {
                "name": host.USER,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [key],
            },
            {"name": "root", "ssh_authorized_keys": [key]},
        ],
        "write_files": [{"path": "/etc/hosts", "append": True, "content": hosts}],
    }


def _create_acme(name: str, folder: Path, made: Settings) -> None:
    with exclusive(ROOT / ".locks" / "images.lock"):
        tag = image.acme_image()
        served = {}
        if made.python["downloads_json_url"]:
            url = f"http://acme:{made.ports['mirror']}"
            of = image.host_image(made.os)
            if made.arch != docker("info", "--format", "{{.Architecture}}"):
                of = image.foreign_image(made.os, qemu.ARCHITECTURES[made.arch].debian)
            served = mirror.files(made.os, of, ROOT / ".cache", url, made.arch)
    keys.acme_certificate(folder, GATEWAY)
    options = [
        f"--name={container.acme_name(name)}",
        f"--label={LABEL}={name}",
        f"--label={container.FOLDER_LABEL}={folder}",
        f"--label={container.PORTS_LABEL}={json.dumps(list(made.ports.values()))}",
        "--network=host",  # it has to reach the machine at this machine's 127.0.0.1, and the machine has to reach it
    ]
    acme.create(tag, options, "127.0.0.1", folder, served, addresses(made.ports))


def addresses(ports: Mapping[str, int]) -> acme.Addresses:
    """Where the ACME server beside a machine listens, from Settings.ports: on 127.0.0.1 alone."""
    own = {what: f"127.0.0.1:{ports[what]}" for what in ("acme", "management", "dns", "dns_management", "mirror")}
    return acme.Addresses(**own, http_port=ports["http"], tls_port=ports["https"])


def accelerator(made: Settings) -> str:
    """ "kvm" or "tcg": how machines of this kind run here."""
    return qemu.accelerator(made.arch, Path(made.image) / "vmlinuz", ROOT / ".cache")


def boot(name: str, folder: Path) -> None:
    """Switch a machine on and return at once."""
    made = settings(folder)
    qemu.start(container.host_name(name), folder, made.hardware, accelerator(made))


def ready(name: str, folder: Path, *, not_boot: str = "") -> Description:
    """Wait until all of a target answers, and write the files that say so; returns its description.

    `not_boot`: id of a boot that has to be over.
    """
    description = describe(name, folder)
    with step(f"machine {name} answers"):
        failed = _wait(description, folder, not_boot)
        acme.wait(description["acme_container"], description["acme_management_url"], folder)
    if failed:
        say(f"Units of target {name} that failed: {', '.join(failed)}")
    description = describe(name, folder)
    keys.write_private(folder / "target.json", json.dumps(description, indent=1).encode() + b"\n")
    return description


def _wait(target: Description, folder: Path, not_boot: str = "") -> list[str]:
    """Wait until systemd has booted, another boot than `not_boot`; returns the units that failed."""
    until = time.monotonic() + BOOT_SECONDS
    known, done, last = folder / "known_hosts", subprocess.CompletedProcess([], 0, b"", b""), "sshd does not greet"
    while time.monotonic() < until:
        if qemu.pid(folder) is None:
            raise TargetError(f"machine {target['name']} went off while it booted; it said last:\n{qemu.said(folder)}")
        if host.greets(target["ssh"]["port"]):
            if not known.is_file() or b"Host key verification failed" in done.stderr:
                _first_contact(target["ssh"]["port"], known)
            done = call(target, ASKED, seconds=max(10, until - time.monotonic()))
            if done.returncode == 0:
                told = done.stdout.decode().split("\n--\n")
                boot_id, state, failed, host_keys = (part.strip() for part in told)
                if state in {"running", "degraded"} and boot_id != not_boot:
                    keys.write_private(known, host.known_lines(host_keys, target["ssh"]["port"]))
                    return [line.split()[0] for line in failed.splitlines()]
                last = f"systemd says {state!r}"
            else:
                last = tail(done.stderr, 3)
        time.sleep(1)
    raise TargetError(
        f"machine {target['name']} did not come up within {BOOT_SECONDS} s: {last}; `reboot --hard` "
        f"tries again, `down` and `up` make it anew. It said last:\n{qemu.said(folder)}"
    )


def _first_contact(port: int, known: Path) -> None:
    """Believe the host key that is told over 127.0.0.1, where nobody is in between, until all are read by SSH."""
    told = run(["ssh-keyscan", "-T", "20", "-t", "ed25519", "-p", str(port), "127.0.0.1"], timeout=60).stdout
    keys.write_private(known, told)


def call(target: Description, command: str, *, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command on a machine as its sudo user; the caller looks at the exit code, 255 where SSH failed."""
    *options, whom = ssh_options(target)
    try:
        return run([*options, *QUIET, whom, command], timeout=seconds)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 255, b"", f"no answer within {seconds:.0f} s".encode())


def as_root(target: Description, command: str, *, seconds: float = 60) -> bytes:
    """Run a shell command on a machine as root and return its output; raises TargetError."""
    done = call(target, f"sudo sh -c {shlex.quote(command)}", seconds=seconds)
    if done.returncode:
        raise TargetError(f"`{command}` failed on machine {target['name']}:\n{tail(done.stderr + done.stdout)}")
    return done.stdout


def running(name: str, folder: Path) -> Description:
    """The description of a machine that runs; raises TargetError where it is off, NoTarget where there is none."""
    target = describe(name, folder)
    if target["state"] != "running":
        raise TargetError(f"machine {name} is off; `python -m tests.target up --name {name}` boots it")
    return target


def reboot(name: str, folder: Path, *, hard: bool) -> Description:
    """Reboot a machine; `hard`: by its reset button, after which the disk may lack what wasn't flushed."""
    target = running(name, folder)
    if hard:
        with Qmp(folder / qemu.MONITOR) as monitor:
            monitor("system_reset")
        # Until the kernel says its first words sshd of before can't greet any more: the reset is immediate.
        return ready(name, folder)
    before = as_root(target, "cat /proc/sys/kernel/random/boot_id && systemctl reboot").decode().split()[0]
    return ready(name, folder, not_boot=before)


def cut(name: str, folder: Path) -> Description:
    """Cut the power: what the machine had not flushed to its disk is lost. Returns its description; `up` boots it."""
    qemu.kill(folder)
    return describe(name, folder)


def off(name: str, folder: Path) -> None:
    """Shut a machine down as its own `poweroff` does."""
    if qemu.pid(folder) is None:
        return
    call(describe(name, folder), "sudo systemctl poweroff")
    if not qemu.ended(folder, OFF_SECONDS):
        raise TargetError(
            f"machine {name} did not shut down within {OFF_SECONDS} s; `cut --name {name}` ends it. It said last:\n"
            f"{qemu.said(folder)}"
        )


def memory(name: str, folder: Path, megabytes: int) -> Description:
    """Boot a machine with another size of memory, in MB."""
    describe(name, folder)
    off(name, folder)
    save(folder, replace(settings(folder), memory=megabytes))
    boot(name, folder)
    return ready(name, folder)


def clock(name: str, folder: Path, ahead: int) -> Description:
    """Set a machine's clock, the one of its hardware too: `ahead` seconds before this machine's, which lasts."""
    target = running(name, folder)
    save(folder, replace(settings(folder), clock=ahead))
    # As an `hwclock --systohc`, which Debian 13 has in a package that nothing needs.
    script = (
        "import fcntl, struct, time; now = time.gmtime(); "
        "rtc = struct.pack('9i', now[5], now[4], now[3], now[2], now[1] - 1, now[0] - 1900, 0, 0, 0); "
        "fcntl.ioctl(open('/dev/rtc0'), 0x4024700A, rtc)"
    )
    as_root(target, f"date --utc --set @{time.time() + ahead:.0f} && python3 -c {shlex.quote(script)}")
    return describe(name, folder)


def down(folder: Path) -> list[str]:
    """End a machine's process; returns what was removed."""
    return ["machine"] if qemu.kill(folder) else []


def describe(name: str, folder: Path) -> Description:
    """A target's description; "state" is "running" or "off". See `lifecycle.status`."""
    if not is_one(folder):
        raise NoTarget(f"no machine {name}; `python -m tests.target up --machine --name {name}` brings one up")
    made = settings(folder)
    process = qemu.pid(folder)
    return {
        "name": name,
        "kind": "machine",
        "os": made.os,
        "state": "off" if process is None else "running",
        "container": container.host_name(name),
        "acme_container": container.acme_name(name),
        "network": None,
        "ip": ADDRESS,
        "ssh": {
            "host": "127.0.0.1",
            "port": made.ports["ssh"],
            "user": host.USER,
            "key": str(folder / "id_ed25519"),
            "known_hosts": str(folder / "known_hosts"),
        },
        "http_port": made.ports["http"],
        "https_port": made.ports["https"],
        "domains": list(host.DOMAINS),
        "ca_file": str(folder / "ca.pem"),
        "acme_directory": f"https://acme:{made.ports['acme']}/dir",
        "acme_ca_file": str(folder / "acme-ca.pem"),
        "acme_eab": acme.EAB,
        "acme_management_url": f"https://127.0.0.1:{made.ports['management']}",
        "dns_url": f"http://127.0.0.1:{made.ports['dns_management']}",
        "python": made.python,
        "pid": process,
        "memory_mb": made.memory,
        "disk_mb": made.disk * 1024,
        "cpus": made.cpus,
        "arch": made.arch,
        "clock": made.clock,
        "console": str(folder / qemu.CONSOLE),
        "monitor": str(folder / qemu.MONITOR),
        "snapshots": snapshots(folder),
    }


def snapshots(folder: Path) -> list[str]:
    """Names of a machine's snapshots."""
    return sorted(path.name for path in (folder / "snapshots").glob("*") if not path.name.endswith(".partial"))
