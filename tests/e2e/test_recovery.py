"""What disturbs a release: a run that is told to stop, systemd reading its units anew, files that are deleted."""

from __future__ import annotations

import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import facts, leftovers, make_tiny, set_hooks, settings
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]

DOMAIN = "extra.test"
PROGRAM = "/opt/slipway/bin/slipway"
REPOSITORY = "/srv/git/tiny.git"
STOPPED = "tiny-release.service was told to stop."


@dataclass
class Site:
    """The host of this story, and the folder of its app."""

    host: Host
    tiny: Path

    def release(self, version: str) -> str:
        """Release other code; returns the new release."""
        set_hooks(self.tiny, version=version)
        self.host.task("tasks/release.py", app="tiny")
        assert facts(self.host)["version"] == version
        return self.host.release("tiny")

    def active(self, release: str) -> bool:
        """Whether a release's processes run."""
        return self.host.run(f"systemctl is-active --quiet tiny@{release}.service").returncode == 0

    def on_host(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the host's own program."""
        return self.host.run(f"{PROGRAM} {' '.join(words)}", timeout=300)


@pytest.fixture(scope="module")
def site(make_host: MakeHost) -> Site:
    """A host with the app and two releases of it."""
    host = make_host("recovery", "debian13")
    tiny = make_tiny(host.folder / "tiny", version="one")
    quick = {"watch": 0, "drain_timeout": 5, "keep_warm": 30, "readiness_timeout": 60}
    host.slipway["apps"] = {"tiny": settings(tiny, DOMAIN, **quick, migrate=None, workers=1)}
    host.deploy()
    return Site(host, tiny)


def test_a_daemon_reload_moves_no_end_and_a_warm_release_is_no_drift(site: Site) -> None:
    host, before = site.host, site.host.release("tiny")
    site.release("two")
    left = time.monotonic()
    assert site.active(before)
    assert host.planned() == []
    while site.active(before):
        host.ssh("systemctl daemon-reload")
        assert time.monotonic() - left < 50, "it runs on beyond keep_warm"
        time.sleep(1)
    assert time.monotonic() - left > 10
    assert leftovers(host, "tiny") == [] and host.planned() == []


def test_a_run_that_is_told_to_stop_while_it_brings_back_ends(site: Site) -> None:
    """It makes no release after all, and what it began is taken back."""
    host, serving = site.host, site.host.release("tiny")
    units = f"tiny@{serving}.service"
    host.ssh(f"systemctl kill --signal=STOP {units}")
    with ThreadPoolExecutor() as pool, host.afterwards(f"systemctl kill --signal=CONT {units}"):
        run = pool.submit(site.on_host, "release", "tiny")
        wait_until(lambda: host.run("systemctl is-active --quiet tiny-release").returncode == 0, 30, "the run")
        time.sleep(2)
        began = time.monotonic()
        host.ssh("systemctl stop tiny-release")
        assert time.monotonic() - began < 15
        done = run.result()
    assert done.returncode == 1 and STOPPED in done.stdout + done.stderr, done
    assert host.release("tiny") == serving and leftovers(host, "tiny") == []
    assert facts(host)["version"] == "two" and site.on_host("release", "tiny").returncode == 0


def test_plans_and_a_release_fetch_at_a_time(site: Site) -> None:
    """None is in another's way, and nothing is unpacked in memory."""
    host, serving = site.host, site.host.release("tiny")
    wanted = json.loads(host.ssh("cat /etc/tiny/release.json"))
    host.ssh(
        f"mkdir -p {REPOSITORY} && cd {REPOSITORY} && git init --quiet --initial-branch=main . && "
        f"cp -r /srv/tiny/current/. . && rm -rf .venv && git add --all && "
        "git -c user.name=a -c user.email=a@b commit --quiet -m one"
    )
    commit = host.ssh(f"git -C {REPOSITORY} rev-parse HEAD").strip()
    source = {"kind": "git", "url": f"file://{REPOSITORY}", "ref": "main", "ssh": "", "subdir": "", "commit": commit}
    inputs = wanted["inputs"] | {"source": commit}
    request = json.dumps({"protocol": 1, "wanted": wanted | {"source": source, "inputs": inputs}})

    def plan(_: int) -> dict[str, object]:
        told: dict[str, object] = json.loads(host.ssh(f"{PROGRAM} plan tiny", stdin=request, timeout=300))
        return told

    memory = "du -s /run | cut -f 1"
    before = most = int(host.ssh(memory))
    with ThreadPoolExecutor(6) as pool:
        release = pool.submit(host.ssh, f"{PROGRAM} release tiny --request", stdin=request, timeout=300)
        plans = [pool.submit(plan, number) for number in range(5)]
        while not all(each.done() for each in plans):
            most = max(most, int(host.ssh(memory)))
        found = [each.result() for each in plans]
        release.result()
    assert [each["error"] for each in found] == [None] * 5
    assert most - before < 2_000, "a plan needs no room there"
    assert host.release("tiny") != serving and facts(host)["version"] == "two"
    assert host.ssh("ls -d /var/tmp/slipway-plan-* 2>/dev/null || true") == ""


def test_what_is_deleted_after_a_rollback_is_made_anew(site: Site) -> None:
    host = site.host
    site.release("three")
    host.task("tasks/rollback.py", app="tiny")
    host.ssh("rm -rf /srv/tiny/releases /srv/tiny/current")
    told = site.on_host("rollback", "tiny")
    plan = host.run_slipway("plan")
    run = host.task("tasks/release.py", app="tiny", again="true")
    texts = [told.stdout, told.stderr, plan.stdout, plan.stderr, run.output]
    texts.append(site.on_host("releases", "tiny").stdout)
    assert [line for text in texts for line in text.splitlines() if re.search(r"\bNone\b", line)] == []
    assert facts(host)["version"] == "three" and leftovers(host, "tiny") == []
    assert host.planned() == []
