"""Going back: to which release, how fast, what becomes of the database, and what is refused; and what history tells."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host, Run, log, wait_until
from tests.e2e.apps import add_revision, copy_example, facts, leftovers, make_tiny, set_hooks, settings
from tests.e2e.conftest import MakeHost

pytestmark = pytest.mark.story

DOMAIN = "extra.test"
PROGRAM = "/opt/slipway/bin/slipway"
PROBE = {
    "short": ["/api/whoami", "/healthz"],
    "slow": "/api/slow?seconds=1.5",
    "upload": "/api/upload",
    "websocket": "/ws",
    "stream": "/api/events",
}
QUICK = {"watch": 0, "drain_timeout": 5, "keep_warm": 3600}
"""Settings of both apps: what is warm stays so as long as the story lasts, unless told otherwise."""
RELEASE, ROLLBACK = "Release | Release {}", "Rollback | Roll back {}"
ENVIRONMENT = "Release | Write what servers share, and the apps' environments"
HOOK = """
import json, os, sys
told = {name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_")}
told |= {"release": os.environ["RELEASE_ID"], "user": os.getuid(), "folder": os.getcwd()}
with open(os.environ["STATE_DIRECTORY"] + "/hooks", "a") as file:
    print(json.dumps(told), file=file)
print("words of the hook")
sys.exit(os.environ["SLIPWAY_HOOK"] == os.environ.get("HOOK_FAILS"))
"""


@dataclass
class Site:
    """The host of this story: tiny, without a database, and notes, with one, over TLS."""

    host: Host
    tiny: Path
    notes: Path

    def release(self, version: str, **options: Any) -> str:
        """Release tiny with other code, answering with `version`; returns the new release."""
        before = self.host.release("tiny")
        set_hooks(self.tiny, version=version)
        task(self.host, "release", app="tiny", **options)
        after = self.host.release("tiny")
        assert after != before and facts(self.host)["version"] == version
        return after

    def serves(self, release: str, app: str = "tiny") -> None:
        """Fail unless `release` serves and nothing else of the app is on the host but what may be."""
        assert self.host.release(app) == release
        domain, scheme, path = ("notes.test", "https", "/api/whoami") if app == "notes" else (DOMAIN, "http", "/")
        assert self.host.get(path, domain=domain, scheme=scheme).json()["release"] == release
        assert leftovers(self.host, app) == []

    def revision(self, number: str, *upgrade: str, downgrade: str = "", after: str = "") -> Path:
        """Add a revision to notes, and a downgrade to it where one is given."""
        before = after or f"{int(number) - 1:04}"
        path = add_revision(self.notes / "migrations/versions", number, before, *upgrade)
        if downgrade:
            path.write_text(f"{path.read_text()}\n\ndef downgrade() -> None:\n    {downgrade}\n")
        return path

    def hooks(self) -> list[dict[str, Any]]:
        """What the hooks of notes were told since this was last asked."""
        lines = self.host.ssh("cat /var/lib/notes/hooks 2>/dev/null; rm -f /var/lib/notes/hooks").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def site(make_host: MakeHost) -> Site:
    """A host with the two apps; nothing is deployed yet."""
    host = make_host("rollback", "debian13")
    tiny = make_tiny(host.folder / "tiny", version="one")
    notes = copy_example("notes", host.folder)
    host.slipway["apps"] = {
        "tiny": settings(tiny, DOMAIN, env={"MARK": "one"}, **QUICK, migrate=None, workers=1),
        "notes": host.app() | QUICK | {"source": {"path": str(notes)}, "workers": 1, "probe": PROBE},
    }
    return Site(host, tiny, notes)


def task(host: Host, verb: str, *, check: bool = True, **data: str) -> Run:
    """Run tasks/<verb>.py with these ``--data``; with `check`, fail unless it ends well."""
    return host.task(f"tasks/{verb}.py", check=check, **data)


def refused(host: Host, verb: str, *says: str, **data: str) -> Run:
    """Run a task, and fail unless it is refused with these words, without traceback, and the host is as before."""
    drains = "systemctl list-units --plain --no-legend '*-drain-*'"
    wait_until(lambda: not host.ssh(drains), 60, "the end of what drains")
    before = host.snapshot()
    run = task(host, verb, check=False, **data)
    assert run.code != 0, f"it wasn't refused\n{run.told}"
    run.says(*says)
    run.has_no_traceback()
    host.unchanged_since(before)
    return run


def history(host: Host, app: str = "tiny") -> list[dict[str, Any]]:
    """Rows of the history, newest first."""
    rows: list[dict[str, Any]] = json.loads(host.ssh(f"{PROGRAM} releases {app} --json"))
    return rows


def record(host: Host, release: str, app: str = "tiny") -> dict[str, Any]:
    """What is written of a release or a rollback."""
    told: dict[str, Any] = json.loads(host.ssh(f"cat /var/lib/slipway/{app}/{release}.json"))
    return told


def revision(host: Host) -> str:
    """The revision of the database of notes."""
    return str(host.get("/readyz").json()["revision"])


def active(host: Host, release: str, app: str = "tiny") -> bool:
    """Whether a release's processes run."""
    return host.run(f"systemctl is-active --quiet {app}@{release}.service").returncode == 0


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_app_that_the_host_does_not_have_is_refused(site: Site) -> None:
    """By the nearest name, before the host is asked."""
    for verb in ("release", "rollback"):
        run = task(site.host, verb, check=False, app="tinny")
        run.says("--data app=tinny", "an app of this host: tiny, notes", "write --data app=tiny")
        run.has_no_traceback()
        assert run.code != 0


def test_there_is_nothing_to_go_back_to_at_first(site: Site) -> None:
    """After the first release: refused."""
    host = site.host
    host.deploy()
    site.serves(host.release("tiny"))
    site.serves(host.release("notes"), "notes")
    refused(host, "rollback", f"There is no good release before {host.release('tiny')} on this host.", app="tiny")


# ── back and forth ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_back_to_the_warm_predecessor(site: Site) -> None:
    """In about a second, without a request lost: the old code with its old environment; it says so live."""
    host, one = site.host, site.host.release("tiny")
    host.app("tiny")["env"] = {"MARK": "two"}
    two = site.release("two")
    assert facts(host, "/env")["MARK"] == "two"
    site.serves(two)
    assert active(host, one), "the predecessor isn't warm"
    with host.traffic(DOMAIN, "/", scheme="http") as public:
        run = task(host, "rollback", app="tiny")
    public.unbroken()
    assert run.changed == [ROLLBACK.format("tiny")]
    assert public.releases == [two, one]
    run.says("tiny: 2/5 start", "(it was warm)", f"tiny: {one} serves again", f"instead of {two}")
    told = history(host)[0]
    log.info("    the host took %.2f s: %s", told["seconds"], told["steps"])
    assert list(told["steps"]) == ["schema", "start", "prove", "switch", "commit"]
    assert told["seconds"] < 5
    assert facts(host, "/env")["MARK"] == "one"
    assert facts(host)["version"] == "one"
    site.serves(one)


def test_what_was_rolled_back_is_not_released_by_a_plain_run(site: Site) -> None:
    """A plain run says who went back from what, and changes nothing; neither does a dry one or a plain task."""
    host, one, two = site.host, site.host.release("tiny"), history(site.host)[1]["id"]
    run = host.converged()
    run.says(f"rolled back from {two}, made from exactly this", f"{one} serves. For a release, change the code, or use")
    run.says("tiny not released (", " rolled back from it), nothing else to change")
    assert task(host, "release", app="tiny").changed == []
    assert host.ssh(f"{PROGRAM} release tiny").endswith(
        f"{one} serves. For a release, change the code, or use --again."
    )
    site.serves(one)


def test_told_so_it_is_released_again_without_a_build(site: Site) -> None:
    """With --again; the environment is that of before, by hard links."""
    host, one = site.host, site.host.release("tiny")
    run = task(host, "release", app="tiny", again="true")
    assert run.changed == [RELEASE.format("tiny")]
    again = host.release("tiny")
    assert facts(host)["version"] == "two" and facts(host, "/env")["MARK"] == "two"
    run.says("(the environment of ")
    assert record(host, again)["steps"]["build"] < 3
    assert len(set(inodes(host, "tiny", one, again))) == 1
    site.serves(again)


def inodes(host: Host, app: str, *releases: str) -> list[str]:
    """Where the same package's file of releases lies."""
    files = [f"/srv/{app}/releases/{each}/.venv/lib/python3*/site-packages/uvicorn/main.py" for each in releases]
    return host.ssh(f"stat -c %i {' '.join(files)}").split()


def test_an_environment_alone_is_released_without_a_build(site: Site) -> None:
    """A new release, with the environment of the one from before."""
    host, before = site.host, site.host.release("tiny")
    host.app("tiny")["env"] = {"MARK": "three"}
    run = task(host, "release", app="tiny")
    after = host.release("tiny")
    assert run.changed == [ENVIRONMENT, RELEASE.format("tiny")]
    run.says(f"environment changed since {before}", f"(the environment of {before})")
    assert facts(host, "/env")["MARK"] == "three"
    steps = record(host, after)["steps"]
    log.info("    steps: %s", steps)
    assert steps["build"] < 3
    assert len(set(inodes(host, "tiny", before, after))) == 1
    command = next(args for _, _, args in host.processes() if f"/srv/tiny/releases/{after}/" in args)
    assert before not in command
    site.serves(after)


def test_a_second_rollback_goes_one_further(site: Site) -> None:
    """Bad ones are skipped, until none is left; the first good one after that is new code."""
    host = site.host
    bad = {row["id"] for row in history(host) if row["outcome"] == "bad"}
    good = [each for each in sorted(host.releases("tiny")) if each not in bad]
    assert len(bad) == 1 and len(good) == 3
    task(host, "rollback", app="tiny")
    site.serves(good[1])
    task(host, "rollback", app="tiny")
    site.serves(good[0])
    marked = ", ".join(sorted({*bad, good[1], good[2]}))
    refused(host, "rollback", f"Marked as bad, and used only if named: {marked}.", app="tiny")
    site.serves(good[0])
    four = site.release("four")
    task(host, "rollback", app="tiny")
    site.serves(good[0])
    # By name a bad one, too; and what serves is nothing to go back to.
    task(host, "rollback", app="tiny", to=four)
    site.serves(four)
    run = task(host, "rollback", app="tiny", to=four)
    run.says(f"{four} serves already")


# ── warm and cold ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_warm_release_ends_by_its_timer_and_a_cold_one_comes_back(site: Site) -> None:
    """After keep_warm its processes and units are gone; a rollback starts it anew, without a request lost."""
    host, before = site.host, site.host.release("tiny")
    with host.changed({"apps": {"tiny": {"keep_warm": 7}}}):
        after = site.release("five")
        assert active(host, before)
        wait_until(lambda: not active(host, before), 30, "the end of the warm release")
        site.serves(after)
    task(host, "release", app="tiny")  # keep_warm as before, for those that leave from now on
    site.serves(after)
    units = f"/run/systemd/system/tiny@{before}.* /etc/systemd/system/tiny@{before}.*"
    assert host.ssh(f"ls -d {units} 2>/dev/null", check=False) == ""
    with host.traffic(DOMAIN, "/", scheme="http") as public:
        run = task(host, "rollback", app="tiny")
    public.unbroken()
    assert "it was warm" not in run.output
    log.info("    the host took %.2f s: %s", history(host)[0]["seconds"], history(host)[0]["steps"])
    assert public.releases == [after, before]
    site.serves(before)


def test_a_reboot_ends_what_is_warm_and_brings_back_what_serves(site: Site) -> None:
    """Without a run; going back works all the same."""
    host, serving = site.host, site.host.release("tiny")
    left = history(host)[0]["id"] and next(row["id"] for row in history(host) if row["now"] == "warm")
    host.reboot(hard=True)
    wait_until(lambda: host.get("/readyz", domain=DOMAIN, scheme="http").status_code == 200, 30, "tiny")
    assert not active(host, left)
    site.serves(serving)
    task(host, "rollback", app="tiny", to=left)
    site.serves(left)


# ── one that is named ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_can_be_named_by_the_beginning_of_its_id_or_its_commit(site: Site) -> None:
    host = site.host
    first, *_, fourth, fifth = sorted(host.releases("tiny"))
    task(host, "rollback", app="tiny", to=fifth.partition("-")[0])
    site.serves(fifth)
    task(host, "rollback", app="tiny", to=record(host, fourth)["commit"][:9])
    site.serves(fourth)
    task(host, "rollback", app="tiny", to=record(host, fifth)["commit"])
    site.serves(fifth)
    task(host, "rollback", app="tiny", to=first)
    site.serves(first)


def test_one_that_cannot_be_is_refused_with_the_nearest(site: Site) -> None:
    """One that never went live, with its log kept; one that there never was; the beginning of several."""
    host, serving = site.host, site.host.release("tiny")
    set_hooks(site.tiny, version="broken", import_error="no luck today")
    assert task(host, "release", app="tiny", check=False).code != 0
    failed = history(host)[0]["id"]
    assert "RuntimeError: no luck today" in host.ssh(f"{PROGRAM} log tiny {failed}")
    assert history(host)[0]["outcome"] == "failed at check"
    assert host.ssh(f"stat -c %a {history(host)[0]['log']}") == "600"
    site.serves(serving)
    nearest = f"Releases that can serve again: {', '.join(sorted(host.releases('tiny')))}."
    refused(host, "rollback", f"{failed} never went live. Nearest: ", nearest, app="tiny", to=failed)
    wrong = serving[:-1] + "x"
    refused(host, "rollback", f"There is no release {wrong}. Nearest: {serving}.", nearest, app="tiny", to=wrong)
    refused(host, "rollback", "20 is the beginning of ", "name one of them", app="tiny", to="20")


def test_old_releases_go_but_not_the_one_that_serves_nor_its_predecessor(site: Site) -> None:
    """However old these are; what is gone is refused by name, and told in the history."""
    host = site.host
    there = sorted(host.releases("tiny"))
    assert host.release("tiny") == there[0] and len(there) > 4
    host.app("tiny").update(keep_releases=2, keep_warm=0)
    six = site.release("six")
    site.serves(six)
    assert host.releases("tiny") == [there[0], there[-1], six]
    rows = {row["id"]: row for row in history(host)}
    gone = there[1]
    assert rows[six]["now"] == "serves" and rows[six]["size_mb"] and rows[gone]["size_mb"] is None
    refused(host, "rollback", f"{gone} isn't on this host any more (keep_releases). Nearest: ", app="tiny", to=gone)
    seven = site.release("seven")
    site.serves(seven)
    assert host.releases("tiny") == [six, seven]


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_history_tells_all_that(site: Site) -> None:
    """tasks/releases.py: a table with a row for each attempt, newest first."""
    host = site.host
    command = host.task_command("tasks/releases.py", "-y")
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    log.info("\n%s", done.stdout)
    start = lines.index(f"tiny on {host.target['container']}")
    assert f"notes on {host.target['container']}" in lines
    assert lines[start + 1].split() == ["RELEASE", "NOW", "OUTCOME", "AGE", "TOOK", "BY", "SCHEMA", "SIZE", "WHAT"]
    rows = history(host)
    shown = lines[start + 2 : start + 2 + len(rows)]
    assert [line.split()[0] for line in shown] == [row["id"] for row in rows]
    assert rows[0]["id"] == host.release("tiny") and " serves " in shown[0] and " MB" in shown[0]
    outcomes = {row["outcome"] for row in rows}
    assert {"good", "good, removed", "failed at check"} <= outcomes and any(each.startswith("bad") for each in outcomes)
    failed = next(row for row in rows if row["outcome"].startswith("failed"))
    assert host.run(f"grep -q 'no luck today' {failed['log']}").returncode == 0, "the log of what failed is gone"
    back = next(line for line, row in zip(shown, rows, strict=True) if "-rollback" in row["id"])
    assert re.search(r"-rollback\s+good\s+\d+ (s|min)\s+\d+\.\d s\s+\S+@\S+\s+rollback to \d{8}T", back), back
    told = json.loads(host.run_slipway("releases", "--json").stdout)
    assert (told["outcome"], told["error"]) == ("nothing", None)
    assert told["releases"][host.target["container"]]["tiny"] == rows


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_that_is_ahead_is_refused_unless_told_how(site: Site) -> None:
    """By which revisions, and the two ways to go on; the code alone goes back, and forth."""
    host, old = site.host, site.host.release("notes")
    site.revision(
        "0003", 'op.add_column("notes", sa.Column("title", sa.Text))', downgrade='op.drop_column("notes", "title")'
    )
    task(host, "release", app="notes")
    new = host.release("notes")
    assert new != old and revision(host) == "0003"
    assert history(host, "notes")[0]["schema"] == "0002 -> 0003"
    run = task(host, "rollback", app="notes", check=False)
    assert run.code != 0
    run.says("failed at schema (1 of 5).", f"The database is ahead of {old} by:", "0003 Revision 0003.")
    run.says("--schema code-only", "--schema downgrade", f"{new} keeps serving")
    assert history(host, "notes")[0]["outcome"] == "failed at schema"
    site.serves(new, "notes")
    with host.traffic() as public:
        run = task(host, "rollback", app="notes", schema="code-only")
    public.unbroken()
    run.says("Only the code is rolled back, as requested.", "1/5 schema", "(code only)")
    site.serves(old, "notes")
    assert revision(host) == "0003"
    task(host, "rollback", app="notes", to=new)
    site.serves(new, "notes")


def test_a_downgrade_takes_the_database_back_too(site: Site) -> None:
    """By the release that has the revisions; the one that needs them can't serve then, and its commit can."""
    host, new = site.host, site.host.release("notes")
    run = task(host, "rollback", app="notes", schema="downgrade")
    run.says("(downgraded to 0002)")
    old = host.release("notes")
    site.serves(old, "notes")
    assert revision(host) == "0002"
    assert history(host, "notes")[0]["schema"] == "0003 -> 0002"
    run = task(host, "rollback", app="notes", to=new, check=False)
    run.says(f"The database is behind {new}: it lacks 0003. Release its commit anew", f"{old} keeps serving")
    site.serves(old, "notes")
    task(host, "release", app="notes", again="true")
    assert revision(host) == "0003"


def test_what_has_no_downgrade_cannot_be_taken_back(site: Site) -> None:
    host = site.host
    site.revision("0004", 'op.add_column("notes", sa.Column("colour", sa.Text))')
    task(host, "release", app="notes")
    serving = host.release("notes")
    run = task(host, "rollback", app="notes", schema="downgrade", check=False)
    assert run.code != 0
    run.says("0004 Revision 0004.", "0004 has no downgrade.")
    site.serves(serving, "notes")
    assert revision(host) == "0004"


def test_a_contract_step_needs_consent(site: Site) -> None:
    """What the release that serves may not survive is refused before anything is touched; told so, it goes."""
    host, before = site.host, site.host.release("notes")
    site.revision("0005", 'op.drop_column("notes", "colour")')
    with host.traffic() as public:
        run = task(host, "release", app="notes", check=False)
        assert run.code != 0
        run.says("failed at check (3 of 9)", "The release that serves may not survive these migrations:")
        run.says("0005 drops the column notes.colour", "--contract", f"{before} keeps serving")
        site.serves(before, "notes")
        assert revision(host) == "0004"
        task(host, "release", app="notes", contract="true")
    public.unbroken()
    assert revision(host) == "0005"


def test_two_heads_are_refused(site: Site) -> None:
    """Before anything is touched, by their names."""
    host, before = site.host, site.host.release("notes")
    site.revision("0006", 'op.execute("SELECT 1")')
    other = site.revision("0007", 'op.execute("SELECT 1")', after="0005")
    run = task(host, "release", app="notes", check=False)
    assert run.code != 0
    run.says("failed at check (3 of 9)", "The migrations have 2 heads (0006, 0007): `alembic merge heads`")
    other.unlink()
    site.serves(before, "notes")
    assert revision(host) == "0005"


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def hooked(site: Site, run: Run, step: str, name: str) -> None:
    """Fail unless the release failed at `step` for the hook `name`, whose words are told."""
    assert run.code != 0
    run.says(f"failed at {step}", f"The hook {name} (`python hook.py`) ended with 1:", "words of the hook")


def test_a_hook_whose_program_is_missing_is_refused(site: Site) -> None:
    """Before anything is touched, with the nearest that there is."""
    host, before = site.host, site.host.release("notes")
    (site.notes / "hook.py").write_text(HOOK)
    names = ("before_migrate", "after_migrate", "after_switch", "on_failure")
    host.app()["hooks"] = dict.fromkeys(names, "python hook.py")
    with host.changed({"apps": {"notes": {"hooks": {"after_switch": "pyhton hook.py"}}}}):
        run = task(host, "release", app="notes", check=False)
    assert run.code != 0
    run.says("failed at check", "hooks.after_switch: there is no program pyhton", "there is python")
    assert [told["SLIPWAY_HOOK"] for told in site.hooks()] == ["on_failure"]
    site.serves(before, "notes")


def test_a_hook_that_fails_before_the_migration_fails_the_release(site: Site) -> None:
    """The old one goes on, the database stays, and the hook on_failure is told the step."""
    host, before = site.host, site.host.release("notes")
    with host.changed({"apps": {"notes": {"env": {"HOOK_FAILS": "before_migrate"}}}}):
        hooked(site, task(host, "release", app="notes", check=False), "migrate (4 of 9)", "before_migrate")
    ran, failed = site.hooks(), history(host, "notes")[0]["id"]
    assert [told["SLIPWAY_HOOK"] for told in ran] == ["before_migrate", "on_failure"]
    assert (ran[1]["SLIPWAY_STEP"], ran[1]["SLIPWAY_RELEASE"]) == ("migrate", failed)
    site.serves(before, "notes")
    assert revision(host) == "0005"


def test_hooks_run_at_their_moments_as_the_app(site: Site) -> None:
    """As the app's user, in its folder, with the release's environment and what is pending."""
    host = site.host
    task(host, "release", app="notes")
    after, user = host.release("notes"), int(host.ssh("id -u notes"))
    ran = site.hooks()
    assert [told["SLIPWAY_HOOK"] for told in ran] == ["before_migrate", "after_migrate", "after_switch"]
    assert [told.get("SLIPWAY_PENDING") for told in ran] == ["0006", "0006", None]
    for told in ran:
        assert (told["release"], told["user"], told["folder"]) == (after, user, f"/srv/notes/releases/{after}")
    assert revision(host) == "0006"
    site.serves(after, "notes")


def test_a_hook_that_fails_after_the_switch_fails_the_run_alone(site: Site) -> None:
    """The new release keeps serving; the next run finds nothing to do."""
    host, before = site.host, site.host.release("notes")
    host.app()["env"] = {"HOOK_FAILS": "after_switch"}
    with host.traffic() as public:
        run = task(host, "release", app="notes", check=False)
    public.unbroken()
    assert run.code != 0
    after = host.release("notes")
    assert after != before
    run.says(
        f"{after} serves. But:",
        "hook after_switch (`python hook.py`) ended with 1:",
        "words of the hook",
    )
    assert [told["SLIPWAY_HOOK"] for told in site.hooks()] == ["before_migrate", "after_migrate", "after_switch"]
    site.serves(after, "notes")
    assert task(host, "release", app="notes").changed == []


# ── proven ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_and_a_rollback_are_proven_by_traffic(site: Site) -> None:
    """With --data prove=true: requests, uploads, WebSockets and streams over TLS, and what became of them."""
    host = site.host
    host.app()["env"] = {"GREETING": "proven"}
    for verb in ("release", "rollback"):
        before = host.release("notes")
        run = task(host, verb, app="notes", prove="true")
        run.says("traffic flows")
        found = re.search(
            r"([\d,]+) requests? \(.*slow.*upload.*message.*\), 0 failed, .*p50 .*longest gap .*", run.output
        )
        assert found, run.told
        log.info("    %s: %s", verb, found[0])
        assert int(found[1].replace(",", "")) > 20
        assert host.release("notes") != before
        site.serves(host.release("notes"), "notes")


@pytest.mark.slow
def test_at_last_the_whole_is_as_it_should_be(site: Site) -> None:
    """What was rolled back from is released again; then deploy.py changes nothing, and the host is verified."""
    task(site.host, "release", app="notes", again="true")
    site.host.converged()
    site.host.verify()
