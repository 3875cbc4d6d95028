"""The processes of a release: a further kind is one class, and takes part in every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.proxy import sockets
from slipway_host.release import heal, processes, proof, retire, rollback, start, status, switch
from slipway_host.release.processes import web
from slipway_host.release.processes.web import WEB

from tests.unit.host.running import IDS, Host, failure, host_at

OLD, NEW = IDS[:2]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Releases have both processes."""
    host = host_at(tmp_path, monkeypatch)
    monkeypatch.setattr(web, "probe", lambda app, release: (True, "200"))
    host.app.wanted["units"]["worker.service"] = "# @RELEASE@ worker\n"
    host.app.wanted["processes"] = {"worker": {"command": ["work"], "alive": 3, "alone": False}}
    return host


def runs(host: Host, release: str, kind: str, state: str = "active", restarts: int = 0, since: float = 60) -> None:
    """Let systemd and the kernel know a service that is in this state for some seconds."""
    unit = host.at.unit(release, kind)
    (host.layout.proc / "71").mkdir(exist_ok=True)
    (host.layout.proc / "71/cgroup").write_text("0::/app.slice\n")
    host.system.states[unit] = {
        "ActiveState": state,
        "NRestarts": str(restarts),
        "ActiveEnterTimestampMonotonic": str(int((host.system.at - since) * 1e6)),
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
    assert failure(start.start, host.app, NEW) == "The process worker doesn't start:\nno broker"


@pytest.mark.parametrize(
    ("state", "restarts", "told"),
    [
        ("active", 0, None),
        (
            "activating",
            0,
            "The process worker didn't keep running within 33 s; it was activating. The journal's last lines:\nlast",
        ),
        ("activating", 2, "The process worker crashes during its start:\nlast"),
        ("failed", 0, "The process worker crashes during its start:\nlast"),
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
    assert failure(proof.watch, host.app, NEW) == "It served, then the process worker ended: it was failed.\nlast"


def test_it_hands_over_when_another_release_serves(host: Host) -> None:
    host.app.wanted["keep_warm"], host.app.wanted["drain_timeout"] = 60, 5
    host.add(OLD, units=True)
    start.launch(host.app, OLD)
    assert [path.name for path in host.at.started.iterdir()] == [OLD]
    retire.let_go(host.app, OLD)
    assert [*host.at.started.iterdir()] == [], "nothing starts it again"
    assert f"systemctl stop --no-block notes.worker@{OLD}.service" in host.system.calls
    assert (host.layout.warm_units / f"notes.worker@{OLD}.service").is_file()
    runs(host, OLD, "worker.service", "deactivating")
    assert processes.finishing(host.app, OLD) and not retire.busy(host.app, OLD), "nothing waits for it"
    runs(host, OLD, "worker.service", "inactive")
    assert not processes.finishing(host.app, OLD)


def test_one_that_a_boot_has_started_starts_anew_until_the_commit(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its unit goes by nginx, which names the new release meanwhile."""
    monkeypatch.setattr(web, "public", lambda app, each: None)
    host.add(OLD, units=True, current=True)
    host.add(NEW, "started", units=True)
    switch.switch(host.app, NEW)
    assert [path.name for path in host.at.started.iterdir()] == [OLD]
    retire.let_go(host.app, OLD)
    assert [*host.at.started.iterdir()] == []


def test_what_ends_is_ended_whole(host: Host) -> None:
    host.add(OLD, units=True)
    runs(host, OLD, "worker.service", "inactive")
    retire.remove(host.app, OLD, at_once=True)
    killed = [f"systemctl kill --signal=SIGKILL notes@{OLD}.service"]
    assert host.system.matching("systemctl kill") == killed, "a worker may finish its job"
    assert f"systemctl stop --no-block notes.worker@{OLD}.service" in host.system.calls
    assert f"systemctl stop notes@{OLD}.service notes@{OLD}.socket" in host.system.calls
    assert host.app.installed() == set() and list(host.layout.units.glob("notes*")) == []


def test_a_worker_with_a_long_job_holds_nothing_up(host: Host) -> None:
    """The rest of its release ends; a unit waits for it, and removes what is left."""
    host.add(OLD, "failed", units=True)
    host.add(NEW, units=True, current=True)
    runs(host, OLD, "worker.service", "deactivating")
    retire.remove(host.app, OLD, at_once=True)
    assert sum(host.system.slept) < 3
    assert [path.name for path in host.layout.units.glob(f"*{OLD}*")] == []
    assert [path.name for path in host.layout.warm_units.iterdir()] == [f"notes.worker@{OLD}.service"]
    (later,) = host.system.matching("systemd-run")
    assert later.endswith(f" retire notes {OLD}") and f"--unit=notes-retire-{OLD}" in later
    assert host.app.warm() == {OLD}, "as long as that unit is there"
    heal.tidy(host.app)
    assert host.releases == [OLD, NEW], "its folder is needed"
    host.system.doing["list-units"] = lambda _: runs(host, OLD, "worker.service", "inactive")
    retire.retire(host.app, OLD)
    assert host.releases == [NEW] and [*host.layout.warm_units.iterdir()] == []


def test_a_release_does_not_wait_for_it(host: Host) -> None:
    """What ends it later is left."""
    host.warm(OLD, pending=True)
    runs(host, OLD, "worker.service", "deactivating")
    host.add(NEW, "started", units=True)
    start.start(host.app, NEW)
    assert host.system.matching(f"notes-retire-{OLD}") == [] and host.system.slept == []
    runs(host, OLD, "worker.service", "inactive")
    start.start(host.app, NEW)
    assert len(host.system.done_to(f"notes-retire-{OLD}.timer")) == 1


def test_a_worker_that_finishes_its_work_starts_again_then(host: Host) -> None:
    host.warm(OLD)
    runs(host, OLD, "service")
    runs(host, OLD, "worker.service", "deactivating")
    assert rollback.revive(host.app, OLD) is None
    assert host.system.matching(f"notes.worker@{OLD}.service")[-1] == (
        f"systemctl start --no-block notes.worker@{OLD}.service"
    )
    (_, worker) = processes.of(host.app, OLD)
    assert worker.ready(host.app, OLD) == (False, "deactivating"), "nothing starts it yet"
    host.system.states[f"notes.worker@{OLD}.service"]["Job"] = "17"
    assert worker.ready(host.app, OLD) == (True, "finishing its work, to be started again")


def test_a_worker_must_run_for_a_while(host: Host) -> None:
    host.add(NEW, "started", units=True)
    (_, worker) = processes.of(host.app, NEW)
    runs(host, NEW, "worker.service", since=2.5)
    assert worker.ready(host.app, NEW) == (False, "running for 2.5 s")
    runs(host, NEW, "worker.service", since=3)
    assert worker.ready(host.app, NEW) == (True, "running for 3.0 s")


def test_a_scheduler_is_alone(host: Host) -> None:
    """The old one ends before the new one starts; after a failure it is started again."""
    host.app.wanted["processes"]["worker"]["alone"] = True
    host.add(OLD, units=True, current=True)
    host.add(NEW, "started", units=True)
    start.launch(host.app, NEW)
    assert host.system.done_to("worker@") == [
        f"systemctl stop notes.worker@{OLD}.service",
        f"systemctl start notes.worker@{NEW}.service",
    ]
    runs(host, OLD, "worker.service", "inactive")
    runs(host, NEW, "worker.service", "inactive")
    assert heal.undo(host.app, NEW) == ""
    assert host.system.done_to("worker@")[-1] == f"systemctl start notes.worker@{OLD}.service"


def test_several_of_a_process(host: Host) -> None:
    host.app.wanted["units"] = {
        "socket": "",
        "service": "",
        "work.2.service": "",
        "work.1.service": "",
        "x.service": "",
    }
    host.add(NEW, units=True)
    assert processes.services(host.app, [NEW]) == [
        f"notes@{NEW}.service",
        f"notes.work.1@{NEW}.service",
        f"notes.work.2@{NEW}.service",
        f"notes.x@{NEW}.service",
    ]
    assert [each.name for each in processes.of(host.app, NEW)][1:] == [
        "The process work.1",
        "The process work.2",
        "The process x",
    ]


def test_a_program_that_is_not_there_is_told_before_anything_changes(host: Host) -> None:
    host.add(NEW, "started")
    (_, worker) = processes.of(host.app, NEW)
    told = "processes.worker: there is no program work in the release, nor in the PATH."
    assert failure(worker.check, host.app, NEW) == told
    (host.at.programs(NEW) / "work").touch(0o755)
    worker.check(host.app, NEW)


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
