"""The host's one program: its command line, and what a verb is told."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway_host import VERSION, acme, cli
from slipway_host.access import change
from slipway_host.cli import asking
from slipway_host.proxy.nginx import Nginx, Refused
from slipway_host.release import plan, retire, runs, source, status, work
from slipway_host.system import Failed

from tests.unit.host.running import IDS, Host, host_at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return host_at(tmp_path, monkeypatch)


@pytest.fixture
def command(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`command(*argv, stdin=…)`: what `main` ends with."""
    monkeypatch.setattr(cli, "outlet", lambda hidden: None)
    monkeypatch.setattr(os, "umask", lambda mask: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("LC_ALL", "PATH"):
        monkeypatch.setenv(name, os.environ.get(name, "C"))

    def make(*argv: str, stdin: Any = None) -> Any:
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main(argv, host.system)
        return ended.value.code

    return make


@pytest.mark.parametrize("name", [*cli.VERBS, *cli.HIDDEN])
def test_every_command_explains_itself(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert command(name, "--help") == 0
    usage, text, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: slipway {name} ") and text.strip()
    assert ("APP" in usage) is (name not in ("nginx", "access", "acme", "facts", "former"))
    assert "SUPPRESS" not in usage and "--request" not in usage


def test_the_help(command: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    shown = capsys.readouterr().out
    listed = re.findall(r"^    (\w+) ", shown, re.MULTILINE)
    assert tuple(listed) == cli.VERBS, "the others are for the program itself"
    assert "systemctl stop APP-release" in shown


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nonsense", "notes"),
        ("release",),
        ("rollback", "notes", "--schema", "both"),
        ("release", "notes", "--to", "x"),
        ("nginx",),
        ("access", "open"),
        ("acme", "order", "--name", "x"),
    ],
)
def test_wrong_usage(command: Callable[..., Any], argv: tuple[str, ...]) -> None:
    assert command(*argv) == 2


FULL = "The disk is full, of bytes (`df -h`) or of files (`df -i`): make room, or lower keep_releases."
RELEASE = {"contract": False, "again": False, "fresh": False, "stop_first": False}


@pytest.mark.parametrize(
    ("argv", "stdin", "request_made", "wait"),
    [
        (("release", "notes", "--by", "ann"), None, {"verb": "release", "by": "ann", "wait": 60, **RELEASE}, 60),
        (
            ("release", "notes", "--by", "ann", "--contract", "--again", "--wait", "5"),
            None,
            {"verb": "release", "by": "ann", "wait": 5, **RELEASE, "contract": True, "again": True},
            5,
        ),
        (
            ("rollback", "notes", "--by", "ann", "--to", "r1", "--schema", "downgrade"),
            None,
            {"verb": "rollback", "by": "ann", "wait": 60, "to": "r1", "schema": "downgrade", "stop_first": False},
            60,
        ),
        (
            ("rollback", "notes", "--request"),
            {"protocol": 1, "by": "bob\nx", "wait": 7, "to": None, "schema": None},
            {"verb": "rollback", "by": "bob\\x0ax", "wait": 7, "to": None, "schema": None, "stop_first": False},
            7,
        ),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_request_of_the_command_line(
    host: Host,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    stdin: Any,
    request_made: dict[str, Any],
    wait: int,
    as_json: bool,
) -> None:
    made: list[Any] = []

    def submit(app: Any, request: dict[str, Any], wait: int, as_json: bool) -> int:
        made.append((request, wait, as_json))
        return 3

    monkeypatch.setattr(runs, "submit", submit)
    assert command(*argv, *(["--json"] if as_json else []), stdin=stdin) == 3
    assert made == [({"protocol": 1, **request_made}, wait, as_json)]


def test_a_request_of_another_protocol_is_refused(command: Callable[..., Any]) -> None:
    told = f"slipway: this is Slipway {VERSION}, which understands requests of protocol 1, not of 2"
    for argv in (("release", "notes", "--request"), ("facts",), ("plan", "--here", "notes")):
        assert command(*argv, stdin={"protocol": 2}) == told


def test_a_source_that_comes_with_a_request_is_kept(
    host: Host, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(runs, "submit", lambda app, request, *_: made.append(request) or 0)  # type: ignore[func-returns-value]
    monkeypatch.setattr(source, "store", lambda app, path, archive: made.append((path, archive)))
    archive = base64.b64encode(b"\x1f\x8b\0").decode()
    stdin = {"wait": 0, "wanted": host.app.wanted, "archive": archive}
    assert command("release", "notes", "--request", stdin=stdin) == 0
    assert made[0] == (host.at.archive("c" * 40), archive), "before the run begins"
    assert "archive" not in made[1] and made[1]["wanted"] == host.app.wanted


def test_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "box", "6", "1", "x86_64")))
    for name, found in (("SUDO_USER", "ann@box"), ("USER", "bob@box")):
        monkeypatch.delenv("SUDO_USER", raising=False)
        monkeypatch.setenv(name, found.partition("@")[0])
        assert asking.asker() == found
    monkeypatch.delenv("USER")
    assert asking.asker() == "root@box"


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (("follow", "notes"), "follow_any False"),
        (("follow", "notes", "--json"), "follow_any True"),
        (("run", "notes", "t1"), "work t1"),
        (("drain", "notes", "r1"), "drain r1"),
        (("retire", "notes", "r1"), "retire r1"),
        (("log", "notes"), "log  False"),
        (("log", "notes", "r1", "--json"), "log r1 True"),
        (("releases", "notes"), "table"),
        (("nginx", "check"), "check"),
        (("nginx", "reload"), "reload"),
        (("nginx", "switch", "notes", "r1"), "switch notes r1"),
        (("nginx", "apply"), "apply {'nginx.conf': ''}"),
        (("access", "confirm", "token"), "confirm token"),
        (("access", "revert"), "revert False"),
        (("access", "revert", "--boot"), "revert True"),
        (("access", "reload"), "reload print"),
        (("access", "free"), "free print"),
    ],
)
def test_a_command(
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    called: str,
) -> None:
    made: list[str] = []
    places = {runs: ["follow_any"], work: ["work"], retire: ["drain", "retire"], status: ["log", "table"]}
    places |= {Nginx: ["check", "reload", "switch", "apply"]}  # type: ignore[dict-item]
    places |= {change: ["confirm", "revert", "reload", "free"]}
    for place, names in places.items():
        for name in names:

            def noted(_: Any, *given: Any, name: str = name) -> Any:
                made.append(" ".join([name, *("print" if each is print else str(each) for each in given)]))

            monkeypatch.setattr(place, name, noted)
    assert not command(*argv, stdin={"nginx.conf": ""})
    assert made == [called]


