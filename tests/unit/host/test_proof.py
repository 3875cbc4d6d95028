"""prove and watch: what a release answers, and that what runs is that very release."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest
from slipway_host.release import heal, proof
from slipway_host.release.app import App
from slipway_host.release.processes import web
from slipway_host.wanted import is_good

from tests.unit.host.running import IDS, Host, failure, host_at

GOOD, BAD = (True, "200 ok"), (False, "503 no db")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", (True, "200 ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (True, "204 ")),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nno db", (False, "503 no db")),
        (b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n", (False, "307 ")),
        (b"", (False, "no answer (Remote end closed connection without response)")),
    ],
)
def test_a_probe_asks_through_the_releases_own_socket(
    host: Host, monkeypatch: pytest.MonkeyPatch, answer: bytes, found: tuple[bool, str]
) -> None:
    asked: list[str] = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/r1.sock")  # the path of a socket must be short
        server.listen()
        monkeypatch.setattr(host.at, "socket", lambda release: Path(folder) / f"{release}.sock")

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        assert web.probe(host.app, "r1") == found
        serving.join()
    lines = asked[0].split("\r\n")
    assert lines[0] == "GET /readyz HTTP/1.1"
    assert {"Host: notes.example.com", "X-Forwarded-Proto: https", "X-Forwarded-For: 127.0.0.1"} <= set(lines)


@pytest.mark.parametrize(
    ("status", "strict", "lenient"),
    [
        (200, True, True),
        (204, True, True),
        (302, False, True),
        (401, False, True),
        (404, False, True),
        (429, True, True),
        (499, False, True),
        (500, False, False),
        (503, False, False),
        (0, False, False),
    ],
)
def test_what_is_a_good_answer(status: int, strict: bool, lenient: bool) -> None:
    assert (is_good(status, strict=True), is_good(status, strict=False)) == (strict, lenient)


def test_a_probe_of_a_socket_that_is_not_there(host: Host) -> None:
    ready, seen = web.probe(host.app, "r1")
    assert ready is False and seen.startswith("no answer ([Errno 2] ")


def test_a_release_is_asked_by_the_path_that_it_was_made_with(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wanted now may name another one."""
    host.add(IDS[0])
    asked: list[str] = []

    def ask(connect: object, readiness: dict[str, str]) -> tuple[int, str, None]:
        asked.append(readiness["path"])
        return 302, "", None

    monkeypatch.setattr(web, "ask", ask)
    host.app.wanted["readiness"] = {**host.app.wanted["readiness"], "path": "/", "strict": False}
    assert web.probe(host.app, IDS[0]) == (False, "302 ")
    assert web.probe(host.app, "none") == (True, "302 ")
    assert asked == ["/readyz", "/"]


def probes(monkeypatch: pytest.MonkeyPatch, *answers: tuple[bool, str]) -> list[tuple[bool, str]]:
    """Let the release answer so, and then go on as it did last; returns what was answered."""
    given: list[tuple[bool, str]] = []

    def probe(app: App, each: str) -> tuple[bool, str]:
        given.append(answers[min(len(given), len(answers) - 1)])
        return given[-1]

    monkeypatch.setattr(web, "probe", probe)
    return given


GROUP = "/app.slice/app-notes.slice/notes@r1.service"


def runs(host: Host, **other: str) -> None:
    """Let systemd and the kernel know the service of r1, as it should be but for these properties."""
    known = {
        "MainPID": "71",
        "ControlGroup": GROUP,
        "EnvironmentFiles": f"{host.at.env('r1')} (ignore_errors=no)",
        "FragmentPath": str(host.layout.units / "notes@r1.service"),
        "NeedDaemonReload": "no",
    }
    host.system.states["notes@r1.service"] = known | other
    (host.layout.proc / "71").mkdir(exist_ok=True)
    (host.layout.proc / "71/cgroup").write_text(f"0::{GROUP}\n")


