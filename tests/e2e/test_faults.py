"""Faults, one a row: what goes wrong, what the public may notice of it, what is said, and how it ends.

The public sends steady traffic in every row. Each ends in the same way: the plain next run is all it takes, and then
nothing is left behind of what went wrong (`Place.mended`). Rows marked `slow` are variants of others.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slipway.prober import Prober, Result
from tests.e2e._driver import Host, Run, log, wait_until
from tests.e2e.apps import ON_HOST, add_revision, copy_example, facts, leftovers, make_tiny, set_hooks, settings, status
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

DOMAIN = "extra.test"
PROGRAM = "/opt/slipway/bin/slipway"
RELEASE, ROLLBACK = "tasks/release.py", "tasks/rollback.py"
RELEASED = "Release | Release tiny"
MIGRATION = "echo done\n"
slow = pytest.mark.slow


@dataclass(frozen=True)
class Noticed:
    """What the public may notice at most."""

    failed: int = 0
    """Requests without a good answer."""
    gap: float = 2.0
    """Seconds without any good answer; a busy machine alone makes a second."""

    def holds(self, seen: Result) -> None:
        """Fail if it noticed more, or if too little was asked to show anything."""
        log.info("    public: %s", seen.line)
        assert seen.requests >= 30, f"that shows nothing: {seen.line}"
        assert seen.failed <= self.failed, f"{seen.line}\n{seen.faults}"
        assert seen.longest_gap < self.gap, seen.line


NOTHING = Noticed()


@dataclass
class Place:
    """The host of this story with its app, and the folder the app's code comes from."""

    host: Host
    tiny: Path
    version: int = 0

    def code(self, *, migration: str = MIGRATION, fresh: bool = False, **hooks: Any) -> None:
        """Change the app's code.

        + migration: shell script that migrates
        + fresh: so that its environment must be built anew
        + hooks: how it behaves (tiny/main.py)
        """
        self.version += 1
        set_hooks(self.tiny, version=f"v{self.version}", **hooks)
        (self.tiny / "migrate.sh").write_text(migration)
        if fresh:
            project = self.tiny / "pyproject.toml"
            project.write_text(project.read_text().partition("\n# ")[0] + f"\n# {self.version}\n")

    def public(self, **load: Any) -> Prober:
        """The public, which asks quick and slow requests."""
        return self.host.prober(DOMAIN, "/", scheme="http", **{"slow": "/api/slow?seconds=1", **load})

    def release(self, *, check: bool = True, **data: object) -> Run:
        """Release what is wanted."""
        return self.host.task(RELEASE, check=check, app="tiny", **data)

    def serving(self) -> str:
        """The release that serves."""
        return self.host.release("tiny")

    def wanted(self) -> bool:
        """Whether what serves has the version of the folder here, and nothing is amiss."""
        return bool(facts(self.host)["version"] == f"v{self.version}" and status(self.host, "tiny")["faults"] == [])

    def clean(self) -> None:
        """Fail if anything is left of a run that ended or was ended."""
        assert leftovers(self.host, "tiny") == []
        assert self.host.run("flock -w 60 /run/slipway/tiny.lock true").returncode == 0, "somebody holds the lock"
        assert status(self.host, "tiny")["run"] is None
        # uv keeps its lock files, and the programs of these tests are in /root.
        others = "-not -name 'uv-*.lock' -not -path '*/systemd-private-*' -not -path '/root/*.py'"
        assert self.host.ssh(f"find /tmp /root -type f -newer /etc/tiny/env {others}") == ""

    def mended(self, *, releases: bool) -> None:
        """Fail unless the plain next run is all it takes.

        + releases: whether there is something left to release
        """
        before = self.serving()
        run = self.release()
        assert (RELEASED in run.changed) == releases, run.told
        assert (self.serving() != before) == releases
        assert self.wanted()
        self.clean()


