"""Releases: what goes live, what doesn't, what the public notices of it, and what stays behind."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, Run, Traffic, wait_until
from tests.e2e.apps import (
    add_revision,
    copy_example,
    facts,
    leftovers,
    make_tiny,
    record,
    run_on_host,
    set_hooks,
    settings,
    status,
)
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

DOMAIN = "extra.test"
STEPS = ("fetch", "build", "check", "migrate", "start", "prove", "switch", "commit")
NASTY = """ it's "so" $HOME ${X} $(id) `id` 100% %n %% C:\\path\\n #no ; & | <> * ~ ünï 日本 🦊 """
"""A value with everything that shells, systemd and templates could misread."""
SECRETS = {"API_TOKEN": "tok-5dd1c0ffee", "ODD_SECRET": "p4ss$word'%\"\\ünd日本-71a", "LATER": "first-31f0aa"}
"""Secret values, as the app must get them."""


@dataclass
class Site:
    """The host of this story with its two apps, and the folders their code comes from."""

    host: Host
    tiny: Path
    notes: Path

    def release(self) -> str:
        """The release of tiny that serves."""
        return self.host.release("tiny")

    def traffic(self) -> Any:
        """The public of tiny."""
        return self.host.traffic(DOMAIN, "/", scheme="http")

    def kill(self, step: str, commit: str, app: str = "tiny") -> dict[str, Any]:
        """Release, and kill the release program in `step` ("never": let it end)."""
        told: dict[str, Any] = run_on_host(self.host, "kill", app, step, commit)
        return told

    def releasing(self) -> str:
        """Wait until a release of tiny is under way; returns who is at it."""
        return wait_until(lambda: self.host.ssh("cat /run/slipway/tiny.lock", check=False), 60, "a release under way")

    def keeps(self, release: str, app: str = "tiny") -> None:
        """Fail unless `release` serves and nothing else of the app is on the host but releases to go back to."""
        assert self.host.release(app) == release
        assert status(self.host, app)["faults"] == []
        assert leftovers(self.host, app) == []


@pytest.fixture(scope="module")
def site(make_host: MakeHost) -> Site:
    """A host with the two apps; nothing is deployed yet."""
    host = make_host("release", "debian13", ())
    tiny = make_tiny(host.folder / "tiny", version="one")
    notes = copy_example("notes", host.folder)
    host.slipway["apps"] = {
        "tiny": settings(
            tiny,
            DOMAIN,
            env={"PLAIN": NASTY, "NUMBER": 3},
            env_file=host.file("tiny.env", env_file(SECRETS)),
            keep_releases=2,
            workers=2,
            limit_nofile=4096,
            graceful_timeout=12,
            timeout=17,
            max_requests=100_000,
            max_requests_jitter=50,
            keep_alive=70,
            readiness_timeout=8,
            migrate=None,
            port=8123,
        ),
        "notes": {
            "domains": ["notes.test"],
            "source": {"path": str(notes)},
            "app": "notes.main:app",
            "tls": {"mode": "off"},
        },
    }
    return Site(host, tiny, notes)