@pytest.mark.parametrize("odd", ["../tmp/q/x", "r1/../r2", "r1.sock", "-r", "", "r1\n", "a b", "r1;x", "..", "é"])
@pytest.mark.parametrize("argv", [("drain", "notes"), ("rollback", "notes", "--to"), ("log", "notes"), ("status",)])
def test_what_becomes_part_of_a_path_is_a_plain_name(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], odd: str
) -> None:
    assert command(*argv, odd) == 2
    told = capsys.readouterr().err
    assert f"{odd!r} is no name: letters, digits and hyphens" in told or odd == "-r", "it is no option"


def test_commands_that_answer_in_json(
    host: Host, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    armed = {"token": "t", "seconds": 60, "said": []}
    monkeypatch.setattr(plan, "plan", lambda app, request: {"commits": [request["wanted"]["app"]]})
    monkeypatch.setattr(Nginx, "status", lambda self: {"live": True})
    monkeypatch.setattr(change, "apply", lambda system, request: armed)
    target = {"release": None, "error": "No release serves yet, so there is nothing to roll back."}
    expected: dict[tuple[str, ...], Any] = {
        ("status", "notes", "--json"): status.status(host.app),
        ("releases", "notes", "--json"): [],
        ("plan", "--here", "notes"): {"commits": ["notes.main:app"]},
        ("target", "notes"): target,
        ("nginx", "status", "--json"): {"live": True},
        ("access", "apply"): armed,
    }
    for argv, found in expected.items():
        assert command(*argv, stdin={"wanted": host.app.wanted}) is None
        assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("managed", "live", "told"),
    [
        (False, False, "nginx's configuration isn't Slipway's."),
        (True, True, "Generation g1 is on disk; the running nginx serves it."),
        (
            True,
            False,
            "Generation g1 is on disk; the running nginx doesn't serve it (`{program} nginx reload` says why).",
        ),
    ],
)
def test_nginx_for_a_person(
    host: Host,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    managed: bool,
    live: bool,
    told: str,
) -> None:
    known = {"generation": "g1", "managed": managed, "live": live, "files": {}}
    monkeypatch.setattr(Nginx, "status", lambda self: known)
    said = told.format(program=host.layout.program)
    assert command("nginx", "status") is None and capsys.readouterr().out == f"{said}\n"


