"""A dependency that is built is a stranger: what it may try in the build of an app comes to nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, log, wait_until
from tests.e2e.apps import leftovers, let_build_run, make_tiny, make_works, settings
from tests.e2e.conftest import MakeHost, systems

pytestmark = pytest.mark.story

QUICK = {"watch": 0, "keep_warm": 0}
GUNICORN = ".venv/lib/python3*/site-packages/gunicorn/__init__.py"


@dataclass
class Place:
    """The host of this story; the app guest has the dependency, the app other has nothing to do with it."""

    host: Host
    works: Path
    number: int = 0

    def attack(self, statements: str, *, check: bool = True, **data: object) -> str:
        """Release guest; its dependency runs these statements while it is built. Returns what the run said."""
        self.write(statements)
        return self.host.task("tasks/release.py", app="guest", check=check, **data).output

    def write(self, statements: str) -> None:
        """Let the dependency run these statements while it is built, and let it be built by the next release."""
        self.number += 1
        let_build_run(self.works, statements, self.number)

    def seen(self) -> dict[str, str]:
        """What the dependency reported."""
        text = self.host.ssh("cat /srv/guest/current/.venv/lib/python3*/site-packages/built.py")
        told: dict[str, str] = json.loads(text.partition("SEEN = ")[2])
        return told

    def safe(self) -> None:
        """Fail unless all of each release is root's, and nothing of the builder's runs or waits."""
        strange = "find /srv/guest/releases -mindepth 1 -not -user root -o -type p -o -type s -o -perm /6000"
        assert self.host.ssh(strange) == ""
        assert self.host.run("pgrep -u _guest").returncode == 1
        assert leftovers(self.host, "guest") == []


@pytest.fixture(scope="module", params=systems("debian13"))
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """Both apps serve; on the host's loopback is what a cloud's metadata service would be."""
    host = make_host("builds", request.param, ())
    works = make_works(host.folder / "works")
    host.slipway["apps"] = {
        "guest": settings(works, "guest.test", env={"SECRET": "of-guest"}, **QUICK),
        "other": settings(make_tiny(host.folder / "tiny"), "other.test", **QUICK),
    }
    host.app("guest")["source"]["subdir"] = "apps/tiny"
    host.deploy()
    host.ssh("ip address add 169.254.169.254/32 dev lo")
    return Place(host, works)


def test_it_reaches_reads_and_writes_nothing_of_the_host(place: Place) -> None:
    """Each of these can be done by a user without a sandbox, as the host itself shows."""
    place.attack("SEEN = tries()")
    seen = place.seen()
    assert len(seen) > 15 and [name for name, told in seen.items() if told == "done"] == []
    as_user = "runuser -u _guest -- python3 -c"
    for statement in (
        'import socket; socket.create_connection(("169.254.169.254", 80), 3)',
        'import socket; socket.create_connection(("127.0.0.1", 22), 3)',
    ):
        blocked = place.host.run(f"{as_user} '{statement}'").returncode
        assert blocked, "the table holds for whatever runs as the builder"
        assert place.host.run(f"nft delete table inet slipway_builds && {as_user} '{statement}'").returncode == 0
        place.attack("")  # which loads it anew
    place.safe()


def test_what_it_leaves_behind_is_ended_before_root_looks(place: Place) -> None:
    """It would swap folders for links under root's hands, and would read what the next build is given."""
    for _ in range(3):
        output = place.attack("stay()", check=False)
        assert re.search(r"A link leads out of the release: static/(mine|theirs) -> /etc\.", output)
        place.safe()
        assert place.host.ssh("stat -c '%U %a' /etc/shadow /etc/passwd").split() == ["root", "640", "root", "644"]
        before = place.host.ssh("stat -c %s /var/cache/slipway/guest/home/beat")
        assert int(before) > 0, "it ran"
        assert place.host.ssh("sleep 0.5; stat -c %s /var/cache/slipway/guest/home/beat") == before


def test_what_it_does_to_a_cache_reaches_no_other_app(place: Place) -> None:
    host = place.host
    place.attack("poison()")
    # The next build of the app itself takes what that left, until it is built from empty caches.
    place.attack("")
    assert "POISON" in host.ssh(f"cat /srv/guest/current/{GUNICORN}"), "the attack works"
    project = host.folder / "tiny/pyproject.toml"
    project.write_text(project.read_text() + "\n# an environment of its own\n")
    host.task("tasks/release.py", app="other")
    assert "POISON" not in host.ssh(f"cat /srv/other/current/{GUNICORN}")
    before = host.release("guest")
    assert "from empty caches" in host.run_slipway("release", "--dry", "--app", "guest", "--fresh").stdout
    host.task("tasks/release.py", app="guest", fresh=True)
    assert host.release("guest") != before
    assert "POISON" not in host.ssh(f"cat /srv/guest/current/{GUNICORN}")
    host.converged()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("pipe()", "static-pipe is a device, a socket or a pipe"),
        ("leave()", "A link leads out of the release: static/p -> /etc/passwd"),
    ],
)
def test_what_has_no_place_in_a_release_is_refused(place: Place, what: str, told: str) -> None:
    before = place.host.release("guest")
    output = place.attack(what, check=False)
    assert "failed at build (2 of 9)" in output and told in output
    assert place.host.release("guest") == before
    place.safe()


@pytest.mark.slow
def test_a_build_that_takes_all_memory_is_ended_alone(place: Place) -> None:
    before = place.host.release("guest")
    with place.host.traffic(domain="other.test", path="/", scheme="http") as seen:
        output = place.attack("fill()", check=False)
    seen.unbroken(gap=5)
    assert "failed at build (2 of 9)" in output
    assert place.host.release("guest") == before
    place.attack("")
    place.safe()


@pytest.mark.slow
def test_how_exposed_it_is(place: Place) -> None:
    """By systemd's own measure, from 0 (least) to 10; a unit without a sandbox has 9.6."""
    host = place.host
    place.write("import time\nSEEN = {}\ntime.sleep(15)")
    run = host.start_task("tasks/release.py", host.folder / "slow.log", app="guest")
    try:
        unit = "guest-build.service"
        wait_until(lambda: host.run(f"systemctl is-active -q {unit}").returncode == 0, 90, "the build")
        told = {each: host.ssh(f"systemd-analyze security --no-pager {each}") for each in (unit, "guest-release")}
    finally:
        assert run.wait(180) == 0
    levels = {each: float(re.findall(r"exposure level for \S+: (\S+)", text)[0]) for each, text in told.items()}
    log.info("    exposure: %s", levels)
    assert levels[unit] <= 3.0, told[unit]
    assert levels["guest-release"] <= 4.5, told["guest-release"]
