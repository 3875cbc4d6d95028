"""Workers and jobs of a release: no job is lost or done twice, whatever becomes of the release.

The apps are those of tests/apps/workers, one for each library.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, wait_until
from tests.e2e.apps import status
from tests.e2e.conftest import MakeHost, variants

pytestmark = pytest.mark.story

APP, DOMAIN = "works", "works.test"
APPS = ROOT / "tests/apps/workers"
LONG = 40
"""Seconds of a job that is longer than a release."""
WORKERS: Mapping[str, Mapping[str, Any]] = {
    "celery": {"command": "celery -A work worker --concurrency 2"},
    "arq": {"command": "arq work.WorkerSettings"},
    "dramatiq": {"command": "dramatiq work --processes 1 --threads 2"},
    "huey": {"command": "huey_consumer work.huey -w 2", "stop_signal": "SIGINT"},
    "rq": {"command": "rq worker --url redis://127.0.0.1:6379/0", "count": 2},
    "saq": {"command": "saq work.settings"},
    "taskiq": {"command": "taskiq worker work:broker --workers 1 --wait-tasks-timeout 60"},
}
"""Library → its process."""
TAKES_MORE = {"saq": 1}
"""Library → jobs that an old worker still takes. SAQ's has asked for one before it is told to stop, and does it."""
FAILED = f"""sh -c 'echo "$SLIPWAY_JOB $SERVICE_RESULT $EXIT_STATUS" >>/var/lib/{APP}/failed'"""


@pytest.fixture(scope="module", params=variants(WORKERS, ("celery",)))
def host(make_host: MakeHost, request: pytest.FixtureRequest) -> Host:
    """A host with Redis, and an app with a worker and a job; nothing is deployed yet."""
    library: str = request.param
    host = make_host(f"work-{library}", "debian13", ())
    source = project(host.folder / "project", library)
    host.slipway["packages"] = ["redis-server"]
    host.slipway["apps"] = {
        APP: {
            "domains": [DOMAIN],
            "source": {"path": str(source)},
            "app": "web:app",
            "tls": {"mode": "off"},
            "env": {"REDIS_URL": "redis://127.0.0.1:6379/0"},
            "watch": 1,
            "keep_warm": 0,
            "processes": {"worker": {"stop_timeout": 90, **WORKERS[library]}},
            "jobs": {
                "clean": {"command": "python clean.py", "schedule": "*:*:0/5"},
                "minutely": {"command": "python clean.py", "schedule": "* * * * *"},
            },
            "hooks": {"on_job_failure": FAILED},
        }
    }
    if library == "celery":
        beat = {"command": f"celery -A work beat --schedule /var/lib/{APP}/beat", "alone": True}
        host.app(APP)["processes"]["beat"] = beat
    return host


