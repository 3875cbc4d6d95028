"""slipway-access on a host that is a folder: what it puts back, when, and what it does in which order."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.programs import ACCESS, Recorder, load, tree

SSHD = "port 22\npasswordauthentication no\nhostkey /etc/ssh/a\nhostkey /etc/ssh/b\n"


@dataclass
class Access:
    """The program, its host's folder, and the commands that it ran."""

    program: Any
    root: Path
    run: Recorder

    @property
    def drop_in(self) -> Path:
        """sshd's file of ours."""
        return self.program.SSH / "slipway.conf"  # type: ignore[no-any-return]

    def request(self, content: str | None = "Port 22\n", **more: Any) -> dict[str, Any]:
        """A change of sshd's file."""
        file = {"path": str(self.drop_in), "content": content, "mode": "600", "owned": False}
        asked: dict[str, Any] = {"account": None, "files": [file], "drop_in": str(self.drop_in), "options": []}
        return {**asked, "host_keys": {}, "moduli": None, "ssh": True, "firewall": None, **more}

    @property
    def token(self) -> str:
        """What confirms the pending change."""
        return str(json.loads(self.program.PENDING.read_text())["token"])


@pytest.fixture
def access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    """A host whose sshd isn't ours yet."""
    program = load(ACCESS)
    program.SSH, program.STATE = tmp_path / "ssh", tmp_path / "state"
    program.MAIN, program.MODULI = program.SSH / "sshd_config", program.SSH / "moduli"
    program.PENDING, program.LOCK = program.STATE / "pending.json", tmp_path / "lock"
    program.SSH.mkdir()
    program.MAIN.write_text("UsePAM yes\n")
    program.MODULI.write_text(
        "# time type tests tries size generator modulus\n1 2 6 100 2047 5 AA\n1 2 6 100 3071 2 BB\n"
    )
    run = Recorder(program.Refused)
    run.printing = {"sshd -T": SSHD}
    run.failing = {"is-active --quiet ssh": "", "is-enabled --quiet ssh": "", "list table": "no such table"}
    run.codes = {"list table": 1}
    for module in (program, program.sshd):
        monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(program.sshd, "PRIVATE", tmp_path / "run-sshd")
    # What root does to owners isn't this user's to do.
    monkeypatch.setattr(program.os, "fchown", lambda *given: None)
    return Access(program, tmp_path, run)


def test_it_is_armed_before_anything_changes(access: Access) -> None:
    seen = {}
    access.run.doing["systemd-run"] = lambda line: seen.update(tree(access.program.SSH))
    before = tree(access.program.SSH)
    access.program.apply(access.request())
    assert seen == before, "the timer came after the change"
    assert access.drop_in.read_text() == "Port 22\n"
    (armed,) = access.run.matching("systemd-run")
    assert "--on-active=60" in armed and "--timer-property=AccuracySec=100ms" in armed


def test_what_nobody_confirms_is_taken_back(access: Access) -> None:
    before = tree(access.program.SSH)
    access.program.apply(access.request(host_keys={}, firewall=None))
    assert access.program.revert() is True
    assert tree(access.program.SSH) == before
    assert not access.program.PENDING.exists()
    assert access.program.revert() is False


def test_what_is_confirmed_stays(access: Access, capsys: pytest.CaptureFixture[str]) -> None:
    access.program.apply(access.request())
    told = json.loads(capsys.readouterr().out)
    assert told == {"token": access.token, "seconds": 60}
    access.program.confirm(told["token"])
    assert access.program.revert() is False
    assert access.drop_in.read_text() == "Port 22\n"
    assert access.run.calls[-1] == "systemctl stop slipway-access-revert.timer"