@pytest.fixture(scope="module")
def place(make_host: MakeHost) -> Place:
    """A host on which the app serves."""
    host = make_host("faults", "debian13", ())
    place = Place(host, make_tiny(host.folder / "tiny"), version=time.time_ns() // 10**9)
    place.code()
    host.slipway["apps"] = {
        "tiny": settings(
            place.tiny,
            DOMAIN,
            workers=2,
            migrate="sh migrate.sh",
            readiness_timeout=4,
            watch=1,
            drain_timeout=3,
            keep_warm=20,
            graceful_timeout=5,
            timeout=4,
            keep_releases=3,
            migrate_lock_timeout=1,
            migrate_retries=2,
            lock_wait=60,
        ),
    }
    host.deploy()
    place.clean()
    return place


# ── a release that fails by itself ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Failure:
    """A release that can't go out."""

    step: str
    """At which it fails, with its number."""
    says: tuple[str, ...]
    """What the operator reads, among other things."""
    code: dict[str, Any] = field(default_factory=dict)
    """How it differs: `Place.code`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the app that differ."""
    served: bool = False
    """Whether it has served before it failed."""


def locked(times: int) -> str:
    """A migration that meets a lock so many times (75: EX_TEMPFAIL), and then doesn't."""
    tries = "$STATE_DIRECTORY/tries"
    again = f"echo 'the table is in use'; echo x >>{tries}; exit 75"
    return f"if [ $(cat {tries} 2>/dev/null | wc -l) -lt {times} ]; then {again}; fi\nrm -f {tries}; echo done\n"


FAILURES = {
    "doesn't import": Failure(
        "check (3 of 9)", ("tiny.main:app can't be imported.", "no luck today"), {"import_error": "no luck today"}
    ),
    "crashes during its start": Failure(
        "prove (6 of 9)",
        ("The app crashes during its start", "tiny gives up: new moon"),
        {"boot": "exit", "why": "new moon"},
    ),
    "never ends its start": Failure(
        "prove (6 of 9)",
        ("/readyz wasn't ready within 4 s", "its last answer: no whole answer within 5 s"),
        {"boot": "wait"},
    ),
    "never becomes ready": Failure(
        "prove (6 of 9)",
        ("/readyz wasn't ready within 4 s; its last answer: 503", "the queue is away"),
        {"ready_after": 3600, "ready_body": "the queue is away"},
    ),
    "turns bad after the switch": Failure(
        "watch (8 of 9)",
        ("It served, then /readyz turned bad: it answered 503", "the queue went away"),
        {"bad_after": 1},
        {"watch": 8},
        served=True,
    ),
    "its migration fails": Failure(
        "migrate (4 of 9)",
        ("The migration `sh migrate.sh` failed", "column is missing"),
        {"migration": "echo column is missing >&2; exit 7"},
    ),
    "its migration hangs": Failure(
        "migrate (4 of 9)",
        ("was ended after migrate_timeout (2 s)", "it began"),
        {"migration": "echo it began; sleep 300"},
        {"migrate_timeout": 2},
    ),
    "its migration never gets the lock": Failure(
        "migrate (4 of 9)",
        ("met a lock 3 times (migrate_retries)", "the table is in use"),
        {"migration": locked(99)},
    ),
    "its migration is killed": Failure(
        "migrate (4 of 9)",
        ("The migration `sh migrate.sh` failed", "half of it"),
        {"migration": "echo half of it; kill -KILL $$"},
    ),
}
QUICK_FAILURES = ("doesn't import", "turns bad after the switch", "its migration fails")


def rows(table: dict[str, Any], quick: tuple[str, ...]) -> list[Any]:
    """The rows of a table as parameters; those that aren't `quick` are for the whole run."""
    assert set(quick) <= set(table)
    return [pytest.param(name, id=name, marks=() if name in quick else slow) for name in table]


@pytest.mark.parametrize("what", rows(FAILURES, QUICK_FAILURES))
def test_a_release_that_fails_changes_nothing(place: Place, what: str) -> None:
    """The release from before serves on, or again; the run ends with 1 and the cause; with the code from before there
    is nothing to do."""
    row, before = FAILURES[what], place.serving()
    code = {path: path.read_bytes() for path in place.tiny.rglob("*") if path.is_file()}
    version = place.version
    place.code(**row.code)
    with place.host.changed({"apps": {"tiny": row.settings}}), place.public() as public:
        run = place.release(check=False)
    NOTHING.holds(public.result)
    assert run.code == 1
    run.says(f"failed at {row.step}", *row.says, "the release of tiny failed")
    run.says(f"{before} {'serves again' if row.served else 'keeps serving'}", "Correct the cause and run again")
    assert public.result.releases[0] == before
    assert len(public.result.releases) == (2 if row.served else 1)
    assert place.serving() == before
    place.clean()
    for path, content in code.items():
        path.write_bytes(content)
    place.version = version
    place.host.ssh("rm -f /var/lib/tiny/tries")
    place.mended(releases=False)


# ── a release that meets a fault of the host's ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Surroundings:
    """Something of the host that makes a release fail."""

    does: str
    """Shell script that makes it so."""
    undoes: str
    """The one that ends it; it may have ended by itself."""
    says: tuple[str, ...]
    """What the operator reads, the step included."""
    fresh: bool = False
    """Whether the release's environment must be built anew for it to show."""
    dirty: bool = False
    """Whether, on the full disk, a file that was being written may stay until the next run."""


def full(folder: str, room: int, files: int = 0) -> str:
    """Mount a copy of a folder over it that has room for so many bytes more, and for so many files (0: enough)."""
    limits = f"size=$((used + {room}))" + (f",nr_inodes=$((nodes + {files}))" if files else "")
    return (
        f"set -e; mkdir -p /run/copy; mount -t tmpfs -o mode=755 copy /run/copy; cp -a {folder}/. /run/copy/; "
        "used=$(df --output=used --block-size=1 /run/copy | tail -n 1); "
        "nodes=$(df --output=iused /run/copy | tail -n 1); "
        f"mount -o remount,{limits} /run/copy; mount --bind /run/copy {folder}; umount /run/copy; rmdir /run/copy"
    )


NO_SPACE = ("No space left on device", "The disk is full, of bytes (`df -h`) or of files (`df -i`)")
BALLAST = 300_000
"""Bytes of a file of the app that don't get smaller by compression: what fills a disk at the fetch."""
RELEASES, UPSTREAMS, RECORDS = "/srv/tiny/releases", "/etc/nginx/upstreams", "/var/lib/slipway"
SITE = "server { listen 80; server_name other.test; lissten 81; }"

SURROUNDINGS = {
    "disk full while fetching": Surroundings(
        full(RELEASES, 100_000), f"umount {RELEASES}", ("failed at fetch (1 of 9)", *NO_SPACE)
    ),
    "files used up while fetching": Surroundings(
        full(RELEASES, 100_000_000, 3), f"umount {RELEASES}", ("failed at fetch (1 of 9)", *NO_SPACE)
    ),
    "disk full while building": Surroundings(
        full(RELEASES, 5_000_000), f"umount {RELEASES}", ("failed at build (2 of 9)", *NO_SPACE), fresh=True
    ),
    "files used up while building": Surroundings(
        full(RELEASES, 100_000_000, 100), f"umount {RELEASES}", ("failed at build (2 of 9)", *NO_SPACE),
        fresh=True,
    ),
    "disk full while switching": Surroundings(
        full(UPSTREAMS, 0), f"umount {UPSTREAMS}", ("failed at switch (7 of 9)", *NO_SPACE)
    ),
    "no room for the records": Surroundings(
        full(RECORDS, 0), f"umount {RECORDS}", NO_SPACE, dirty=True
    ),
    "package index can't be reached": Surroundings(
        "rm -rf /var/cache/slipway/tiny/uv/*; ip route show default >/run/route; ip route del default; "
        "ip route add unreachable default",
        "ip route del unreachable default; ip route add $(cat /run/route)",
        ("failed at build (2 of 9)", "`uv sync --locked --no-dev` failed", "Failed to fetch"),
        fresh=True,
    ),
    "package index is silent": Surroundings(
        # Packets go to a neighbour that isn't there.
        "rm -rf /var/cache/slipway/tiny/uv/*; ip route show default >/run/route; "
        "set -- $(ip -o -4 addr show dev eth0 | awk '{print $4}' | tr ./ ' '); nobody=$1.$2.$3.250; "
        "ip neigh replace $nobody lladdr 02:00:00:00:00:fa dev eth0 nud permanent; "
        "ip route replace default via $nobody",
        "ip route replace $(cat /run/route)",
        ("failed at build (2 of 9)", "`uv sync --locked --no-dev` failed", "Failed to fetch"),
        fresh=True,
    ),
    "another site's configuration is wrong": Surroundings(
        f"echo '{SITE}' >/etc/nginx/sites-enabled/other",
        "rm -f /etc/nginx/sites-enabled/other",
        ("failed at check (3 of 9)", "/etc/nginx/sites-enabled/other isn't Slipway's. Correct its line 1", "lissten"),
    ),
    "a file in conf.d is wrong": Surroundings(
        f"echo '{SITE}' >/etc/nginx/conf.d/other.conf",
        "rm -f /etc/nginx/conf.d/other.conf",
        ("failed at check (3 of 9)", "/etc/nginx/conf.d/other.conf isn't Slipway's. Correct its line 1", "lissten"),
    ),
}  # fmt: skip
QUICK_SURROUNDINGS = ("disk full while building", "disk full while switching", "another site's configuration is wrong")


@pytest.mark.parametrize("what", rows(SURROUNDINGS, QUICK_SURROUNDINGS))
def test_a_fault_of_the_host_fails_a_release_and_changes_nothing(place: Place, what: str) -> None:
    """The release from before serves on, nothing is migrated in vain, and the run ends with 1 and the cause; once that
    is mended, the next run releases."""
    row, host, before = SURROUNDINGS[what], place.host, place.serving()
    place.code(fresh=row.fresh, migration="touch $STATE_DIRECTORY/migrated")
    (place.tiny / "ballast").write_bytes(os.urandom(BALLAST))
    host.ssh("rm -f /var/lib/tiny/migrated")
    with place.public() as public, host.afterwards(row.undoes):
        host.ssh(row.does)
        run = place.release(check=False)
        if not row.dirty:
            assert leftovers(host, "tiny") == []
    NOTHING.holds(public.result)
    assert run.code == 1
    run.says(*row.says)
    assert "Traceback" not in run.output, run.told
    assert public.result.releases == [before]
    assert place.serving() == before
    if "failed at switch" not in run.output:
        assert host.run("ls /var/lib/tiny/migrated").returncode != 0
    place.clean()
    place.mended(releases=True)
    (place.tiny / "ballast").unlink()


# ── a release that takes its time and goes out all the same ──────────────────────────────────────────────────────────

PATIENT: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "ready only after a while": ({"ready_after": 2}, ()),
    "its migration waits for a lock": ({"migration": locked(2)}, ("the migration met a lock; it is tried again",)),
    "its migration is slow": ({"migration": "sleep 6"}, ("tiny: 4/9 migrate 6",)),
}
"""How the code differs, and what is said."""


