"""QEMU as a daemon: its command line, its process, and whether KVM works here.

What a running machine is, is read from its process: there is one whose command line has the target's pid file, or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.target.console import TargetError, apt_install, exclusive, run, step, tail

PID, MONITOR, CONSOLE, DISK, SEED = "qemu.pid", "qmp.sock", "console.log", "disk.qcow2", "seed"
"""Names in a machine's folder: process id, monitor's socket, all that its console said, disk, what cloud-init reads."""

NICE = "5"
"""Niceness of an emulated machine, a third of an ordinary weight. It takes all processor time that it gets, and all
containers together have the weight of one session: stories in containers, which run beside it, come first. With 10 it
was starved beside two of them: its app answered nothing within 5 s."""

PROBE_SECONDS = 10
"""Time a kernel has to boot as far as its missing root file system under KVM; usual is under 1."""

PROBED = "Unable to mount root fs"
"""What a kernel without a disk says in the end: it has come through all of its own boot."""

SBIN = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
"""PATH with the folders that an ordinary user's lacks."""


@dataclass(frozen=True)
class Architecture:
    """How Debian and QEMU name a processor's family, and how its machines boot."""

    debian: str
    """Debian's name."""
    kernel: str
    """Package of the kernel for clouds."""
    boot: str
    """How it boots: "bios" or "efi"; see machine-image.sh."""
    loader: str
    """Packages of the boot loader, with a comma between them."""
    machine: str
    """QEMU's machine type."""
    cpu: str
    """QEMU's processor where it is emulated."""
    console: str
    """The kernel's name of the serial console."""
    packages: tuple[str, ...]
    """Debian's packages of the emulator, and of the firmware where that is one of its own."""
    firmware: str | None = None
    """File of the firmware; None is QEMU's own."""


