"""An app that was taken over, or a dependency of it, holds up the app's own next release: not for long."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e._driver import Host, Run, wait_until
from tests.e2e.apps import (
    facts,
    in_sandbox,
    leftovers,
    let_build_be_anew,
    make_tiny,
    make_works,
    set_hooks,
    settings,
    status,
)
from tests.e2e.conftest import MakeHost
from tests.target.image import SUITES

pytestmark = [pytest.mark.story, pytest.mark.slow]

QUICK = {"watch": 0, "keep_warm": 0, "graceful_timeout": 2}
TOKEN = "sk-live-51Habcdef0123456789xyz"

KILL_ALL = """
import os, time
time.sleep(0.2)
while True:
    try:
        os.kill(-1, {signal})
    except OSError:
        pass
"""

GRAB = """
import array, socket
listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0grab")
listening.listen()
held = []
while True:
    each, _ = listening.accept()
    held.append(socket.recv_fds(each, 9, 2))
"""

GIVE = """
import contextlib, socket
with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as grab:
    grab.connect("\\0grab")
    socket.send_fds(grab, [b"x"], [1, 2])
"""

DEAF = """
import sys
if "gunicorn" in " ".join(sys.orig_argv):
    import os, signal, socket, threading, time
    real, deaf = signal.signal, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    signal.signal = lambda number, what: real(number, signal.SIG_IGN if number in deaf else what)
    for each in deaf:
        signal.signal(each, None)
    def prolong():
        while where := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.sendto(b"EXTEND_TIMEOUT_USEC=3600000000", where.replace("@", "\\0", 1))
            time.sleep(0.5)
    threading.Thread(target=prolong, daemon=True).start()
"""
"""A module for Gunicorn's master: it doesn't end, and has systemd wait for it."""


@dataclass
class Place:
    """The host of this story: the app mine was taken over, the app other has nothing to do with it."""

    host: Host
    works: Path
    number: int = 0

    def write(self, added: str = "", *, loaded: str = "", **hooks: object) -> None:
        """New code of mine.

        + added: statements of its module
        + loaded: a module that its build lays beside the dependencies, so that each Python of the release loads it
        """
        self.number += 1
        tiny = self.works / "apps/tiny"
        set_hooks(tiny, version=str(self.number), **hooks)
        main = tiny / "tiny/main.py"
        main.write_text(f"{main.read_text().partition(MARK)[0]}{MARK}{added}")
        lay = "SEEN = {}\n"
        if loaded:
            lay += textwrap.dedent(f"""
                import os, pathlib
                for folder in pathlib.Path(os.environ["UV_PROJECT_ENVIRONMENT"]).glob("lib/python3*/site-packages"):
                    (folder / "laid.py").write_text({loaded!r})
                    (folder / "laid.pth").write_text("import laid\\n")
            """)
        attack = self.works / "libs/built/attack.py"
        if not attack.exists() or attack.read_text() != lay:
            attack.write_text(lay)
            let_build_be_anew(self.works, self.number)

    def release(self, *, entry: str = "release", check: bool = True, within: float = 60, **data: object) -> Run:
        """Release mine; with `entry` "rollback", go back."""
        began = time.monotonic()
        run = self.host.task(f"tasks/{entry}.py", app="mine", check=check, **data)
        assert time.monotonic() - began < within
        return run

    def whole(self) -> None:
        """Fail unless what was released last serves, and nothing else of mine is left."""
        assert facts(self.host, domain="mine.test")["version"] == str(self.number)
        assert status(self.host, "mine")["faults"] == []
        wait_until(lambda: leftovers(self.host, "mine") == [], 60, "the end of what served before")

    @contextmanager
    def taken_over(self, script: str) -> Iterator[None]:
        """While a program runs in mine's sandbox."""
        self.host.ssh(in_sandbox(self.host, "mine", script))
        try:
            yield
        finally:
            self.host.run("systemctl kill --signal=KILL taken-over; systemctl stop taken-over")


MARK = "\n# added\n"


@pytest.fixture(scope="module", params=list(SUITES))
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """Both apps serve; mine has a release to go back to."""
    host = make_host("deadlines", request.param, ())
    made = Place(host, make_works(host.folder / "works"))
    made.write()
    secret = host.file("mine.env", f"TOKEN={TOKEN}\n")
    host.slipway["apps"] = {
        "mine": settings(made.works, "mine.test", env_file=secret, hooks={"timeout": 1}, **QUICK),
        "other": settings(make_tiny(host.folder / "tiny"), "other.test", **QUICK),
    }
    host.app("mine")["source"]["subdir"] = "apps/tiny"
    host.deploy()
    made.write()
    made.release()
    return made


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_what_kills_the_next_release_is_told_and_stopped_first(place: Place, signal: str) -> None:
    host, before = place.host, place.host.release("mine")
    with place.taken_over(KILL_ALL.format(signal={"KILL": 9, "TERM": 15}[signal])):
        place.write()
        told = ("It was killed by ", ", which Slipway didn't send", "--stop-first")
        place.release(check=False).says("failed at check (3 of 9)", *told)
        if signal == "KILL":  # another signal is an end as good as any for what Gunicorn's master is
            place.release(entry="rollback", check=False).says("rollback to", *told)
        assert host.release("mine") == before
        place.release(stop_first=True).says("is stopped first, as requested: requests are lost", "serves (")
        assert host.run("systemctl is-active --quiet taken-over").returncode != 0
    place.whole()


