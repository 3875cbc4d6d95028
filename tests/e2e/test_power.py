"""The power goes at random moments of a release, and right after its commit: then a whole release serves, and heals.

A container's disk is cut off beneath it, a machine's QEMU is killed; see tests/target/README.md for what that shows.

SLIPWAY_CUTS=n   how many cuts a host gets, a quarter of them right after the commit (4; what is promised is 40)
SLIPWAY_SEED=n   the moments of an earlier run, which the log names
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, log, wait_until
from tests.e2e.conftest import MakeHost
from tests.target.image import SUITES

pytestmark = pytest.mark.slow

CUTS = int(os.environ.get("SLIPWAY_CUTS") or 4)
SEED = int(os.environ.get("SLIPWAY_SEED") or time.time())
HOSTS: list[Any] = [
    ("container", "debian13"),
    *(pytest.param(("machine", system), marks=pytest.mark.hours) for system in SUITES),
]
SERVES = " serves ("
"""What a run says as soon as its release is committed."""

# What serves by the disk, which between switch and commit isn't what `current` names: its files as they are and as its
# manifest says, and what else a boot needs of it.
LOOK = r"""
import hashlib, json, os, pathlib, re
current = re.search(r"unix:/run/notes/(.+)\.sock;", pathlib.Path("/etc/nginx/upstreams/notes.conf").read_text())[1]
folder, records = pathlib.Path("/srv/notes/releases", current), pathlib.Path("/var/lib/slipway/notes")
def told(path):
    if path.is_symlink():
        return os.readlink(path)
    data = path.read_bytes()
    return [len(data), bool(path.lstat().st_mode & 0o100), hashlib.sha256(data).hexdigest()]
files = {str(path.relative_to(folder)): told(path) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
beside = [pathlib.Path(f"/etc/notes/releases/{current}.env"), pathlib.Path("/etc/nginx/upstreams/notes.conf")]
beside += [pathlib.Path(f"/etc/systemd/system/notes@{current}.{kind}") for kind in ("socket", "service")]
beside += pathlib.Path("/etc/letsencrypt/live/notes").glob("*.pem")
beside += pathlib.Path("/etc/nginx/slipway/").rglob("*.conf")
for path in records.glob("*.json"):
    json.loads(path.read_text())
print(json.dumps({
    "release": current,
    "files": files,
    "manifest": json.loads((records / f"{current}.manifest").read_text()),
    "missing": [str(path) for path in beside if not path.exists() or not path.stat().st_size],
}))
"""


@pytest.fixture(scope="module", params=HOSTS, ids=", ".join)
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """A host with the notes app, from a copy of its source; what is due is written as late as on a fast machine."""
    kind, system = request.param
    host = make_host("power", system, machine=kind == "machine")
    if not host.target["disk_mb"]:
        pytest.skip("this engine gives a container no disk of its own, so its power can't be cut")
    shutil.copytree(
        ROOT / "examples/notes", host.folder / "notes", ignore=shutil.ignore_patterns(".venv", "*.db*", ".*")
    )
    host.settings(apps__notes__source__path="notes", apps__notes__watch=1, apps__notes__keep_warm=0)
    # Emulated, a release takes so long that the kernel would have written most of it by the time of the cut.
    late = "vm.dirty_expire_centisecs = 30000\nvm.dirty_writeback_centisecs = 30000\n"
    if kind == "machine":
        host.ssh(f"printf '{late}' >/etc/sysctl.d/99-late.conf && sysctl -q -p /etc/sysctl.d/99-late.conf")
    host.deploy()
    if kind == "machine":  # of each later boot it is a third, and it has nothing more to do
        host.ssh("touch /etc/cloud/cloud-init.disabled")
    return host


def change(host: Host, number: int, *, environment: bool) -> None:
    """Other code, and with `environment` a project file for which each dependency is installed anew."""
    with (host.folder / "notes/notes/diagnostics.py").open("a") as file:
        file.write(f"CHANGE = {number}\n")
    if environment:
        with (host.folder / "notes/pyproject.toml").open("a") as file:
            file.write(f"# {number}\n")


def look(host: Host) -> dict[str, Any]:
    """What serves by the disk: it is whole."""
    seen: dict[str, Any] = json.loads(host.ssh("python3 -", stdin=LOOK, timeout=300))
    files, manifest = seen["files"], seen["manifest"]
    assert len(files) > 1000 and not seen["missing"], f"{len(files)} files; without these: {seen['missing']}"
    unlike = [path for path in {*files, *manifest} if files.get(path) != manifest.get(path)]
    assert not unlike, f"{len(unlike)} of {len(manifest)} files of {seen['release']} are damaged: {unlike[:5]}"
    return seen


def cut_during(host: Host, output: Path, seconds: float | None) -> tuple[bool, float]:
    """Release, and cut the power after some seconds, or (None) once it is committed: whether it was, and when."""
    began = time.monotonic()
    run = host.start_task("tasks/release.py", output)
    try:
        while run.poll() is None and (seconds is None or time.monotonic() - began < seconds):
            if seconds is None and SERVES in output.read_text():
                break
            time.sleep(0.01)
        committed = SERVES in output.read_text()
        took = time.monotonic() - began
        host.cut()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return committed, took


def test_the_power_goes_at_random_moments(host: Host) -> None:
    moments = random.Random(SEED)
    log.info("    SLIPWAY_SEED=%d", SEED)
    change(host, 0, environment=True)
    began = time.monotonic()
    host.task("tasks/release.py")
    usual, table = time.monotonic() - began, []  # of the cuts: whether the old release served after it
    for number in range(1, CUTS + 1):
        before = host.release()
        change(host, number, environment=moments.random() < 0.5)
        at = None if number % 4 == 0 else moments.uniform(0.2, 1) * usual
        committed, took = cut_during(host, host.folder / f"cut{number}.log", at)
        host.boot()
        answer = wait_until(lambda: host.get("/api/whoami").json(), 120, "the site answers after the boot")
        seen = look(host)
        told = " (committed)" if committed else ""
        log.info("    cut %d after %.1f s%s: %s serves", number, took, told, seen["release"])
        assert answer["release"] == seen["release"]
        stayed = seen["release"] == before
        assert not committed or not stayed, "a committed release was lost"
        due = host.deploy()
        assert set(due.changed) <= (set() if committed else {"Release | Release notes"}), due.told
        assert stayed or host.release() == seen["release"], "the new one served already"
        table.append(stayed)
    look(host)
    host.converged()
    log.info("    %d cuts: the old release served after %d, else the new one", len(table), sum(table))