@pytest.mark.parametrize("what", rows(PATIENT, ("its migration waits for a lock",)))
def test_a_release_may_take_its_time(place: Place, what: str) -> None:
    """It goes out, and nobody notices."""
    code, says = PATIENT[what]
    before = place.serving()
    place.code(**code)
    with place.public() as public:
        place.release().says(*says)
    NOTHING.holds(public.result)
    assert public.result.releases == [before, place.serving()]
    assert place.wanted()
    place.mended(releases=False)


# ── sources and databases that keep a release waiting ────────────────────────────────────────────────────────────────

GIT = {
    "is gone": ("echo no such luck >&2; exit 1", 1, ("can't be looked up from the host", "no such luck")),
    "is gone after the look-up": (
        'if [ -e /tmp/asked ]; then echo no such luck >&2; exit 1; fi; touch /tmp/asked; exec /usr/bin/${0##*/} "$@"',
        1,
        ("failed at fetch (1 of 9)", "can't be fetched", "no such luck"),
    ),
    "never answers": ("sleep 300", 1, ("can't be looked up from the host", "git ls-remote ended with 124")),
    "is slow": ('sleep 6; exec /usr/bin/${0##*/} "$@"', 0, ("tiny: 1/9 fetch 6",)),
}
"""What the server does when git asks it, how the run ends, and what is said."""


