"""A second target without any hardening: what every row of the audit must fall short on."""

from __future__ import annotations

import io
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.audit.auditor import Auditor
from tests.audit.subject import DOCKER, ROOT, Subject
from tests.host._client import Client
from tests.host._hosts import ssh_backend
from tests.target import lifecycle
from tests.target.console import TargetError, run, tail
from tests.target.engine import docker
from tests.target.image import archive

HERE = Path(__file__).parent
APP = ROOT / "examples/notes"
SITE = "notes.test"
SERVICE = "app.service"
FILES = ("setup.sh", "app.service", "backup.service", "nginx-site")
SETUP_SECONDS = 400
"""Time after which the set-up counts as hung; usual are 40."""


def app_archive() -> bytes:
    """The example app's source, as a tar.gz."""
    left_out = {".venv", "__pycache__", ".pytest_cache", "tests"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(APP.rglob("*")):
            if path.is_file() and not left_out & set(path.relative_to(APP).parts):
                tar.add(path, path.relative_to(APP))
    return buffer.getvalue()


def requirements() -> bytes:
    """What the app's lock file says, as pip reads it."""
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "export", "--quiet", "--project", str(APP), "--locked", "--no-dev", "--no-emit-project"]
    done = run(command)
    if done.returncode:
        raise TargetError(f"`uv export` failed:\n{tail(done.stderr)}")
    return done.stdout


@contextmanager
def unhardened(name: str, system: str, control: Path) -> Iterator[Subject]:
    """Such a target, which is removed in the end.

    + system: a key of tests.target.image.SUITES
    + control: folder for its SSH session's socket, with a short path
    """
    try:
        lifecycle.down(name)
        yield _set_up(name, lifecycle.up(name, system), control)
    finally:
        lifecycle.down(name)


def _set_up(name: str, target: lifecycle.Description, control: Path) -> Subject:
    files = {f"setup/{file}": (HERE / file).read_bytes() for file in FILES}
    files |= {"setup/app.tar.gz": app_archive(), "setup/requirements.txt": requirements()}
    files |= {"setup/acme-ca.pem": Path(target["acme_ca_file"]).read_bytes()}
    # From inside: `docker cp` writes to the image's copy, beside a target's own disk.
    unpack = ("exec", "--interactive", target["container"], "tar", "--extract", "--directory=/root")
    docker(*unpack, stdin=archive({"setup/": b""} | files))
    token = f"unhardened-{secrets.token_hex(16)}"
    command = f"sh /root/setup/setup.sh {SITE} {target['acme_directory']} {token} 2>&1"
    try:
        done = run([*lifecycle.ssh_options(target, "root"), command], timeout=SETUP_SECONDS)
    except subprocess.TimeoutExpired:
        raise TargetError(f"the unhardened target was not set up within {SETUP_SECONDS} s") from None
    if done.returncode:
        raise TargetError(f"the unhardened target could not be set up:\n{tail(done.stdout + done.stderr)}")
    ssh = target["ssh"]
    data = {
        "ssh_hostname": ssh["host"],
        "ssh_port": ssh["port"],
        "ssh_user": "root",
        "ssh_key": ssh["key"],
        "ssh_known_hosts_file": ssh["known_hosts"],
    }
    return Subject(
        name=name,
        inventory=DOCKER,
        environment={"SLIPWAY_TARGET": name},
        site=SITE,
        ssh_port=22,
        local=True,
        client=Client("127.0.0.1", target["http_port"], target["https_port"]),
        ca=Path(target["ca_file"]).read_bytes(),
        host=ssh_backend(target["container"], data, control),
        auditor=Auditor(target["ip"], SITE, target["network"], name),
        apps=(SERVICE,),
        secrets={"the app's token": token},
        deployed=done.stdout.decode(errors="replace"),
    )
