"""Slipway 0.1's programs: their names lead to this one while units have them, and then no older Slipway gets past."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from slipway_host import cli
from slipway_host.release import former, retire, work

from tests.unit.host.running import IDS, Host, failure, host_at

NAMES = ("slipway-release", "slipway-nginx", "slipway-access", "slipway-acme")
REVERT = "ExecStart=/opt/slipway/bin/slipway-access revert\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """As Slipway 0.1 left it, but for this program."""
    host = host_at(tmp_path, monkeypatch)
    for name in ("slipway", *NAMES, "slipway-schema"):
        (host.layout.bin / name).parent.mkdir(parents=True, exist_ok=True)
        (host.layout.bin / name).write_text("#!/usr/bin/python3 -IS\n")
    (host.root / "opt/slipway/lib").mkdir()
    (host.root / "opt/slipway/lib/slipway_release.py").touch()
    (host.root / "var/cache/slipway/uv/wheels").mkdir(parents=True)
    host.layout.transient_units.mkdir(parents=True)
    return host


def unit(host: Host, path: str, text: str) -> Path:
    """A file that names programs, of this root."""
    made = host.root / path
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text.replace("/opt/slipway", f"{host.root}/opt/slipway"))
    return made


def kinds(host: Host) -> dict[str, str]:
    """Name → what is there, of all beside this program."""
    found = {}
    cache = host.root / "var/cache/slipway"
    for path in (*host.layout.bin.iterdir(), *host.layout.opt.glob("lib"), *cache.glob("uv")):
        found[path.name] = f"link to {path.readlink()}" if path.is_symlink() else "folder" if path.is_dir() else "file"
    assert found.pop("slipway") == "file"
    return found


LINKED = dict.fromkeys(NAMES, "link to slipway") | {"slipway-schema": "file", "lib": "folder", "uv": "folder"}
BARRED = dict.fromkeys(NAMES, "folder")


@pytest.mark.parametrize(
    "path",
    [
        "etc/systemd/system/slipway-access-revert.service",
        "etc/systemd/system/certbot-renew.service",
        "etc/systemd/system/theirs.service.d/own.conf",
        "etc/letsencrypt/renewal-hooks/deploy/50-slipway-nginx",
        f"run/systemd/transient/notes-retire-{IDS[0]}.service",
        "run/systemd/transient/notes-release.service",
    ],
)
def test_a_name_leads_here_as_long_as_a_unit_has_it(host: Host, path: str) -> None:
    named = unit(host, path, REVERT)
    former.settle(host.system)
    assert kinds(host) == LINKED
    former.settle(host.system)
    assert kinds(host) == LINKED
    named.write_text(f"ExecStart={host.root}/opt/slipway/bin/slipway access revert\n")
    former.settle(host.system)
    assert kinds(host) == BARRED


def test_an_older_slipway_finds_a_folder_and_people_a_reason(host: Host) -> None:
    former.settle(host.system)
    assert kinds(host) == BARRED
    path = host.layout.bin / "slipway-access/README"
    assert path.read_text() == (
        "A program of Slipway 0.1 was here. Slipway 0.2.0 or newer keeps this host.\n"
        "This folder lets an older Slipway fail before it changes what serves: upgrade that one, and leave the folder "
        "here.\n"
    )
    path.write_text("seen")
    former.settle(host.system)
    assert path.read_text() == "seen", "once is enough"


def test_a_host_that_never_had_them(host: Host) -> None:
    for path in host.layout.bin.glob("slipway-*"):
        path.unlink()
    former.settle(host.system)
    assert kinds(host) == BARRED


def test_a_program_that_an_older_slipway_put_back(host: Host) -> None:
    """It moved the folder away, as its message said."""
    former.settle(host.system)
    for name in NAMES[:2]:
        (host.layout.bin / name).rename(host.root / name)
        (host.layout.bin / name).write_text("#!/usr/bin/python3 -IS\n")
    former.settle(host.system)
    assert kinds(host) == BARRED


def test_the_unit_that_ends_a_release_is_the_last_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drained first, then retired, both by the old name; each asks again when it has done its work."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cli, "outlet", lambda hidden: None)
    ran: list[str] = []
    for verb in ("drain", "retire"):
        monkeypatch.setattr(retire, verb, lambda app, release, verb=verb: ran.append(f"{verb} {release}"))
        text = f"ExecStart=/opt/slipway/bin/slipway-release {verb} notes {IDS[0]}\n"
        unit(host, f"run/systemd/transient/notes-{verb}-{IDS[0]}.service", text)
    for verb, expected in (("drain", LINKED), ("retire", BARRED)):
        monkeypatch.setattr(sys, "argv", ["/opt/slipway/bin/slipway-release", verb, "notes", IDS[0]])
        with pytest.raises(SystemExit) as ended:
            cli.main(system=host.system)
        assert not ended.value.code and kinds(host) == expected
        (host.layout.transient_units / f"notes-{verb}-{IDS[0]}.service").unlink()  # systemd forgets what has ended
    assert ran == [f"drain {IDS[0]}", f"retire {IDS[0]}"]


@pytest.mark.parametrize(
    ("started", "words"),
    [
        ("slipway release notes --again", "release notes --again"),
        ("/opt/slipway/bin/slipway status notes", "status notes"),
        ("slipway-release deploy notes --by ann --wait 5 --contract", "release notes --by ann --wait 5 --contract"),
        ("slipway-release rollback notes --to r1 --schema downgrade", "rollback notes --to r1 --schema downgrade"),
        ("slipway-release attach notes", "follow notes"),
        ("slipway-release history notes --json", "releases notes --json"),
        ("slipway-release status notes", "status --json notes"),
        ("slipway-release log notes r1", "log notes r1"),
        ("slipway-release target notes --to r1", "target notes --to r1"),
        ("/opt/slipway/bin/slipway-release run notes 20260101T000000000000-1", "run notes 20260101T000000000000-1"),
        ("/opt/slipway/bin/slipway-release drain notes r1", "drain notes r1"),
        ("/opt/slipway/bin/slipway-release retire deploy r1", "retire deploy r1"),
        ("/opt/slipway/bin/slipway-nginx reload", "nginx reload"),
        ("slipway-nginx status", "nginx status --json"),
        ("slipway-nginx switch notes r1", "nginx switch notes r1"),
        ("/opt/slipway/bin/slipway-access revert --boot", "access revert --boot"),
        ("slipway-acme has --server https://a --name notes", "acme has --server https://a --name notes"),
        ("slipway-release", ""),
        ("slipway-release --help", "--help"),
        ("slipway", ""),
    ],
)
def test_the_words_of_0_1_are_understood(started: str, words: str) -> None:
    assert former.words(started.split()) == words.split()


@pytest.mark.parametrize("protocol", [None, 9])
def test_a_run_that_an_older_slipway_asked_for_does_nothing(host: Host, protocol: int | None) -> None:
    """It waited for another one to end, while this program came."""
    host.app.request = {"verb": "deploy", "by": "ann@desk", "wait": 60}  # type: ignore[typeddict-item]
    if protocol:
        host.app.request["protocol"] = protocol
    message = "An older Slipway asked for this. Slipway 0.2.0 keeps this host now: upgrade the older one."
    assert failure(work.do, host.app, "token") == message
    assert host.system.calls == [] and not host.layout.format.exists()