def push(place: Place) -> None:
    """Bring the code of the app to the repository on the host."""
    target, clone = place.host.target["ssh"], place.host.folder / "clone"
    shutil.copytree(place.tiny, clone, dirs_exist_ok=True)
    ssh = f"ssh -i {target['key']} -o IdentitiesOnly=yes -o UserKnownHostsFile={target['known_hosts']}"
    address = f"ssh://{target['user']}@{target['host']}:{target['port']}/home/{target['user']}/tiny.git"
    identity = ["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--allow-empty", "--message", f"v{place.version}"),
        ("push", "--quiet", "--force", address, "main"),
    ):
        subprocess.run(
            ["git", "-C", str(clone), *identity, *arguments], env=os.environ | {"GIT_SSH_COMMAND": ssh}, check=True
        )


@slow
@pytest.mark.parametrize("what", GIT)
def test_the_git_server(place: Place, what: str) -> None:
    """The release from before serves on; once the server answers, the next run releases."""
    script, code, says = GIT[what]
    host, before, user = place.host, place.serving(), place.host.target["ssh"]["user"]
    key = host.file("git.key", Path(host.target["ssh"]["key"]).read_text())
    source = {"git": f"ssh://{user}@127.0.0.1/home/{user}/tiny.git", "ref": "main", "deploy_key": key}
    host.ssh(f"runuser -u {user} -- git init --quiet --bare --initial-branch=main /home/{user}/tiny.git")
    place.code()
    push(place)
    host.app("tiny")["source"] = source
    upload = "/usr/local/bin/git-upload-pack"
    with place.public() as public, host.afterwards(f"rm -f {upload} /tmp/asked"):
        host.ssh(f"cat >{upload}; chmod 755 {upload}", stdin=f"#!/bin/sh\n{script}\n")
        run = place.release(check=False)
    NOTHING.holds(public.result)
    assert run.code == code
    run.says(*says)
    if code:
        assert place.serving() == before
    place.clean()
    place.mended(releases=bool(code))
    if what == list(GIT)[-1]:
        host.app("tiny")["source"] = {"path": str(place.tiny)}
        place.mended(releases=True)