def test_a_proof(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(host)
    given = probes(monkeypatch, BAD, BAD, GOOD)
    proof.prove(host.app, "r1")
    assert given == [BAD, BAD, GOOD] and host.app.progress.last == "200 ok"
    assert host.system.matching("daemon-reload") == []


ANOTHER = "notes@r1.service runs with another release's environment: `systemctl cat notes@r1.service` tells why."
NO_PROCESS = "notes@r1.service has no process of its own that runs: `systemctl status notes@r1.service` tells why."


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        ({"EnvironmentFiles": "{etc}/releases/r0.env (ignore_errors=no)"}, ANOTHER),
        ({"EnvironmentFiles": "{etc}/env (ignore_errors=no)"}, ANOTHER),
        ({"EnvironmentFiles": ""}, ANOTHER),
        ({"EnvironmentFiles": "{ours}\nEnvironmentFiles={etc}/more.env (ignore_errors=yes)"}, None),  # the owner's own
        ({"EnvironmentFiles": "{ours}\nEnvironmentFiles={etc}/releases/r0.env (ignore_errors=no)"}, ANOTHER),
        ({"FragmentPath": "/usr/lib/systemd/system/notes@.service"}, ANOTHER),
        ({"FragmentPath": ""}, ANOTHER),
        ({"FragmentPath": "{warm}/notes@r1.service", "NeedDaemonReload": "yes"}, None),  # its files have moved
        ({"MainPID": "0"}, NO_PROCESS),
        ({"MainPID": "72"}, NO_PROCESS),
        ({"ControlGroup": "/app.slice/app-notes.slice/notes@r2.service"}, NO_PROCESS),
        ({"ControlGroup": "/app.slice/app-notes.slice/notes@r"}, NO_PROCESS),
        ({"ControlGroup": ""}, NO_PROCESS),
    ],
)
def test_what_runs_is_told_by_systemd_and_the_kernel(
    host: Host, monkeypatch: pytest.MonkeyPatch, other: dict[str, str], wrong: str | None
) -> None:
    """What a process writes over its own environment, as setproctitle does, says nothing."""
    probes(monkeypatch, GOOD)
    ours = f"{host.at.env('r1')} (ignore_errors=no)"
    names = {"etc": host.at.etc, "warm": host.layout.warm_units, "ours": ours}
    runs(host, **{name: value.format(**names) for name, value in other.items()})
    (host.layout.proc / "71/environ").write_bytes(b"gunicorn: master [notes]\0\0\0")
    if wrong:
        assert failure(proof.prove, host.app, "r1") == wrong
    else:
        proof.prove(host.app, "r1")
        assert host.system.matching("daemon-reload") == []


@pytest.mark.parametrize(
    ("lines", "there"),
    [
        (f"12:cpu:/\n1:name=systemd:{GROUP}\n0::/\n", True),
        (f"0::{GROUP}/workers\n", True),
        (f"0::{GROUP}x\n", False),
        ("", False),
    ],
)
def test_the_process_is_in_its_units_group(
    host: Host, monkeypatch: pytest.MonkeyPatch, lines: str, there: bool
) -> None:
    probes(monkeypatch, GOOD)
    runs(host)
    (host.layout.proc / "71/cgroup").write_text(lines)
    if there:
        proof.prove(host.app, "r1")
    else:
        assert failure(proof.prove, host.app, "r1") == NO_PROCESS


def test_what_a_restart_would_take_is_looked_at_as_well(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has edited the unit's file since it was started."""
    probes(monkeypatch, GOOD)
    runs(host, NeedDaemonReload="yes")

    def read(line: str) -> None:
        runs(host, EnvironmentFiles=f"{host.at.environments}/r0.env (ignore_errors=no)")

    host.system.doing["systemctl daemon-reload"] = read
    assert failure(proof.prove, host.app, "r1") == ANOTHER


def test_a_process_that_dies_while_it_is_brought_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a new release is made, and the run doesn't end there."""
    host.add("r1", units=True, current=True)
    probes(monkeypatch, GOOD)
    runs(host, MainPID="0", ActiveState="active", NRestarts="0")
    assert heal.bring_back(host.app, "r1") is False
    assert host.told().endswith(f"r1 doesn't serve again.\n{NO_PROCESS}\n")


def test_a_proof_that_does_not_come(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    probes(monkeypatch, BAD)
    began = host.system.clock()
    host.system.printing["journalctl"] = "the last line"
    assert failure(proof.prove, host.app, "r1") == (
        "/readyz wasn't ready within 5 s; its last answer: 503 no db. The journal's last lines:\nthe last line"
    )
    assert 5 < host.system.clock() - began < 5.5
    assert [round(each, 1) for each in host.system.slept[:6]] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


NO_PATH = (
    "/readyz answers 404: the app has no such path. Set readiness_path to one that it has, or remove readiness_path "
    "and liveness_path: then the app is ready when it answers / below 500."
)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([(False, "404 Not Found")], NO_PATH),
        ([(False, "404")], NO_PATH),
        ([(False, "404 a"), (False, "404 a"), (False, "503 "), GOOD], None),
        ([(False, "4040")], "/readyz wasn't ready within 5 s"),
        ([(False, "302 ")], "to where it leads."),
    ],
)
def test_a_path_that_the_app_lacks_ends_the_proof_at_once(
    host: Host, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[bool, str]], wrong: str | None
) -> None:
    runs(host)
    given = probes(monkeypatch, *answers)
    if wrong is None:
        proof.prove(host.app, "r1")
        return
    message = failure(proof.prove, host.app, "r1")
    assert wrong in message
    assert len(given) == 3 or wrong != NO_PATH