ARCHITECTURES = {
    "x86_64": Architecture(
        debian="amd64",
        kernel="linux-image-cloud-amd64",
        boot="bios",
        loader="grub-pc",
        machine="q35",
        cpu="max",
        console="ttyS0",
        packages=("qemu-system-x86",),
    ),
    "aarch64": Architecture(
        debian="arm64",
        kernel="linux-image-cloud-arm64",
        boot="efi",
        loader="grub-efi-arm64,dosfstools",
        machine="virt,gic-version=max",
        cpu="neoverse-n1",  # what is rented; of `max`, signed pointers alone double the time of everything
        console="ttyAMA0",
        packages=("qemu-system-arm", "qemu-efi-aarch64"),
        firmware="/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    ),
}
"""Processors a machine can have, by the kernel's name."""

OWN = platform.machine() if platform.machine() in ARCHITECTURES else "x86_64"
"""The processor that a machine has unless told otherwise: this machine's, with which KVM can be had."""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
"""Where the kernel is told which program runs binaries of another processor."""


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of."""

    memory: int
    """MB."""
    cpus: int
    """Number of processors."""
    forwards: dict[int, int]
    """Port of the machine → port on 127.0.0.1."""
    arch: str = OWN
    """A key of ARCHITECTURES."""
    clock: int = 0
    """Seconds by which its clock is ahead of this machine's."""


def require(arch: str) -> None:
    """Leave with an emulator and what makes disks, installed when allowed; raises TargetError otherwise."""
    what = ARCHITECTURES[arch]
    needed = {f"qemu-system-{arch}": what.packages[0], "qemu-img": "qemu-utils", "mmdebstrap": "mmdebstrap",
              "sfdisk": "fdisk", "mke2fs": "e2fsprogs", "ssh-keyscan": "openssh-client"}  # fmt: skip
    foreign = platform.machine() != arch
    if foreign:  # its packages are unpacked here, by its own programs
        needed |= {f"qemu-{arch}-static": "qemu-user-static", "arch-test": "arch-test"}
    missing = {package for tool, package in needed.items() if not shutil.which(tool, path=SBIN)}
    if what.firmware and not Path(what.firmware).is_file():
        missing.add(what.packages[-1])
    if missing:
        apt_install(sorted(missing), reason="a machine needs QEMU and tools that make its disk")
    if foreign and not (BINFMT / f"qemu-{arch}").exists():
        raise TargetError(
            f"this machine's kernel does not know how to run programs of {arch}; "
            f"`mount -t binfmt_misc binfmt_misc {BINFMT}`, then `/usr/lib/systemd/systemd-binfmt`"
        )


def base_arguments(arch: str, accel: str) -> list[str]:
    """The emulator without devices. `accel`: "kvm" or "tcg"."""
    what = ARCHITECTURES[arch]
    how = ["-accel", "kvm", "-cpu", "host"]
    if accel == "tcg":
        how = ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", what.cpu]
    firmware = ["-bios", what.firmware] if what.firmware else []
    return [f"qemu-system-{arch}", "-nodefaults", "-display", "none", "-machine", what.machine, *firmware, *how]


def arguments(name: str, folder: Path, hardware: Hardware, accel: str, *, incoming: bool = False) -> list[str]:
    """The command line of a machine, whose files are in `folder`. `incoming`: it waits for a snapshot's memory."""
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{out}-:{inside}" for inside, out in sorted(hardware.forwards.items()))
    start = "utc"
    if hardware.clock:
        start = datetime.fromtimestamp(time.time() + hardware.clock, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    quoted = str(folder).replace(",", ",,")
    return [
        *base_arguments(hardware.arch, accel),
        *("-name", name, "-smp", str(hardware.cpus), "-m", str(hardware.memory), "-rtc", f"base={start}"),
        # The page cache of this machine holds what the machine has flushed: losing power, or QEMU, loses only the rest.
        *("-drive", f"file={quoted}/{DISK},if=none,id=disk,format=qcow2,cache=writeback,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-blockdev", f"driver=vvfat,node-name=seed,dir={quoted}/{SEED},label=cidata,read-only=on"),
        *("-device", "virtio-blk-pci,drive=seed"),
        *("-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net"),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={quoted}/{CONSOLE},append=on", "-serial", "chardev:console"),
        # Relative, since the path of a socket has a limit of 108 bytes.
        *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
        *("-pidfile", str(folder / PID), "-daemonize"),
        *(("-incoming", "defer", "-S") if incoming else ()),
    ]


def start(name: str, folder: Path, hardware: Hardware, accel: str, *, incoming: bool = False) -> None:
    """Start a machine and return at once; raises TargetError with QEMU's reason."""
    command = arguments(name, folder, hardware, accel, incoming=incoming)
    if accel == "tcg":
        command = ["nice", "-n", NICE, *command]
    began = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if began.returncode:
        why = tail(began.stderr)
        if "Could not set up host forwarding" in why:
            why += "\na port of it was taken while it was off; free it, or `down` and `up`"
        raise TargetError(f"QEMU did not start {name}:\n{why}")
    machine = pid(folder)
    if accel == "tcg" and machine is not None:
        # The kernel shares the processor between sessions, and QEMU has begun one: its own niceness counts within it.
        with contextlib.suppress(OSError):  # the kernel doesn't group sessions, or the machine has ended
            Path(f"/proc/{machine}/autogroup").write_text(NICE)


def pid(folder: Path) -> int | None:
    """Process id of the machine of a folder; None where it is off."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"qemu-system-" in words[0] and str(folder / PID).encode() in words:
            return int(each.parent.name)
    return None


def kill(folder: Path) -> bool:
    """End a machine as a power cut does; False where it was off."""
    found = pid(folder)
    if found is None:
        return False
    if not _ends(found, 20, signal.SIGKILL):
        raise TargetError(f"process {found} of {folder.name} does not end; see `ps -p {found}`")
    return True


def ended(folder: Path, seconds: float) -> bool:
    """Wait until a machine is off; False if it isn't after `seconds`."""
    found = pid(folder)
    return found is None or _ends(found, seconds)


def _ends(process: int, seconds: float, told: signal.Signals | None = None) -> bool:
    """Whether a process ends within a time. `told`: a signal that it gets first.

    Not by its command line, which is gone before its ports are: the next machine needs those.
    """
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        if told is not None:
            signal.pidfd_send_signal(descriptor, told)
        return bool(select.select([descriptor], [], [], seconds)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


def said(folder: Path, lines: int = 15) -> str:
    """The last lines of a machine's serial console."""
    path = folder / CONSOLE
    return tail(path.read_bytes()[-8192:], lines) if path.is_file() else ""


def accelerator(arch: str, kernel: Path, cache: Path) -> str:
    """How machines run here: "kvm" where a kernel really boots under it, else "tcg", which is software.

    It is tried once a boot of this machine. A /dev/kvm that opens isn't enough: some machines that are virtual
    themselves have one under which kernels hang.
    """
    if platform.machine() != arch or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    told = cache / "accelerator.json"
    digest = hashlib.sha256(kernel.read_bytes()).hexdigest()
    asked = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "kernel": digest}
    with exclusive(cache / "accelerator.lock"):
        known = json.loads(told.read_text()) if told.is_file() else {}
        if known.get("asked") != asked:
            with step("does a kernel boot under KVM?"):
                known = {"asked": asked, "accelerator": "kvm" if _boots(arch, kernel, cache / "kvm.log") else "tcg"}
            told.write_text(json.dumps(known))
    return str(known["accelerator"])


def _boots(arch: str, kernel: Path, log: Path) -> bool:
    log.unlink(missing_ok=True)
    console = ARCHITECTURES[arch].console
    command = [
        *base_arguments(arch, "kvm"),
        *("-m", "256", "-no-reboot", "-serial", f"file:{log}", "-kernel", str(kernel)),
        *("-append", f"console={console},115200 panic=-1"),
    ]
    try:
        run(command, timeout=PROBE_SECONDS)  # its panic ends it
    except subprocess.TimeoutExpired:
        return False
    return boots(log.read_bytes() if log.is_file() else b"")


def boots(console: bytes) -> bool:
    """True where a console shows that the kernel came through its boot to a root file system that isn't there."""
    return PROBED.encode() in console


def boot_once(arch: str, folder: Path, command_line: Sequence[str], accel: str, seconds: float) -> str:
    """Boot `disk.raw` of a folder with its `vmlinuz` and `initrd`, wait until it powers off; returns what it said."""
    log = folder / CONSOLE
    append = " ".join((f"console={ARCHITECTURES[arch].console},115200", *command_line))
    command = [
        *base_arguments(arch, accel),
        *("-no-reboot", "-smp", "2", "-m", "512", "-serial", f"file:{log}"),
        # Nothing of it is kept unless all of it succeeds.
        *("-drive", f"file={folder}/disk.raw,format=raw,if=virtio,cache=unsafe"),
        *("-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd"), "-append", append),
    ]
    try:
        done = run(command, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TargetError(f"the new disk did not boot within {seconds:.0f} s; it said last:\n{said(folder)}") from None
    if done.returncode:
        raise TargetError(f"QEMU did not boot the new disk:\n{tail(done.stderr)}")
    return log.read_text(errors="replace")