def test_what_was_stopped_first_serves_again_where_its_successor_fails(place: Place) -> None:
    host, version = place.host, str(place.number)
    place.write(import_error="of the fix")
    place.release(check=False, stop_first=True).says("RuntimeError: of the fix", "was started again", "keeps serving")
    assert facts(host, domain="mine.test")["version"] == version
    # A run that is killed meanwhile is made good by the next, even by one that fails.
    place.write(import_seconds=90)
    host.start_task("tasks/release.py", host.folder / "killed.log", app="mine", stop_first=True)
    wait_until(lambda: host.run("systemctl is-active --quiet mine-check").returncode == 0, 60, "the check")
    assert host.run(f"systemctl is-active --quiet mine@{host.release('mine')}.service").returncode != 0
    host.ssh("systemctl kill --signal=KILL mine-release")
    place.write(import_error="of another one")
    place.release(check=False).says("which was stopped first, was started again", "RuntimeError: of another one")
    assert facts(host, domain="mine.test")["version"] == version


def test_an_app_that_is_stopped_again_and_again_comes_back(place: Place) -> None:
    """More often in ten seconds than systemd starts by default what brings it its journal."""
    host = place.host
    unit, serving = f"mine@{host.release('mine')}.service", facts(host, domain="mine.test")
    host.ssh(f"systemctl reset-failed {unit}")  # its own limit counts the starts of the test before
    for _ in range(8):
        host.ssh(f"systemctl stop {unit} && systemctl start {unit}")
    assert facts(host, domain="mine.test")["version"] == serving["version"]


def test_a_step_ends_whoever_holds_its_output(place: Place) -> None:
    host = place.host
    with place.taken_over(GRAB):
        place.write(GIVE)
        place.release()
        place.whole()
        # One that goes on beyond its limit, and one that the operator stops.
        deaf = f"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{GIVE}time.sleep(900)\n"
        (place.works / "apps/tiny/deaf.py").write_text(deaf)
        with host.changed({"apps": {"mine": {"hooks": {"after_migrate": "python deaf.py"}}}}):
            place.write()
            place.release(check=False).says("The hook after_migrate", "was ended after 1 s")
        place.write(f"{GIVE}import time\ntime.sleep(90)\n")
        run = host.start_task("tasks/release.py", host.folder / "stopped.log", app="mine")
        wait_until(lambda: host.run("systemctl is-active --quiet mine-check").returncode == 0, 60, "the check")
        time.sleep(1)
        host.ssh("systemctl stop mine-release", timeout=30)
        run.wait(30)
    place.write()
    place.release()
    place.whole()


def test_what_it_writes_takes_no_time(place: Place) -> None:
    place.write("import os\nos.write(2, os.environ['TOKEN'][-6:].encode() * 330000)\nraise SystemExit(3)\n")
    run = place.release(check=False)
    run.says("failed at check (3 of 9)")
    assert TOKEN not in run.output


def test_an_old_release_that_does_not_end_is_ended(place: Place) -> None:
    host = place.host
    place.write(loaded=DEAF)
    place.release()
    deaf = host.release("mine")
    place.write()
    place.release()
    place.release(entry="rollback")  # waits for the end of the deaf one, and lets it serve again
    assert host.release("mine") == deaf
    place.release(again=True)
    place.whole()
    assert host.run(f"systemctl is-active --quiet mine@{deaf}.service").returncode != 0


def test_a_build_that_cannot_be_run_is_told(place: Place) -> None:
    """Also where it only compiles, since no dependency changed: what can't be compiled is only slower."""
    host, before = place.host, place.host.release("other")
    tiny = host.folder / "tiny"
    (tiny / "template.py").write_text("def {{ name }}():\n")
    unit = "/run/systemd/system/other-build.service"
    host.ssh(f"printf '[Service]\\nExecStart=/bin/true\\n' >{unit}; systemctl daemon-reload")
    with host.afterwards(f"rm {unit}; systemctl daemon-reload"):
        told = host.task("tasks/release.py", app="other", check=False)
        told.says("failed at build (2 of 9)", "couldn't be run in other-build.service")
        assert host.release("other") == before
    host.task("tasks/release.py", app="other").says("build", "(the environment of")
    assert host.release("other") != before
