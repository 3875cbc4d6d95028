"""`slipway`: what it makes of a command line, of pyinfra's log, and of what became of a run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pyinfra.api import Config, Inventory, State

from slipway import project
from slipway.cli import audit
from slipway.cli.codes import CHANGES, FAILED, INTERRUPTED, NOTHING
from slipway.cli.envelope import envelope
from slipway.cli.main import main, parser, without_passwords
from slipway.cli.report import INTERRUPTION, Report, Step
from slipway.cli.running import arguments_for, planning
from slipway.cli.screen import Screen
from slipway.engine import host as host_module
from slipway.engine.plan import Change

if TYPE_CHECKING:
    from slipway_host.events import Begun, Ended

INVENTORY = str(Path("inventories/docker.py").absolute())


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("plan", ["--json", "--dry", INVENTORY, "deploy.py"]),
        ("apply", ["--json", "-y", INVENTORY, "deploy.py"]),
        ("release", ["--json", "-y", INVENTORY, "tasks/release.py"]),
        ("release --dry", ["--json", "--dry", INVENTORY, "tasks/release.py"]),
        ("apply --json", ["--json", "-y", "--diff", INVENTORY, "deploy.py"]),
        ("rollback", ["--json", "-y", INVENTORY, "tasks/rollback.py"]),
        ("releases", ["-y", INVENTORY, "tasks/releases.py"]),
        ("releases --json", ["-y", "--data", "json=true", INVENTORY, "tasks/releases.py"]),
        (  # as messages of a run name it
            "release --data contract=true",
            ["--json", "-y", "--data", "contract=true", INVENTORY, "tasks/release.py"],
        ),
        (
            "release --app notes --prove --contract",
            [
                "--json",
                "-y",
                "--data",
                "app=notes",
                "--data",
                "prove=true",
                "--data",
                "contract=true",
                INVENTORY,
                "tasks/release.py",
            ],
        ),
        ("release --stop-first", ["--json", "-y", "--data", "stop_first=true", INVENTORY, "tasks/release.py"]),
        ("rollback --stop-first", ["--json", "-y", "--data", "stop_first=true", INVENTORY, "tasks/rollback.py"]),
        (
            "rollback --to 2026 --schema code-only",
            ["--json", "-y", "--data", "to=2026", "--data", "schema=code-only", INVENTORY, "tasks/rollback.py"],
        ),
    ],
)
def test_each_verb_is_a_run_of_pyinfra(typed: str, given: list[str]) -> None:
    verb, *options = typed.split()
    assert arguments_for(parser().parse_args([verb, "inventories/docker.py", *options])) == whole(given)


def test_pyinfras_own_options_stand_behind_two_dashes() -> None:
    options = parser().parse_args(["apply", "inventories/docker.py", "--", "--limit", "web"])
    assert arguments_for(options) == whole(["--json", "-y", "--limit", "web", INVENTORY, "deploy.py"])


def whole(given: list[str]) -> list[str]:
    """pyinfra's command line, wherever it is run: with the project's files by their whole paths."""
    root = project.root()
    return ["--config", str(root / "config.py"), *given[:-1], str(root / given[-1])]


def test_which_runs_only_look() -> None:
    looks = [typed for typed in ("plan x", "apply x", "release x", "release x --dry") if planning_of(typed)]
    assert looks == ["plan x", "release x --dry"]


def planning_of(typed: str) -> bool:
    return planning(parser().parse_args(typed.split()))


@pytest.mark.parametrize("option", ["--dry", "-y", "--json"])
def test_what_a_verb_decides_on_cannot_be_said_to_pyinfra(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["apply", "inventories/docker.py", "--", option])
    assert ended.value.code == FAILED
    assert f"Error: {option} isn't allowed after --" in capsys.readouterr().err


def test_passwords_are_not_told_again() -> None:
    typed = ["apply", "x", "--", "--ssh-password", "s3cret", "--ssh-key-password=s3cret", "--ssh-password-prompt", "-v"]
    shown = ["apply", "x", "--", "--ssh-password", "…", "--ssh-key-password=…", "--ssh-password-prompt", "-v"]
    assert without_passwords(typed) == shown


@pytest.mark.parametrize("typed", ["", "destroy x", "apply", "plan x --schema code-only", "rollback x --schema none"])
def test_a_wrong_command_line_is_not_taken_for_changes(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(typed.split())
    assert ended.value.code == FAILED
    assert "Error: " in capsys.readouterr().err


def test_what_is_missing_is_the_inventory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["plan"])
    assert "required: INVENTORY;" in capsys.readouterr().err
    assert parser().parse_args(["plan", "x"]).pyinfra == []


def test_the_help_tells_every_exit_code() -> None:
    told = re.findall(r"^  (\d+) ", parser().format_help(), re.MULTILINE)
    codes = {NOTHING, FAILED, CHANGES, INTERRUPTED, audit.FOUND, audit.UNKNOWN}
    assert [int(code) for code in told] == sorted(codes)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from slipway.cli import main; main()"]
    return subprocess.run([*program, *words], capture_output=True, text=True, check=False)


def test_a_missing_inventory_is_one_line_and_exit_code_1() -> None:
    for name in ("inventories/nope.py", "203.0.113.5"):
        done = command("plan", name)
        assert (done.returncode, done.stdout) == (FAILED, "")
        assert done.stderr == f"Error: there is no inventory {name}\n"


def test_a_wrong_inventory_is_told_without_a_traceback_in_text_and_in_json(tmp_path: Path) -> None:
    path = tmp_path / "production.py"
    path.write_text('hosts = [("@slipway/203.0.113.5", {"slipway": {"apps": {}}})]')
    text, as_json = command("apply", str(path)), command("apply", str(path), "--json")
    assert (text.returncode, as_json.returncode) == (FAILED, FAILED)
    assert text.stderr.startswith(f"Error: {path}: 203.0.113.5: 1 setting is wrong; the host was not touched")
    told = json.loads(as_json.stdout)
    assert (told["outcome"], told["hosts"]) == ("failed", {})
    assert "1 setting is wrong" in told["error"]
    assert "Traceback" not in text.stderr + as_json.stderr


@contextlib.contextmanager
def connecting(folder: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """`slipway release` of a host that it has just connected to, and the host's end of that."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        source = {"path": str(project.root() / "examples/notes")}
        app = {"domains": ["notes.example.com"], "source": source, "app": "notes.main:app"}
        slipway = {"acme": {"email": "ops@example.com"}, "apps": {"notes": app}}
        known = folder / "known_hosts"
        known.touch()
        ssh = {"ssh_port": server.getsockname()[1], "ssh_allow_agent": False, "ssh_known_hosts_file": str(known)}
        data = ssh | {"slipway": slipway}
        path = folder / "production.py"
        path.write_text(f"hosts = [('@slipway/127.0.0.1', {data!r})]")
        program = [sys.executable, "-c", "from slipway.cli import main; main()", "release", str(path)]
        with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    yield process, connection
            finally:
                process.kill()


