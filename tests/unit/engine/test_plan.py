"""What operations decide by: the answers from before a pass, and what the operations before them do in it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from typing import Any

import pytest
from pyinfra import host
from pyinfra.api import Host
from pyinfra.api.command import StringCommand

from roles.app import app
from roles.base import base
from roles.base import role as base_role
from roles.base.facts import PackageFacts, Packages
from roles.nginx import nginx, nginx_with_certificates
from roles.python import python, pythons, uv
from roles.release import release, wanted
from roles.release.facts import GitCommits
from roles.tls import certbot, tls
from slipway.engine import plan as plan_module
from slipway.engine.facts import Answer, Changed, Existing, Place, Places, Unit
from slipway.engine.host import HostFacts, release_served
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.plan import Change, Commands, asking
from slipway.engine.pyinfra_api import current_host
from slipway.engine.question import Question
from slipway.settings import RunOptions, Settings
from tests.unit.inventories import MARK
from tests.unit.plans import COMMIT, Certificates, Facts, Planner, ReleaseStatus, status_of, wanted_by


class World(set[str]):
    """A host that knows of paths, and what happened to it."""

    def __init__(self, *paths: str) -> None:
        super().__init__(paths)
        self.events: list[str] = []

    @property
    def facts(self) -> Facts:
        """What it answers now."""

        def existing(paths: tuple[str, ...]) -> frozenset[str]:
            self.events.append(f"asked {' '.join(paths)}")
            return frozenset(self & {*paths})

        return {Existing: existing}


@plan_module.operation(lambda path, **_: [asking(Existing, paths=(path,))])
def touch(world: World, path: str, *, brings: str = "", after: str = "") -> Commands:
    """Make `path`, which brings another by itself, unless it is there; and always when `after` is made.

    + brings: path that comes with it
    + after: path whose making calls for this
    """
    if path in plan_module.known(Existing, paths=(path,)) and not plan_module.made(after):
        host.noop(f"{path} is there")
        return
    plan_module.announce(Change("file", path, "create", "+x\n"), makes=[path])
    yield StringCommand("touch", path)
    world.update({path, brings} - {""})
    world.events.append(f"made {path}")


@pytest.fixture
def seen() -> list[dict[str, list[Change]]]:
    """What the plan announced, as it was when its pass ended."""
    return []


def roles(world: World, seen: list[dict[str, list[Change]]]) -> None:
    """Three operations: the second finds its path there after the first; the third follows from the first."""
    touch(world=world, path="/a", name="A", brings="/b")
    touch(world=world, path="/b", name="B")
    touch(world=world, path="/c", name="C", after="/a")
    touch(world=world, path="/d", name="D")
    seen.append(plan_module.changes(current_host()))


def test_a_run_does_what_its_plan_says_whatever_a_change_brings(plan: Planner, seen: list[Any]) -> None:
    world = World("/c", "/d")
    done = plan(roles, world, seen, facts=world.facts)
    assert list(seen[0]) == ["A", "B", "C"] == done.changes
    # In the plan one by one, in the run all before its first change.
    run = world.events[4:]
    assert run == ["asked /a", "asked /b", "asked /c", "asked /d", "made /a", "made /b", "made /c"]


def test_what_failed_is_not_taken_as_done(plan: Planner, seen: list[Any]) -> None:
    world = World("/c", "/d")
    done = plan(roles, world, seen, facts=world.facts, failing=("A",))
    assert list(seen[0]) == ["A", "B", "C"] and done.changes == ["A", "B"]


def test_a_run_asks_anew(plan: Planner, seen: list[Any]) -> None:
    """Somebody else may have been there since the plan."""
    world = World()

    def planned_then_changed() -> None:
        roles(world, seen)
        world.update({"/a", "/b", "/c"})

    done = plan(planned_then_changed, facts=world.facts)
    assert list(seen[0]) == ["A", "B", "C", "D"] and done.changes == ["D"]


def test_changes_are_plain_data(plan: Planner, seen: list[Any]) -> None:
    world = World("/b", "/c", "/d")
    plan(roles, world, seen, facts=world.facts)
    told = {name: [dataclasses.asdict(each) for each in made] for name, made in seen[0].items()}
    change = {"what": "file", "target": "/a", "action": "create", "diff": "+x\n", "note": ""}
    assert json.loads(json.dumps(told)) == {"A": [change], "C": [change | {"target": "/c"}]}


def test_nothing_is_told_twice(plan: Planner, seen: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pyinfra")
    world = World("/b", "/c", "/d")
    plan(roles, world, seen, facts=world.facts, diff=True)
    said = [re.sub(r"\x1b\[\d*m|\[@fake\]", "", record.getMessage()).strip() for record in caplog.records]
    assert [line for line in said if line] == ["will create /a", "+x", "will create /c", "+x"]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_in_a_folder_that_is_not_there_yet_is_shown_in_full(plan: Planner, bare: Facts) -> None:
    changes: dict[str, list[Change]] = {}

    def role() -> None:
        place(
            name="Place",
            folders={"/new": Folder("700")},
            files={"/new/file": File("a\nb\n"), "/new/secret": File("s3cr3t\n", "600", secret=True)},
            links={"/new/link": "file"},
            absent={"/etc/old": "", "/etc/none": ""},
        )
        changes.update(plan_module.changes(current_host()))

    there = {"/etc/old": Place("f", "644", "root", "root")}
    plan(role, facts=bare | {Places: there})
    assert [(each.what, each.target, each.action, each.note) for each in changes["Place"]] == [
        ("folder", "/new", "create", "root:root 700"),
        ("file", "/new/file", "create", ""),
        ("file", "/new/secret", "create", ""),
        ("link", "/new/link", "create", "to file"),
        ("file", "/etc/old", "remove", ""),
    ]
    diffs = [each.diff for each in changes["Place"]]
    assert diffs[1].splitlines()[2:] == ["@@ -0,0 +1,2 @@", "+a", "+b"]
    assert diffs[2] == "1 line, not shown: it may hold secrets"


def test_what_stands_in_the_way_is_told_and_left_alone(plan: Planner, bare: Facts) -> None:
    """A folder may hold somebody's data: neither it, nor a file in the place of a folder, is replaced."""
    changes: dict[str, list[Change]] = {}

    def role() -> None:
        place(
            name="Place",
            folders={"/a": Folder()},
            files={"/b": File("b\n"), "/c": File("c\n")},
            links={"/d": "b"},
            absent={"/e": ""},
        )
        changes.update(plan_module.changes(current_host()))

    there = {"/a": Place("f", "644", "root", "root")}
    there |= {path: Place("d", "755", "root", "root") for path in ("/b", "/d", "/e")}
    done = plan(role, facts=bare | {Places: there})
    assert [each.line for each in changes["Place"]] == [
        "will fail /a: something else stands there; move it away",
        "will fail /b: a folder stands there; move it away",
        "will fail /d: a folder stands there; move it away",
        "will fail /e: a folder stands there; move it away",
    ]
    (command,) = done("Place").commands
    assert command.argv[2] == 'echo "$1" >&2; exit 1' and "/e: a folder stands there" in command.argv[4]


