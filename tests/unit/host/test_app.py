"""What is true of an app: its paths, its units, its records, and which release is what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slipway_host.layout import Layout
from slipway_host.release.app import in_order
from slipway_host.system import System

from tests.unit.host.running import IDS, Host, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


def test_the_paths_of_an_app() -> None:
    at = Layout().app("wiki-next")
    assert str(at.env("r1")) == "/etc/wiki-next/releases/r1.env"
    assert str(at.socket("r1")) == "/run/wiki-next/r1.sock"
    assert at.unit("r1", "service") == "wiki-next@r1.service"
    assert at.unit("r1", "worker.service") == "wiki-next.worker@r1.service"
    units = [Path(f"/etc/wiki-next{each}") for each in ("@r1.socket", ".worker@r1.service", "@r2.service")]
    assert at.released(units) == {"r1", "r2"}
    assert (str(at.releases), str(at.current)) == ("/srv/wiki-next/releases", "/srv/wiki-next/current")
    assert str(at.records) == "/var/lib/slipway/wiki-next"
    assert (str(at.lock), str(at.runs)) == ("/run/slipway/wiki-next.lock", "/run/slipway/wiki-next")
    assert at.run_unit == "wiki-next-release.service"
    ends = ["wiki-next-retire-r1.timer", "wiki-next-drain-r1.service", "wiki-next-retire-r1.service"]
    assert at.ends("r1") == ends


def test_the_units_that_are_installed(host: Host) -> None:
    """Neither those of an app whose name begins so, nor what a mask or systemd's own folders are."""
    units = host.layout.units
    for name in ("notes@r1.socket", "notes@r1.service", "notes@r2.service", "notes-two@r3.service", "notes@.service"):
        (units / name).write_text("")
    (units / "notes@r4.service").symlink_to("/dev/null")
    (units / "notes@r5.service.d").mkdir()
    assert host.app.installed() == {"r1", "r2"}
    host.install("r6", host.layout.warm_units)
    assert host.app.installed() == {"r1", "r2", "r6"} and host.app.installed(host.layout.warm_units) == {"r6"}


def test_the_releases_that_one_can_go_back_to(host: Host) -> None:
    host.add(IDS[2])
    host.add(IDS[0])
    host.add(IDS[1], "failed")
    host.app.write_record(IDS[3], state="good")  # its folder is gone
    (host.at.releases / "other").mkdir()
    assert host.app.good() == [IDS[0], IDS[2]] and host.app.unfinished() == [IDS[1], "other"]
    host.at.releases.rename(host.at.srv / "moved")
    assert host.app.good() == [] and host.app.unfinished() == []


def test_the_releases_that_are_warm(host: Host) -> None:
    host.warm(IDS[0])
    host.warm(IDS[1], seconds=-1)
    host.add(IDS[2], units=True, warm_until=host.system.time() + 100)
    host.warm(IDS[3])
    host.system.link(host.at.current, f"releases/{IDS[3]}")
    assert host.app.warm() == {IDS[0]}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("server unix:{sockets}/r1.sock;", "r1"),
        ("server unix:{sockets}/none.sock down;", None),
        ("server unix:/run/other/r1.sock;", None),
        (None, None),
    ],
)
def test_the_release_that_nginx_names(host: Host, text: str | None, found: str | None) -> None:
    if text:
        host.layout.upstream("notes").write_text(text.format(sockets=host.at.sockets))
    assert host.app.proxied() == found


def test_the_release_that_serves(host: Host) -> None:
    assert host.app.serving() is None
    host.add(IDS[0], current=True)
    assert host.app.serving() == IDS[0]


def test_records(host: Host) -> None:
    assert host.app.record("r1") == {} and host.app.record(None) == {}
    host.app.write_record("r1", state="started")
    host.app.write_record("r1", step="check")
    known = {"format": 2, "id": "r1", "number": 1, "state": "started", "step": "check"}
    assert {**host.app.record("r1")} == known
    host.app.write_record("r0", state="good")
    assert [record["id"] for record in host.app.history()] == ["r1", "r0"], "in the order in which they were made"
    assert in_order(host.app, ["r0", "r1"]) == ["r1", "r0"]


@pytest.mark.parametrize("text", ["", "half {", "{}", "[]"])
def test_a_record_that_cannot_be_read_is_none(host: Host, text: str) -> None:
    host.at.record("r1").write_text(text)
    assert host.app.record("r1") == {} and host.app.history() == []