def env_file(values: dict[str, str]) -> str:
    """A .env file with these values in single quotes."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return "".join(f"{name}='{value}'\n" for name, value in quoted.items())


def shapes(values: list[str]) -> list[str]:
    """What of the values must be seen nowhere: as they are, as a file escapes them, and in base64 at any offset."""
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") for value in values]
    coded = [base64.b64encode(b"\0" * shift + value.encode())[4:-4].decode() for value in values for shift in range(3)]
    return sorted({*values, *escaped, *(each for each in coded if len(each) > 8)})


@contextmanager
def command_lines(host: Host, needles: list[str]) -> Iterator[list[str]]:
    """Command lines of the host that had one of `needles` while the block ran."""
    seen: list[str] = []

    def watch() -> None:
        seen.extend(run_on_host(host, "watch", given={"needles": needles, "flag": "/run/watching"}))

    thread = threading.Thread(target=watch)
    thread.start()
    wait_until(lambda: host.ssh("ls /run/watching", check=False), 10, "the watch of command lines")
    try:
        yield seen
    finally:
        host.ssh("rm -f /run/watching")
        thread.join(30)


def test_first_release(site: Site) -> None:
    """Both apps go live; service settings are in effect; nothing is left to do and nothing lies about."""
    host = site.host
    host.deploy()
    for app in ("tiny", "notes"):
        assert leftovers(host, app) == []
    seen = facts(host)
    assert (seen["release"], seen["version"], seen["loop"]) == (site.release(), "one", "uvloop")
    assert seen["cwd"] == f"/srv/tiny/releases/{seen['release']}"
    assert seen["nofile"] == 4096
    command = next(args for pid, _, args in host.processes() if pid == seen["parent"])
    options = {"workers": 2, "timeout": 17, "graceful-timeout": 12, "keep-alive": 70, "max-requests": 100_000}
    for option, value in (options | {"max-requests-jitter": 50}).items():
        assert f"--{option} {value} " in command
    assert len([1 for _, parent, _ in host.processes() if parent == seen["parent"]]) == 2
    unit = f"tiny@{seen['release']}.service"
    shown = host.ssh(f"systemctl show -p LimitNOFILE,TimeoutStopUSec,User,Restart,StartLimitBurst {unit}").splitlines()
    assert sorted(shown) == [
        "LimitNOFILE=4096",
        "Restart=always",
        "StartLimitBurst=5",
        "TimeoutStopUSec=17s",
        "User=tiny",
    ]
    assert host.ssh(f"stat -c '%a %U' /run/tiny/{seen['release']}.sock") == "600 www-data"
    # notes names no number of workers.
    cores, memory = (
        int(each) for each in host.ssh("nproc; awk '/^MemTotal/{print int($2/1024)}' /proc/meminfo").split()
    )
    workers = max(1, min(max(2, cores), memory // 2 // 2 // 300))
    assert f'WEB_CONCURRENCY="{workers}"' in host.ssh("cat /etc/notes/env").splitlines()
    host.converged()


def test_environment_arrives_exactly(site: Site) -> None:
    """Every value reaches the app as written, besides what the platform adds."""
    seen = facts(site.host, "/env")
    assert {name: seen.get(name) for name in SECRETS} == SECRETS
    assert (seen["PLAIN"], seen["NUMBER"], seen["WEB_CONCURRENCY"]) == (NASTY, "3", "2")
    assert seen["PORT"] == "8123"
    assert (seen["HOME"], seen["STATE_DIRECTORY"], seen["RELEASE_ID"]) == (
        "/var/lib/tiny",
        "/var/lib/tiny",
        site.release(),
    )


def test_code_belongs_to_root(site: Site) -> None:
    """The app can't change its code or its environment, in its sandbox or without; it can write to its own folder."""
    host, release = site.host, site.release()
    root = f"/srv/tiny/releases/{release}"
    package = host.ssh(f"ls -d {root}/.venv/lib/python3*/site-packages/uvicorn/main.py")
    closed = [
        f"{root}/tiny/main.py",
        f"{root}/new",
        package,
        f"{root}/.venv/bin/gunicorn",
        "/srv/tiny/new",
        "/etc/tiny/env",
    ]
    closed += [
        f"/etc/tiny/releases/{release}.env",
        "/opt/slipway/gunicorn.conf.py",
        "/var/lib/notes/new",
        "/etc/new",
        "/home/new",
    ]
    told = host.request(
        "POST", "/attempt", domain=DOMAIN, scheme="http", json=[*closed, "/var/lib/tiny/own", "/tmp/own"]
    ).json()
    assert {path: told[path] for path in closed if told[path] == "written"} == {}
    assert (told["/var/lib/tiny/own"], told["/tmp/own"]) == ("written", "written")
    outside = "for path; do if echo >>$path; then echo $path; fi; done 2>/dev/null"
    call = f"setpriv --reuid=tiny --regid=tiny --init-groups sh -c '{outside}' sh {' '.join(closed)}"
    assert host.ssh(call, check=False) == ""
    assert host.ssh("find /srv/tiny ! -user root -o -perm /022 ! -type l") == ""
    # A module without bytecode would be compiled at every start, since the app can't write it.
    modules = host.ssh(f"find {root} -name '*.py' ! -path '*/.venv/bin/*'").splitlines()
    compiled = set(host.ssh(f"find {root} -name '*.pyc' -printf '%h/%f\n'").splitlines())
    tag = "cpython-" + "".join(str(site.host.target["python"]["version"]).split("."))
    assert len(modules) > 100
    assert [
        each for each in map(Path, modules) if f"{each.parent}/__pycache__/{each.stem}.{tag}.pyc" not in compiled
    ] == []
    modes = {
        "/etc/tiny": "750 root:tiny",
        "/etc/tiny/env": "640 root:tiny",
        "/etc/tiny/releases": "750 root:tiny",
        f"/etc/tiny/releases/{release}.env": "640 root:tiny",
        "/var/lib/tiny": "750 tiny:tiny",
        root: "750 root:tiny",
    }
    assert host.ssh(f"stat -c '%n %a %U:%G' {' '.join(modes)}").splitlines() == [f"{p} {m}" for p, m in modes.items()]
    other = "setpriv --reuid=notes --regid=notes --init-groups cat"
    assert host.run(f"{other} /etc/tiny/env").returncode != 0
    assert host.run(f"{other} {root}/tiny/main.py").returncode != 0
    assert host.ssh("getent passwd tiny").endswith(":/usr/sbin/nologin")