def test_what_a_package_brings_is_removed_with_it(plan: Planner, bare: Facts) -> None:
    @plan_module.operation(list)
    def install() -> Commands:
        plan_module.announce(Change("package", "nginx", "install"))
        yield StringCommand("apt-get", "install", "nginx")

    def role(*, installs: bool) -> None:
        if installs:
            install(name="Install")
        place(name="Place", absent={"/etc/example": "nginx"})

    assert plan(role, installs=True, facts=bare).changes == ["Install", "Place"]
    assert plan(role, installs=False, facts=bare).changes == []


# ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def changes_of(plan: Planner, role: Any, *arguments: Any, facts: Facts) -> dict[str, list[Change]]:
    """What the plan of a role announces."""
    found: dict[str, list[Change]] = {}

    def noted() -> None:
        role(*arguments)
        found.update(plan_module.changes(current_host()))

    plan(noted, facts=facts)
    return found


@pytest.fixture
def converged(converge: Any, minimal_data: dict[str, Any]) -> Facts:
    """A host that is as the smallest inventory wants it."""
    facts: Facts = converge(minimal_data)
    return facts


def test_an_ordered_certificate_is_served_at_once(
    plan: Planner, converged: Facts, minimal: Settings, overview: HostOverview
) -> None:
    """It is due for other domains, say: the site serves the one from before meanwhile."""

    def role() -> None:
        tls(minimal)
        nginx_with_certificates(minimal, overview)

    ordered = converged | {Certificates: {}}
    found = changes_of(plan, role, facts=ordered)
    assert list(found) == ["TLS | Order the certificate of notes", "TLS | Let nginx serve the certificates"]
    (change,) = found["TLS | Let nginx serve the certificates"]
    assert (change.what, change.action) == ("nginx", "reload")
    assert change.note == "for the certificate of notes; no request is lost"


def test_an_order_that_fails_is_followed_by_nothing(plan: Planner, converged: Facts, minimal: Settings) -> None:
    ordered = converged | {Certificates: {}}
    done = plan(tls, minimal, facts=ordered, failing=("TLS | Order the certificate of notes",))
    assert done.changes == ["TLS | Order the certificate of notes"]


def test_a_site_gets_tls_where_its_first_certificate_comes(
    plan: Planner, bare: Facts, minimal: Settings, overview: HostOverview
) -> None:
    def role() -> None:
        nginx(minimal, overview)
        tls(minimal)
        nginx_with_certificates(minimal, overview)

    found = changes_of(plan, role, facts=bare)
    assert "TLS | Let nginx serve the certificates" not in found, "nginx reads it with the site's TLS part"
    site, reload = found["Nginx | Configure the sites with TLS"]
    assert site.target == "/etc/nginx/slipway/sites/notes.conf" and "+    ssl_certificate " in site.diff
    assert reload.note == "no request is lost"
    failing = ("TLS | Order the certificate of notes",)
    assert "Nginx | Configure the sites with TLS" not in plan(role, facts=bare, failing=failing).changes


