"""Commands that run code of an app's: how they are shut off, and what is said of how they ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import sandbox
from slipway_host.system import Done, Late
from slipway_host.systemd import Ran

from tests.unit.host.prepared import Place, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = place_at(tmp_path, monkeypatch)
    made.add("r1")
    return made


def run(place: Place, **options: Any) -> Ran:
    """A command of the app's, for a hook."""
    return sandbox.as_app(place.app, "r1", "hook", ["page", "me"], 9, **options)


def test_a_command_of_the_apps(place: Place) -> None:
    done = run(place, told={"SLIPWAY_HOOK": "x"}, said="of it\n")
    assert (done.code, done.output) == (0, "") and place.system.said == ["of it\n"]
    (call,) = place.system.calls
    assert call.startswith("systemd-run --quiet --wait --pipe --collect --unit notes-hook --property User=notes ")
    assert call.endswith(" -- page me")
    venv = place.at.venv("r1")
    for line in (*place.app.wanted["sandbox"], f"EnvironmentFile={place.at.env('r1')}", "RuntimeMaxSec=9"):
        assert f"--property {line} " in call, line
    assert f"--property WorkingDirectory={place.at.folder('r1')} " in call
    assert f"--setenv PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin --setenv VIRTUAL_ENV={venv} " in call
    assert "--setenv SLIPWAY_HOOK=x " in call


def test_it_waits_for_the_end_of_the_apps_journal(place: Place) -> None:
    """Before the first release serves, the journal ends and begins with each of them."""
    told = "Failed to start transient service unit: Transaction for notes-hook.service/start is destructive (x@notes"
    tries: list[str] = []

    class Failing(dict[str, str]):
        def items(self) -> Any:
            tries.append("")
            return super().items() if len(tries) < 3 else []

    place.system.failing = Failing({"-- page": told})
    assert run(place).code == 0
    assert len(place.system.matching("-- page")) == 3
    place.system.failing = {"-- page": f"no luck\n{told}"}
    assert run(place).code == 1
    assert len(place.system.matching("-- page")) == 4, "it was run, and says so of itself"


def test_it_does_not_wait_for_ever(place: Place) -> None:
    told = "Failed to start transient service unit: Transaction for notes-hook.service/start is destructive"
    place.system.failing["-- page"] = told
    done = run(place)
    assert done.code == 1 and 10 <= sum(place.system.slept) < 11


def test_one_whose_unit_does_not_end_is_killed(place: Place) -> None:
    def late(line: str) -> None:
        raise Late("too late", "so far")

    place.system.doing["systemd-run"] = late
    done = run(place)
    assert done.code == 1 and done.output.startswith("so far")
    assert place.system.calls[-1] == "systemctl kill --signal=SIGKILL notes-hook.service"


@pytest.mark.parametrize(
    ("note", "code", "says"),
    [
        ("signal killed KILL", 137, "It was killed by SIGKILL, which Slipway didn't send"),
        ("success killed TERM", 143, "It was killed by SIGTERM, which Slipway didn't send"),
        ("timeout killed TERM", 143, "It was ended after 9 s."),
    ],
)
def test_a_signal_is_never_success(
    place: Place, monkeypatch: pytest.MonkeyPatch, note: str, code: int, says: str
) -> None:
    plain = place.system.run

    def killed(*argv: str, **options: Any) -> Done:
        done = plain(*argv, **options)
        (place.layout.ended / "notes-hook").write_text(note)
        return done

    monkeypatch.setattr(place.system, "run", killed)
    done = run(place)
    assert done.code == code and says in done.output


def test_what_is_said_of_a_signal() -> None:
    assert sandbox.killed_by("SIGKILL", "notes") == (
        "It was killed by SIGKILL, which Slipway didn't send: another process of the user notes may have "
        "(`ps -u notes`), or the kernel for want of memory (`journalctl -k`). If what serves was taken over, "
        "--stop-first ends every process of notes before the new release is tried; requests are lost until it serves."
    )


# ── what nobody has trusted yet ──────────────────────────────────────────────────────────────────────────────────────


def test_what_a_strange_source_is_shut_off_from(place: Place, tmp_path: Path) -> None:
    place.app.wanted["source"]["subdir"] = "apps/notes"
    folder, venv = tmp_path / "plan", place.at.venv("r1")
    shown = f"-/etc/ld.so.cache -/etc/localtime /usr {place.layout.opt} {venv}:{venv} {folder}/source:/source"
    environment = {"URL": "x://localhost", "PATH": "/evil", "HOME": "/mine"}
    sandbox.sandboxed(place.app, "r1", folder, ["python", "read"], environment, said="mark\n")
    call, stopped = place.system.calls
    assert place.system.said == ["mark\n"] and call.endswith(" -- python read")
    unit = re.search(r"--unit (notes-plan-\d+) ", call)
    assert unit and stopped == f"systemctl stop {unit[1]}.service", "one whose reader has gone"
    for line in (
        f"RootDirectory={folder}/root",
        f"BindReadOnlyPaths={shown}",
        "WorkingDirectory=/source/apps/notes",
        "SupplementaryGroups=notes",
        "DynamicUser=yes",
        "PrivateNetwork=yes",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "LimitFSIZE=0",
        "RuntimeMaxSec=60",
    ):
        assert f"--property {line} " in call, line
    assert "EnvironmentFile" not in call and "User=notes" not in call
    given = re.findall(r"--setenv (\S+)", call)
    assert given == [
        "LC_ALL=C.UTF-8",
        "HOME=/mine",
        "PYTHONDONTWRITEBYTECODE=1",
        "URL=x://localhost",
        f"PATH={venv}/bin:/usr/bin:/bin",
        f"VIRTUAL_ENV={venv}",
    ]
    assert (folder / "root/lib64").readlink() == Path("usr/lib64") and (folder / "root/source").is_dir()
    sandbox.sandboxed(place.app, "r1", folder, ["python", "render"], {})  # what is there, stays


def test_it_is_ended_however_it_went(place: Place, tmp_path: Path) -> None:
    def late(line: str) -> None:
        raise Late("too late")

    place.system.doing["systemd-run"] = late
    with pytest.raises(Late):
        sandbox.sandboxed(place.app, "r1", tmp_path / "plan", ["python"], {})
    assert place.system.calls[-1].startswith("systemctl stop notes-plan-")
