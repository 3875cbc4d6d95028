"""Jobs: units that are of the release that serves, and how they went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import heal, jobs, start, status

from tests.unit.host.running import IDS, Host, failure, host_at

OLD, NEW = IDS[:2]
SERVICE, TIMER = "notes.job-cleanup.service", "notes.job-cleanup.timer"


def job(text: str = "of @RELEASE@", **more: Any) -> Any:
    """A job."""
    units = {"service": f"{text}\n", "timer": f"[Timer] {more.get('when', 'daily')}\n"}
    return {"command": ["python", "-m", "notes.cleanup"], "calendar": ["daily"], "units": units}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The first release serves, and has a job."""
    host = host_at(tmp_path, monkeypatch)
    host.app.wanted["jobs"] = {"cleanup": job()}
    host.add(OLD, units=True, current=True)
    host.system.doing["systemctl enable"] = lambda line: enabled(host, line)
    host.system.doing["systemctl disable"] = lambda line: disabled(host, line)
    host.system.states[TIMER] = host.system.states[SERVICE] = {"ActiveState": "inactive"}
    host.system.doing[f"systemctl start {TIMER}"] = lambda _: host.system.states.update({TIMER: {}})
    return host


def links(host: Host, line: str) -> list[Path]:
    """Those by which a boot starts the timers that a command line names."""
    folder = host.layout.units / "timers.target.wants"
    folder.mkdir(exist_ok=True)
    return [folder / word for word in line.split() if word.endswith(".timer")]


def enabled(host: Host, line: str) -> None:
    """systemd enables timers."""
    for link in links(host, line):
        link.symlink_to(host.layout.units / link.name)


def disabled(host: Host, line: str) -> None:
    """It disables them."""
    for link in links(host, line):
        link.unlink()


def there(host: Host) -> dict[str, str]:
    """The jobs' units."""
    return {path.name: path.read_text() for path in host.layout.units.glob("notes.job-*")}


def test_they_are_those_of_the_release_that_serves(host: Host) -> None:
    heal.tidy(host.app)
    assert there(host) == {SERVICE: f"of {OLD}\n", TIMER: "[Timer] daily\n"}
    assert host.system.done_to("cleanup") == [
        f"systemctl enable --quiet --no-reload {TIMER}",
        f"systemctl start {TIMER}",
    ]
    order = [call for call in host.system.calls if "reload" in call]
    assert order[-1] == "systemctl daemon-reload", "after it was enabled: systemd 257 would ask for it for ever"
    host.system.calls.clear()
    heal.tidy(host.app)
    assert host.system.done_to("cleanup") == [] and "systemctl daemon-reload" not in host.system.calls


def test_another_release_takes_them_over(host: Host) -> None:
    """A timer whose time is the same isn't touched: a job that is due starts once."""
    jobs.settle(host.app, OLD)
    host.add(NEW, units=True)
    host.system.calls.clear()
    jobs.settle(host.app, NEW)
    assert there(host)[SERVICE] == f"of {NEW}\n"
    assert host.system.done_to("") == ["systemctl daemon-reload"]
    host.app.wanted["jobs"] = {"cleanup": job(when="hourly")}
    host.add(IDS[2], units=True)
    jobs.settle(host.app, IDS[2])
    assert host.system.done_to(TIMER) == [f"systemctl restart {TIMER}"]


def test_units_that_a_killed_run_left_are_a_fault(host: Host) -> None:
    """Else nothing would be wrong, and no run would come."""
    jobs.settle(host.app, OLD)
    assert jobs.faults(host.app, OLD) == []
    host.add(NEW, units=True, current=True)
    assert f"{SERVICE} is another release's" in status.status(host.app)["faults"]
    host.app.wanted["jobs"] = {}
    host.add(IDS[2], units=True, current=True)
    assert f"{TIMER} is there" in status.status(host.app)["faults"]
    jobs.settle(host.app, IDS[2])
    assert jobs.faults(host.app, IDS[2]) == []


def test_a_process_that_is_called_as_a_job_is_left_alone(host: Host) -> None:
    unit = host.layout.units / f"notes.job-x@{OLD}.service"
    unit.touch()
    host.system.states[unit.name] = {"ActiveState": "failed"}
    jobs.settle(host.app, OLD)
    assert unit.exists()


def test_one_that_is_no_longer_wanted_goes(host: Host) -> None:
    jobs.settle(host.app, OLD)
    host.app.wanted["jobs"] = {}
    host.add(NEW, units=True)
    host.system.states[SERVICE] = {"ActiveState": "activating"}
    jobs.settle(host.app, NEW)
    assert [*there(host)] == [SERVICE], "it runs, and how it ends will be written down"
    assert host.system.done_to(TIMER)[-2:] == [
        f"systemctl disable --quiet --no-reload {TIMER}",
        f"systemctl stop {TIMER}",
    ]
    host.system.states[SERVICE] = {"ActiveState": "inactive"}
    jobs.settle(host.app, NEW)
    assert there(host) == {} and [*host.layout.units.glob("*.wants/*")] == []


