"""A host of Slipway 0.1 is taken over: nothing is lost, its releases are there to go back to, and 0.1 keeps off it.

The older Slipway is a clone of this project's history, with an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, log
from tests.e2e.apps import copy_example, leftovers, make_tiny, set_hooks, settings, status
from tests.e2e.conftest import MakeHost
from tests.target.image import SUITES

pytestmark = [pytest.mark.story, pytest.mark.slow]

COMMIT = "37c9874eca891dd286cf33d5e084cff6fa0b8a00"
"""Of 0.1, the last one."""
PROGRAMS = ("release", "nginx", "access", "acme")
PROGRAM = "/opt/slipway/bin/slipway"
FORMAT = "/var/lib/slipway/format.json"
PENDING = "/var/lib/slipway/access/pending.json"
WARM = 3600
"""Seconds that what no longer serves goes on, so that the old Slipway's units wait for their time."""
LOAD = {"slow": "/api/slow?seconds=1.5", "upload": "/api/upload", "websocket": "/ws", "stream": "/api/events"}
NAMES = "for name in release nginx access acme schema; do stat -c '%F %N' /opt/slipway/bin/slipway-$name 2>&1; done; :"
PORTS = "sysctl -qw net.ipv4.ip_unprivileged_port_start={}"
"""0.1 could only validate nginx's configuration where any process may listen on port 80: in a container of its time."""
NAMING = (
    "grep -rlE '/opt/slipway/bin/slipway-' /etc/systemd /run/systemd/system /run/systemd/transient /etc/letsencrypt"
)