def test_without_an_answer_it_is_asked_again_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(host)
    probes(monkeypatch, *[(False, "no answer (Connection refused)")] * 20, GOOD)
    proof.prove(host.app, "r1")
    assert host.system.slept == [0.1] * 20


@pytest.mark.parametrize("state", ["ActiveState=failed\nNRestarts=0", "ActiveState=activating\nNRestarts=2"])
def test_a_crash_on_boot_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    probes(monkeypatch, BAD)
    host.system.printing = {"systemctl show": state, "journalctl": "ValueError: no database"}
    message = failure(proof.prove, host.app, "r1")
    assert message == "The app crashes during its start:\nValueError: no database" and host.system.slept == []


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([GOOD], None),
        ([GOOD, BAD, GOOD, BAD, BAD, GOOD], None),  # hiccups
        ([GOOD, BAD, BAD, BAD, GOOD], "503 no db"),
        ([BAD], "503 no db"),
    ],
)
def test_a_release_is_watched(
    host: Host, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[bool, str]], wrong: str | None
) -> None:
    host.add(IDS[0], current=True)
    host.app.wanted["watch"] = 3
    host.system.printing["journalctl"] = "the last line"
    began, given = host.system.clock(), probes(monkeypatch, *answers)
    if wrong is None:
        proof.watch(host.app, "r1")
        assert 3 <= host.system.clock() - began < 3.3 and 3 <= len(given) <= 7
    else:
        message = failure(proof.watch, host.app, "r1")
        assert message == f"It served, then /readyz turned bad: it answered {wrong}.\nthe last line"
        assert host.system.clock() - began < 2


def test_a_crash_while_it_is_watched_is_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd restarts it, and the next answer would be good."""
    host.add(IDS[0], current=True)
    host.app.wanted["watch"] = 3
    host.system.printing |= {"systemctl show": "NRestarts=4\n", "journalctl": "MemoryError"}
    given = probes(monkeypatch, GOOD)

    def crash(line: str) -> None:
        if len(given) == 2:
            host.system.printing["systemctl show"] = "NRestarts=5\n"

    host.system.doing["systemctl show"] = crash
    assert failure(proof.watch, host.app, "r1") == (
        "It served, then /readyz turned bad: it answered nothing: it crashed.\nMemoryError"
    )


@pytest.mark.parametrize("state", ["active", "deactivating", "inactive", "failed"])
def test_what_made_room_is_taken_away_during_the_watch_once_it_has_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    host.app.wanted["watch"] = 3
    host.warm(IDS[0])
    host.add(IDS[1], units=True, current=True)
    host.add(IDS[2], "started", units=True)
    host.system.states[f"notes@{IDS[0]}.service"] = {"ActiveState": state}
    probes(monkeypatch, GOOD)
    proof.watch(host.app, IDS[2])
    gone = state in ("inactive", "failed")
    assert host.app.installed() == {*IDS[gone:3]}, "what serves and what is watched stay"
    assert host.releases == IDS[:3], "whether one is to be deleted is for the commit"


@pytest.mark.parametrize(("seconds", "first"), [(0, False), (3, True)])
def test_no_watch(host: Host, monkeypatch: pytest.MonkeyPatch, seconds: int, first: bool) -> None:
    """None is wanted, or there is nothing to go back to."""
    if not first:
        host.add(IDS[0], current=True)
    host.app.wanted["watch"] = seconds
    given = probes(monkeypatch, BAD)
    assert proof.watch(host.app, "r1") == ("no previous release" if first else None)
    assert given == []