def project(folder: Path, library: str) -> Path:
    """The app of a library in a new folder."""
    shutil.copytree(APPS / library, folder, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    for name in ("web.py", "job.py", "clean.py"):
        shutil.copy(APPS / name, folder)
    return folder


def library(host: Host) -> str:
    """Which library the app's jobs are by."""
    return next(name for name in WORKERS if name in host.app(APP)["processes"]["worker"]["command"].split()[0])


def change(host: Host) -> None:
    """The next run makes another release."""
    path = host.folder / "project/job.py"
    path.write_text(path.read_text() + "# changed\n")


def add(host: Host, name: str, count: int = 1, seconds: float = 0.2) -> None:
    """Add jobs."""
    answer = host.get(f"/add?name={name}&count={count}&seconds={seconds}", domain=DOMAIN, scheme="http")
    assert answer.status_code == 200, answer.text[:300]


def log(host: Host, what: str, name: str) -> list[tuple[str, str]]:
    """Jobs whose names begin so that began or ended, each with its release."""
    lines = host.ssh(f"cat /var/lib/{APP}/log 2>/dev/null || true").splitlines()
    words = [line.split() for line in lines]
    return [(job, release) for did, job, release in words if did == what and job.startswith(f"{name}")]


def done(host: Host, name: str, count: int) -> set[str]:
    """Wait until all jobs of a name ended; each ended once. Returns the releases that did them."""
    wait_until(lambda: len(log(host, "ended", name)) >= count, 90, f"{count} jobs {name}")
    ended = log(host, "ended", name)
    assert sorted(job for job, _ in ended) == sorted(f"{name}-{number}" for number in range(count))
    assert sorted(job for job, _ in log(host, "began", name)) == sorted(job for job, _ in ended), "begun twice"
    return {release for _, release in ended}


def active(host: Host) -> set[str]:
    """Releases that have a worker which takes jobs."""
    listed = host.ssh(f"systemctl list-units --plain --no-legend --state=active '{APP}.worker*@*.service'")
    return {line.split()[0].partition("@")[2].removesuffix(".service") for line in listed.splitlines()}


def test_a_release_has_its_workers(host: Host) -> None:
    host.deploy()
    assert status(host, APP)["faults"] == []
    assert active(host) == {host.release(APP)}
    add(host, "first", 5)
    assert done(host, "first", 5) == {host.release(APP)}
    host.converged()


def test_a_release_loses_no_job_and_waits_for_no_long_one(host: Host) -> None:
    old = host.release(APP)
    add(host, "long", seconds=LONG)
    wait_until(lambda: log(host, "began", "long"), 20, "the long job")
    add(host, "many", 60)
    change(host)
    host.deploy()
    new = host.release(APP)
    assert new != old and log(host, "ended", "long") == [], "the release waited for it"
    wait_until(lambda: active(host) == {new}, 10, "the old workers were told to stop")
    assert status(host, APP)["faults"] == []
    add(host, "after", 20)
    assert new in done(host, "after", 20)
    late = [job for job, release in log(host, "ended", "after") if release == old]
    assert len(late) <= TAKES_MORE.get(library(host), 0), f"the old release took new jobs: {late}"
    done(host, "many", 60)
    assert done(host, "long", 1) == {old}
    gone = f"systemctl list-units --all --plain --no-legend '{APP}.*@{old}.service'"
    wait_until(lambda: host.ssh(gone) == "", 30, "nothing of the old one is left")


def test_a_rollback_brings_them_back(host: Host) -> None:
    new = host.release(APP)
    host.task("tasks/rollback.py", app=APP)
    old = host.release(APP)
    assert old != new
    wait_until(lambda: active(host) == {old}, 10, "the workers of the release that serves")
    add(host, "back", 10)
    assert done(host, "back", 10) == {old}


def test_a_job_starts_at_its_time_and_its_failure_is_told(host: Host) -> None:
    wait_until(lambda: status(host, APP)["jobs"]["clean"]["result"] == "success", 20, "a job that succeeded")
    wait_until(
        lambda: status(host, APP)["jobs"]["minutely"]["result"] == "success", 75, "the one of cron's five fields"
    )
    assert host.ssh(f"stat -c '%a %U' /var/lib/slipway/{APP}/jobs/clean") == "600 root"
    host.ssh(f"touch /var/lib/{APP}/fail")
    wait_until(lambda: "clean exit-code 3" in host.ssh(f"cat /var/lib/{APP}/failed"), 20, "the hook")
    went = status(host, APP)["jobs"]["clean"]
    assert (went["result"], went["exit"], went["release"]) == ("exit-code", "3", host.release(APP))
    host.ssh(f"rm /var/lib/{APP}/fail")


def test_a_run_that_was_killed_leaves_one_release_with_workers(host: Host) -> None:
    serving = host.release(APP)
    change(host)
    host.deploy_killed_at("nginx -s reload|systemctl enable")
    host.ssh(f"systemctl kill --signal=KILL {APP}-release.service", check=False)
    host.deploy()
    assert host.release(APP) != serving
    wait_until(lambda: active(host) == {host.release(APP)}, 20, "the workers of the release that serves")
    assert status(host, APP)["faults"] == []


def test_a_boot_brings_back_those_of_the_release_that_serves(host: Host) -> None:
    host.reboot(hard=True)
    wait_until(lambda: active(host) == {host.release(APP)}, 60, "the workers of the release that serves")
    assert status(host, APP)["faults"] == []
    add(host, "booted", 5)
    assert done(host, "booted", 5) == {host.release(APP)}
    host.converged()