@dataclass
class Old:
    """The older Slipway, on the operator's machine."""

    folder: Path
    host: Host

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``slipway VERB <inventory>`` of that version, with the inventory as it is; look at what comes of it."""
        program = self.folder / ".venv/bin/slipway"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "PYTEST_"))}
        began = time.monotonic()
        done = subprocess.run(
            [program, verb, self.host.write_inventory(), *options],
            cwd=self.folder, env=kept | {"XDG_CACHE_HOME": str(self.folder / "cache"), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        log.info("    0.1: slipway %s: exit %s after %.1f s", verb, done.returncode, time.monotonic() - began)
        return done

    def done(self, verb: str, *options: str) -> str:
        """The same; fail unless it ends well. Returns what it said."""
        done = self.run(verb, *options)
        assert done.returncode == 0, f"{verb} of 0.1 ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@dataclass
class Site:
    """The host of this story, with notes over TLS and tiny without, and who looks after it."""

    host: Host
    old: Old
    notes: Path
    tiny: Path
    made: list[str]
    """The releases of notes that 0.1 made, the oldest first."""

    def change(self, version: str) -> None:
        """Change the code of both apps."""
        (self.notes / "notes/version.txt").write_text(version)
        set_hooks(self.tiny, version=version)

    def serving(self) -> dict[str, str]:
        """App → release that serves."""
        return {app: self.host.release(app) for app in ("notes", "tiny")}

    @contextmanager
    def lossless(self) -> Iterator[None]:
        """The public meanwhile, of which nothing may be lost."""
        with self.host.prober(**LOAD) as notes, self.host.prober("extra.test", "/", scheme="http") as tiny:
            yield
        for result in (notes.result, tiny.result):
            assert result is not None and result.requests > 0
            assert (result.failed, result.faults) == (0, [])
        log.info("    notes: %s", notes.result)


@pytest.fixture(scope="module", params=list(SUITES))
def site(request: pytest.FixtureRequest, make_host: MakeHost) -> Site:
    """A bare host, and the older Slipway."""
    host = make_host("upgrade", request.param, bare=True)
    clone = host.folder / "old"
    clone.mkdir()
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", clone], input=archive.stdout, check=True)
    uv = [
        str(Path(sys.executable).with_name("uv")),
        "sync",
        "--quiet",
        "--locked",
        "--no-dev",
        "--python",
        sys.executable,
    ]
    alone = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run(uv, cwd=clone, env=alone | {"UV_SYSTEM_CERTS": "1", "UV_PYTHON": sys.executable}, check=True)
    notes, tiny = copy_example("notes", host.folder), make_tiny(host.folder / "tiny", version="one")
    quick = {"watch": 1, "drain_timeout": 10, "keep_warm": WARM, "workers": 1}
    host.slipway["apps"] = {
        "notes": host.app() | quick | {"source": {"path": str(notes)}},
        "tiny": settings(tiny, "extra.test", **quick | {"keep_warm": 0}, migrate=None),
    }
    return Site(host, Old(clone, host), notes, tiny, [])


def operations(told: str, host: Host) -> dict[str, list[str]]:
    """What ``slipway … --json`` says that it changes: operation → its changes in a word each."""
    found: list[dict[str, Any]] = json.loads(told)["hosts"][host.target["container"]]["operations"]
    return {each["operation"]: [f"{one['action']} {one['target']}" for one in each["changes"]] for each in found}


def refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    """Fail unless it failed with these words, and without traceback."""
    told = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in told, told
    for each in says:
        assert each in told, told


# ── 0.1 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_old_one_provisions_and_releases(site: Site) -> None:
    site.host.ssh(PORTS.format(0))
    site.old.done("apply")
    site.made.append(site.host.release())
    site.change("two")
    with site.lossless():
        site.old.done("release")
    site.made.append(site.host.release())
    assert len(set(site.made)) == 2
    waiting = site.host.ssh("systemctl list-timers --all --plain --no-legend")
    assert f"notes-retire-{site.made[0]}.timer" in waiting
    site.host.ssh(PORTS.format(1024))


# ── the upgrade ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_tells_of_the_upgrade_and_changes_nothing(site: Site) -> None:
    before = site.host.snapshot()
    plan = site.host.run_slipway("plan")
    assert (plan.returncode, plan.stderr) == (2, "")
    site.host.unchanged_since(before)


def test_one_that_is_killed_as_the_program_has_come_harms_nothing(site: Site) -> None:
    host, before = site.host, site.serving()
    with site.lossless():
        host.deploy_killed_at(f"{PROGRAM} former", seconds=300)
    assert site.serving() == before
    assert status(host, "notes")["release"] == before["notes"]


def test_what_waits_finds_its_program_by_the_old_name(site: Site) -> None:
    """A release's end, an unconfirmed change of the ways in, certbot's hook: all as 0.1 left them."""
    host = site.host
    host.ssh(f"{PROGRAM} former")
    links = host.ssh(NAMES).splitlines()
    assert links[:4] == [
        f"symbolic link '/opt/slipway/bin/slipway-{name}' -> 'slipway'" for name in PROGRAMS
    ] and links[4].startswith("regular file")
    assert "ExecStart=/opt/slipway/bin/slipway-access revert" in host.ssh("systemctl cat slipway-access-revert")
    kept = {"content": "YmVmb3Jl", "mode": 0o640, "uid": 0, "gid": 0}
    pending = {"files": {"/etc/slipway/changed": kept}, "firewall": False, "table": None, "ssh": False, "token": "x"}
    host.ssh(f"mkdir -p -m 700 {Path(PENDING).parent}; echo after >/etc/slipway/changed")
    host.ssh(f"cat >{PENDING}", stdin=json.dumps(pending))
    host.ssh("systemctl start slipway-access-revert.service")
    assert host.ssh("cat /etc/slipway/changed") == "before" and host.run(f"test -e {PENDING}").returncode == 1
    host.ssh("rm /etc/slipway/changed")
    with site.lossless():
        host.ssh("/etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx")
        host.ssh(f"systemctl start notes-retire-{site.made[0]}.service")
    assert host.ssh(f"systemctl list-units --all --plain --no-legend 'notes@{site.made[0]}*'") == ""
    host.ssh(f"systemctl stop notes-retire-{site.made[0]}.timer")  # which would have started it
    assert "symbolic link" in host.ssh(NAMES), "others have the names"


def test_the_upgrade_loses_no_request_and_does_what_its_plan_says(site: Site) -> None:
    host, before = site.host, site.serving()
    plan = host.run_slipway("plan", "--json")
    assert (plan.returncode, plan.stderr) == (2, "")
    with site.lossless():
        applied = host.run_slipway("apply", "--json")
    assert (applied.returncode, applied.stderr) == (0, ""), applied.stdout
    assert operations(applied.stdout, host) == operations(plan.stdout, host)
    after = site.serving()
    assert all(after[app] != before[app] for app in after)
    host.converged()
    assert site.serving() == after
    for app in after:
        assert leftovers(host, app) == []


def test_nothing_of_the_old_one_is_named_any_more(site: Site) -> None:
    host = site.host
    assert host.ssh(f"{NAMING} || true") == ""
    assert host.ssh(NAMES).splitlines()[:4] == [f"directory '/opt/slipway/bin/slipway-{name}'" for name in PROGRAMS]
    assert host.run("ls /opt/slipway/lib /opt/slipway/bin/slipway-schema").returncode == 2
    assert json.loads(host.ssh(f"cat {FORMAT}"))["format"] == 2
    for app in ("notes", "tiny"):
        records = host.ssh(f"cat /var/lib/slipway/{app}/*.json")
        assert '"number": 1' in records and records.count('"format": 2') == records.count('"number"')


@pytest.mark.parametrize("to", [1, 0])
def test_a_rollback_to_a_release_of_the_old_one(site: Site, to: int) -> None:
    with site.lossless():
        site.host.task("tasks/rollback.py", app="notes", to=site.made[to])
    assert site.host.release() == site.made[to]
    assert site.host.get("/api/whoami").json()["release"] == site.made[to]
    assert leftovers(site.host, "notes") == []


def test_a_release_after_that(site: Site) -> None:
    site.change("three")
    before = site.serving()
    with site.lossless():
        site.host.deploy()
    after = site.serving()
    assert all(after[app] != before[app] for app in after)
    history = json.loads(site.host.ssh(f"{PROGRAM} releases --json notes"))
    ids = [each["id"] for each in history if not each["what"].startswith("rollback to ")]
    assert ids == sorted(ids, reverse=True) and ids[-2:] == site.made[::-1]


def test_the_host_is_as_it_should_be(site: Site) -> None:
    site.host.verify()
    site.host.converged()


# ── an older one against a newer host ────────────────────────────────────────────────────────────────────────────────


def test_0_1_changes_nothing_of_what_serves_or_lets_in(site: Site) -> None:
    host, serving = site.host, site.serving()
    ways = "cat /etc/ssh/sshd_config.d/00-slipway.conf /etc/slipway/firewall.nft; readlink /etc/nginx/slipway"
    before = host.ssh(ways)
    with site.lossless():
        planned = site.old.run("plan")
        applied = site.old.run("apply")
    for done in (planned, applied):
        refused(done, "/opt/slipway/bin/slipway-access", "a folder stands there; move it away")
    assert host.ssh(ways) == before and site.serving() == serving
    assert host.run("ls /opt/slipway/lib").returncode != 0
    with site.lossless():
        host.deploy()
        host.converged()
    assert site.serving() == serving


@pytest.mark.parametrize("verb", ["release", "rollback", "releases"])
def test_0_1_neither_releases_nor_goes_back(site: Site, verb: str) -> None:
    if verb == "release":
        site.change("four")
    before = site.host.snapshot()
    refused(site.old.run(verb))
    site.host.unchanged_since(before)


def test_a_host_of_a_newer_format_is_refused(site: Site) -> None:
    host = site.host
    kept = host.ssh(f"cat {FORMAT}")
    host.ssh(f"cat >{FORMAT}", stdin=json.dumps({"format": 3, "slipway": "0.3.0"}))
    before = host.snapshot()
    says = "is kept by Slipway 0.3.0 (format 3), and this is Slipway 0.2.0"
    for verb in ("plan", "apply", "release", "rollback", "releases"):
        refused(host.run_slipway(verb), says, "upgrade it, to 0.3.0 at least. The host was not touched.")
    for words in ("release notes", "rollback notes", "status notes", "releases notes"):
        done = host.run(f"{PROGRAM} {words}")
        assert done.returncode == 1 and "has the format of Slipway 0.3.0 (format 3)" in done.stderr
    host.unchanged_since(before)
    host.ssh(f"cat >{FORMAT}", stdin=kept)
    host.ssh(f"{PROGRAM} status notes")
