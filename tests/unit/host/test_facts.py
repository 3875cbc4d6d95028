"""All that a run of the operator's wants to know of a host, in one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway_host import VERSION, acme
from slipway_host.cli import facts
from slipway_host.names import ABOUT
from slipway_host.proxy.nginx import Nginx
from slipway_host.release import status, target
from slipway_host.release.app import App
from slipway_host.system import Failed

from tests.unit.host.fakes import FakeSystem
from tests.unit.host.running import IDS, Host, failure, host_at

NGINX = {"generation": "g1", "managed": True, "live": True, "files": {}}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(Nginx, "status", lambda self: NGINX)
    host = host_at(tmp_path, monkeypatch)
    host.add(IDS[0])
    host.add(IDS[1], units=True, current=True, previous=IDS[0])
    host.enable(IDS[1])
    return host


def ask(host: Host, **question: Any) -> Any:
    """The answer."""
    return facts.facts(host.system, {"protocol": 1, **question})  # type: ignore[typeddict-item]


def test_all_apps_are_told_of_at_once(host: Host) -> None:
    other = host.layout.app("wiki")
    other.releases.mkdir(parents=True)
    told = ask(host, apps=["notes", "wiki", "new"], targets={"notes": None, "wiki": "x"})
    assert (told["protocol"], told["slipway"], told["format"]) == (1, VERSION, 1)
    assert told["nginx"] == NGINX and told["certificates"] == {}
    assert told["apps"]["notes"] == status.status(host.app) and told["apps"]["notes"]["faults"] == []
    for name in ("wiki", "new"):
        assert told["apps"][name]["faults"] == ["no release serves yet"], "also of one that isn't there yet"
    assert told["targets"]["notes"] == {"release": IDS[0], "error": None}
    assert told["targets"]["wiki"]["error"].startswith("No release serves yet")


def test_certificates_are_told_of(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acme, "lineages", lambda system: {"notes": {"valid": True}})
    assert ask(host, apps=["notes"])["certificates"] == {"notes": {"valid": True}}

    def broken(system: FakeSystem) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "openssl")

    monkeypatch.setattr(acme, "lineages", broken)
    told = ask(host, apps=["notes"])
    assert told["certificates"] == {} and told["apps"]["notes"]["release"] == IDS[1]


def test_systemd_is_asked_once(host: Host) -> None:
    ask(host, apps=["notes", "wiki", "new"])
    assert host.system.calls == ["systemctl list-units --all --output=json"]


def test_what_ends_may_be_about_to_start_again(host: Host) -> None:
    unit = f"notes@{IDS[1]}.service"
    for job, faults in (("0", [f"{unit} isn't running"]), ("17", [])):
        host.system.states[unit] = {"ActiveState": "deactivating", "Job": job}
        assert ask(host, apps=["notes"])["apps"]["notes"]["faults"] == faults


def test_what_systemd_has_not_loaded_does_not_run(host: Host) -> None:
    unit = f"notes@{IDS[1]}.service"
    (host.layout.units / unit).unlink()
    assert f"{unit} isn't running" in ask(host, apps=["notes"])["apps"]["notes"]["faults"]


def test_a_run_under_way_is_told(host: Host) -> None:
    folder = host.layout.app("notes").runs / "0123abcd"
    folder.mkdir(parents=True)
    (folder / ABOUT).write_text('{"verb": "release", "by": "anna", "since": "2026-12-01T00:00:00Z"}')
    host.system.states["notes-release.service"] = {"ActiveState": "activating", "Description": "Slipway: run 0123abcd"}
    assert ask(host, apps=["notes"])["apps"]["notes"]["run"]["by"] == "anna"


def test_nothing_is_asked_of_nothing(host: Host) -> None:
    told = ask(host)
    assert (told["apps"], told["targets"], host.system.calls) == ({}, {}, [])


def test_what_cannot_be_told_of_one_keeps_no_other_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = status.status

    def broken(app: App, *given: Any) -> Any:
        if app.name == "wiki":
            raise OSError(5, "Input/output error", "/srv/wiki\x1b[2J")
        return real(app, *given)

    def no_target(app: App, to: str | None) -> Any:
        raise KeyError("id")

    def no_nginx(self: Nginx) -> Any:
        raise Failed("nginx is odd")

    monkeypatch.setattr(status, "status", broken)
    monkeypatch.setattr(target, "target", no_target)
    monkeypatch.setattr(Nginx, "status", no_nginx)
    told = ask(host, apps=["wiki", "notes"], targets={"notes": None})
    assert told["apps"]["wiki"] == {"error": "[Errno 5] Input/output error: '/srv/wiki\\x1b[2J'"}
    assert told["apps"]["notes"]["release"] == IDS[1]
    assert told["targets"] == {"notes": {"release": None, "error": "KeyError: 'id'"}}
    assert told["nginx"] == {"error": "nginx is odd"}


def test_a_systemd_that_does_not_answer_for_all_is_asked_for_each(host: Host) -> None:
    host.system.failing |= dict.fromkeys(("list-units", "wiki-release.service"), "Failed to get properties")
    told = ask(host, apps=["notes", "wiki"])
    assert told["apps"]["notes"]["faults"] == [] and told["apps"]["wiki"] == {"error": "Failed to get properties"}


def test_what_is_no_name_is_not_made_part_of_a_path(host: Host) -> None:
    told = ask(host, apps=["../etc", "notes/..", ""], targets={"..": None})
    assert told["apps"]["../etc"] == {"error": "'../etc' is no name: letters, digits and hyphens"}
    assert [*map(list, told["apps"].values())] == [["error"]] * 3
    assert told["targets"] == {"..": {"release": None, "error": "'..' is no name: letters, digits and hyphens"}}


def test_a_newer_host_is_refused(host: Host) -> None:
    host.layout.format.write_text('{"format": 3, "slipway": "9.9.9"}')
    assert "Slipway 9.9.9 (format 3)" in failure(ask, host)
