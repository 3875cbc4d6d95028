"""The processes of a release: a further kind is one class, and takes part in every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.proxy import sockets
from slipway_host.release import heal, processes, proof, retire, rollback, start, status
from slipway_host.release.app import App
from slipway_host.release.processes import Process, web
from slipway_host.release.processes.web import WEB
from typing_extensions import override

from tests.unit.host.running import IDS, Host, failure, host_at

OLD, NEW = IDS[:2]


class Worker(Process):
    """A process without a socket: it takes jobs from a queue until another release does."""

    name = "The worker"
    kinds = ("worker.service",)

    @override
    def ready(self, app: App, release: str) -> tuple[bool, str]:
        state = app.systemd.state(self.service(app, release))["ActiveState"]
        return state == "active", state

    @override
    def seconds(self, app: App) -> float:
        return 2

    @override
    def unready(self, app: App, seen: str) -> str:
        return f"The worker wasn't running within 2 s; it was {seen}."

    @override
    def turned_bad(self, app: App, seen: str) -> str:
        return f"the worker ended: it is {seen}."

    @override
    def let_go(self, app: App, release: str) -> None:
        app.systemd.ctl("stop", "--no-block", self.service(app, release))

    @override
    def busy(self, app: App, release: str) -> bool:
        return app.systemd.state(self.service(app, release))["ActiveState"] == "deactivating"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Releases have both processes."""
    host = host_at(tmp_path, monkeypatch)
    monkeypatch.setattr(processes, "PROCESSES", (WEB, Worker()))
    monkeypatch.setattr(web, "probe", lambda app, release: (True, "200"))
    host.app.wanted["units"]["worker.service"] = "# @RELEASE@ worker\n"
    return host


def runs(host: Host, release: str, kind: str, state: str = "active", restarts: int = 0) -> None:
    """Let systemd and the kernel know a service."""
    unit = host.at.unit(release, kind)
    (host.layout.proc / "71").mkdir(exist_ok=True)
    (host.layout.proc / "71/cgroup").write_text("0::/app.slice\n")
    host.system.states[unit] = {
        "ActiveState": state,
        "NRestarts": str(restarts),
        "MainPID": "71",
        "ControlGroup": "/app.slice",
        "EnvironmentFiles": f"{host.at.env(release)} (ignore_errors=no)",
        "FragmentPath": str(host.layout.units / unit),
    }


def test_it_is_of_the_releases_that_were_made_with_it(host: Host) -> None:
    host.add(NEW)
    assert processes.units(host.app, NEW) == [
        f"notes@{NEW}.socket",
        f"notes@{NEW}.service",
        f"notes.worker@{NEW}.service",
    ]
    del host.app.wanted["units"]["worker.service"]
    host.add(OLD)
    assert processes.units(host.app, OLD) == [f"notes@{OLD}.socket", f"notes@{OLD}.service"]
    assert processes.services(host.app, [OLD, NEW]) == [
        f"notes@{OLD}.service",
        f"notes@{NEW}.service",
        f"notes.worker@{NEW}.service",
    ]


@pytest.mark.parametrize("units", [None, [], {}, {"x": "y"}, "worker.service"])
def test_a_record_that_does_not_tell_its_processes(host: Host, units: object) -> None:
    """Those of files are found, so that they can be removed; a release always answers requests."""
    host.add(OLD, wanted={**host.app.wanted, "units": units})
    web_units = [f"notes@{OLD}.socket", f"notes@{OLD}.service"]
    assert processes.units(host.app, OLD) == web_units
    host.install(OLD)
    told = isinstance(units, dict) and units
    assert processes.units(host.app, OLD) == web_units + ([] if told else [f"notes.worker@{OLD}.service"])


def test_it_starts_behind_the_others(host: Host) -> None:
    host.add(NEW, "started")
    start.start(host.app, NEW)
    assert host.system.matching("systemctl start") == [
        f"systemctl start notes@{NEW}.socket",
        f"systemctl start notes@{NEW}.service",
        f"systemctl start notes.worker@{NEW}.service",
    ]