@slow
def test_a_migration_waits_for_sqlite(place: Place) -> None:
    """A lock that somebody holds longer than the app waits for it: it is tried again, and goes out."""
    host, notes = place.host, copy_example("notes", place.host.folder)
    host.slipway["apps"]["notes"] = {
        "domains": ["notes.test"],
        "source": {"path": str(notes)},
        "app": "notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "tls": {"mode": "off"},
        "keep_warm": 0,
    }
    host.deploy()
    before = host.release()
    add_revision(notes / "migrations/versions", "0003", "0002", 'op.create_table("new", sa.Column("id", sa.Integer))')
    holds = (
        "import sqlite3, time; c = sqlite3.connect('/var/lib/notes/notes.db', isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); time.sleep(20)"
    )
    host.ssh(f'systemd-run --quiet --collect --unit=holder --uid=notes python3 -c "{holds}"')
    with host.prober("notes.test", "/api/whoami", scheme="http", slow="/api/notes") as public:
        run = host.task(RELEASE, app="notes")
    run.says("the migration met a lock; it is tried again", "4/9 migrate")
    NOTHING.holds(public.result)
    assert public.result.releases == [before, host.release()]
    assert leftovers(host, "notes") == []


# ── a run that is killed, cut off or overtaken on its way ────────────────────────────────────────────────────────────

STEPS = ("fetch", "build", "check", "migrate", "start", "prove", "switch", "switched", "watch", "commit", "let go")
"""Where a release is met (onhost/at_step.py)."""
BACK = ("schema", "start", "prove", "switch", "switched", "commit", "let go")
"""Where a rollback is met."""


@dataclass
class Met:
    """A run that was met in a step; see `met`."""

    process: subprocess.Popen[bytes]
    """The operator's pyinfra."""
    output: Path
    """What it has said so far."""
    pid: int
    """The program on the host."""
    attempt: str
    """The id that the host gave to the run; of a release, its own."""

    def said(self) -> str:
        """What the operator has read, in one line."""
        return " ".join(self.output.read_text(errors="replace").split())

    def ends(self, code: int) -> str:
        """Wait for the operator's run, and fail unless it ends with `code`; returns what it said."""
        assert self.process.wait(90) == code, self.output.read_text()[-3000:]
        return self.said()


