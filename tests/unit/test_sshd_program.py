"""slipway_sshd with the kernel's own sockets, and commands that are noted: whose ports count, what brings it back."""

from __future__ import annotations

import os
import socket
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.programs import SSHD, Recorder, load


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, whose commands are noted."""
    program = load(SSHD)
    monkeypatch.setattr(program, "run", Recorder(program.Refused))
    monkeypatch.setattr(program, "PRIVATE", tmp_path / "sshd")
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)
    program.run.printing = {"sshd -T": "listenaddress 0.0.0.0:2222\nlistenaddress [::]:2222\n"}
    return program


@pytest.fixture
def port() -> Iterator[tuple[int, socket.socket]]:
    """A port of 127.0.0.1, and the socket that has it without listening."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1], one


def test_only_sshd_s_own_sockets_count(
    sshd: Any, port: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, one = port
    one.listen()
    monkeypatch.setattr(sshd, "main_process", os.getpid)
    assert list(sshd.listening({number}).values()) == ["tcp"]
    assert sshd.listening({number - 1}) == {}
    monkeypatch.setattr(sshd, "main_process", lambda: 0)
    assert sshd.listening({number}) == {}, "somebody else's"


def test_a_port_is_seen_whether_or_not_its_socket_listens(sshd: Any, port: tuple[int, socket.socket]) -> None:
    number, one = port
    assert sshd.bound(os.getpid(), one.fileno()) == number
    assert one.getsockname()[1] == number, "it goes on"
    assert sshd.taken({number})
    one.close()
    assert not sshd.taken({number})


def test_an_app_that_has_sshd_s_port_is_ended_and_nobody_else(
    sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sshd, "UNITS", tmp_path)
    monkeypatch.setattr(sshd, "PROCESSES", tmp_path)
    (tmp_path / "app-mine.slice").touch()
    (tmp_path / "builds.slice").touch()
    groups = {
        "7": "app.slice/app-mine.slice/mine@r1.service",
        "8": "app.slice/app-alien.slice/x",
        "9": "builds.slice/mine-build.service",
    }
    for process, group in groups.items():
        (tmp_path / process).mkdir()
        (tmp_path / process / "cgroup").write_text(f"0::/{group}\n")
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cgroup").write_text("0::/init.scope\n")
    there = [{7: 4242, 8: 4243}, {9: 4244}, {8: 4243}]
    monkeypatch.setattr(sshd, "taken", lambda ports: True)
    monkeypatch.setattr(sshd, "takers", lambda ports: there.pop(0))
    sshd.free({2222})
    ended = ("app-mine.slice", "mine-build.service")
    assert sshd.run.calls == [f"systemctl kill --signal=SIGKILL {each}" for each in ended]
    assert "taken by a process of 4243" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("0::/system.slice/x/app.slice/app-mine.slice/mine@r1.service", "app-mine.slice"),
        ("1:name=systemd:/system.slice/x/builds.slice/mine-build.service\n0::/elsewhere", "mine-build.service"),
        ("0::/system.slice/x/builds.slice/nginx.service", None),
        ("0::/system.slice/x/user.slice/user-1000.slice/user@1000.service/builds.slice/mine-build.service", None),
        ("0::/system.slice/x/user.slice/user-1000.slice/user@1000.service/app.slice/app-mine.slice/x", None),
        ("0::/system.slice/x/app.slice/app-alien.slice/x", None),
        ("0::/app.slice/app-mine.slice/mine@r1.service", None),
    ],
)
def test_whose_a_process_is(
    sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, unit: str | None
) -> None:
    """A user may name groups below its own like Slipway's; systemd itself is in one, in a container."""
    monkeypatch.setattr(sshd, "UNITS", tmp_path)
    monkeypatch.setattr(sshd, "PROCESSES", tmp_path)
    for name in ("app-mine.slice", "builds.slice"):
        (tmp_path / name).touch()
    roots = "1:name=systemd:/system.slice/x/init.scope\n" if "name=" in group else "0::/system.slice/x/init.scope\n"
    for process, text in {"1": roots, "7": group}.items():
        (tmp_path / process).mkdir()
        (tmp_path / process / "cgroup").write_text(text)
    assert sshd.unit_of(7) == unit
    assert sshd.unit_of(8) is None, "it has ended"


