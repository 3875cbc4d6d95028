"""systemd's units: what it tells of them, and jobs that end in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.system import Done
from slipway_host.systemd import JOB_SECONDS

from tests.unit.host.running import Host, failure, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = host_at(tmp_path, monkeypatch)
    host.system.printing["systemctl show"] = "TimeoutStopUSec=1min 5s\nTimeoutStartUSec=infinity"
    return host


def test_a_unit_whose_description_has_lines_is_found(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an earlier Slipway, or of somebody else: systemd-run makes one of the command line."""
    listed = "notes-check.service loaded active running /bin/python -c\n    import x\n\n    gc.freeze()\n"
    listed += "notes@r1.service loaded inactive dead notes release r1\n"
    monkeypatch.setattr(host.system, "run", lambda *argv, **_: Done(argv, 0, listed))
    told = host.app.systemd.loaded(["notes-check.service", "notes@r1.service", "notes-hook.service"])
    assert told == {"notes-check.service": "active", "notes@r1.service": "inactive"}


def test_what_cannot_be_killed_is_told(host: Host) -> None:
    host.system.slow.append("systemctl stop notes@")
    told = failure(host.app.systemd.stop, "notes@r1.service")
    assert told.startswith("notes@r1.service can't be ended, not even by SIGKILL")


@pytest.mark.parametrize(("verb", "seconds"), [("stop", 65), ("start", 905), ("restart", 970)])
def test_a_job_has_the_time_of_its_unit_and_a_little_more(host: Host, verb: str, seconds: int) -> None:
    systemd = host.app.systemd
    assert JOB_SECONDS + systemd.job_seconds(verb, ["notes@r1.service"]) == pytest.approx(seconds, abs=5)
    host.system.slow.append(f"systemctl {verb}")
    assert systemd.in_time(verb, "notes@r1.service") is None
