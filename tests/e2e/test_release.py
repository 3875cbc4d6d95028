"""Releases: what goes live, what doesn't, what the public notices of it, and what stays behind."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, Public, wait_until
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
STEPS = ("fetch", "build", "check", "migrate", "start", "prove", "switch", "watch", "commit")
QUICK = {"watch": 1, "keep_warm": 0}
"""Settings of apps whose old release nobody goes back to here."""
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

    def traffic(self) -> Public:
        """The public of tiny."""
        return self.host.traffic(DOMAIN, "/", scheme="http")

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
            **QUICK,
        ),
        "notes": {
            "domains": ["notes.test"],
            "source": {"path": str(notes)},
            "app": "notes.main:app",
            "liveness_path": "/healthz",
            "readiness_path": "/readyz",
            "tls": {"mode": "off"},
            **QUICK,
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
        "StartLimitBurst=10",
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
    for number, step in enumerate(STEPS, start=1):
        run.says(f"tiny: {number}/9 {step} ")
    assert tuple(record(host, "tiny")["steps"]) == STEPS
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
        run = host.refused("failed at migrate (4 of 9)", "The migration `alembic` failed", f"{before} keeps serving")
        run.says(
            "FAILED in revision 0003 (Revision 0003.)", "migrations/versions/0003_added.py", "no such table: nowhere"
        )
    public.unbroken()
    assert public.releases == [before]
    assert tables(host) == "alembic_version notes 0002"
    site.keeps(before, "notes")
    add_revision(folder, "0003", "0002", create)
    # It doesn't wait for a run of the other app that is under way.
    host.ssh("systemd-run --quiet --collect --unit=holder flock /run/slipway/tiny.lock sleep 60")
    with host.afterwards("systemctl stop holder.service"):
        host.task("tasks/release.py", app="notes")
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


def test_crash_loop_ends_and_a_run_heals(site: Site) -> None:
    """systemd gives up after ten starts in half a minute; the next run starts the same release again."""
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
    assert "a line of its own" in site.host.ssh("journalctl --namespace=tiny -t tiny -n 50 -o cat --no-pager")
