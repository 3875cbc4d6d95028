"""What the audit makes of attacks from inside an app and a build, and how it stages them."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.audit import guests, neighbours
from tests.audit.finding import DidNotLook, Finding, Verdict
from tests.audit.onhost import attempts, builder, stage, tries
from tests.audit.onhost.attempts import Neighbour
from tests.unit.host.hardened import SHUT_OFF

OTHER = Neighbour(stage.NAME, 990, 4711, {"tcp": 1, "udp": 2}, 7)


def staged(of_app: int = 120, of_build: int = 140, **told: dict[str, str]) -> str:
    """What stage.py prints after so many attempts, of which none succeeds; `told`: place → what differs."""
    names = [f"reads {number}" for number in range(max(of_app, of_build))]
    found = {
        "root": dict.fromkeys(names, "done") | told.get("root", {}),
        "app": dict.fromkeys(names[:of_app], "PermissionError") | told.get("app", {}),
        "build": dict.fromkeys(names[:of_build], "FileNotFoundError") | told.get("build", {}),
    }
    return f"some noise\nSTAGED {json.dumps(found)}\n"


def test_nothing_may_succeed() -> None:
    assert neighbours.neighbours_finding(staged()) == Finding(
        Verdict.MET, "0 of 120 from the app, 0 of 140 from a build"
    )


def test_what_succeeds_is_named_with_its_place() -> None:
    printed = staged(app={"reads 7": "done"}, build={"reads 7": "done", "reads 8": "done"})
    found = neighbours.neighbours_finding(printed)
    assert (found.verdict, found.measured) == (Verdict.SHORT, "1 of 120 from the app, 2 of 140 from a build")
    assert found.details == ("the app reads 7", "a build reads 7", "a build reads 8")


def test_what_root_only_can_do_is_no_hole() -> None:
    assert neighbours.neighbours_finding(staged(root={"one more": "done"})).verdict is Verdict.MET


SECURITY = """
BUILD notes-build.service
RELEASE slipway-audit-release.service
→ Overall exposure level for notes-build.service: 1.1 OK :-)
→ Overall exposure level for slipway-audit-release.service: 4.0 OK :-)
"""


def test_a_build_and_a_release_have_their_own_bars() -> None:
    assert guests.guests_finding(SECURITY) == Finding(Verdict.MET, "notes-build 1.1, slipway-audit-release 4.0")
    found = guests.guests_finding(SECURITY.replace("1.1", "3.1").replace("4.0", "4.5"))
    assert (found.verdict, found.details) == (Verdict.SHORT, ("notes-build.service: 3.1 > 3.0",))
    found = guests.guests_finding(SECURITY.replace("1.1", "9.6").replace("4.0", "9.6"))
    assert (found.verdict, len(found.details)) == (Verdict.SHORT, 2)


@pytest.mark.parametrize(
    "parse",
    [
        lambda: neighbours.neighbours_finding(""),
        lambda: neighbours.neighbours_finding("STAGED {"),
        lambda: neighbours.neighbours_finding("STAGED []"),
        lambda: neighbours.neighbours_finding("STAGED {}"),
        lambda: neighbours.neighbours_finding(staged() + staged()),
        lambda: neighbours.neighbours_finding(staged(of_app=0)),
        lambda: neighbours.neighbours_finding(staged(of_build=50)),
        lambda: neighbours.neighbours_finding(staged(root={"reads 7": "PermissionError"})),
        lambda: neighbours.neighbours_finding(staged(app={"never tried by root": "PermissionError"})),
        lambda: guests.guests_finding(""),
        lambda: guests.guests_finding(SECURITY.replace("BUILD ", "")),
        lambda: guests.guests_finding(SECURITY.replace("for notes-build", "for another")),
    ],
)
def test_what_shows_nothing_did_not_look(parse: Callable[[], Finding]) -> None:
    """No attempt, too few, or one that root can't do either."""
    with pytest.raises(DidNotLook):
        parse()


