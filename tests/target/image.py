"""Images of a target's containers, built from Debian: a registry's where one answers, made by mmdebstrap elsewhere.

An image's tag is a hash of its recipe, so it is rebuilt when the recipe changes and only then.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.target.console import TargetError, apt_install, as_root, run, say, step, tail
from tests.target.engine import call, docker, inspect

HERE = Path(__file__).parent

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
"""Debian's name of each system a target can have."""

EXTRA_CAS = Path("/usr/local/share/ca-certificates")
"""CAs this machine trusts beyond Debian's; a target behind the same TLS-inspecting proxy needs them too."""

Context = Mapping[str, bytes]
"""Files of a build context by path; a path that ends in "/" is an empty folder."""


def extra_cas() -> dict[str, bytes]:
    """This machine's own CA files, by name."""
    return {path.name: path.read_bytes() for path in sorted(EXTRA_CAS.glob("*.crt"))}


def recipe_hash(context: Context, *arguments: str) -> str:
    """Twelve hex digits that change with any file of the context, its name included, or any argument."""
    digest = hashlib.sha256()
    for part in (*arguments, *(item for name in sorted(context) for item in (name, context[name]))):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def archive(context: Context) -> bytes:
    """The context as a tar archive, all of it root's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in context.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def host_image(os_name: str) -> str:
    """The image of a target's host, built unless it is there; returns its tag. `os_name`: a key of SUITES."""
    context = {"Dockerfile": (HERE / "host.Dockerfile").read_bytes(), "ca/": b""}
    context |= {f"ca/{name}": data for name, data in extra_cas().items()}
    return build("slipway-target", os_name, context)


def acme_image() -> str:
    """The image of the ACME server, built unless it is there; returns its tag. Always Debian 12: one Pebble to know."""
    context = {
        "Dockerfile": (HERE / "acme.Dockerfile").read_bytes(),
        "acme-run.sh": (HERE / "acme-run.sh").read_bytes(),
    }
    return build("slipway-acme", "debian12", context)


def build(name: str, os_name: str, context: Context) -> str:
    """An image on a base of SUITES, built unless it is there; returns its tag. `context` has its Dockerfile."""
    suite = SUITES[os_name]
    tag = f"{name}:{os_name}-{recipe_hash(context, suite)}"
    if inspect("image", tag) is None:
        base = base_image(os_name)
        with step(f"image {tag}"):
            # A context sent as a stream needs no shared folder, so the engine may be on another machine.
            docker("build", "-t", tag, "--build-arg", f"BASE={base}", "--build-arg", f"SUITE={suite}", "-",
                   stdin=archive(context), timeout=1800)  # fmt: skip
    return tag


def base_image(os_name: str) -> str:
    """Plain Debian: `debian:<n>` of a registry, else one made from Debian's packages on this machine."""
    official = f"debian:{os_name.removeprefix('debian')}"
    own = f"slipway-base:{os_name}"
    for tag in (official, own):
        if inspect("image", tag):
            return tag
    try:
        pulled = call("pull", "--quiet", official, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        pulled = False
    if pulled:
        return official
    _debootstrap(SUITES[os_name], own)
    return own


def foreign_image(os_name: str, arch: str) -> str:
    """Plain Debian for another processor, made from its packages unless it is there; returns its tag.

    `arch`: Debian's name of the processor, whose programs this machine's kernel knows how to run.
    """
    tag = f"slipway-base:{os_name}-{arch}"
    if inspect("image", tag) is None:
        _debootstrap(SUITES[os_name], tag, arch)
    return tag


def _debootstrap(suite: str, tag: str, arch: str | None = None) -> None:
    if not shutil.which("mmdebstrap"):
        say(f"No registry of images answers; {tag} is made from Debian's packages instead.")
        if not shutil.which("apt-get"):
            raise TargetError(
                "no registry answers for debian:* and this machine has no apt; `docker load` a debian:12 image"
            )
        # Root asked for a target: one more package of the same distribution is part of that.
        apt_install(["mmdebstrap"], reason="without a registry an image needs mmdebstrap", allowed=os.geteuid() == 0)
    with step(f"base image {tag} from Debian's packages"):
        # Through pipes, so that neither a temporary folder nor the engine's machine limits it: about 120 MB.
        made = run(
            as_root(
                [
                    *("mmdebstrap", "--quiet", "--variant=minbase"),
                    *([f"--architectures={arch}"] if arch else []),
                    # What it copies from this machine is none of a target's business.
                    "--customize-hook=rm -f $1/etc/hostname $1/etc/resolv.conf",
                    *(suite, "-", "http://deb.debian.org/debian"),
                ]
            ),
            timeout=900 if arch is None else 3600,  # for another processor ten times as long
        )
        if made.returncode:
            raise TargetError(f"mmdebstrap could not build {tag}:\n{tail(made.stderr)}")
        docker("import", *([f"--platform=linux/{arch}"] if arch else []), "-", tag, stdin=made.stdout)