def test_secrets_are_seen_nowhere(site: Site) -> None:
    """A changed secret makes a release; no value shows in output, command lines, units, the journal or open files."""
    host, before = site.host, site.release()
    changed = SECRETS | {"LATER": "second-99c1d7"}
    host.file("tiny.env", env_file(changed))
    needles = shapes([*changed.values(), SECRETS["LATER"]])
    with command_lines(host, needles) as seen:
        dry = host.deploy("--dry", "--diff", "-vvv")
        run = verbose(host)
    assert seen == []
    for name, output in (("dry run", dry.output), ("run", run)):
        assert [each for each in needles if each in output] == [], f"a secret is in the output of the {name}"
        assert "/etc/tiny/env" in output
    assert site.release() != before
    assert facts(host, "/env")["LATER"] == changed["LATER"]
    for path, mode, user in run_on_host(host, "search", "tiny", given=needles):
        assert path.startswith("/etc/tiny/"), f"{path} holds a secret"
        assert mode in {"0o640", "0o600"} and user == 0, f"{path} has mode {mode} and owner {user}"
    site.keeps(site.release())


def verbose(host: Host) -> str:
    """Deploy with all that pyinfra can print; returns that."""
    path = host.folder / "verbose.log"
    process = host.start_deploy("--diff", "-vvv", output=path)
    assert process.wait(120) == 0, path.read_text()[-4000:]
    return path.read_text()


def test_new_code_under_traffic(site: Site) -> None:
    """One new release; no request fails; slow ones finish on the old release; the previous release is kept."""
    host, before = site.host, site.release()
    set_hooks(site.tiny, version="two")
    with ThreadPoolExecutor(4) as pool, site.traffic() as public:
        deploy = pool.submit(host.deploy)
        site.releasing()
        slow = [pool.submit(facts, host, "/api/slow?seconds=7") for _ in range(3)]
        run = deploy.result()
    public.unbroken(at_least=50)
    assert run.changed == ["Release | Release tiny"]
    assert public.releases == [before, site.release()]
    assert [each.result()["release"] for each in slow] == [before] * 3
    assert facts(host)["version"] == "two"
    # keep_releases is 2, and this is the third.
    assert host.releases("tiny") == [before, site.release()]
    assert [each["state"] for each in records(host)] == ["good", "good"]
    site.keeps(site.release())


def records(host: Host) -> list[dict[str, Any]]:
    """Records of the releases of tiny whose folders are there, oldest first."""
    names = [f"/var/lib/slipway/tiny/{each}.json" for each in host.releases("tiny")]
    return [json.loads(host.ssh(f"cat {name}")) for name in names]


