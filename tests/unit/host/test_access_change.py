"""A change of access, on a host that is a folder: what is put back, when, and what is done in which order."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from slipway_host.access import before, change, sshd, wanted
from slipway_host.access.change import Refused
from slipway_host.layout import Layout
from slipway_host.system import Failed

from tests.unit.host.fakes import FakeSystem
from tests.unit.host.folders import tree

if TYPE_CHECKING:
    from slipway_host.access.protocol import Ways

SSHD = "port 22\npasswordauthentication no\nhostkey /etc/ssh/a\nhostkey /etc/ssh/b\n"
TABLE = "table inet slipway {\n}\n"
DISARMED = "systemctl stop slipway-access-revert.timer"


class Access:
    """A host, and the changes that are asked of it."""

    def __init__(self, system: FakeSystem) -> None:
        self.system, self.layout = system, system.layout
        self.drop_in = self.layout.ssh / "slipway.conf"
        """sshd's file of ours."""

    def request(self, content: str | None = "Port 22\n", **more: Any) -> Ways:
        """A change of sshd's file."""
        file = {"path": str(self.drop_in), "content": content, "mode": "600", "owned": False}
        asked: Any = {"account": None, "files": [file], "drop_in": str(self.drop_in), "options": []}
        asked |= {"host_keys": {}, "moduli": None, "ssh": True, "firewall": None, **more}
        made: Ways = asked
        return made

    @property
    def token(self) -> str:
        """What confirms the pending change."""
        return str(json.loads(self.layout.pending.read_text())["token"])


@pytest.fixture
def access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    """A host whose sshd isn't ours yet."""
    system = FakeSystem(tmp_path)
    system.layout.ssh.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    system.layout.sshd_config.write_text("UsePAM yes\n")
    system.layout.moduli.write_text(
        "# time type tests tries size generator modulus\n1 2 6 100 2047 5 AA\n1 2 6 100 3071 2 BB\n"
    )
    system.printing = {"sshd -T": SSHD}
    system.failing = {"is-active --quiet ssh": "", "is-enabled --quiet ssh": "", "list table": "no such table"}
    # What root does to owners isn't this user's to do.
    monkeypatch.setattr(os, "fchown", lambda *given: None)
    return Access(system)


# ── armed, confirmed, taken back ─────────────────────────────────────────────────────────────────────────────────


def test_it_is_armed_before_anything_changes(access: Access) -> None:
    seen: dict[str, str] = {}
    access.system.doing["systemd-run"] = lambda line: seen.update(tree(access.layout.ssh))
    there = tree(access.layout.ssh)
    change.apply(access.system, access.request())
    assert seen == there, "the timer came after the change"
    assert access.drop_in.read_text() == "Port 22\n"
    (armed,) = access.system.matching("systemd-run")
    assert "--on-active=60 --on-calendar=@1" in armed and "--timer-property=AccuracySec=100ms" in armed
    assert "--unit=slipway-access-revert.service" in armed
    assert stat.S_IMODE(access.layout.pending.stat().st_mode) == 0o600, "a sudoers file may be in it"
    assert json.loads(access.layout.pending.read_text())["format"] == 2
    assert stat.S_IMODE(access.layout.access.stat().st_mode) == 0o700


def test_what_nobody_confirms_is_taken_back(access: Access) -> None:
    there = tree(access.layout.ssh)
    change.apply(access.system, access.request(host_keys={}, firewall=None))
    assert change.revert(access.system) == "An unconfirmed change of access was reverted."
    assert tree(access.layout.ssh) == there
    assert not access.layout.pending.exists()
    assert change.revert(access.system) == ""


def test_a_file_is_put_back_as_it_was(access: Access) -> None:
    """Its bytes and its mode."""
    access.drop_in.write_bytes(b"# \xff\xfe\n")
    access.drop_in.chmod(0o640)
    change.apply(access.system, access.request())
    assert stat.S_IMODE(access.drop_in.stat().st_mode) == 0o600
    change.revert(access.system)
    assert access.drop_in.read_bytes() == b"# \xff\xfe\n" and stat.S_IMODE(access.drop_in.stat().st_mode) == 0o640
    change.apply(access.system, access.request(None))
    assert not access.drop_in.exists()
    change.revert(access.system)
    assert access.drop_in.read_bytes() == b"# \xff\xfe\n"


def test_what_is_confirmed_stays(access: Access) -> None:
    told = change.apply(access.system, access.request())
    assert told == {"token": access.token, "seconds": 60, "said": []}
    change.confirm(access.system, told["token"])
    assert change.revert(access.system) == ""
    assert access.drop_in.read_text() == "Port 22\n"
    assert access.system.calls[-1] == DISARMED


