"""`@slipway/HOST`: pyinfra's SSH connector, made for a host that is far away.

Everything that `ssh_…` data says is pyinfra's own and means the same. What differs is the number of round trips:
commands run one after the other in one shell instead of each in a channel of its own, all that a run asks is asked at
once, and nothing waits for a delayed acknowledgement.
"""

from __future__ import annotations

import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paramiko import SSHException, Transport
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import StringCommand
from pyinfra.api.output import echo, format_text
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    execute_command_with_sudo_retry,
    make_unix_command_for_host,
)
from typing_extensions import Unpack, override

from slipway.questions import Memory, Question, answers, ask
from slipway.shell import AGENT, STDERR, Outcome, Shell, ShellError, silent

NAME = "slipway"
"""What pyinfra knows the connector by, as pyproject.toml registers it."""
MAX_AGE = 5.0
"""Seconds after which an answer is asked again: somebody else may have changed the host, or an operator thought a while
before they pressed Enter."""


class PromptTransport(Transport):
    """paramiko's, without Nagle's algorithm.

    That holds a small packet back until the last one is acknowledged, which the other side delays by 40 ms.
    """

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(sock, socket.socket):  # not a jump host's channel, nor a proxy command
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, *arguments, **options)


class SlipwayConnector(SSHConnector):
    """Connect over SSH with few round trips: ``("@slipway/203.0.113.5", {"ssh_user": "deploy", …})``."""

    shell: Shell | None = None

    @override
    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """One host, named as it is without the connector."""
        yield name, {"ssh_hostname": name}, []

    @override
    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """pyinfra's, with `PromptTransport` where the inventory names no other."""
        options: dict[str, Any] = super().make_paramiko_kwargs()
        given = options["_pyinfra_ssh_paramiko_connect_kwargs"] or {}
        return options | {"_pyinfra_ssh_paramiko_connect_kwargs": {"transport_factory": PromptTransport} | given}

    @override
    def connect(self) -> None:
        """Connect; the shell is started with the first command."""
        super().connect()
        self.shell = None
        scripts = [str(Path(word).resolve()) for word in sys.argv[1:] if word.endswith(".py")]
        self.memory = Memory(self.host.name, *scripts)
        self.answers: dict[tuple[str, str], tuple[Outcome, float]] = {}
        self.at_once = sys.maxsize

    @override
    def disconnect(self) -> None:
        """End the shell, and remember what was asked for the next run."""
        if self.host not in self.state.failed_hosts:
            self.memory.save(complete=self.state.is_executing)  # all questions come before the first change
        if self.shell:
            self.shell.close()
        super().disconnect()

    @override
    def put_file(self, *arguments: Any, **options: Any) -> bool:
        """pyinfra's; what was known about the host is asked again."""
        self._forget()
        return super().put_file(*arguments, **options)

    @override
    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Unpack[ConnectorArguments],
    ) -> tuple[bool, CommandOutput]:
        """Run a command in the host's one shell, or answer a question from what was asked before.

        A command that needs a terminal, or that begins while another one runs, gets a channel of its own.
        """
        question = isinstance(command, Question)
        if not question:
            self._forget()
        shell = self._started()
        if arguments.get("_get_pty") or shell.busy:
            return super().run_shell_command(command, print_output, print_input, **arguments)
        exit_codes = arguments.pop("_success_exit_codes", None) or [0]
        timeout = arguments.pop("_timeout", None)
        stdin = _bytes(arguments.pop("_stdin", None))
        arguments.pop("_get_pty", None)

        def show(stream: str, line: str) -> None:
            text = format_text(line, "red") if stream == STDERR else line
            echo(f"{self.host.print_prefix}{text}", err=True)

        def execute() -> tuple[int, CommandOutput]:
            if print_input:
                masked = make_unix_command_for_host(self.state, self.host, command, **arguments)
                echo(f"{self.host.print_prefix}>>> {masked}", err=True)
            if question:
                outcome = self._answer(command.get_raw_value(), arguments, timeout)
                for stream, line in outcome.lines if print_output else []:
                    show(stream, line)
            else:
                line = self._wrapped(command, arguments)
                outcome = self._run(line, stdin, timeout, show if print_output else silent)
            lines = [OutputLine(stream, line) for stream, line in outcome.lines]
            return outcome.status, CommandOutput(lines)

        status, output = execute_command_with_sudo_retry(self.host, arguments, execute)
        return status in exit_codes, output

    def _started(self) -> Shell:
        if self.shell is None:
            assert self.client is not None
            transport = self.client.get_transport()
            assert transport is not None
            channel = transport.open_session()
            channel.exec_command(f"exec sh -c {shlex.quote(AGENT)}")
            self.shell = Shell(channel)
        return self.shell

    def _run(
        self, line: str, stdin: bytes, timeout: float | None, show: Callable[[str, str], None] = silent
    ) -> Outcome:
        shell = self._started()
        try:
            return shell.run(line, stdin, timeout=timeout, show=show)
        except ShellError as error:
            raise SSHException(str(error)) from None
        finally:
            if shell.busy:  # it was ended: the next command starts another one
                self.shell = None

    def _wrapped(self, command: StringCommand, arguments: ConnectorArguments) -> str:
        line: str = make_unix_command_for_host(self.state, self.host, command, **arguments).get_raw_value()
        return line

    def expect(self, questions: Iterable[Question]) -> None:
        """Say what this run is going to ask, so that it is asked together with the next question."""
        self.memory.expect(question.get_raw_value() for question in questions)

    # --- Questions ---------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """The host is about to change: nothing is known any more.

        Only the next question is asked then, since another change may follow at once; two after it, then four.
        """
        if self.answers:
            self.answers.clear()
            self.at_once = 1

    def _answer(self, question: str, arguments: ConnectorArguments, timeout: float | None) -> Outcome:
        """What the host answers, asked now or a moment ago.

        Questions are only asked together when they are asked as the same user, in the same way.
        """
        self.memory.asked[question] = None
        way = repr(sorted((name, repr(value)) for name, value in arguments.items() if value))
        known, since = self.answers.get((way, question), (None, 0.0))
        if known and time.monotonic() - since < MAX_AGE:
            return known
        together = self.memory.next_of(question, self.at_once)
        self.at_once = min(2 * self.at_once, sys.maxsize)
        if len(together) == 1:
            outcome = self._run(self._wrapped(StringCommand(question), arguments), b"", timeout)
            self._keep(way, [question], [outcome])
            return outcome
        script, mark = ask(together)
        outcome = self._run(self._wrapped(StringCommand("sh"), arguments), script.encode(), timeout)
        answered = answers(outcome, mark)
        if not answered:  # sudo wants a password, the disk is full: what it says is the answer
            return outcome
        self._keep(way, together, answered)
        return answered[0]

    def _keep(self, way: str, questions: Sequence[str], answered: Sequence[Outcome]) -> None:
        """Keep answers, but for failures: those may end otherwise when sudo was given a password."""
        now = time.monotonic()
        for question, outcome in zip(questions, answered, strict=False):
            if outcome.status == 0:
                self.answers[way, question] = outcome, now


def _bytes(stdin: Any) -> bytes:
    """Standard input as pyinfra takes it: a text, lines, or a file of them; each line ends."""
    if not stdin:
        return b""
    lines = stdin.readlines() if hasattr(stdin, "readlines") else stdin
    lines = list(lines) if isinstance(lines, list | tuple) else [lines]
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines).encode()