FAILURES: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[str]]] = {
    "import": (
        {"import_error": "no such thing as luck"},
        {},
        "check",
        ["tiny.main:app can't be imported", 'tiny/main.py", line', "RuntimeError: no such thing as luck"],
    ),
    "boot": (
        {"boot": "exit", "why": "the moon is full"},
        {},
        "prove",
        ["crashes on boot", "tiny gives up: the moon is full"],
    ),
    "hangs": (
        {"boot": "wait"},
        {"readiness_timeout": 2},
        "prove",
        ["/readyz wasn't ready within 2 s", "no answer (timed out)"],
    ),
    "never ready": (
        {"ready_after": 3600, "ready_body": "the queue is away"},
        {"readiness_timeout": 3},
        "prove",
        ["/readyz wasn't ready within 3 s", "it last answered 503", "the queue is away"],
    ),
    "migration": (
        {"version": "three"},
        {"migrate": "sh -c 'echo half of it; echo column is missing >&2; exit 7'"},
        "migrate",
        ["The migration `sh -c", "failed", "half of it", "column is missing"],
    ),
    "migration takes too long": (
        {"version": "three"},
        {"migrate": "sh -c 'echo began; sleep 300'", "migrate_timeout": 2},
        "migrate",
        ["was ended after migrate_timeout (2 s)", "began"],
    ),
}
"""Why a release fails: hooks, settings, the step at which it does, and what is said."""


@pytest.mark.parametrize("why", FAILURES)
def test_failed_release_changes_nothing(site: Site, why: str) -> None:
    """The run fails with the cause, the old release answers throughout, and nothing is left behind."""
    hooks, options, step, says = FAILURES[why]
    host, before = site.host, site.release()
    set_hooks(site.tiny, **hooks)
    with host.changed({"apps": {"tiny": options}}), site.traffic() as public:
        run = host.deploy(check=False)
    public.unbroken(at_least=30)
    assert public.releases == [before]
    assert run.code != 0
    run.says(f"failed at {step} ({STEPS.index(step) + 1} of 8)", *says, f"{before} goes on serving")
    run.says("the release of tiny failed")
    assert run.seconds < 45
    last = record(host, "tiny")
    assert (last["state"], last["step"], list(last["steps"])) == ("failed", step, list(STEPS[: STEPS.index(step)]))
    site.keeps(before)
    set_hooks(site.tiny, version="two")


def test_plain_run_after_failures(site: Site) -> None:
    """With the cause corrected, there is nothing to do."""
    site.host.converged()


def test_late_readiness_and_own_migration(site: Site) -> None:
    """A release may take its time to be ready; its migration runs once, as the app, in its folder and environment."""
    host, before = site.host, site.release()
    (site.tiny / "migrate.py").write_text(
        "import os\n"
        "with open('/var/lib/tiny/migrated', 'a') as file:\n"
        "    print(os.getcwd(), os.environ['RELEASE_ID'], os.environ['API_TOKEN'], os.getuid(), file=file)\n"
    )
    host.app("tiny")["migrate"] = "python migrate.py"
    set_hooks(site.tiny, version="late", ready_after=3)
    with site.traffic() as public:
        host.deploy()
    public.unbroken()
    after = site.release()
    assert public.releases == [before, after]
    assert facts(host)["version"] == "late"
    assert record(host, "tiny")["steps"]["prove"] > 1
    user = host.ssh("id -u tiny")
    assert host.ssh("cat /var/lib/tiny/migrated") == f"/srv/tiny/releases/{after} {after} {SECRETS['API_TOKEN']} {user}"
    assert host.ssh("stat -c %U /var/lib/tiny/migrated") == "tiny"
    site.keeps(after)