def test_without_jobs_nothing_is_asked(host: Host) -> None:
    host.add(NEW, units=True, wanted={**host.app.wanted, "jobs": {}})
    jobs.settle(host.app, NEW)
    jobs.settle(host.app, None)
    assert host.system.calls == []


def test_a_release_whose_job_runs_is_kept(host: Host) -> None:
    for release in IDS[1:5]:
        host.add(release)
    host.app.wanted["keep"] = 2
    host.at.jobs.mkdir()
    (host.at.jobs / "cleanup.runs").write_text(f"1767225600 {IDS[1]}\n")
    host.system.states[SERVICE] = {"ActiveState": "activating"}
    heal.prune(host.app, OLD)
    assert host.releases == [OLD, IDS[1], *IDS[3:5]]
    host.system.states[SERVICE] = {"ActiveState": "inactive"}
    heal.prune(host.app, OLD)
    assert host.releases == [OLD, *IDS[3:5]]


def test_all_are_ended_if_the_app_is_stopped_first(host: Host) -> None:
    jobs.settle(host.app, OLD)
    host.system.calls.clear()
    start.make_way(host.app, NEW)
    assert host.system.done_to("job-") == [f"systemctl stop {TIMER}", f"systemctl stop --no-block {SERVICE}"]


def test_a_job_that_could_not_start_is_told_before_anything_changes(host: Host) -> None:
    (host.at.programs(OLD) / "python").chmod(0o644)
    expected = "jobs.cleanup: there is no program python in the release, nor in the PATH."
    assert failure(jobs.check, host.app, OLD) == expected
    (host.at.programs(OLD) / "python").chmod(0o755)
    jobs.check(host.app, OLD)
    host.system.failing["systemd-analyze calendar --iterations=1 daily"] = "Failed to parse"
    expected = "jobs.cleanup.schedule: systemd doesn't know 'daily':\nFailed to parse"
    assert failure(jobs.check, host.app, OLD) == expected


RAN = f"1767225600 1767225605 {OLD}"


@pytest.mark.parametrize(
    ("last", "active", "line"),
    [
        ("", "inactive", "Job cleanup: it has not run yet; nothing starts it."),
        ("", "activating", "Job cleanup: it has not ended yet; it runs now."),
        (
            f"success exited 0 {RAN}",
            "activating",
            "Job cleanup: succeeded, started 2026-01-01 00:00:00 UTC, took 5 s; it runs now.",
        ),
        (
            f"exit-code exited 3 {RAN}",
            "inactive",
            "Job cleanup: failed (exit-code 3), started 2026-01-01 00:00:00 UTC, took 5 s; nothing starts it.",
        ),
        (
            f"timeout killed TERM {RAN}",
            "inactive",
            "Job cleanup: failed (timeout TERM), started 2026-01-01 00:00:00 UTC, took 5 s; nothing starts it.",
        ),
        (
            f"resources   {RAN}",
            "inactive",
            "Job cleanup: failed (resources), started 2026-01-01 00:00:00 UTC, took 5 s; nothing starts it.",
        ),
        ("\x1b[2J", "inactive", "Job cleanup: it has not run yet; nothing starts it."),
    ],
)
def test_how_it_went(host: Host, last: str, active: str, line: str) -> None:
    host.at.jobs.mkdir()
    (host.at.jobs / "cleanup").write_text(last)
    (host.at.jobs / "cleanup.runs").write_text(f"1767225600 {OLD}\n")
    host.system.states[SERVICE] = {"ActiveState": active}
    told = status.status(host.app)
    assert told["jobs"]["cleanup"]["state"] == ("running" if active == "activating" else "off")
    assert status.summary(host.app, told).splitlines()[-1] == f"notes: {line}"
    assert f"{TIMER} isn't running" in told["faults"]


def test_when_it_is_next(host: Host) -> None:
    host.system.states[TIMER] = {"NextElapseUSecRealtime": "Thu 2026-01-01 03:30:00 UTC"}
    went = jobs.told(host.app, OLD)["cleanup"]
    assert (went["state"], went["next"]) == ("waiting", "Thu 2026-01-01 03:30:00 UTC")
    assert jobs.line(host.app, "cleanup", went) == (
        "Job cleanup: it has not run yet; next Thu 2026-01-01 03:30:00 UTC."
    )