def test_one_that_does_not_start_is_told(host: Host) -> None:
    host.add(NEW, "started")
    host.system.failing[f"start notes.worker@{NEW}.service"] = "no"
    host.system.printing[f"journalctl --namespace=+notes -u notes.worker@{NEW}.service"] = "no broker\n"
    assert failure(start.start, host.app, NEW) == "The worker doesn't start:\nno broker"


@pytest.mark.parametrize(
    ("state", "restarts", "told"),
    [
        ("active", 0, None),
        ("activating", 0, "The worker wasn't running within 2 s; it was activating. The journal's last lines:\nlast"),
        ("activating", 2, "The worker crashes during its start:\nlast"),
        ("failed", 0, "The worker crashes during its start:\nlast"),
    ],
)
def test_each_is_proven(host: Host, state: str, restarts: int, told: str | None) -> None:
    host.add(NEW, "started", units=True)
    runs(host, NEW, "service")
    runs(host, NEW, "worker.service", state, restarts)
    host.system.printing["journalctl"] = "last"
    if told:
        assert failure(proof.prove, host.app, NEW) == told
    else:
        proof.prove(host.app, NEW)


def test_each_is_watched(host: Host) -> None:
    host.add(OLD, units=True, current=True)
    host.add(NEW, "started", units=True)
    host.app.wanted["watch"] = 3
    host.system.printing["journalctl"] = "last"
    runs(host, NEW, "service")
    runs(host, NEW, "worker.service")
    proof.watch(host.app, NEW)
    runs(host, NEW, "worker.service", "failed")
    assert failure(proof.watch, host.app, NEW) == "It served, then the worker ended: it is failed.\nlast"


def test_it_hands_over_when_another_release_serves(host: Host) -> None:
    host.app.wanted["keep_warm"], host.app.wanted["drain_timeout"] = 60, 5
    host.add(OLD, units=True)
    retire.let_go(host.app, OLD)
    assert f"systemctl stop --no-block notes.worker@{OLD}.service" in host.system.calls
    assert (host.layout.warm_units / f"notes.worker@{OLD}.service").is_file()
    runs(host, OLD, "worker.service", "deactivating")
    assert retire.busy(host.app, OLD)
    runs(host, OLD, "worker.service", "inactive")
    assert not retire.busy(host.app, OLD)


def test_what_ends_is_ended_whole(host: Host) -> None:
    host.add(OLD, units=True)
    retire.remove(host.app, OLD, at_once=True)
    killed = [f"systemctl kill --signal=SIGKILL notes@{OLD}.service"]
    assert host.system.matching("systemctl kill") == killed, "a worker may finish its job"
    assert f"systemctl stop notes.worker@{OLD}.service notes@{OLD}.service notes@{OLD}.socket" in host.system.calls
    assert host.app.installed() == set() and list(host.layout.units.glob("notes*")) == []


def test_a_rollback_starts_the_one_that_has_handed_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.warm(OLD)
    runs(host, OLD, "service")
    runs(host, OLD, "worker.service", "inactive")
    assert rollback.revive(host.app, OLD) is None
    assert f"systemctl start notes.worker@{OLD}.service" in host.system.calls
    runs(host, OLD, "worker.service")
    assert rollback.revive(host.app, OLD) == "it was warm"


def test_one_that_does_not_run_is_a_fault(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add(OLD, units=True, current=True)
    host.enable(OLD)
    for kind, state in (("socket", "active"), ("service", "active"), ("worker.service", "failed")):
        runs(host, OLD, kind, state)
    unit = f"notes.worker@{OLD}.service"
    states = host.app.systemd.states(processes.units(host.app, OLD), "ActiveState")
    assert status.faults(host.app, OLD, states) == [f"{unit} isn't running", f"{unit} isn't enabled"]
    assert not heal.answers(host.app, OLD)


def test_the_web_process_alone_is_asked_for_connections(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add(OLD, units=True)
    runs(host, OLD, "worker.service")
    monkeypatch.setattr(sockets, "connections", lambda path: 2 if path == host.at.socket(OLD) else 0)
    assert WEB.busy(host.app, OLD) and retire.busy(host.app, OLD)
