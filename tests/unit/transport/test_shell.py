"""The shell that a host's commands run in, with a real sh on this machine in place of one behind SSH."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event
from gevent.subprocess import PIPE, Popen

from slipway.transport.questions import Answers, ask
from slipway.transport.shell import LONGEST_START, Outcome, Shell, ShellError


class LocalChannel:
    """An sh on this machine, started, read and written as paramiko's Channel is."""

    def __init__(self) -> None:
        self.started = Event()

    def exec_command(self, command: str) -> None:
        self.command = command
        self.process = Popen(["sh", "-c", command], stdin=PIPE, stdout=PIPE, stderr=PIPE, bufsize=0)
        self.started.set()

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[self.process.stdin.write(data) :]

    def recv(self, nbytes: int) -> bytes:
        self.started.wait()
        read: bytes = self.process.stdout.read(nbytes)
        return read

    def recv_stderr(self, nbytes: int) -> bytes:
        self.started.wait()
        read: bytes = self.process.stderr.read(nbytes)
        return read

    def close(self) -> None:
        if self.started.is_set():
            self.process.kill()
            self.process.wait()


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell(LocalChannel())
    yield shell
    shell.close()


def told(shell: Shell, *questions: str, command: str = "sh") -> dict[int, Outcome]:
    """What the questions were answered, in the order in which the answers came."""
    came: dict[int, Outcome] = {}
    script, mark = ask(questions)
    shell.run(command, script.encode(), show=Answers(mark, came.__setitem__).hear, public=True)
    return came


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("true", []),
        ("echo one", [("stdout", "one")]),
        ("printf one", [("stdout", "one")]),
        ("printf 'one\\ntwo'", [("stdout", "one"), ("stdout", "two")]),
        ("echo", [("stdout", "")]),
        ("printf '\\n\\n'", [("stdout", ""), ("stdout", "")]),
        ("echo one; echo", [("stdout", "one"), ("stdout", "")]),
        ("echo; printf one", [("stdout", ""), ("stdout", "one")]),
        ("echo wrong >&2", [("stderr", "wrong")]),
        ("printf wrong >&2", [("stderr", "wrong")]),
        ("printf 'a\\377b\\n'", [("stdout", "a\ufffdb")]),
        ("cat", []),  # there is no input, and the shell's own is not it
        ("echo 'a b'\"$(printf '\\n')\"$((1+1))  # comment", [("stdout", "a b2")]),
    ],
)
def test_what_a_command_prints_comes_line_by_line(shell: Shell, command: str, lines: list[tuple[str, str]]) -> None:
    for _ in range(2):
        outcome = shell.run(command)
        assert (outcome.status, outcome.lines) == (0, lines)


def test_exit_statuses_are_the_commands_own(shell: Shell) -> None:
    assert [shell.run(command).status for command in ("true", "false", "exit 75", "kill -9 $$", "nonsense")] == [
        0,
        1,
        75,
        137,
        127,
    ]


def test_an_exit_status_comes_through_with_input_too(shell: Shell) -> None:
    assert shell.run("cat >/dev/null; exit 3", b"text\n").status == 3


def test_input_reaches_the_command_byte_by_byte(shell: Shell) -> None:
    data = os.urandom(300_000)
    outcome = shell.run("base64 -w 0", data)
    import base64

    assert base64.b64decode(outcome.lines[0][1]) == data


def test_what_a_command_leaves_of_its_input_is_not_the_next_command(shell: Shell) -> None:
    left = b"echo stolen\n" * 50_000
    assert shell.run("head -n 1 >/dev/null", left).status == 0
    assert shell.run("true", left).lines == []
    assert shell.run("echo next").lines == [("stdout", "next")]


def test_much_output_and_much_input_at_once_do_not_block_each_other(shell: Shell) -> None:
    line = b"x" * 99 + b"\n"
    outcome = shell.run("tee /dev/stderr", line * 20_000)
    assert len(outcome.lines) == 40_000