def met(place: Place, step: str, action: str, entry: str = RELEASE, **data: object) -> Met:
    """Start a run and wait until the host met it in a step, and killed or held it (onhost/at_step.py)."""
    host, output = place.host, place.host.folder / "met.log"
    host.ssh("cat >/root/at_step.py; rm -f /run/at-step", stdin=(ON_HOST / "at_step.py").read_text())
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(host.ssh, f"python3 /root/at_step.py tiny '{step}' {action}")
        wait_until(lambda: host.ssh("ls /run/at-step", check=False), 10, "the watch of the run")
        process = host.start_task(entry, output, app="tiny", **data)
        seen = json.loads(told.result())
    assert not seen["missed"], f"the run wasn't met at {step}: {seen}\n{output.read_text()[-3000:]}"
    log.info("    met at %s, after %s", step, ", ".join(seen["steps"]) or "no step")
    return Met(process, output, seen["process"], seen["id"])


def go(place: Place, held: Met) -> None:
    """Let a run that is held go on."""
    place.host.ssh(f"python3 /root/at_step.py tiny go {held.pid}")


def over(place: Place) -> None:
    """Wait until no run is under way."""
    wait_until(lambda: status(place.host, "tiny")["run"] is None, 60, "the end of the run on the host")


def slow_steps(place: Place) -> None:
    """Change the code to one whose release can be met in its longer steps."""
    place.code(migration="sleep 1", import_seconds=0.3, ready_after=0.8)


KILLS = [
    pytest.param(step, action, marks=() if (step, action) in {("migrate", "main"), ("switched", "all")} else slow)
    for step in STEPS
    for action in ("main", "all")
]


@pytest.mark.parametrize(("step", "action"), KILLS)
def test_the_program_killed_in_a_release(place: Place, step: str, action: str) -> None:
    """`kill -9` for the host's program alone, or for all of its unit: the next run ends what was begun."""
    before = place.serving()
    slow_steps(place)
    with place.public() as public:
        killed = met(place, step, action)
        said = killed.ends(1)
        assert "The run ended without a result: it was killed" in said, said
        assert facts(place.host)["release"] in {before, killed.attempt}
        place.release()
        assert place.wanted()
        place.clean()
    NOTHING.holds(public.result)
    assert public.result.releases == [before, place.serving()]
    place.mended(releases=False)


@slow
@pytest.mark.parametrize("step", BACK)
def test_the_program_killed_in_a_rollback(place: Place, step: str) -> None:
    """The next rollback, or release, ends what was begun."""
    slow_steps(place)
    place.release()
    left = place.serving()
    with place.public() as public:
        killed = met(place, step, "main", ROLLBACK)
        assert "The run ended without a result: it was killed" in killed.ends(1)
        halfway = facts(place.host)["release"]
        if step in BACK[: BACK.index("switched")]:
            assert halfway == left
            place.host.task(ROLLBACK, app="tiny")
            assert place.serving() < left
        else:
            assert halfway <= left  # nginx may not have been told yet
            place.release(again=True)
            assert place.wanted()
        place.clean()
    NOTHING.holds(public.result)
    place.code()
    place.mended(releases=True)


def cut(place: Place, run: Met) -> None:
    """Cut the SSH connections of a run on the host, as a line that breaks does."""
    script = """
        own=$$; kept=
        while [ "$own" -gt 1 ]; do kept="$kept $own "; own=$(ps -o ppid= -p "$own" | tr -d ' '); done
        for session in $(pgrep -f '^sshd.*@notty'); do
            case "$kept" in *" $session "*) ;; *) kill -KILL "$session" ;; esac
        done
    """
    place.host.run("sh -s", stdin=script)
    assert run.process.wait(60) != 0


def kill(_place: Place, run: Met) -> None:
    """Kill pyinfra."""
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()


OPERATORS = {"connection cut": cut, "pyinfra killed": kill}
QUICK_VANISHED = {("switch", "pyinfra killed")}
VANISHED = [
    pytest.param(step, how, marks=() if (step, how) in QUICK_VANISHED else slow)
    for step in STEPS
    for how in OPERATORS
]  # fmt: skip


@pytest.mark.parametrize(("step", "how"), VANISHED)
def test_the_operator_vanishes(place: Place, step: str, how: str) -> None:
    """The run on the host goes on and ends; the operator's next run follows it, or finds it done."""
    before = place.serving()
    slow_steps(place)
    with place.public() as public:
        held = met(place, step, "hold")
        OPERATORS[how](place, held)
        go(place, held)
        place.release()
        assert place.serving() == held.attempt != before
    NOTHING.holds(public.result)
    assert public.result.releases == [before, held.attempt]
    place.mended(releases=False)


