"""Trees that strangers made, and names that they chose: root reads, measures and removes them unharmed.

An app that was taken over chooses names of processes and sockets; a build and a commit leave trees of any shape.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, wait_until
from tests.e2e.apps import (
    in_sandbox,
    leftovers,
    let_build_run,
    make_tiny,
    make_works,
    release_changed,
    run_on_host,
    settings,
)
from tests.e2e.conftest import MakeHost
from tests.target.image import SUITES

pytestmark = [pytest.mark.story, pytest.mark.slow]

QUICK = {"watch": 0, "keep_warm": 0, "drain_timeout": 30}

PROCESS = r"""
import ctypes, time
PR_SET_NAME = 15
ctypes.CDLL(None).prctl(PR_SET_NAME, b"\xff\xfe\n)", 0, 0, 0)
time.sleep(900)
"""
# A name that isn't UTF-8, those that end as another's socket does, and one that forges a line; all in use.
SOCKETS = r"""
import socket, sys, time
path = sys.argv[1].encode()
line = b"\n0000000000000000: 00000002 00000000 00000000 0001 03 4711 "
held = []
for name in (b"\0\xff\xfe", b"\0" + path, b"\0 " + path, b"\0x" + line + path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name[:107])
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(name[:107])
    held += [listener, client, listener.accept()[0]]
time.sleep(900)
"""

RECORDS = """
for packages in RELEASE.glob(".venv/lib/python3*/site-packages"):
    (packages / "zz-1.0.dist-info").mkdir(exist_ok=True)
    {made}
"""
DEEP = """
for folder in (RELEASE, os.environ["HOME"]):
    os.chdir(folder)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
raise SystemExit
"""
SPARSE = """
for number in range(9):
    with open(RELEASE / f".venv/sparse{number}", "w") as file:
        os.truncate(file.fileno(), 4 * 2**30)
"""
FILL = """
import itertools, time
(RELEASE / "many").mkdir()
for number in itertools.count():
    (RELEASE / f"many/{number}").write_bytes(bytes(2**20))
    time.sleep(0.005)
"""
FILL_AT_ONCE = """
with open(RELEASE / "static", "w") as file:
    os.posix_fallocate(file.fileno(), 0, 700 * 2**20)
"""


@dataclass
class Place:
    """The host of this story: mine was taken over, and has a dependency that was; other has nothing to do with it."""

    host: Host
    works: Path
    other: Path
    number: int = 0

    def build(self, statements: str) -> str:
        """Release mine; its dependency runs these statements while it is built. Returns what the run said."""
        self.number += 1
        let_build_run(self.works, statements, self.number)
        return self.host.task("tasks/release.py", app="mine", check=False).output

    def mends(self) -> None:
        """Fail unless the app is released by the next clean commit, and nothing is left of what was before."""
        before = self.host.release("mine")
        output = self.build("")
        assert self.host.release("mine") != before, output[-3000:]
        assert leftovers(self.host, "mine") == []

    def all_goes_on(self) -> None:
        """Fail unless the neighbour is released, and its old release is let go at once."""
        self.number += 1
        before = release_changed(self.host, "other", self.other, f"v{self.number}")
        wait_until(
            lambda: before not in self.host.ssh("systemctl list-units --all 'other*'"), 12, "the end of its drain"
        )
        assert self.host.ssh("systemctl list-units --failed --plain --no-legend 'other*'") == ""
        assert leftovers(self.host, "other") == []

    def plan(self, commands: str) -> tuple[dict[str, Any], int, float]:
        """What a plan of a hostile commit says, the memory that it took at most, in MB, and its seconds.

        + commands: stage the commit, in a clone of the app's source, or make it and name it in .git/hostile
        """
        seen: dict[str, Any] = run_on_host(self.host, "hostile_plan", "mine", commands, timeout=300)
        return json.loads(seen["told"] or "{}"), seen["memory_mb"], seen["seconds"]


@pytest.fixture(scope="module", params=list(SUITES))
def place(request: pytest.FixtureRequest, make_host: MakeHost) -> Place:
    """Both apps serve. A release of mine that reads without end is ended before it takes this machine's memory."""
    host = make_host("trees", request.param, ())
    works, other = make_works(host.folder / "works"), make_tiny(host.folder / "other")
    host.slipway["apps"] = {
        "mine": settings(works, "mine.test", **QUICK),
        "other": settings(other, "other.test", **QUICK),
    }
    host.app("mine")["source"]["subdir"] = "apps/tiny"
    host.deploy()
    limit = "/etc/systemd/system/mine-release.service.d"
    host.ssh(f"mkdir -p {limit}; printf '[Service]\\nLimitAS=2G\\nRuntimeMaxSec=100\\n' >{limit}/limit.conf")
    return Place(host, works, other)


def test_the_name_of_a_process_is_no_text(place: Place) -> None:
    host = place.host
    host.ssh(in_sandbox(host, "mine", PROCESS))
    try:
        named = r"""LC_ALL=C grep -la "$(printf '\377\376')" /proc/[0-9]*/comm"""
        wait_until(lambda: host.ssh(named, check=False), 30, "its process")
        place.all_goes_on()
    finally:
        host.ssh("systemctl stop taken-over")