def test_failed_alembic_leaves_the_database(site: Site) -> None:
    """A revision that fails half-way ends the release, and neither its table nor its number stays."""
    host, before = site.host, site.host.release("notes")
    folder = site.notes / "migrations/versions"
    create = 'op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))'
    add_revision(folder, "0003", "0002", create, 'op.execute("INSERT INTO nowhere VALUES (1)")')
    with host.traffic("notes.test", scheme="http") as public:
        host.refused(
            "failed at migrate (4 of 8)", "alembic upgrade head", "no such table: nowhere", f"{before} goes on serving"
        )
    public.unbroken()
    assert public.releases == [before]
    assert tables(host) == "alembic_version notes 0002"
    site.keeps(before, "notes")
    add_revision(folder, "0003", "0002", create)
    host.deploy()
    assert tables(host) == "alembic_version half notes 0003"
    assert facts(host, "/readyz", "notes.test")["revision"] == "0003"
    assert host.release("notes") != before


def tables(host: Host) -> str:
    """Tables of the app notes, and its revision."""
    code = (
        "import sqlite3; c = sqlite3.connect('/var/lib/notes/notes.db'); "
        "n = c.execute('SELECT name FROM sqlite_master WHERE type = ? ORDER BY name', ['table']).fetchall(); "
        "print(*(x for x, in n), *c.execute('SELECT version_num FROM alembic_version').fetchone())"
    )
    return host.ssh(f'runuser -u notes -- /srv/notes/current/.venv/bin/python -c "{code}"')


def test_restart_loses_nothing(site: Site) -> None:
    """`systemctl restart` under traffic: new requests wait in the socket, slow ones are finished."""
    host, unit = site.host, f"tiny@{site.release()}.service"
    before = facts(host)["parent"]
    with ThreadPoolExecutor(2) as pool, site.traffic() as public:
        slow = [pool.submit(facts, host, "/api/slow?seconds=3") for _ in range(2)]
        time.sleep(0.5)
        host.ssh(f"systemctl restart {unit}")
        time.sleep(1)
        host.ssh(f"systemctl restart {unit}")
    public.unbroken(gap=8)
    assert all(each.result()["release"] == site.release() for each in slow)
    assert facts(host)["parent"] != before


def test_killed_worker_and_master(site: Site) -> None:
    """After `kill -9` the service is back by itself; only requests inside the killed process are lost."""
    host = site.host
    with site.traffic() as public:
        time.sleep(0.5)
        host.ssh(f"kill -9 {facts(host)['pid']}")
        time.sleep(2)
    lost(public, 3)
    with site.traffic() as public:
        time.sleep(0.5)
        host.ssh(f"kill -9 {facts(host)['parent']}")
        time.sleep(4)
    lost(public, 6)
    assert len([1 for _, parent, _ in host.processes() if parent == facts(host)["parent"]]) == 2
    site.keeps(site.release())


def lost(public: Traffic, gap: float) -> None:
    """Fail if more requests were lost than the traffic has at once (two), or if it stood still for `gap` seconds."""
    assert public.failed <= 2, f"{public}: {public.failures}"
    assert public.longest_gap < gap, str(public)


def test_crash_loop_ends_and_a_run_heals(site: Site) -> None:
    """systemd gives up after five starts in a minute; the next run starts the same release again."""
    host, release = site.host, site.release()
    unit = f"tiny@{release}.service"
    kill = (
        f"end=$(($(date +%s) + 40)); until systemctl is-failed --quiet {unit} || [ $(date +%s) -gt $end ]; do "
        f"systemctl kill --signal=KILL --kill-whom=main {unit} 2>/dev/null; sleep 0.3; done; systemctl is-failed {unit}"
    )
    assert host.ssh(kill, check=False, timeout=60) == "failed"
    time.sleep(2)
    assert host.ssh(f"systemctl is-active {unit}", check=False) == "failed", "the loop goes on"
    assert host.get("/", domain=DOMAIN, scheme="http").status_code in {502, 503}
    run = host.deploy()
    assert run.changed == ["Release | Release tiny"]
    assert facts(host)["release"] == release
    site.keeps(release)