def made_in(folder: Path, tried: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch,
            capsys: pytest.CaptureFixture[str]) -> dict[str, object]:  # fmt: skip
    """What tries.py answers when it is run here."""
    file = folder / "given.json"
    file.write_text(json.dumps({"mark": "mark", "tries": tried}))
    monkeypatch.setattr(sys, "argv", ["tries.py", str(file), "app"])
    monkeypatch.setattr(tries, "FREE_SECONDS", 0)
    monkeypatch.setattr(tries, "PATIENCE", 0.2)
    monkeypatch.setattr("signal.alarm", lambda _: None)
    tries.main()
    return stage.answered(capsys.readouterr().out)


def test_attempts_are_answered_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with what it met; those that nobody but the outside can judge, too."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    status = secret.stat()
    (tmp_path / "empty").mkdir()
    with socket.socket() as listener, secret.open() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fcntl.flock(held, fcntl.LOCK_EX)
        answers = made_in(tmp_path, {
            "reads": ["read", str(secret)],
            "reads nothing": ["read", str(tmp_path / "empty")],
            "reads what isn't there": ["read", str(tmp_path / "none")],
            "makes": ["make", str(tmp_path)],
            "binds": ["bind", str(tmp_path / "none")],
            "takes a lock": ["lock", str(secret), "lockf", status.st_dev, status.st_ino],
            "takes a held lock": ["lock", str(secret), "flock", status.st_dev, status.st_ino],
            "takes another's lock": ["lock", str(secret), "flock", status.st_dev, status.st_ino + 1],
            "connects": ["tcp", "127.0.0.1", listener.getsockname()[1]],
            "connects to nobody": ["unix", str(tmp_path / "none"), 1],
            "signals itself": ["send_signal", os.getpid()],
            "sees itself": ["processes", os.getuid()],
            "runs": ["command", "false"],
            "crowds out": ["crowd_out", listener.getsockname()[1], 3, "", "hello", "welcome"],
        }, monkeypatch, capsys)  # fmt: skip
    assert {name: told for name, told in answers.items() if told != "done"} == {
        "reads nothing": "FileNotFoundError",
        "reads what isn't there": "FileNotFoundError",
        "binds": "FileNotFoundError",
        "takes a held lock": "BlockingIOError",
        "takes another's lock": "FileNotFoundError",
        "connects to nobody": "FileNotFoundError",
        "runs": "PermissionError",
        "crowds out": "ConnectionError",
    }
    made: dict[str, attempts.Attempt] = {"makes": ["make", str(tmp_path)]}
    for seen in ("done", stage.NOT_SEEN):  # what was made is removed
        assert stage.judged(made, "app", "mark", OTHER, {"makes": "done"}) == {"makes": seen}
    assert stage.judged(made, "app", "mark", OTHER, {"makes": "OSError"}) == {"makes": "OSError"}


def test_a_place_to_write_to_counts_where_it_is_seen(tmp_path: Path) -> None:
    """A sandbox has folders of its own, which nobody else sees."""
    search: dict[str, attempts.Attempt] = {"finds": ["search", "/own"]}
    inside = {"finds": [f"{tmp_path}/.mark-app"]}
    assert stage.judged(search, "app", "mark", OTHER, inside) == {"finds": stage.NOT_SEEN}
    (tmp_path / ".mark-app").touch()
    assert stage.judged(search, "app", "mark", OTHER, inside) == {"finds": "done"}
    assert not (tmp_path / ".mark-app").exists()
    (tmp_path / "open").touch()
    assert stage.judged(search, "app", "mark", OTHER, {"finds": [f"{tmp_path}/open"]}) == {"finds": "done"}
    assert (tmp_path / "open").exists(), "it was there before"


