"""Slipway as an operator has it: installed from its wheel, without the clone, for an app that brings its inventory."""

from __future__ import annotations

import io
import json
import pprint
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from slipway_host import VERSION

from tests.e2e._driver import ROOT, Host, log
from tests.e2e.apps import copy_example
from tests.e2e.conftest import MakeHost
from tests.target import image
from tests.target.engine import LABEL, call, docker, exec_in

pytestmark = [pytest.mark.story, pytest.mark.slow]

HERE = Path(__file__).parent
HOME = "/home/dev"
INVENTORY = "ops/the host.py"
"""Where the app's repository keeps it."""
DIGESTS = "cd $(uv tool dir)/slipway-vps && find . -type f -exec sha256sum {} + | LC_ALL=C sort"
"""Lists every file of the installed place with its digest."""


@dataclass
class Operator:
    """A machine of the operator's own, in the target's network; and the target."""

    host: Host
    container: str

    def run(self, command: str, *codes: int) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command in the app's repository; fail unless it ends with one of the codes (0 if none)."""
        done = call("exec", "--workdir", f"{HOME}/notes", self.container, "sh", "-c", command, timeout=900)
        log.info("    operator: %s: exit %d", command.partition("\n")[0][:90], done.returncode)
        assert done.returncode in (codes or (0,)), (done.stdout + done.stderr).decode()[-6000:]
        return done

    def slipway(self, verb: str, *options: str, codes: tuple[int, ...] = ()) -> str:
        """Run a verb with the app's inventory; returns all that it said."""
        done = self.run(f"slipway {verb} '{INVENTORY}' {' '.join(options)}", *codes)
        return (done.stdout + done.stderr).decode()


def uv_requirement() -> bytes:
    """uv as this project's lock file has it, as pip takes it with its hashes."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
    uv = next(package for package in packages if package["name"] == "uv")
    return " ".join([f"uv=={uv['version']}", *(f"--hash={wheel['hash']}" for wheel in uv["wheels"])]).encode()


def operators_image() -> str:
    """The image of the operator's machine, built unless it is there; returns its tag."""
    context = {"Dockerfile": (HERE / "operator.Dockerfile").read_bytes(), "uv.txt": uv_requirement(), "ca/": b""}
    context |= {f"ca/{name}": data for name, data in image.extra_cas().items()}
    return image.build("slipway-operator", "debian13", context)


def inventory(host: Host) -> str:
    """The app's own inventory: paths are relative to it, and the host is where DNS says."""
    data = {
        "ssh_user": host.target["ssh"]["user"],
        "ssh_key": "~/.ssh/id_ed25519",
        "ssh_strict_host_key_checking": "yes",
        "_sudo": True,
        "verify": {"ca_file": "ca.pem"},
        "slipway": host.slipway | {"acme": host.slipway["acme"] | {"ca_file": "acme-ca.pem"}},
    }
    return f"hosts = {pprint.pformat([('@slipway/notes.test', data)], sort_dicts=False)}\n"


def packed(files: dict[str, tuple[bytes, int]], folder: Path, under: str) -> bytes:
    """A tar archive, for `docker cp`, of files (content and mode by path) and of a folder, all of it the operator's."""
    buffer = io.BytesIO()

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 1000
        return entry

    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, under, filter=owned)
        for name in sorted({str(Path(name).parent) for name in files} - {"."}):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(owned(entry))
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(owned(entry), io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def operator(make_host: MakeHost) -> Operator:
    """The target is bare; on the operator's machine are the wheel, a key, and the app's repository."""
    host = make_host("installed", "debian13", bare=True)
    app = copy_example("notes", host.folder)
    host.app().update(source={"path": ".."}, watch=0, keep_warm=60)
    wheels = host.folder / "dist"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", wheels], cwd=ROOT, check=True, timeout=300)
    (wheel,) = wheels.glob("*.whl")
    target = host.target
    name = f"{target['container']}-operator"
    labels = [f"--label={LABEL}={target['name']}"]  # it goes with the target
    network = f"--network={target['network']}"
    container = docker("create", f"--name={name}", *labels, network, "--init", operators_image(), "sleep", "infinity")
    keys = exec_in(target["container"], "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub").stdout.decode().splitlines()
    known = "".join(f"notes.test {' '.join(key.split()[:2])}\n" for key in keys)
    files = {
        ".ssh/id_ed25519": (Path(target["ssh"]["key"]).read_bytes(), 0o600),
        ".ssh/known_hosts": (known.encode(), 0o644),
        f"notes/{INVENTORY}": (inventory(host).encode(), 0o644),
        "notes/ops/ca.pem": (Path(target["ca_file"]).read_bytes(), 0o644),
        "notes/ops/acme-ca.pem": (Path(target["acme_ca_file"]).read_bytes(), 0o644),
        wheel.name: (wheel.read_bytes(), 0o644),
    }
    docker("cp", "-", f"{container}:{HOME}", stdin=packed(files, app, "notes"))
    docker("start", container)
    made = Operator(host, container)
    made.run("git init -q && git config user.name Dev && git config user.email dev@example.com")
    made.run("git add -A && git commit -qm first")
    made.run(f"UV_COMPILE_BYTECODE=1 uv tool install --quiet ../{wheel.name}")
    return made


def test_it_is_installed_and_claims_no_name_but_its_own(operator: Operator) -> None:
    assert operator.run("slipway --version").stdout.decode().split()[-1] == VERSION
    listed = "import importlib.metadata as m; print(sorted({str(f).split('/')[0] for f in m.files('slipway-vps')}))"
    told = operator.run(f'"$(uv tool dir)/slipway-vps/bin/python" -c "{listed}"').stdout.decode()
    assert told.strip() == str(["..", "slipway", "slipway_host", f"slipway_vps-{VERSION}.dist-info"])


def test_all_verbs_work_and_nothing_is_written_where_it_is_installed(operator: Operator) -> None:
    host, before = operator.host, operator.run(DIGESTS).stdout.decode().splitlines()
    assert len(before) > 1000
    bare = host.snapshot()
    assert "Install packages" in operator.slipway("plan", codes=(2,))
    host.unchanged_since(bare)
    operator.slipway("apply")
    first = host.release()
    assert host.get("/api/whoami").json()["release"] == first
    assert "nothing to change" in operator.slipway("plan").lower()
    operator.slipway("verify")

    operator.run('echo \'"""Changed."""\' >notes/__init__.py && git commit -qam second')
    operator.slipway("release")
    second = host.release()
    assert host.get("/api/whoami").json()["release"] == second != first
    operator.slipway("rollback")
    assert host.get("/api/whoami").json()["release"] == host.release() == first
    told = json.loads(operator.run(f"slipway releases '{INVENTORY}' --json").stdout)
    assert first in str(told) and second in str(told)

    after = operator.run(DIGESTS).stdout.decode().splitlines()
    assert sorted(set(before) ^ set(after)) == []
    assert operator.run("git status --porcelain").stdout == b"", "nor in the app's repository"