def test_an_interruption_while_it_connects_is_one_line(tmp_path: Path) -> None:
    """With a host that accepts and says nothing, and the signal that ^C sends."""
    with connecting(tmp_path) as (process, _):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=5)
    assert (process.returncode, said.strip()) == (INTERRUPTED, "Error: interrupted; nothing was changed")


def test_a_port_that_says_nothing_of_ssh_is_told_once(tmp_path: Path) -> None:
    with connecting(tmp_path) as (process, connection):
        connection.close()
        _, said = process.communicate(timeout=20)
    first, second = said.splitlines()[:2]
    assert (process.returncode, second) == (FAILED, "Error: 127.0.0.1 was not reached")
    assert first.startswith("  SSH error (Error reading SSH protocol banner")
    assert "Traceback" not in said


def report(*steps: Step, error: str = "", planning: bool = True) -> Report:
    return Report("plan", planning, 1.0, error, {"web": list(steps)}, {}, {"web": 3})


FILE = Change("file", "/etc/motd", "modify", diff="-old\n+new")


@pytest.mark.parametrize(
    ("steps", "error", "outcome"),
    [
        ([], "", "nothing"),
        ([Step("Base | Write", [FILE])], "", "changes"),
        ([Step("Base | Write", [FILE]), Step("Base | Run", [], failed=True)], "", "failed"),
        ([], "it can't be reached", "failed"),
    ],
)
def test_the_outcome_in_json(steps: list[Step], error: str, outcome: str) -> None:
    told = envelope(report(*steps, error=error))
    assert told["outcome"] == outcome
    assert json.loads(json.dumps(told)) == told
    assert {"nothing": NOTHING, "changes": CHANGES, "failed": FAILED}[outcome] in (0, 1, 2)