def test_where_nobody_is_seen_to_have_the_port_all_apps_are_ended(
    sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket may be on its way from one process to another."""
    monkeypatch.setattr(sshd, "UNITS", tmp_path)
    for name in ("app-mine.slice", "builds.slice", "app-other.slice", "nginx.service"):
        (tmp_path / name).touch()
    taken = [True, False]
    monkeypatch.setattr(sshd, "taken", lambda ports: taken.pop(0))
    monkeypatch.setattr(sshd, "takers", lambda ports: {})
    sshd.free({2222})
    ended = ("app-mine.slice", "app-other.slice", "builds.slice")
    assert sorted(sshd.run.calls) == [f"systemctl kill --signal=SIGKILL {each}" for each in ended]


def test_a_look_at_sockets_ends(sshd: Any, monkeypatch: pytest.MonkeyPatch, port: tuple[int, socket.socket]) -> None:
    number, one = port
    assert sshd.sockets_of(os.getpid())[one.fileno()]
    assert len(sshd.sockets_of(os.getpid(), 0)) == 0
    looked: list[int] = []
    monkeypatch.setattr(sshd, "sockets_of", lambda process, most: dict.fromkeys(range(1000), "1"))
    monkeypatch.setattr(sshd, "bound", lambda process, descriptor: looked.append(descriptor))
    monkeypatch.setattr(sshd, "PROCESSES", types.SimpleNamespace(glob=lambda pattern: [Foreign("7"), Foreign("8")]))
    monkeypatch.setattr(sshd, "LOOK_SECONDS", -1)
    assert sshd.takers({number}) == {} and looked == []


class Foreign:
    """A process of another user."""

    def __init__(self, name: str) -> None:
        self.name = name

    def stat(self) -> Any:
        """As of a folder of /proc."""
        return types.SimpleNamespace(st_uid=4711)


def test_sshd_that_ended_while_it_was_reloaded_is_started(sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [{"1": "tcp", "2": "tcp6"}, {}, {}, {"3": "tcp"}, {"3": "tcp", "4": "tcp6"}]
    monkeypatch.setattr(sshd, "listening", lambda ports: seen.pop(0))
    monkeypatch.setattr(sshd, "taken", lambda ports: False)
    monkeypatch.setattr(sshd, "PATIENCE_SECONDS", -1)
    sshd.anew({2222})
    assert seen == [] and sshd.run.matching("reset-failed ssh.service") and sshd.run.matching("restart ssh.service")


def test_sshd_that_does_not_come_back_is_told(sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "listening", lambda ports: {"1": "tcp"})
    monkeypatch.setattr(sshd, "RELOAD_SECONDS", 0)
    with pytest.raises(sshd.Refused, match="doesn't listen anew"):
        sshd.anew({2222})
    sshd.run.failing = {"restart ssh.service": "Job failed"}
    monkeypatch.setattr(sshd, "START_SECONDS", 0)
    with pytest.raises(sshd.Refused, match="Job failed"):
        sshd.start("ssh.service")


@pytest.mark.parametrize(("enabled", "started"), [(True, True), (False, False)])
def test_one_that_is_dead_is_started_unless_it_is_switched_off(
    sshd: Any, monkeypatch: pytest.MonkeyPatch, enabled: bool, started: bool
) -> None:
    sshd.run.failing = {"is-active": "", "is-enabled --quiet ssh.socket": ""}
    if not enabled:
        sshd.run.failing["is-enabled --quiet ssh.service"] = ""
    calls: list[str] = []
    monkeypatch.setattr(sshd, "start", calls.append)
    sshd.reload()
    assert calls == (["ssh.service"] if started else [])
    assert sshd.PRIVATE.is_dir(), "without it, it can't be asked"