@pytest.mark.parametrize(
    ("serving", "found"),
    [({"source": "other"}, IDS[1]), (None, None)],
)
def test_the_release_that_was_gone_back_from(host: Host, serving: dict[str, str] | None, found: str | None) -> None:
    wanted = host.app.wanted["inputs"]
    host.add(IDS[1], inputs=wanted, bad={"by": "bob"})
    host.add(IDS[0], current=True, inputs=serving or wanted)
    bad = host.app.rolled_back()
    assert (bad["id"] if bad else None) == found


def test_what_nobody_went_back_from_is_not_held(host: Host) -> None:
    host.add(IDS[1], inputs=host.app.wanted["inputs"])
    host.add(IDS[2], inputs={"source": "other"}, bad={"by": "bob"})
    assert host.app.rolled_back() is None


BAD = {"since": "2026-01-02T03:04:05Z", "by": "bob", "why": "slow"}


@pytest.mark.parametrize(
    ("state", "bad", "found"),
    [("good", None, None), ("failed", None, IDS[0]), ("killed", None, IDS[0]), ("good", BAD, IDS[2])],
    ids=["good", "failed", "killed", "bad again"],
)
def test_the_newest_release_that_served_decides(
    host: Host, state: str, bad: dict[str, str] | None, found: str | None
) -> None:
    """--again lifts the mark for all later runs, and a rollback from that release sets it again."""
    wanted = host.app.wanted["inputs"]
    host.add(IDS[0], inputs=wanted, bad=BAD)
    host.add(IDS[1], current=True)
    host.add(IDS[2], state, inputs=wanted, bad=bad)
    told = host.app.rolled_back()
    assert (told["id"] if told else None) == found
    assert [each["id"] for each in host.app.left()] == ([found] if found else [])


def test_the_numbers_of_releases_decide_and_not_their_ids(host: Host) -> None:
    """The host's clock may have been set back."""
    wanted = host.app.wanted["inputs"]
    host.add(IDS[1], current=True)
    host.add(IDS[2], inputs=wanted, bad=BAD, number=1)
    host.add(IDS[0], inputs=wanted, number=3)
    assert host.app.rolled_back() is None


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_secrets_of_an_app(host: Host) -> None:
    """Of what is wanted, of each release, and of the builds; what `env` holds is none."""
    app, at = host.app, host.at
    url = "postgresql://app:p%40ss-word1@db/notes"
    app.wanted["secrets"] = ["URL", "LEVEL"]
    at.environment.write_text(f'URL="{url}"\nGREETING="hello-world-42"\nLEVEL="info"\nRELEASE_ID="x"\n')
    host.add(IDS[0], wanted={**app.wanted, "secrets": ["OLD"]})
    at.env(IDS[0]).write_text('OLD="of-an-older-1"\nURL="no-secret-then-1"\n')
    at.build_environment.write_text(json.dumps({"UV_INDEX_PASSWORD": "builds-0nly"}))
    app.request["build"] = {"TOKEN": "asked-f0r"}
    host.system.hidden.hide(app.secrets())
    said = f"{url} p@ss-word1 hello-world-42 info of-an-older-1 no-secret-then-1 builds-0nly asked-f0r"
    assert host.system.hidden.shown(said) == "*** *** hello-world-42 info *** no-secret-then-1 *** ***"


@pytest.mark.parametrize("name", ["deploy_key", "dependencies_key"])
def test_a_key_that_a_build_prints(host: Host, name: str) -> None:
    """Whole, and line by line; its ends are nobody's secret."""
    lines = [f"{letter}b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ{letter}" for letter in "xyz"]
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    text = "\n".join([begin, *lines, end, ""])
    getattr(host.at, name).write_text(text)
    host.system.hidden.hide(host.app.secrets())
    assert host.system.hidden.shown(text) == f"{begin}\n***\n***\n***\n{end}\n"
    assert host.system.hidden.shown(f"a {lines[1]} b\\n{lines[2]}") == "a *** b\\n***"
    ran = System(host.layout, hidden=host.system.hidden).run("cat", str(getattr(host.at, name)))
    assert ran.output.split() == [*begin.split(), "***", "***", "***", *end.split()], "as a build's command is heard"


def test_a_host_that_was_told_no_names_shows_no_value(host: Host) -> None:
    """Of an earlier Slipway; but for the name of the release."""
    host.app.wanted.pop("secrets")
    host.at.environment.write_text('URL="x://u:s3cr3t-one@h"\n')
    host.add(IDS[0], wanted={})
    host.at.env(IDS[0]).write_text(f'KEY="s3cr3t-two"\nRELEASE_ID="{IDS[0]}"\n')
    host.system.hidden.hide(host.app.secrets())
    assert host.system.hidden.shown(f"s3cr3t-one s3cr3t-two {IDS[0]}") == f"*** *** {IDS[0]}"