def test_the_history_of_several_hosts_is_oneenvelope() -> None:
    """With nothing of what an inventory prints, and of a host only what it said itself."""
    told = [{"host": host, "app": app, "releases": [host, app]} for host in ("a", "b") for app in ("notes", "lab")]
    told.append({"host": "lost", "app": "notes", "releases": []})
    printed = "".join(f"{json.dumps(each)}\n" for each in told)
    done = Report("releases", False, 1.0, "", {}, {}, {}, lost=["lost"])
    made = envelope(done, f'loading\n[1]\n{{"host": "a"}}\n{printed}')
    assert made["releases"] == {host: {app: [host, app] for app in ("notes", "lab")} for host in ("a", "b")}
    assert made["outcome"] == "failed"
    assert envelope(done, "")["releases"] == {}
    assert "releases" not in envelope(report(), printed), "of another verb"


def test_what_commands_said_is_told_with_what_they_did() -> None:
    screen = Screen("release", "slipway release x", planning=False, quiet=True)
    host: Any = SimpleNamespace(name="web")
    screen.operation_host_start(cast(State, None), host, "1")
    for line in ("notes: 1/9 fetch 0.0 s", "notes: r2 serves (4.9 s)"):
        screen._line(f"[web] {line}", logging.INFO, logged=False)
    screen._ended(host, "1")
    assert screen.spoken == {("web", "1"): ["notes: 1/9 fetch 0.0 s", "notes: r2 serves (4.9 s)"]}
    assert screen.said == {}


def test_a_host_that_was_not_reached_is_a_failure_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("apply", "slipway apply x", planning=False, quiet=True)
    screen._line("[db] Could not connect (timed out)", logging.ERROR, logged=True)
    lost = Report("apply", False, 1.0, "", {"web": []}, screen.kept, {"web": 3}, lost=["db"])
    assert envelope(lost)["outcome"] == "failed"
    assert envelope(lost)["hosts"]["db"] == {
        "operations": [],
        "unchanged": 0,
        "reached": False,
        "errors": ["Could not connect (timed out)"],
    }
    assert shown(capsys, screen, lost).startswith("Error: db was not reached\n  Could not connect (timed out)\n")


def test_what_a_plan_knows_to_fail_is_a_failure() -> None:
    doomed = Change("release", "of notes", "fail", note="its source can't be looked up")
    assert envelope(report(Step("Release | Release notes", [doomed], failed=True)))["outcome"] == "failed"


