"""A machine's disk: the image of each system, made from Debian's packages, and what a machine writes above it.

An image is made once a recipe (script, packages' names, this machine's extra CAs) and kept in `.target/.cache`. A
machine's own disk is an overlay above it, so it is there at once, and an image serves any number of machines.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.target import qemu
from tests.target.console import TargetError, as_root, exclusive, run, step, tail
from tests.target.image import HERE, SUITES, extra_cas, recipe_hash

PACKAGES = (
    "systemd-sysv,dbus,libpam-systemd,systemd-resolved,systemd-timesyncd,openssh-server,sudo,ca-certificates,iproute2,"
    "apparmor,initramfs-tools,zstd,cloud-init,cloud-guest-utils,fdisk"
)
"""What rented machines have beyond Debian's packages of priority "important"."""

IMAGE_MB = 3072
"""Size of an image's file system; a machine's first boot makes it as large as its disk."""

LOADER_BOOT = ("root=/dev/vda1", "rw", "quiet", "init=/root/boot-loader")
"""Kernel's arguments of the boot that puts the boot loader on a new disk; see machine-image.sh."""

BUILD_SECONDS = 3600
"""Time the packages have to be fetched and unpacked; usual are 50 s, and ten times as many for another processor."""

LOADER_SECONDS = 300
"""Time the new disk has to boot once and take its boot loader; usual are 20 s in software."""


def image(os_name: str, arch: str, cache: Path) -> Path:
    """The folder with a system's `disk.qcow2` and `vmlinuz`, made unless it is there. `os_name`: a key of SUITES."""
    script = (HERE / "machine-image.sh").read_bytes()
    what = qemu.ARCHITECTURES[arch]
    packages = f"{PACKAGES},{what.kernel},{what.loader}"
    context = {"machine-image.sh": script} | {f"ca/{name}": data for name, data in extra_cas().items()}
    order = [SUITES[os_name], what.debian, what.boot, packages, str(IMAGE_MB), what.console]
    folder = cache / f"machine-{os_name}-{arch}-{recipe_hash(context, *order)}"
    with exclusive(cache / "machine.lock"):
        if not folder.is_dir():
            # Built aside and renamed: a folder with this name is complete.
            partial = folder.with_name(f"{folder.name}.partial")
            if partial.exists():
                run(as_root(["rm", "-rf", str(partial)]))
            (partial / "ca").mkdir(parents=True)
            for name, data in context.items():
                (partial / name).write_bytes(data)
            _build(os_name, arch, partial, order, cache)
            partial.rename(folder)
    return folder


def _build(os_name: str, arch: str, folder: Path, order: list[str], cache: Path) -> None:
    with step(f"disk of {os_name} for machines, from Debian's packages"):
        # In its folder, whoever root is here: paths in it are relative to that.
        command = ["env", "-C", str(folder), f"PATH={qemu.SBIN}", "sh", "machine-image.sh", *order]
        made = run(as_root(command), timeout=BUILD_SECONDS)
        if made.returncode:
            raise TargetError(f"the disk of {os_name} could not be made:\n{tail(made.stderr)}")
        if os.geteuid():
            run(as_root(["chown", "-R", f"{os.geteuid()}:{os.getegid()}", str(folder)]))
    accel = qemu.accelerator(arch, folder / "vmlinuz", cache)
    with step("boot loader of that disk"):
        told = qemu.boot_once(arch, folder, LOADER_BOOT, accel, LOADER_SECONDS)
        if "BOOT-LOADER-DONE" not in told:
            raise TargetError(f"the disk of {os_name} took no boot loader:\n{tail(told.encode())}")
        made = run(["qemu-img", "convert", "-O", "qcow2", str(folder / "disk.raw"), str(folder / qemu.DISK)])
        if made.returncode:
            raise TargetError(f"the disk of {os_name} could not be packed:\n{tail(made.stderr)}")
    for name in ("disk.raw", "initrd", qemu.CONSOLE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "ca")


def overlay(path: Path, below: Path, gigabytes: int | None = None) -> None:
    """Make a disk that holds what is written above `below`, in one step: a disk with this name is complete.

    `gigabytes`: its size; None is the size of what is below.
    """
    partial = path.with_name(f"{path.name}.partial")
    size = [f"{gigabytes}G"] if gigabytes else []
    made = run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(below), str(partial), *size])
    if made.returncode:
        raise TargetError(f"the disk {path} could not be made:\n{tail(made.stderr)}")
    partial.replace(path)