def test_what_loses_requests_is_told(
    plan: Planner, converged: Facts, minimal: Settings, overview: HostOverview
) -> None:
    """A certificate that was deleted: until the next one is there, nginx would refuse a site with TLS."""
    gone = converged | {Existing: lambda paths: frozenset(path for path in paths if "letsencrypt" not in path)}
    found = changes_of(plan, nginx, minimal, overview, facts=gone)
    *_, reload = found["Nginx | Configure the sites"]
    assert reload.note == "not lossless: HTTPS of notes ends, until there is a certificate"


def test_a_timer_whose_files_change_is_read_anew(plan: Planner, converged: Facts, minimal: Settings) -> None:
    known = converged[Places]

    def edited(**asked: tuple[str, ...]) -> dict[str, Place]:
        path = "/etc/systemd/system/certbot-renew.timer"
        found: dict[str, Place] = known(**asked)
        return found | ({path: dataclasses.replace(found[path], digest="0")} if path in found else {})

    found = changes_of(plan, tls, minimal, facts=converged | {Places: edited})
    assert list(found) == ["TLS | Write what certificates need", "TLS | Enable the renewal timer"]


@pytest.mark.parametrize("lost", ["git", "the key"])
def test_a_source_that_cannot_be_looked_up_yet_is_released(
    plan: Planner, converged: Facts, bare: Facts, maximal: Settings, overview: HostOverview, lost: str
) -> None:
    """Whether the code is newer shows only in the run, which asks the host's program in either case."""
    wiki = maximal.apps["wiki-next"]

    def role() -> None:
        base(maximal, overview)
        release(maximal, overview, RunOptions(app=wiki.name))

    there = {path: write.place for path, write in plan(role, facts=bare).writes.items()}
    installed = {*base_role.PACKAGES, *maximal.packages}
    if lost == "git":
        installed.remove("git")
        told = ["", "", COMMIT]  # to the plan, to the run at its start, to the release
    else:
        del there[wiki.deploy_key_path]
        told = ["error: Permission denied", "error: Permission denied", COMMIT]
    answers = iter(told)
    facts = converged | {
        Packages: PackageFacts(frozenset(installed), interrupted=False),
        Places: there,
        ReleaseStatus: status_of(wanted(maximal, overview, wiki, COMMIT)),
        GitCommits: lambda sources: {0: next(answers)},
    }
    found = changes_of(plan, role, facts=facts)
    (change,) = found["Release | Release wiki-next"]
    assert change.note == "if its source isn't that of r1: it can't be looked up yet; no request is lost"
    answers = iter(told)
    assert wanted_by(plan(role, facts=facts))[wiki.name]["source"]["commit"] == COMMIT


def everything(settings: Settings, overview: HostOverview) -> None:
    """The roles of deploy.py."""
    base(settings, overview, [uv(settings, overview), *pythons(settings), *certbot(settings)])
    python(settings, overview)
    app(settings, overview)
    nginx(settings, overview)
    tls(settings)
    nginx_with_certificates(settings, overview)
    release(settings, overview, RunOptions())


def test_no_change_holds_a_secret(plan: Planner, bare: Facts, maximal: Settings, overview: HostOverview) -> None:
    told = json.dumps(
        [
            dataclasses.asdict(each)
            for made in changes_of(plan, everything, maximal, overview, facts=bare).values()
            for each in made
        ]
    )
    assert MARK not in told and "PRIVATE KEY" not in told
    assert told.count("not shown: it may hold secrets") > 3 and "+SystemMaxUse=2G" in told


def test_every_question_of_a_run_can_be_asked_anywhere(
    plan: Planner, maximal: Settings, overview: HostOverview
) -> None:
    """Each is told beforehand, says that it only looks, and ends well on a machine that has nothing of ours."""
    found: list[Question] = []
    asked: set[type] = set()

    def role() -> None:
        everything(maximal, overview)
        found.extend(plan_module.questions(current_host()))
        asked.update(fact for fact, _ in plan_module._ahead[current_host()])

    plan(role)
    assert len(found) == len({question.get_raw_value() for question in found}) > 20
    assert {Answer, Changed, Existing, GitCommits, HostFacts, Packages, Places, Unit} <= asked
    for question in found:
        line = question.get_raw_value()
        if "git ls-remote" not in line:
            done = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr.decode()}"


@pytest.mark.parametrize(("status", "served"), [({}, False), ({"error": "x"}, False), ({"release": "r1"}, True)])
def test_whether_a_release_served_before_a_run_is_known_after_it(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts, status: dict[str, str], served: bool
) -> None:
    hosts: list[Host] = []

    def releasing() -> None:
        hosts.append(current_host())
        assert plan_module.answers_of(hosts[0], HostFacts) == []
        release(minimal, overview, RunOptions())

    plan(releasing, facts=bare | {ReleaseStatus: status})
    assert release_served(plan_module.answers_of(hosts[0], HostFacts)) is served