def test_what_a_command_printed_is_kept_for_its_failure(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("release", "slipway release x", planning=False, quiet=True)
    screen.said["web"] = []
    screen._echo("[web]   will it work? Success is near", err=True)
    screen._line("[web] Success", logging.INFO, logged=True)
    assert screen.said == {"web": ["will it work? Success is near"]}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("New code, or --data again=true (on the host: --again)", "New code, or --again"),
        ("--data stop_first=true (on the host: --stop-first) ends it", "--stop-first ends it"),
        ("write --data contract=true, or leave it out", "write --contract, or leave it out"),
        ("alone: --data schema=code-only. Or --data app=tiny", "alone: --schema code-only. Or --app tiny"),
        ("--data backups=… is none of ours", "--data backups=… is none of ours"),
    ],
)
def test_advice_is_in_our_own_options(said: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("release", "slipway release x", planning=False, quiet=False)
    screen._line(f"[web] {said}", logging.WARNING, logged=True)
    assert capsys.readouterr().err == f"  {shown}\n"
    assert screen.report(said, seconds=1.0).error == shown


def shown(capsys: pytest.CaptureFixture[str], screen: Screen, of: Report) -> str:
    screen.summary(of)
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_plan_shows_each_change_with_its_diff(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, Screen("plan", "slipway plan x", planning=True, quiet=False), report(Step("Base | W", [FILE])))
    assert told == (
        "Base | W\n  will modify /etc/motd\n      -old\n      +new\n"
        "web: 1 operation would change it, 3 have nothing to do\n"
    )


def test_a_plan_counts_what_would_fail_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    doomed = Step("Release | Release notes", [Change("release", "of notes", "fail", note="so")], failed=True)
    told = shown(capsys, Screen("plan", "slipway plan x", planning=True, quiet=False), report(doomed))
    assert "web: 0 operations would change it, 1 would fail, 3 have nothing to do\n" in told
    assert "Error: Release | Release notes would fail on web\n" in told


def test_errors_before_a_plan_are_not_kept_with_it_and_what_it_shows_itself_is_shown_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen("plan", "slipway plan x", planning=True, quiet=False)
    screen._line("[web] Could not connect (timed out)", logging.ERROR, logged=True)
    screen._line("[web] it is 3 commits ahead", logging.INFO, logged=True)
    screen._line("  ALTER TABLE notes ADD COLUMN pinned BOOLEAN;", logging.INFO, logged=True)
    assert capsys.readouterr() == ("  it is 3 commits ahead\n", "  Could not connect (timed out)\n")


def test_a_reader_that_goes_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `| head` does; the exit code is still to be told."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        screen = Screen("plan", "slipway plan x", planning=True, quiet=False)
        for _ in range(3):
            screen._line("[web] it is 3 commits ahead", logging.INFO, logged=True)


def test_a_plan_can_be_kept_in_a_file_without_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    doomed = Step("Release | Release notes", [Change("release", "of notes", "fail", note="so")], failed=True)
    Screen("plan", "slipway plan x", planning=True, quiet=False).summary(report(Step("Base | W", [FILE]), doomed))
    kept, told = capsys.readouterr()
    assert "will modify /etc/motd" in kept and "Error" not in kept
    assert told.startswith("Error: Release | Release notes would fail on web\n") and "motd" not in told


def test_a_plan_that_failed_tells_nothing_of_what_it_did_not_see(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("plan", "slipway plan x", planning=True, quiet=False)
    assert shown(capsys, screen, report(error="commands don't run as root")) == "Error: commands don't run as root\n"


BEGUN: Begun = {"event": "begun", "app": "notes", "unit": "notes-release", "text": "runs on the host"}
ENDED: Ended = {"event": "ended", "app": "notes", "code": 0, "release": "r1", "error": None}


def interrupted(*events: Begun | Ended, verb: str = "release", executing: bool = True) -> str:
    screen = Screen(verb, f"slipway {verb} x", planning=False, quiet=False)
    state = State(Inventory((["web"], {})), Config())  # type: ignore[no-untyped-call]
    state.is_executing = executing
    screen.state, screen.said = state, {"web": ["traffic flows"]}
    host_module._under_way.clear()
    for event in events:
        host_module.note("web", event)
    return screen.report(INTERRUPTION, seconds=1.0).error


def test_after_an_interruption_a_release_continues_on_the_host() -> None:
    assert interrupted(BEGUN) == (
        "interrupted\n  The release of notes continues on web. To follow it, run slipway release x\n"
        "  To stop it and undo what it did, run there, as root: systemctl stop notes-release"
    )


def test_a_rollback_is_not_followed_by_another_one() -> None:
    told = interrupted(BEGUN, verb="rollback")
    assert "The rollback of notes continues on web. To follow it, run there, as root: /opt/slipway/bin/slipway" in told
    assert "slipway rollback" not in told + interrupted(verb="rollback")


@pytest.mark.parametrize("events", [[], [BEGUN, ENDED]])
def test_after_an_interruption_what_was_done_stays(events: list[Begun | Ended]) -> None:
    told = "interrupted\n  What was done so far stays. To continue, run it again: slipway release x"
    assert interrupted(*events) == told


def test_an_interruption_before_the_first_change_says_so() -> None:
    assert interrupted(executing=False) == "interrupted; nothing was changed"


def test_a_failure_says_what_to_type_next_even_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("apply", "slipway apply x", planning=False, quiet=True)
    failed = report(Step("Release | Release notes", [], failed=True), planning=False)
    failed.errors["web"] = ["notes: the app doesn't import"]
    told = shown(capsys, screen, failed)
    assert "Error: Release | Release notes failed on web\n  notes: the app doesn't import\n" in told
    assert told.endswith("then run it again: slipway apply x\n")


VERDICT = Step("Verdict | Every app's certificate and release succeeded", [], failed=True)
DOOMED = Step("Release | Release notes", [Change("release", "of notes", "fail", note="so")], failed=True)
BEGAN = Step("Release | Release notes", [Change("release", "of notes", "make")], failed=True)
MADE = Step("Base | Write", [FILE])


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ([DOOMED, VERDICT], "Nothing was changed on the host."),
        ([BEGAN, VERDICT], "No other operation changed the host."),
        ([MADE, BEGAN, VERDICT], "1 operation changed the host; its changes stay."),
        ([MADE, MADE, DOOMED], "2 operations changed the host; their changes stay."),
    ],
)
@pytest.mark.parametrize("served", [False, True])
def test_a_failure_says_what_it_left(
    steps: list[Step], line: str, served: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = report(*steps, planning=False)
    failed.served = {"web"} if served else {"db"}
    still = " The release that served still serves, unless an error above says otherwise." if served else ""
    assert shown(capsys, Screen("apply", "slipway apply x", planning=False, quiet=False), failed) == (
        "Error: Release | Release notes failed on web\n"
        f"  {line}{still}\n  Fix the cause, then run it again: slipway apply x\n"
    )


def test_a_run_tells_where_a_release_served(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"web": [{"apps": {"wiki": {}, "notes": {"release": "r1"}}}], "new": [{"apps": {"notes": {}}}], "db": []}
    hosts: list[tuple[Any, list[Any]]] = [(SimpleNamespace(name=name), []) for name in answers]
    monkeypatch.setattr("slipway.engine.pyinfra_api.operations_of", lambda _: hosts)
    monkeypatch.setattr("slipway.cli.screen.answers_of", lambda host, _: answers[host.name])
    monkeypatch.setattr("slipway.cli.screen.changes", lambda _: {})
    monkeypatch.setattr("slipway.cli.screen.undone", lambda _: [])
    screen = Screen("apply", "slipway apply x", planning=False, quiet=False)
    assert screen.report("", seconds=1.0).served == {"web"}


@pytest.mark.parametrize(
    ("name", "line"),
    [("Release | Release notes", "Release | Release notes  failed\n"), (VERDICT.operation, "")],
)
def test_of_the_verdict_only_its_message_is_shown(
    name: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.cli.screen.name_of", lambda *_: name)
    screen = Screen("apply", "slipway apply x", planning=False, quiet=False)
    host: Any = SimpleNamespace(name="web")
    screen.operation_host_start(cast(State, None), host, "1")
    screen._echo("[web] web: the release of notes failed")
    screen.operation_host_error(cast(State, None), host, "1")
    assert capsys.readouterr().err == f"  web: the release of notes failed\n{line}"
    assert screen.kept == {"web": ["web: the release of notes failed"]}


def test_success_is_quiet_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("apply", "slipway apply x", planning=False, quiet=True)
    assert shown(capsys, screen, report(planning=False)) == ""


@pytest.mark.parametrize("planning", [True, False])
def test_what_is_held_back_is_told_at_the_end(planning: bool, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("release", "slipway release x", planning=planning, quiet=False)
    held = report(planning=planning)
    held.undone = {"web": ["notes not released (bob@desk rolled back from it)"]}
    told = shown(capsys, screen, held)
    assert told.startswith("web: notes not released (bob@desk rolled back from it), nothing else to change")
    assert len(told.splitlines()) == 1 and not held.failed and not held.changes
    held.steps["web"] = [Step("Base | W", [FILE])]
    told = shown(capsys, screen, held).splitlines()[-1]
    counted = "1 operation would change it, 3 have nothing to do" if planning else "1 operation changed it (1.0 s)"
    assert told == f"web: notes not released (bob@desk rolled back from it), {counted}"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("--> Starting operation: Base | Install packages ", ""),
        ("[web] Success", ""),
        ("[web] \x1b[36mNo changes\x1b[0m", ""),
        ("[web] notes: 3/9 check 0.9 s", "  notes: 3/9 check 0.9 s\n"),
        ("[web] Error: executed 0 commands", ""),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!", ""),
        ("Someone could be eavesdropping on you right now (man-in-the-middle attack)!", ""),
        ("If this is expected, you can remove the bad key using:", ""),
        ("    ssh-keygen -R [203.0.113.5]:2222", ""),
        ("Failed to load host keys from /root/.ssh/known_hosts: [Errno 2] No such file or directory: 'x'", ""),
        ("Failed to load host keys from /root/.ssh/known_hosts: [Errno 13] Permission denied", None),
        ("nothing to change", ""),
        ("[web] notes not released (bob@desk rolled back from it), nothing else to change", ""),
        ("[web] notes not released (bob@desk rolled back from it), 1 of 9 operations changed the host", ""),
    ],
)
def test_what_pyinfra_says_of_itself_is_not_shown(
    message: str, line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen("apply", "slipway apply x", planning=False, quiet=False)
    record = logging.LogRecord("pyinfra", logging.INFO, "", 0, message, None, None)
    assert screen.filter(record) is False
    assert capsys.readouterr().err == (f"  {message}\n" if line is None else line)
