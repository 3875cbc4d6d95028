"""What operations decide by: the answers from before a pass, and what the operations before them do in it."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from pyinfra import host
from pyinfra.api.command import StringCommand

from roles import _plan
from roles._facts import Existing, Place, Places
from roles._place import File, Folder, place
from roles._plan import Change, Commands, asking
from tests.unit.plans import Facts, Planner


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


@_plan.operation(lambda path, **_: [asking(Existing, paths=(path,))])
def touch(world: World, path: str, *, brings: str = "", after: str = "") -> Commands:
    """Make `path`, which brings another by itself, unless it is there; and always when `after` is made.

    + brings: path that comes with it
    + after: path whose making calls for this
    """
    if path in _plan.known(Existing, paths=(path,)) and not _plan.made(after):
        host.noop(f"{path} is there")
        return
    _plan.announce(Change("file", path, "create", "+x\n"), makes=[path])
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
    seen.append(_plan.changes(_plan._host()))


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
        changes.update(_plan.changes(_plan._host()))

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
    assert diffs[2] == "1 lines, not shown: it may hold secrets"


def test_what_a_package_brings_is_removed_with_it(plan: Planner, bare: Facts) -> None:
    @_plan.operation(list)
    def install() -> Commands:
        _plan.announce(Change("package", "nginx", "install"))
        yield StringCommand("apt-get", "install", "nginx")

    def role(*, installs: bool) -> None:
        if installs:
            install(name="Install")
        place(name="Place", absent={"/etc/example": "nginx"})

    assert plan(role, installs=True, facts=bare).changes == ["Install", "Place"]
    assert plan(role, installs=False, facts=bare).changes == []