def test_the_follower_is_interrupted_and_attaches_again(place: Place) -> None:
    """^C ends who follows, not the run; `attach` follows to its end, and tells how it ended once more."""
    host = place.host
    slow_steps(place)
    with place.public() as public:
        held = met(place, "migrate", "hold")
        left = host.run(f"timeout --signal=INT 1 {PROGRAM} follow tiny")
        assert "tiny: 3/9 check" in left.stdout
        assert f"a run that has begun continues; `{PROGRAM} follow tiny` shows it" in left.stderr
        assert "Traceback" not in left.stderr
        go(place, held)
        followed = host.run(f"{PROGRAM} follow tiny")
        assert followed.returncode == 0
        assert f"{held.attempt} serves" in followed.stdout
        held.ends(0)
        assert f"{held.attempt} serves" in host.run(f"{PROGRAM} follow tiny").stdout
    NOTHING.holds(public.result)
    place.mended(releases=False)


@slow
def test_two_at_once(place: Place) -> None:
    """The same release asked for again follows the first; another one waits; one that may not wait is refused."""
    host, before = place.host, place.serving()
    slow_steps(place)
    with place.public() as public:
        first = met(place, "migrate", "hold")
        same = Met(host.start_task(RELEASE, host.folder / "same.log", app="tiny"), host.folder / "same.log", 0, "")
        wait_until(lambda: "began this very release" in same.said(), 30, "the second operator follows")
        place.code()
        other = Met(host.start_task(RELEASE, host.folder / "other.log", app="tiny"), host.folder / "other.log", 0, "")
        wait_until(lambda: "waiting for another run (release by" in other.said(), 30, "the third operator waits")
        with host.changed({"apps": {"tiny": {"lock_wait": 0}}}):
            refused = place.release(check=False)
        assert refused.code == 1
        refused.says("Another run of tiny is under way (release by", "didn't end within 0 s", f"{PROGRAM} follow tiny")
        go(place, first)
        assert f"{first.attempt} serves" in first.ends(0)
        assert f"{first.attempt} serves" in same.ends(0)
        other.ends(0)
    NOTHING.holds(public.result)
    assert public.result.releases == [before, first.attempt, place.serving()]
    assert place.wanted()
    place.mended(releases=False)


REBOOTS = [pytest.param(step, marks=() if step == "switched" else slow) for step in STEPS]


@pytest.mark.parametrize("step", REBOOTS)
def test_the_host_is_switched_off_in_a_release(place: Place, step: str) -> None:
    """What is noticed is the reboot itself; then a release that was proven serves, before any run."""
    host, before = place.host, place.serving()
    slow_steps(place)
    with place.public(slow=None) as public:
        held = met(place, step, "hold")
        began = time.monotonic()
        host.reboot(hard=True)
        wait_until(lambda: facts(host), 40, "the site after the reboot")
        away = time.monotonic() - began
        held.process.kill()
        held.process.wait()
        serves = facts(host)["release"]
        assert serves in {before, held.attempt}
        if serves == held.attempt:
            assert STEPS.index(step) >= STEPS.index("switched")
        place.release()
        assert place.wanted()
        place.clean()
    assert away < 30
    Noticed(failed=int(60 * (away + 2)), gap=away + 2).holds(public.result)
    assert public.result.releases == [before, place.serving()]
    place.mended(releases=False)


# ── the processes ────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_a_worker(place: Place) -> None:
    """End a worker."""
    place.host.ssh(f"kill -KILL {facts(place.host)['pid']}")


def kill_the_master(place: Place) -> None:
    """End Gunicorn itself."""
    place.host.ssh(f"kill -KILL {facts(place.host)['parent']}")


def hang_a_worker(place: Place) -> None:
    """Block a worker's event loop for good."""
    assert place.host.get("/hang?seconds=600", domain=DOMAIN, scheme="http").status_code == 502


def use_up_memory(place: Place) -> None:
    """Let a worker ask for more memory than it may have."""
    host = place.host
    folder = "/run/systemd/system/tiny@.service.d"
    restart = f"systemctl daemon-reload; systemctl restart tiny@{place.serving()}.service"
    host.ssh(f"mkdir -p {folder}; printf '[Service]\\nLimitDATA=400M\\n' >{folder}/limit.conf; {restart}")
    with host.afterwards(f"rm -r {folder}; {restart}"):
        assert host.get("/grow?mb=1000", domain=DOMAIN, scheme="http").status_code == 502
        assert facts(host)


