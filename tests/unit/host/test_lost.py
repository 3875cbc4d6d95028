"""A host whose files somebody deleted: whatever is gone, a release heals it, and no text names what isn't there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import rollback, status, target, transaction
from slipway_host.release.processes import web
from slipway_host.system import Failed

from tests.unit.host.running import IDS, Host, went_back

LOST: dict[str, Callable[[Host], list[Path]]] = {
    "releases": lambda host: [host.at.releases],
    "current": lambda host: [host.at.current],
    "folder": lambda host: [host.at.folder(IDS[0])],
    "program": lambda host: [host.at.programs(IDS[0]) / "python"],
    "other": lambda host: [host.at.folder(IDS[1])],
    "records": lambda host: [host.at.records],
    "record": lambda host: [host.at.record(IDS[0])],
    "manifests": lambda host: list(host.at.records.glob("*.manifest")),
    "environments": lambda host: [host.at.environments],
    "wanted": lambda host: [host.at.wanted],
    "upstream": lambda host: [host.layout.upstream("notes")],
    "units": lambda host: [*host.layout.units.iterdir()],
    "run": lambda host: [host.layout.warm_units, host.at.sockets, host.at.runs, host.at.seen],
}
"""What is deleted, by name."""
CASES = [
    *((name,) for name in LOST),
    ("releases", "current"),
    ("releases", "records"),
    ("current", "records"),
    ("records", "wanted"),
    ("current", "upstream", "units"),
    ("environments", "upstream", "run"),
    tuple(LOST),
]
REQUESTS: list[Any] = [
    *({"verb": "rollback", "to": to, "schema": None} for to in (IDS[1], None, IDS[0])),
    {"verb": "release", "again": False},
    {"verb": "release", "again": True},
]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """After a rollback: the first release serves, and the second one, which is wanted, is marked as bad and is warm."""
    host = went_back(tmp_path, monkeypatch)
    host.app.write_record(IDS[1], inputs=host.app.wanted["inputs"])
    for each in IDS[:2]:
        host.answering(each)
    monkeypatch.setattr(
        web, "probe", lambda app, each: (app.at.folder(each).is_dir() and app.at.env(each).exists(), "200")
    )
    return host


def lose(host: Host, lost: tuple[str, ...]) -> None:
    """Delete these."""
    for path in [path for name in lost for path in LOST[name](host)]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("lost", CASES, ids="-".join)
def test_a_release_heals(host: Host, lost: tuple[str, ...]) -> None:
    lose(host, lost)
    host.app.request["again"] = True
    transaction.release(host.app)
    serving = host.app.serving()
    assert serving and host.app.proxied() == serving and host.app.at.folder(serving).is_dir()
    assert host.app.record(serving)["state"] == "good" and host.app.damage(serving) == {}


@pytest.mark.parametrize("lost", CASES, ids="-".join)
def test_no_text_names_what_is_not_there(host: Host, lost: tuple[str, ...]) -> None:
    """Whatever is asked: neither what is said, nor a command, nor what is written down; and no list is empty."""
    lose(host, lost)
    told = [status.table(host.app), status.summary(host.app, status.status(host.app))]
    for request in REQUESTS:
        told.append(str(target.target(host.app, request.get("to"))["error"] or ""))
        host.app.request |= request
        try:
            {"release": transaction.release, "rollback": rollback.rollback}[request["verb"]](host.app)
        except Failed as failed:
            told.append(str(failed))
    told += [*host.said, *host.system.calls]
    assert [line for line in told if re.search(r"\bNone\b|: [.,](\s|$)|``", line)] == []