def test_long_commands_with_quotes_and_line_breaks(shell: Shell) -> None:
    text = 'it\'s "quoted" $HOME `id`\\ \n\n' * 1000
    outcome = shell.run(f"cat <<'END' | wc -c\n{text}END\n")
    assert outcome.lines == [("stdout", str(len(text)))]


def test_lines_are_shown_while_the_command_runs(shell: Shell) -> None:
    seen: list[tuple[str, float]] = []
    shell.run("echo first; sleep 0.5; echo second", show=lambda stream, line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["first", "second"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_a_time_limit_ends_the_shell(shell: Shell) -> None:
    with pytest.raises(TimeoutError, match=r"within 0.2 s"):
        shell.run("sleep 30", timeout=0.2)
    assert shell.busy  # and so it isn't used again


def test_whoever_waits_for_a_command_can_be_ended_and_ends_the_shell(shell: Shell) -> None:
    waiting = gevent.spawn(shell.run, "sleep 30")
    gevent.sleep(0.2)
    began = time.monotonic()
    waiting.kill()
    assert time.monotonic() - began < 1
    assert shell.busy


def test_a_lost_connection_is_told(shell: Shell) -> None:
    assert isinstance(shell.channel, LocalChannel)
    with pytest.raises(ShellError, match="connection to the host was lost"):
        shell.run(f"kill -{signal.SIGKILL} $PPID; sleep 1")
    assert shell.busy


def test_questions_are_answered_together(shell: Shell) -> None:
    questions = [
        "sleep 0.3; echo slow",
        "echo 'a b'; echo oops >&2; exit 4",
        "printf 'no end'",
        "true",
        "cat; printf 'it'\"'\"'s\\n\\n'",
        "cat <<'END'\ntext\nEND",
    ]
    came = told(shell, *questions)
    assert [(came[place].status, came[place].lines) for place in range(len(questions))] == [
        (0, [("stdout", "slow")]),
        (4, [("stdout", "a b"), ("stderr", "oops")]),
        (0, [("stdout", "no end")]),
        (0, []),
        (0, [("stdout", "it's"), ("stdout", "")]),
        (0, [("stdout", "text")]),
    ]


def test_questions_leave_nothing_behind(shell: Shell, tmp_path: object) -> None:
    script, _ = ask(["echo secret"])
    shell.run(f"TMPDIR={tmp_path} sh", script.encode())
    assert shell.run(f"ls -A {tmp_path}").lines == []


def test_an_answer_is_told_while_others_are_awaited(shell: Shell) -> None:
    assert list(told(shell, "sleep 0.5; echo slow", "echo quick")) == [1, 0]


def test_a_script_that_did_not_run_answers_nothing(shell: Shell) -> None:
    assert told(shell, "echo one", "echo two", command="echo sudo: a password is required >&2; exit 1") == {}


def test_a_question_that_was_killed_is_not_answered(shell: Shell) -> None:
    assert 1 not in told(shell, "echo one", "kill -9 $$")
    assert shell.run("echo next").lines == [("stdout", "next")]


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_is_public_starts_the_agent_if_it_is_short_enough(shell: Shell, size: int) -> None:
    assert isinstance(shell.channel, LocalChannel)
    data = secrets.token_hex(size // 2).encode()
    outcome = shell.run("echo it is public; cat; exit 3", data, public=True)
    assert (outcome.status, outcome.lines) == (3, [("stdout", "it is public"), ("stdout", data.decode())])
    assert ("it is public" in shell.channel.command) == (size < LONGEST_START)
    assert shell.run("cat", b"next").lines == [("stdout", "next")]


def test_what_is_not_public_stays_off_the_command_line(shell: Shell) -> None:
    assert isinstance(shell.channel, LocalChannel)
    shell.run("echo mine", b"secret")
    assert "mine" not in shell.channel.command