def test_certificates(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(acme, "has", lambda system, *given: asked.append(given) or len(asked) == 1)  # type: ignore[func-returns-value]
    monkeypatch.setattr(acme, "order", lambda system, *given, **options: asked.append((given, options)))
    about = ("--server", "https://acme", "--name", "notes", "--domain", "a.example", "--domain", "b.example")
    assert command("acme", "has", *about) is None
    assert capsys.readouterr().out == "notes: a.example, b.example from https://acme\n"
    assert command("acme", "has", *about) is None and capsys.readouterr().out == ""
    assert command("acme", "order", *about, "--no-check", "--ca-file", "/ca.pem") is None
    named = ("notes", "https://acme", ["a.example", "b.example"])
    assert asked == [named, named, (named, {"ca_file": "/ca.pem", "check_first": False})]


def test_the_ways_in_need_nothing_else(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change is taken back where all else is damaged."""
    monkeypatch.setattr(change, "revert", lambda system, booting: "It was taken back.")
    for name in [name for name in sys.modules if name.startswith(("slipway_host.release", "slipway_host.proxy"))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert command("access", "revert") is None and capsys.readouterr().out == "It was taken back.\n"
    assert os.environ["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Failed("no"), "slipway: no"),
        (Refused("nginx refuses it"), "slipway: nginx refuses it"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            f"slipway: [Errno 28] No space left on device\n{FULL}",
        ),
        (
            KeyboardInterrupt(),
            "\nslipway: interrupted; a run that has begun continues; `{program} follow notes` shows it.",
        ),
    ],
)
def test_a_command_that_fails(
    host: Host, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str
) -> None:
    def follow(*_: object) -> int:
        raise error

    monkeypatch.setattr(runs, "follow_any", follow)
    assert command("follow", "notes") == message.format(program=host.layout.program)


def test_an_app_that_is_not_on_this_host(
    host: Host, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "slipway: there is no app no-such-app on this host; there are: "
    assert command("status", "no-such-app") == f"{told}notes"
    host.at.wanted.unlink()
    assert command("status", "no-such-app") == f"{told}none"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command("status", "no-such-app") == (
        f"slipway: only root may do that: sudo {host.layout.program} status no-such-app"
    )


@pytest.mark.parametrize("verb", ["status", "releases", "release", "rollback", "plan", "target"])
def test_a_newer_host_is_refused(host: Host, command: Callable[..., Any], verb: str) -> None:
    host.layout.format.write_text('{"format": 3, "slipway": "9.9.9"}')
    told = command(verb, "notes")
    assert told.startswith("slipway: This host has the format of Slipway 9.9.9 ")
    assert "\n" not in told and IDS[0] not in told