def test_the_names_of_sockets_are_no_text_or_look_like_anothers(place: Place) -> None:
    """The old release of the neighbour is let go at once: nobody is connected to its socket."""
    host = place.host
    path = f"/run/other/{host.release('other')}.sock"
    host.ssh(in_sandbox(host, "mine", f"import sys; sys.argv[1:] = [{path!r}]\n{SOCKETS}"))
    try:
        wait_until(lambda: int(host.ssh(f"grep -ac {path} /proc/net/unix")) > 3, 30, "its sockets")
        place.all_goes_on()
    finally:
        host.ssh("systemctl stop taken-over")


def test_a_commit_whose_files_are_links_to_devices(place: Place) -> None:
    path = "apps/tiny/pyproject.toml"
    told, memory, seconds = place.plan(f"ln -sf /dev/zero {path}; git add --all")
    assert memory < 200 and seconds < 60, (memory, seconds, told)
    assert told["error"] == f"{path}: a link leads out of the folder."


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        ("printf 'd/%.0s' $(seq 1400); echo big", "deeper than 100"),
        ("seq 200", "larger than"),
        ("seq 210000", "more than"),
    ],
)
def test_a_commit_without_measure(place: Place, paths: str, error: str) -> None:
    """Of few bytes, as a repository."""
    host, used = place.host, "df --output=used /run | tail -n 1"
    before = int(host.ssh(used))
    size = 0 if error == "more than" else 120
    blob = f"head -c {size}M /dev/zero | git hash-object -w --stdin"
    entries = f'({paths}) | sed "s:^:100644 blob $({blob})\tz/:" | git update-index --index-info'
    told, memory, _ = place.plan(entries)
    assert error in told["error"] and len(told["error"]) < 1000, told
    assert memory < 200
    assert int(host.ssh(used)) < before + 2_000, "of /run, which is memory"
    assert host.ssh("ls -d /run/slipway/mine/plan-* /var/tmp/slipway-plan-* 2>/dev/null || true") == ""
    if "deeper" in error:
        place.all_goes_on()


NO_FILES = (
    "tree=$(git hash-object -t tree -w /dev/null); for level in $(seq 25); do tree=$(for n in 0 1 2 3 4 5 6 7 8 9; do "
    "printf '040000 tree %s\\td%s\\n' $tree $n; done | git mktree); done; git commit-tree $tree -m x >.git/hostile; "
    "git update-ref refs/heads/hostile $(cat .git/hostile)"
)
"""Folders without end, and no file in them: of a few kilobytes."""
GROWING = (
    "echo 'big.txt export-subst' >.gitattributes; "
    """python3 -c "open('big.txt', 'w').write('\\$Format:%<(16000)%h\\$' * 400000)"; git add --all"""
)
"""A file of 8 MB, of which git would make 6 GB when it hands the commit out."""


@pytest.mark.parametrize(
    ("commands", "error"), [(NO_FILES, "more than 200,000 files"), (GROWING, None)], ids=["no files", "growing"]
)
def test_a_commit_that_is_more_than_it_seems(place: Place, commands: str, error: str | None) -> None:
    told, memory, seconds = place.plan(commands)
    assert memory < 200 and seconds < 60, (memory, seconds, told)
    assert error in told["error"] if error else told["error"] is None, told


@pytest.mark.parametrize(
    ("made", "error"),
    [
        ("os.symlink('/dev/zero', packages / 'zz-1.0.dist-info/RECORD')", "leads out of the release"),
        ("os.mkfifo(packages / 'zz-1.0.dist-info/RECORD')", "is a device, a socket or a pipe"),
    ],
)
def test_a_build_whose_records_have_no_end(place: Place, made: str, error: str) -> None:
    output = place.build(RECORDS.format(made=made))
    assert error in output, output[-3000:]


def test_a_build_that_leaves_folders_without_end(place: Place) -> None:
    """In its release, and in its home."""
    output = place.build(DEEP)
    longest = max(map(len, re.findall(r"\S+", output)))
    assert longest < 1000, "no message is a path of thousands of characters"
    place.mends()
    assert place.host.task("tasks/release.py", app="mine", fresh=True).ok
    assert place.host.ssh("ls /var/cache/slipway/mine/home") == ""
    place.host.task("tasks/rollback.py", app="mine")
    assert leftovers(place.host, "mine") == []


def test_a_build_that_leaves_more_than_can_be_read(place: Place) -> None:
    output = place.build(SPARSE)
    assert "The release is larger than" in output, output[-3000:]


def test_a_build_that_fills_the_disk(place: Place) -> None:
    """On a disk of its own, so that this machine's isn't filled."""
    host, releases = place.host, "/srv/mine/releases"
    host.ssh(
        "set -e; mkdir -p /run/copy; mount -t tmpfs -o mode=755,size=900M copy /run/copy; "
        f"cp -a {releases}/. /run/copy/; mount --bind /run/copy {releases}"
    )
    try:
        before = host.release("mine")
        for statements, error in ((FILL, "The build was ended: "), (FILL_AT_ONCE, "File too large")):
            output = place.build(statements)
            assert error in output, output[-3000:]
            assert host.release("mine") == before
        assert int(host.ssh(f"df --output=avail -m {releases} | tail -n 1")) > 400, "it is removed"
        place.mends()
    finally:
        host.ssh(f"umount -l {releases} /run/copy")
