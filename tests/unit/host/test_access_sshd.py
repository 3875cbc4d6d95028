"""sshd with the kernel's own sockets, and commands that are noted: whose ports count, what brings it back."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_host.access import change, sshd
from slipway_host.access.sshd import Refused

from tests.unit.host.fakes import FakeSystem


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    """A host with an sshd at port 2222, and the processes of this machine."""
    made = FakeSystem(tmp_path)
    made.layout.proc = Path("/proc")
    made.printing = {"sshd -T": "listenaddress 0.0.0.0:2222\nlistenaddress [::]:2222\n"}
    return made


@pytest.fixture
def port() -> Iterator[tuple[int, socket.socket]]:
    """A port of 127.0.0.1, and the socket that has it without listening."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1], one


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("listenaddress 0.0.0.0:2222\nlistenaddress [::]:22\n", {2222, 22}),
        ("port 1\nlistenaddress 192.0.2.1:22 rdomain mgmt\n", {22}),
        ("port 22\n", set()),
    ],
)
def test_the_ports_of_sshd(system: FakeSystem, told: str, found: set[int]) -> None:
    system.printing = {"sshd -T": told}
    assert sshd.ports(system) == found
    assert system.layout.sshd_private.is_dir(), "without it, it can't be asked"


def test_only_sshd_s_own_sockets_count(
    system: FakeSystem, port: tuple[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, one = port
    one.listen()
    monkeypatch.setattr(sshd, "main_process", lambda system: os.getpid())
    assert list(sshd.listening(system, {number}).values()) == ["tcp"]
    assert sshd.listening(system, {number - 1}) == {}
    monkeypatch.setattr(sshd, "main_process", lambda system: 0)
    assert sshd.listening(system, {number}) == {}, "somebody else's"


def test_a_port_is_seen_whether_or_not_its_socket_listens(port: tuple[int, socket.socket]) -> None:
    number, one = port
    assert sshd.bound(os.getpid(), one.fileno()) == number
    assert one.getsockname()[1] == number, "it goes on"
    assert sshd.taken({number})
    one.close()
    assert not sshd.taken({number})


def test_an_app_that_has_sshd_s_port_is_ended_and_nobody_else(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = system.layout
    layout.proc = layout.root / "proc"
    layout.units.mkdir(parents=True)
    (layout.units / "app-mine.slice").touch()
    (layout.units / "builds.slice").touch()
    groups = {
        "7": "app.slice/app-mine.slice/mine@r1.service",
        "8": "app.slice/app-alien.slice/x",
        "9": "builds.slice/mine-build.service",
    }
    for process, group in groups.items():
        (layout.proc / process).mkdir(parents=True)
        (layout.proc / process / "cgroup").write_text(f"0::/{group}\n")
    (layout.proc / "1").mkdir()
    (layout.proc / "1/cgroup").write_text("0::/init.scope\n")
    there = [{7: 4242, 8: 4243}, {9: 4244}, {8: 4243}]
    monkeypatch.setattr(sshd, "taken", lambda ports: True)
    monkeypatch.setattr(sshd, "takers", lambda system, ports: there.pop(0))
    said: list[str] = []
    change.free(system, said.append)
    ended = ("app-mine.slice", "mine-build.service")
    assert system.matching("kill") == [f"systemctl kill --signal=SIGKILL {each}" for each in ended]
    assert said == [
        *(f"{each} is ended: it has a port of sshd" for each in ended),
        "sshd's port is taken by a process of 4243 (`ss -ltnp`)",
    ]


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("0::/system.slice/x/app.slice/app-mine.slice/mine@r1.service", "app-mine.slice"),
        ("1:name=systemd:/system.slice/x/builds.slice/mine-build.service\n0::/elsewhere", "mine-build.service"),
        ("9:name=systemd:/\n0::/system.slice/x/app.slice/app-mine.slice/mine@r1.service", "app-mine.slice"),
        ("0::/system.slice/x/builds.slice/nginx.service", None),
        ("0::/system.slice/x/user.slice/user-1000.slice/user@1000.service/builds.slice/mine-build.service", None),
        ("0::/system.slice/x/user.slice/user-1000.slice/user@1000.service/app.slice/app-mine.slice/x", None),
        ("0::/system.slice/x/app.slice/app-alien.slice/x", None),
        ("0::/app.slice/app-mine.slice/mine@r1.service", None),
    ],
)
def test_whose_a_process_is(system: FakeSystem, group: str, unit: str | None) -> None:
    """A user may name groups below its own like Slipway's; systemd itself is in one, in a container."""
    layout = system.layout
    layout.proc = layout.root / "proc"
    layout.units.mkdir(parents=True)
    for name in ("app-mine.slice", "builds.slice"):
        (layout.units / name).touch()
    old = "1:name=systemd:/system.slice/x/" in group
    roots = ("1:name=systemd:" if old else "9:name=systemd:/\n0::") + "/system.slice/x/init.scope\n"
    for process, text in {"1": roots, "7": group}.items():
        (layout.proc / process).mkdir(parents=True)
        (layout.proc / process / "cgroup").write_text(text)
    assert sshd.unit_of(system, 7) == unit
    assert sshd.unit_of(system, 8) is None, "it has ended"


def test_where_nobody_is_seen_to_have_the_port_all_apps_are_ended(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket may be on its way from one process to another."""
    system.layout.units.mkdir(parents=True)
    for name in ("app-mine.slice", "builds.slice", "app-other.slice", "nginx.service"):
        (system.layout.units / name).touch()
    taken = [True, False]
    monkeypatch.setattr(sshd, "taken", lambda ports: taken.pop(0))
    monkeypatch.setattr(sshd, "takers", lambda system, ports: {})
    said: list[str] = []
    sshd.free(system, {2222}, said.append)
    ended = ("app-mine.slice", "app-other.slice", "builds.slice")
    assert system.calls == [f"systemctl kill --signal=SIGKILL {each}" for each in ended]
    assert said == [f"{each} is ended: it may have a port of sshd" for each in ended]


def test_a_look_at_sockets_ends(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    system.layout.proc = system.layout.root / "proc"
    (system.layout.proc / "7").mkdir(parents=True)
    monkeypatch.setattr(sshd, "sockets_of", lambda system, process, most: dict.fromkeys(range(1000), "1"))
    monkeypatch.setattr(sshd, "bound", lambda process, descriptor: looked.append(descriptor))
    os.chown(system.layout.proc / "7", 4711, -1)
    monkeypatch.setattr(sshd, "LOOK_SECONDS", -1)
    assert sshd.takers(system, {2222}) == {} and looked == []


def test_a_port_that_is_not_freed_is_not_waited_for(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "taken", lambda ports: True)
    monkeypatch.setattr(sshd, "takers", lambda system, ports: {7: 1})
    monkeypatch.setattr(sshd, "unit_of", lambda system, process: "app-mine.slice")
    sshd.free(system, {2222}, lambda line: None)
    assert 3 <= sum(system.slept) < 3.1


def test_sshd_that_ended_while_it_was_reloaded_is_started(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [{"1": "tcp", "2": "tcp6"}, {}, {}, {"3": "tcp"}, {"3": "tcp", "4": "tcp6"}]
    monkeypatch.setattr(sshd, "listening", lambda system, ports: seen.pop(0))
    monkeypatch.setattr(sshd, "taken", lambda ports: False)
    monkeypatch.setattr(sshd, "PATIENCE_SECONDS", -1)
    sshd.anew(system, {2222}, lambda line: None)
    assert seen == [] and system.matching("reset-failed ssh.service") and system.matching("restart ssh.service")


def test_sshd_that_does_not_come_back_is_told(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "listening", lambda system, ports: {"1": "tcp"})
    monkeypatch.setattr(sshd, "taken", lambda ports: False)
    with pytest.raises(Refused, match="doesn't listen again"):
        sshd.anew(system, {2222}, lambda line: None)
    assert 5 < sum(system.slept) < 5.1
    system.failing = {"restart ssh.service": "Job failed"}
    system.slept.clear()
    with pytest.raises(Refused, match="Job failed"):
        sshd.start(system, "ssh.service", lambda line: None)
    assert 19.9 < sum(system.slept) < 20.5, "somebody may have its port for a while"


@pytest.mark.parametrize(("enabled", "started"), [(True, True), (False, False)])
def test_one_that_is_dead_is_started_unless_it_is_switched_off(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, enabled: bool, started: bool
) -> None:
    system.failing = {"is-active": "", "is-enabled --quiet ssh.socket": ""}
    if not enabled:
        system.failing["is-enabled --quiet ssh.service"] = ""
    calls: list[str] = []
    monkeypatch.setattr(sshd, "start", lambda system, unit, say: calls.append(unit))
    change.reload(system, lambda line: None)
    assert calls == (["ssh.service"] if started else [])
    assert system.layout.sshd_private.is_dir(), "without it, it can't be asked"


@pytest.mark.parametrize("running", [False, True])
def test_a_socket_of_sshd_s_follows_the_ports(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """It is started where it doesn't come back; and sshd reads its configuration where it runs."""
    system.failing = {"restart ssh.socket": "Job failed"} | ({} if running else {"is-active --quiet ssh.service": ""})
    calls: list[str] = []
    monkeypatch.setattr(sshd, "start", lambda system, unit, say: calls.append(unit))
    sshd.reload(system, lambda line: None)
    assert calls == ["ssh.socket"]
    assert system.calls.index("systemctl daemon-reload") < system.calls.index("systemctl restart ssh.socket")
    assert bool(system.matching("systemctl reload ssh.service")) is running


def test_sshd_that_refuses_its_configuration_is_left_alone(system: FakeSystem) -> None:
    system.failing = {"/usr/sbin/sshd -t": "bad option"}
    with pytest.raises(Exception, match="bad option"):
        sshd.reload(system, lambda line: None)
    assert system.calls == ["/usr/sbin/sshd -t"]