@pytest.mark.parametrize(("entries", "seen"), [("a login\n.mark-app\n", "done"), ("a login\n", stage.NOT_SEEN)])
def test_an_entry_counts_where_another_s_are(monkeypatch: pytest.MonkeyPatch, entries: str, seen: str) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*words: str, check: bool = True) -> str:
        asked.append(words)
        return entries

    monkeypatch.setattr(stage, "run", answer)
    tried: dict[str, attempts.Attempt] = {
        "host": ["log", "/run/systemd/journal/socket", "sshd"],
        "other": ["syslog", f"/run/systemd/journal.{stage.NAME}/socket", stage.NAME],
    }
    told = stage.judged(tried, "app", "mark", OTHER, dict.fromkeys(tried, "done"))
    assert told == dict.fromkeys(tried, seen)
    assert [words[1:4] for words in asked[1::2]] == [
        ("-t", "sshd", "--since=-10min"),
        (f"--namespace={stage.NAME}", "-t", stage.NAME),
    ]


def test_a_unit_s_own_lines_are_its_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what says which program runs, and when."""
    unit = (Path(stage.__file__).parents[1] / "unhardened/app.service").read_text()
    monkeypatch.setattr(stage, "run", lambda *words: f"# /etc/systemd/system/app.service\n{unit}")
    assert stage.sandbox("app.service") == ["WorkingDirectory=/srv/app", "EnvironmentFile=/srv/app/.env"]


def test_app_and_build_are_asked_what_isn_t_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app may ask what listens on the host, unless its settings take the network."""
    monkeypatch.setattr(attempts, "there", lambda pattern: [pattern])
    monkeypatch.setattr(attempts, "filled", lambda path: True)
    monkeypatch.setattr(attempts, "listening", lambda: iter([("/run/systemd/private", 1)]))
    monkeypatch.setattr(attempts, "main_pid", lambda unit: 1)
    monkeypatch.setattr(attempts, "own_address", lambda: "192.0.2.1")
    monkeypatch.setattr(attempts, "holds", lambda neighbour: {})
    metadata, env = f"connects to nginx at {attempts.LINK_LOCAL}", "sends signals to its own app"
    provisioned = stage.to_try("notes@1.service", "notes.test", ["PrivateUsers=yes"], OTHER, ["/srv/notes/releases/x"])
    assert metadata in provisioned["build"] and metadata not in provisioned["app"]
    assert env in provisioned["build"] and env not in provisioned["app"]
    assert metadata in stage.to_try("notes@1.service", "notes.test", ["PrivateNetwork=yes"], OTHER, [])["app"]
    assert metadata in stage.to_try("app.service", "notes.test", [], OTHER, None)["app"]
    for tried in provisioned.values():
        assert {kind for kind, *_ in tried.values()} <= tries.KINDS.keys()
    assert provisioned["root"].keys() == provisioned["app"].keys() | provisioned["build"].keys()


def test_a_release_is_looked_at_as_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every property of its unit, and another program in it."""
    monkeypatch.setattr(builder, "module", lambda name: importlib.import_module(f"slipway_host.{name}"))
    words = builder.release_command("notes", ["sleep", "60"], "looked-at.service")
    assert words[0] == "systemd-run" and words[-2:] == ["sleep", "60"]
    assert words[words.index("--unit") + 1] == "looked-at.service"
    given = [words[number + 1] for number, word in enumerate(words) if word == "--property"]
    assert set(SHUT_OFF) < set(given)
    assert not any(each.startswith("Standard") or each == "--property" for each in given)


@pytest.mark.parametrize(("most", "crowded"), [(3, True), (100, False)])
def test_a_service_is_crowded_where_nobody_else_is_answered(
    monkeypatch: pytest.MonkeyPatch, most: int, crowded: bool
) -> None:
    """One that takes so many connections at once, and tells the others so."""
    monkeypatch.setattr(tries, "raise_limit", lambda: None)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    one = listener.accept()[0]
                except OSError:
                    return
                kept.append(one)
                full = len(kept) > most
                with suppress(OSError):
                    one.sendall(b"full up" if full else b"welcome")
                if full:
                    one.close()

        threading.Thread(target=serve, daemon=True).start()
        words = (listener.getsockname()[1], 20, "", "hello", "welcome")
        if crowded:
            tries.crowd_out(*words)
        else:
            with pytest.raises(ConnectionError, match="others are answered"):
                tries.crowd_out(*words)
        listener.shutdown(socket.SHUT_RDWR)
        for each in kept:
            each.close()