def test_hand_made_faults_are_healed(site: Site) -> None:
    """Units that were stopped, disabled or edited away, strays and half a release: a run puts that right."""
    host, release = site.host, site.release()
    host.ssh(f"systemctl disable --now tiny@{release}.service tiny@{release}.socket")
    stray, units = "20200101T000000Z-0000000", "/etc/systemd/system/tiny@"
    host.ssh(f"mkdir /srv/tiny/releases/{stray}; cp {units}{release}.service {units}{stray}.service")
    run = host.deploy()
    assert run.changed == ["Release | Release tiny"]
    assert facts(host)["release"] == release
    site.keeps(release)


def test_logs_are_in_the_journal(site: Site) -> None:
    """What the app prints is in the journal, under its name, at once."""
    facts(site.host, "/print?text=a+line+of+its+own")
    assert "a line of its own" in site.host.ssh("journalctl -t tiny -n 50 -o cat --no-pager")


AWAIT_GO = """
import pathlib, time
until = time.monotonic() + 120
while not pathlib.Path("/var/lib/tiny/go").exists() and time.monotonic() < until:
    time.sleep(0.05)
"""
"""A migration that lasts until the test lets it go: two releases overlap however fast or slow the machine is."""


def test_one_release_of_an_app_at_a_time(site: Site) -> None:
    """A second release of the same app is refused and says who is at it; one of the other app isn't."""
    host, before, other = site.host, site.release(), site.host.release("notes")
    (site.tiny / "migrate.py").write_text(AWAIT_GO)
    host.app("tiny")["migrate"] = "python migrate.py"
    host.ssh("rm -f /var/lib/tiny/go")
    set_hooks(site.tiny, version="slow", import_seconds=0.3, ready_after=0.8)
    process = host.start_deploy()
    held = site.releasing()
    assert "slipway-release" in host.ssh(f"cat /proc/{held.split()[1]}/cmdline")
    second = host.run("/opt/slipway/bin/slipway-release deploy tiny")
    assert second.returncode == 1
    assert f"Another release of tiny is under way ({held}). Wait for it, then run again." in second.stderr
    told = site.kill("never", "b" * 40, "notes")
    assert told["code"] == 0, told["output"]
    assert process.poll() is None, "the first release ended too early for this test"
    host.ssh("touch /var/lib/tiny/go")
    assert process.wait(60) == 0
    assert site.release() != before and host.release("notes") != other
    site.keeps(site.release())
    site.keeps(host.release("notes"), "notes")


KILLS: dict[str, list[str]] = {step: list(STEPS[: STEPS.index(step)]) for step in STEPS} | {"drain": list(STEPS[:7])}
"""Where the release program is killed, and the steps that were done by then."""


@pytest.mark.parametrize("step", KILLS)
def test_killed_release(site: Site, step: str) -> None:
    """After SIGKILL at any step the site answers, the next run knows, and it brings the host in order."""
    host, before = site.host, site.release()
    if step == "fetch":
        (site.tiny / "migrate.py").write_text("import time; time.sleep(0.8)")
        host.deploy()
        before = site.release()
    commit = f"{list(KILLS).index(step):x}" * 40
    with ThreadPoolExecutor(1) as pool, site.traffic() as public:
        slow: Future[dict[str, Any]] | None = None
        if step == "drain":
            slow = pool.submit(facts, host, "/api/slow?seconds=8")
            time.sleep(0.3)
        killed = site.kill(step, commit)
        assert killed["code"] == -9, killed
        assert list(killed["record"].get("steps", {})) == KILLS[step]
        assert facts(host)["release"] in {before, killed["record"].get("id")}
        told = status(host, "tiny")
        assert told["faults"] or told["inputs"]["source"] != commit, "the next run would see nothing to do"
        host.ssh("/opt/slipway/bin/slipway-release deploy tiny")
    public.unbroken(gap=4)
    if slow:
        assert slow.result()["release"] == before
    assert status(host, "tiny")["inputs"]["source"] == commit
    assert site.release() != before
    site.keeps(site.release())


def test_plain_run_after_kills(site: Site) -> None:
    """A run of the whole brings back the code of the inventory; the next one changes nothing."""
    run: Run = site.host.deploy()
    assert set(run.changed) <= {"Release | Release tiny", "Release | Release notes"}
    site.host.converged()
    site.keeps(site.release())
    shutil.rmtree(site.tiny)
