"""Hooks: how their programs are found, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import hooks, sandbox
from slipway_host.systemd import Ran

from tests.unit.host.prepared import Place, failure, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = place_at(tmp_path, monkeypatch)
    made.add("r1")
    (made.at.folder("r1") / "bin").mkdir()
    (made.at.folder("r1") / "bin/hook").touch(0o755)
    (made.at.folder("r1") / "bin/plain").touch(0o644)
    return made


def test_hooks_that_are_there(place: Place) -> None:
    (place.at.venv("r1") / "bin/tool").touch(0o755)
    place.app.wanted["hooks"] |= {
        "before_migrate": ["bin/hook", "x"],
        "after_migrate": ["tool"],
        "after_switch": ["sh", "-c", "true"],
        "on_failure": ["/bin/sh"],
    }
    hooks.missing_hooks(place.app, "r1")


def test_hooks_of_an_app_in_a_subfolder(place: Place) -> None:
    """The environment lies beside its folder, not in it."""
    folder = place.at.folder("r1")
    (folder / "apps/notes").mkdir(parents=True)
    (folder / "bin").rename(folder / "apps/notes/bin")
    (place.at.venv("r1") / "bin/tool").touch(0o755)
    place.app.write_record("r1", wanted={**place.app.wanted, "source": {"subdir": "apps/notes"}})
    place.app.wanted["hooks"] |= {"before_migrate": ["bin/hook"], "after_migrate": ["tool"]}
    hooks.missing_hooks(place.app, "r1")


def test_where_a_program_is_found(place: Place) -> None:
    """In the app's folder where the command names one; else in the environment, where it has one of that name."""
    (place.at.venv("r1") / "bin/tool").touch(0o755)
    found = [hooks.in_path(place.app, "r1", [program, "x"])[0] for program in ("bin/hook", "/bin/sh", "tool", "sh")]
    folder = place.at.folder("r1")
    assert found == [f"{folder}/bin/hook", "/bin/sh", f"{folder}/.venv/bin/tool", "sh"]


@pytest.mark.parametrize(
    ("command", "program", "near"),
    [
        (["bin/hok"], "bin/hok", "; there is bin/hook"),
        (["bin/plain"], "bin/plain", ""),  # not executable
        (["/usr/bin/no-such-thing"], "/usr/bin/no-such-thing", ""),
        (["other/hook"], "other/hook", ""),
        (["gunicron"], "gunicron", "; there is gunicorn"),
        (["no-such-thing"], "no-such-thing", ""),
    ],
)
def test_a_hook_that_is_not_there(place: Place, command: list[str], program: str, near: str) -> None:
    place.app.wanted["hooks"]["after_switch"] = command
    told = failure(hooks.missing_hooks, place.app, "r1")
    assert told == f"hooks.after_switch: there is no program {program} in the release, nor in the PATH{near}."


def test_a_hook(place: Place) -> None:
    place.app.wanted["hooks"] |= {"after_switch": ["bin/hook", "--up"], "timeout": 7}
    hooks.hook(place.app, "r1", "after_switch", SLIPWAY_STEP="switch")
    (call,) = place.system.calls
    assert call.endswith(f" -- {place.at.folder('r1')}/bin/hook --up") and "--unit notes-hook " in call
    assert "--setenv SLIPWAY_HOOK=after_switch --setenv SLIPWAY_STEP=switch " in call
    assert "--property RuntimeMaxSec=7 " in call
    assert place.said() == ["hook after_switch 0.0 s"]


@pytest.mark.parametrize(("seconds", "how"), [(1.0, "ended with 3"), (60.0, "was ended after 60 s")])
def test_a_hook_that_fails(place: Place, monkeypatch: pytest.MonkeyPatch, seconds: float, how: str) -> None:
    def as_app(*_: Any) -> Ran:
        place.system.sleep(seconds)
        return Ran(("warm",), 3, "said this\n", None)

    place.app.wanted["hooks"]["after_switch"] = ["warm", "--up"]
    monkeypatch.setattr(sandbox, "as_app", as_app)
    message = failure(hooks.hook, place.app, "r1", "after_switch")
    assert message == f"The hook after_switch (`warm --up`) {how}:\nsaid this"
    assert place.said() == []


def test_a_hook_that_nobody_wants(place: Place) -> None:
    hooks.hook(place.app, "r1", "after_switch")
    hooks.hook(place.app, "r1", "on_failure")
    assert place.system.calls == []