def test_what_takes_a_change_back_waits_for_nobody(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else does: two changes at once would be one too many."""
    monkeypatch.setattr(access.program, "LOCK_SECONDS", 0)
    with access.program.locked():
        assert stat.S_IMODE(access.program.LOCK.stat().st_mode) == 0o600
        names = r"did not end within 0 s \(`fuser -v .*/lock` names it\)"
        with pytest.raises(access.program.Refused, match=names), access.program.locked():
            pass
        with access.program.locked(patient=False):
            pass


def test_another_change_cannot_be_confirmed(access: Access) -> None:
    with pytest.raises(access.program.Refused, match="taken back before"):
        access.program.confirm("0" * 32)
    access.program.apply(access.request())
    with pytest.raises(access.program.Refused, match="taken back before"):
        access.program.confirm("0" * 32)
    assert access.program.PENDING.exists()


def test_the_state_before_an_unconfirmed_change_is_the_one_that_counts(access: Access) -> None:
    before = tree(access.program.SSH)
    access.program.apply(access.request("Port 1\n"))
    access.program.apply(access.request("Port 2\n"))
    assert access.drop_in.read_text() == "Port 2\n"
    access.program.revert()
    assert tree(access.program.SSH) == before


@pytest.mark.parametrize("where", ["/usr/sbin/sshd -t -f", "nft --check"])
def test_what_is_refused_is_not_tried(access: Access, where: str) -> None:
    access.run.failing[where] = "no"
    rules = {"path": str(access.root / "firewall.nft"), "content": "x", "mode": "600", "owned": False}
    request = access.request()
    request["files"].append(rules)
    before = tree(access.root)
    with pytest.raises(access.program.Refused):
        access.program.apply(request)
    assert tree(access.root) == before and access.run.matching("systemd-run") == []


@pytest.mark.parametrize("fault", ["sshd -T", "/usr/sbin/sshd -t"])
def test_what_fails_in_the_middle_is_taken_back_at_once(access: Access, fault: str) -> None:
    before = tree(access.program.SSH)
    # The validation before has another command line.
    access.run.doing["systemd-run"] = lambda line: access.run.failing.update({fault: "broken"})
    access.run.doing["systemctl stop slipway-access-revert.timer"] = lambda line: None
    access.run.doing["daemon-reload"] = lambda line: None
    with pytest.raises(access.program.Refused):
        access.program.apply(access.request())
    assert tree(access.program.SSH) == before


def test_sshd_must_go_by_what_was_written(access: Access) -> None:
    access.program.check_sshd([["passwordauthentication", "no"], ["hostkey", "/etc/ssh/b"]], "x.conf")
    with pytest.raises(access.program.Refused, match=r"passwordauthentication is no instead of yes: .* before x\.conf"):
        access.program.check_sshd([["passwordauthentication", "yes"]], "x.conf")


def test_at_boot_only_files_are_put_back(access: Access) -> None:
    before = tree(access.program.SSH)
    access.program.apply(access.request(firewall="load"))
    access.run.calls.clear()
    access.program.revert(booting=True)
    assert tree(access.program.SSH) == before
    assert access.run.calls == ["systemctl stop slipway-access-revert.timer"], "sshd and nft start after this"


def test_the_table_of_before_is_loaded_again(access: Access) -> None:
    del access.run.failing["list table"]
    access.run.printing["list table"] = "table inet slipway {\n}\n"
    given: list[str] = []
    original = access.run.__call__

    def run(*argv: str, **options: Any) -> Any:
        given.extend([options["input"]] if "input" in options else [])
        return original(*argv, **options)

    access.program.run = run
    access.program.apply(access.request(firewall="load"))
    access.program.revert()
    assert given == ["table inet slipway\ndelete table inet slipway\ntable inet slipway {\n}\n"]


def test_short_moduli_go_and_long_ones_stay(access: Access) -> None:
    own = access.program.SSH / "slipway.moduli"
    access.program.apply(access.request(moduli=str(own)))
    assert [line.split()[4] for line in own.read_text().splitlines()[1:]] == ["3071"]
    access.program.revert()
    assert not own.exists()


def test_a_host_key_is_made_where_there_is_none_that_is_long_enough(access: Access) -> None:
    access.run.printing["ssh-keygen -lf"] = "3072 SHA256:x root@host (RSA)"
    access.program.STATE.mkdir()
    assert [*access.program.host_keys({"ed25519": 256, "rsa": 4096})] == ["rsa"]
    (made,) = access.run.matching("ssh-keygen -q")
    assert re.search(r"-t rsa -b 4096 -N  -C root@", made)


def test_what_a_killed_run_left_is_removed(access: Access) -> None:
    access.program.STATE.mkdir()
    (access.program.STATE / "ssh_host_rsa_key").write_text("half a key")
    access.program.apply(access.request())
    assert [path.name for path in access.program.STATE.iterdir()] == ["pending.json"]