@dataclass(frozen=True)
class Accident:
    """Something that happens to a process of the app."""

    does: Callable[[Place], None]
    """Makes it happen."""
    noticed: Noticed
    """What the public may lose: the requests inside that process at most."""


ACCIDENTS = {
    # At work in a worker: two slow requests at most, and what came in that moment.
    "a worker is killed": Accident(kill_a_worker, Noticed(failed=6, gap=3)),
    # All that is at work; new requests wait in the socket until it is back: a second, and the time of a start.
    "the master is killed": Accident(kill_the_master, Noticed(failed=10, gap=6)),
    # Until `timeout` (4 s) ends it, what nginx sends over connections that it keeps to that worker, one each at most.
    "a worker hangs": Accident(hang_a_worker, Noticed(failed=34, gap=7)),
    # It is blocked while it grows, as one that hangs, and then killed.
    "a worker runs out of memory": Accident(use_up_memory, Noticed(failed=34, gap=5)),
}


@pytest.mark.parametrize("what", rows(ACCIDENTS, ("a worker is killed", "a worker hangs")))
def test_a_process_dies(place: Place, what: str) -> None:
    """It is back by itself, and what is lost is bounded."""
    row = ACCIDENTS[what]
    with place.public() as public:
        time.sleep(1)
        row.does(place)
        time.sleep(3)
    row.noticed.holds(public.result)
    assert public.result.releases == [place.serving()]
    workers = [1 for _, parent, _ in place.host.processes() if parent == facts(place.host)["parent"]]
    assert len(workers) == 2
    place.mended(releases=False)


# ── what isn't a fault, and must not become one ──────────────────────────────────────────────────────────────────────


@slow
def test_back_to_a_warm_release_and_to_a_cold_one(place: Place) -> None:
    """Nobody notices either."""
    host = place.host
    first = place.serving()
    for _ in range(2):
        place.code()
        place.release()
    last = place.serving()
    with place.public() as public:
        run = host.task(ROLLBACK, app="tiny")
        second = place.serving()
        run.says("it was warm")
        run = host.task(ROLLBACK, app="tiny", to=first)
        assert "it was warm" not in run.output
    NOTHING.holds(public.result)
    assert public.result.releases == [last, second, first]
    place.clean()
    place.code()
    place.mended(releases=True)


def test_restarts_and_reloads(place: Place) -> None:
    """Of the release by hand, which isn't how one changes it: new requests wait for the time of a start, and one or two
    that its workers are just taking in may be lost. Of nginx, which nobody notices."""
    host, unit = place.host, f"tiny@{place.serving()}.service"
    with place.public() as public:
        time.sleep(1)  # a start takes little longer, and all wait meanwhile
        host.ssh(f"systemctl restart {unit}")
        time.sleep(1)
    Noticed(failed=2, gap=6).holds(public.result)
    with place.public() as public:
        for number in range(5):
            host.ssh("systemctl reload nginx" if number % 2 else "/opt/slipway/bin/slipway nginx reload")
            time.sleep(0.3)
    NOTHING.holds(public.result)
    place.mended(releases=False)


@slow
def test_a_certificate_is_renewed(place: Place) -> None:
    """Nobody notices, and the new one is served."""
    host = place.host
    host.app("tiny")["tls"] = {"mode": "acme"}
    host.deploy()
    before = host.certificate(DOMAIN)
    with host.prober(DOMAIN, "/", slow="/api/slow?seconds=1") as public:
        host.ssh(
            "REQUESTS_CA_BUNDLE=/etc/slipway/tls/acme-ca.pem /opt/slipway/certbot/bin/certbot renew "
            "--force-renewal --no-random-sleep-on-renew"
        )
        new = wait_until(lambda: host.certificate(DOMAIN).serial_number != before.serial_number, 10, "the new one")
        assert new
    NOTHING.holds(public.result)
    host.app("tiny")["tls"] = {"mode": "off"}
    host.deploy()


def test_at_last_there_is_nothing_to_do(place: Place) -> None:
    """After all that, a run of the whole changes nothing."""
    place.host.deploy()
    place.host.converged()
    place.clean()