def test_what_takes_a_change_back_waits_for_nobody(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else does: two changes at once would be one too many."""
    monkeypatch.setattr(change, "LOCK_SECONDS", 0)
    token, there = change.apply(access.system, access.request())["token"], tree(access.layout.ssh)
    lock = access.layout.access_lock
    with access.system.locked(lock, 0):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        names = rf"did not end within 0 s \(`fuser -v {lock}` names it\); nothing was changed. Run again.$"
        with pytest.raises(Refused, match=names):
            change.apply(access.system, access.request("Port 1\n"))
        with pytest.raises(Refused, match=names):
            change.confirm(access.system, token)
        assert tree(access.layout.ssh) == there
        assert change.revert(access.system)
    assert not access.drop_in.exists()


def test_another_change_cannot_be_confirmed(access: Access) -> None:
    with pytest.raises(Refused, match="reverted before"):
        change.confirm(access.system, "0" * 32)
    change.apply(access.system, access.request())
    with pytest.raises(Refused, match="reverted before"):
        change.confirm(access.system, "0" * 32)
    assert access.layout.pending.exists()


def test_the_state_before_an_unconfirmed_change_is_the_one_that_counts(access: Access) -> None:
    there = tree(access.layout.ssh)
    change.apply(access.system, access.request("Port 1\n"))
    change.apply(access.system, access.request("Port 2\n"))
    assert access.drop_in.read_text() == "Port 2\n"
    change.revert(access.system)
    assert tree(access.layout.ssh) == there


@pytest.mark.parametrize("where", ["/usr/sbin/sshd -t -f", "nft --check", "visudo"])
def test_what_is_refused_is_not_tried(access: Access, where: str) -> None:
    (access.layout.root / "etc/sudoers.d").mkdir()
    access.system.failing[where] = "no"
    request = access.request()
    for path in ("firewall.nft", "etc/sudoers.d/slipway"):
        full = str(access.layout.root / path)
        request["files"].append({"path": full, "content": "x", "mode": "600", "owned": False})
    there = tree(access.layout.root)
    with pytest.raises(Failed, match="no"):
        change.apply(access.system, request)
    assert tree(access.layout.root) | {"run/slipway/access.lock": ""} == there | {"run/slipway/access.lock": ""}
    assert access.system.matching("systemd-run") == []


@pytest.mark.parametrize("fault", ["sshd -T", "/usr/sbin/sshd -t"])
def test_what_fails_in_the_middle_is_taken_back_at_once(access: Access, fault: str) -> None:
    there = tree(access.layout.ssh)
    # The validation before has another command line.
    access.system.doing["systemd-run"] = lambda line: access.system.failing.update({fault: "broken"})
    with pytest.raises(Refused, match=r"broken\nNothing was changed: the old state was restored\.$"):
        change.apply(access.system, access.request())
    assert tree(access.layout.ssh) == there
    assert not access.layout.pending.exists() and access.system.calls[-1] == DISARMED


def test_what_was_said_of_a_change_is_told(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had sshd's port, say; of one that failed, too."""
    monkeypatch.setattr(sshd, "reload", lambda system, say: say("app-x.slice is ended"))
    assert change.apply(access.system, access.request())["said"] == ["app-x.slice is ended"]

    def fail(system: FakeSystem, say: sshd.Say) -> None:
        say("app-y.slice is ended")
        raise Refused("sshd doesn't listen again")

    monkeypatch.setattr(sshd, "reload", fail)
    with pytest.raises(Refused, match=r"^app-y.slice is ended\nsshd doesn't listen again\nNothing was changed"):
        change.apply(access.system, access.request())


def test_at_boot_only_files_are_put_back(access: Access) -> None:
    there = tree(access.layout.ssh)
    change.apply(access.system, access.request(firewall="load"))
    access.system.calls.clear()
    change.revert(access.system, booting=True)
    assert tree(access.layout.ssh) == there
    assert access.system.calls == [DISARMED], "sshd and nft start after this"


@pytest.mark.parametrize("dead", [False, True])
def test_sshd_reads_what_was_put_back(access: Access, dead: bool) -> None:
    """Or is started, if it has ended meanwhile: outside of the unit, which is shut off from what that takes."""
    change.apply(access.system, access.request(ssh=not dead))
    if dead:
        del access.system.failing["is-enabled --quiet ssh"]
    access.system.calls.clear()
    change.revert(access.system)
    (line,) = access.system.matching("systemd-run")
    program = access.layout.program
    assert line == (
        f"systemd-run --quiet --collect --unit=slipway-access-sshd-{os.getpid()} --property=Type=oneshot "
        f"--property=TimeoutStartSec=60 {program} access reload"
    )


def test_what_cannot_be_put_back_is_told_and_tried_again(access: Access) -> None:
    """All the rest is."""
    change.apply(access.system, access.request(firewall="load"))
    access.system.failing["access reload"] = "sshd is broken"
    with pytest.raises(Refused, match=r"^not everything could be restored; the next boot tries again:\nsshd could"):
        change.revert(access.system)
    assert access.layout.pending.exists() and not access.drop_in.exists()
    assert len(access.system.matching(DISARMED)) == 1, "when it was armed: it isn't done with"


# ── the firewall ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_before_is_loaded_again(access: Access) -> None:
    del access.system.failing["list table"]
    access.system.printing["list table"] = TABLE
    change.apply(access.system, access.request(firewall="load"))
    assert access.system.matching("systemctl reload-or-restart slipway-firewall.service")
    change.revert(access.system)
    assert access.system.said == [f"table inet slipway\ndelete table inet slipway\n{TABLE}"]


def test_a_table_that_was_not_there_goes_again(access: Access) -> None:
    change.apply(access.system, access.request(firewall="load"))
    change.revert(access.system)
    assert access.system.said == [], "it isn't there"
    change.apply(access.system, access.request(firewall="load"))
    del access.system.failing["list table"]
    change.revert(access.system)
    assert access.system.said == ["table inet slipway\ndelete table inet slipway\n"]


def test_a_firewall_that_is_removed(access: Access) -> None:
    del access.system.failing["list table"]
    access.system.printing["list table"] = TABLE
    change.apply(access.system, access.request(firewall="remove"))
    assert access.system.matching("systemctl stop slipway-firewall.service")
    assert access.system.said == ["table inet slipway\ndelete table inet slipway\n"]


def test_a_host_without_nft_has_no_table(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*argv: str, **options: Any) -> None:
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(access.system, "run", missing)
    assert before.table(access.system) is None


# ── what is made ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_sshd_must_go_by_what_was_written(access: Access) -> None:
    wanted.check_sshd(access.system, [["passwordauthentication", "no"], ["hostkey", "/etc/ssh/b"]], "x.conf")
    said = (
        r"passwordauthentication is no instead of yes: a file in .*/etc/ssh sets it before x\.conf; "
        r"`grep -ri passwordauthentication .*/etc/ssh/sshd_config\*` finds it$"
    )
    with pytest.raises(Refused, match=said):
        wanted.check_sshd(access.system, [["passwordauthentication", "yes"]], "x.conf")


def test_sshd_reads_what_is_wanted_before_all_the_rest(access: Access) -> None:
    seen: dict[str, str] = {}

    def look(line: str) -> None:
        seen.update(tree(Path(line.split()[-1]).parent))

    access.system.doing["sshd -t -f"] = look
    wanted_text = "Match User x\n"
    access.layout.access.mkdir(parents=True)
    wanted.validate_sshd(access.system, wanted_text)
    assert seen["ours"] == wanted_text and re.fullmatch(r"Include .*/ours\nUsePAM yes\n", seen["main"])
    assert list(access.layout.access.iterdir()) == [], "and it leaves nothing"


def test_short_moduli_go_and_long_ones_stay(access: Access) -> None:
    own = access.layout.ssh / "slipway.moduli"
    access.layout.moduli.write_text(access.layout.moduli.read_text() + "\n1 2 6\n")
    change.apply(access.system, access.request(moduli=str(own)))
    assert [line.split()[4] for line in own.read_text().splitlines()[1:]] == ["3071"]
    change.revert(access.system)
    assert not own.exists()


def test_a_host_key_is_made_where_there_is_none_that_is_long_enough(access: Access) -> None:
    access.system.printing["ssh-keygen -lf"] = "3072 SHA256:x root@host (RSA)"
    access.layout.access.mkdir(parents=True)
    assert [*wanted.host_keys(access.system, {"ed25519": 256, "rsa": 4096})] == ["rsa"]
    (made,) = access.system.matching("ssh-keygen -q")
    assert re.search(r"-t rsa -b 4096 -N  -C root@", made)


def test_a_new_host_key_takes_its_place_and_the_old_one_comes_back(access: Access) -> None:
    def keygen(line: str) -> None:
        Path(line.split()[-1]).write_text("new")
        Path(f"{line.split()[-1]}.pub").write_text("new, public")

    access.system.doing["ssh-keygen -q"] = keygen
    key, public = access.layout.host_key("rsa"), access.layout.ssh / "ssh_host_rsa_key.pub"
    key.write_text("old")
    change.apply(access.system, access.request(host_keys={"rsa": 4096}))
    assert (key.read_text(), public.read_text()) == ("new", "new, public")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key, public)] == [0o600, 0o644]
    assert [path.name for path in access.layout.access.iterdir()] == ["pending.json"]
    change.revert(access.system)
    assert key.read_text() == "old" and not public.exists()


def test_a_file_of_an_account_needs_one(access: Access) -> None:
    request = access.request()
    request["files"][0]["owned"] = True
    with pytest.raises(Refused, match=r"should belong to an account, but the request names none\nNothing was changed"):
        change.apply(access.system, request)
    assert not access.drop_in.exists()


def test_what_a_killed_run_left_is_removed(access: Access) -> None:
    access.layout.access.mkdir(parents=True)
    (access.layout.access / "ssh_host_rsa_key").write_text("half a key")
    change.apply(access.system, access.request())
    assert [path.name for path in access.layout.access.iterdir()] == ["pending.json"]


def test_where_things_are() -> None:
    """A host that was changed by an earlier Slipway, and not confirmed, has them there."""
    layout = Layout()
    assert str(layout.pending) == "/var/lib/slipway/access/pending.json"
    assert str(layout.access_lock) == "/run/slipway/access.lock"
