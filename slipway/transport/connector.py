"""`@slipway/HOST`: pyinfra's SSH connector, made for a host that is far away.

Everything that `ssh_…` data says is pyinfra's own and means the same. What differs is the number of round trips:
commands run one after the other in one shell instead of each in a channel of its own, all that a run asks is asked at
once, and nothing waits for a delayed acknowledgement.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gevent
from gevent.event import AsyncResult
from paramiko import BadHostKeyException, SSHException, Transport
from pyinfra.api import Host, State, StringCommand
from pyinfra.api.exceptions import ConnectError
from typing_extensions import Unpack, override

from slipway import person
from slipway.engine.pyinfra_api import (
    CONNECTOR_ARGUMENT_KEYS,
    SUDO_PASSWORD_REQUIRED_LINES,
    CommandOutput,
    ConnectorArguments,
    OutputLine,
    SSHConnector,
    arguments_of,
    asked_for_password,
    carries_out,
    connect_arguments,
    echo,
    execute_command_with_sudo_retry,
    format_text,
    lost_hosts,
    make_unix_command_for_host,
    prefix_of,
)
from slipway.engine.question import Question, Tells
from slipway.foreign import visible
from slipway.transport import known_hosts
from slipway.transport.questions import Answers, Memory, ask
from slipway.transport.shell import STDERR, Channel, Outcome, Shell, ShellError, silent

NAME = "slipway"
"""What pyinfra knows the connector by, as pyproject.toml registers it."""
MAX_AGE = 5.0
"""Seconds after which an answer is asked again: somebody else may have changed the host, or an operator waited a while
before they pressed Enter."""

NO_PASSWORD = (
    "sudo wants a password on {}, and there is no terminal here to ask you for it. Let that user become root without "
    "one (NOPASSWD in sudoers(5)), or run this where there is a terminal"
)
"""What is told in place of what sudo says, which would be a question."""
NO_NAME = (
    'nothing names the user to log in as, and this machine has no name for you either: add "ssh_user" to the data of '
    "this host"
)
NO_PASSPHRASE = (
    "the SSH key has a passphrase, and there is no terminal here to ask you for it: add the key to an agent (ssh-add), "
    "or run this where there is a terminal"
)

# paramiko logs a traceback of what it raises as well: pyinfra says it in a line. Whoever wants both, with pyinfra's
# --debug-all, has a handler of the root's; without any, Python would print them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class PromptTransport(Transport):
    """paramiko's, without Nagle's algorithm.

    That holds a small packet back until the last one is acknowledged, which the other side delays by 40 ms.
    """

    meanwhile: ClassVar[Iterator[None]] = iter(())
    """What there is to do anyway, in small steps: it is done while the other side is waited for."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(sock, socket.socket):  # not a jump host's channel, nor a proxy command
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, *arguments, **options)
        gevent.spawn(self._use_the_time)

    def _use_the_time(self) -> None:
        gevent.sleep(0)  # the first packet goes out before
        with contextlib.suppress(Exception):  # who needs what couldn't be done then meets the error again, and tells it
            for _ in self.meanwhile:
                gevent.sleep(0)


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
        try:
            made = super().make_paramiko_kwargs()
        except EOFError:
            raise ConnectError(NO_PASSPHRASE) from None
        return connect_arguments(made, {"transport_factory": PromptTransport})

    @override
    def connect(self) -> None:
        """Connect, and ask what the last run asked: the host works on it while this side reads and plans."""
        if not self.data["ssh_known_hosts_file"]:
            known_hosts.make_room()
        try:
            super().connect()
        except (ConnectError, AttributeError) as error:  # the second is what pyinfra makes of a jump host's key
            if not isinstance(error.__context__, BadHostKeyException):
                raise
            raise ConnectError(known_hosts.advice(error.__context__, self)) from None
        except (KeyError, OSError):  # as Python says it, before and since 3.13
            if person.login() is not None:
                raise
            raise ConnectError(NO_NAME) from None
        self.shell = None
        scripts = [str(Path(word).resolve()) for word in sys.argv[1:] if word.endswith(".py")]
        self.memory = Memory(self.host.name, *scripts)
        self.answers: dict[tuple[str, str], tuple[Outcome, float]] = {}
        self.awaited: dict[tuple[str, str], AsyncResult] = {}
        self.asking: gevent.Greenlet | None = None
        self.at_once = sys.maxsize
        self._ask_ahead()

    @override
    def disconnect(self) -> None:
        """End the shell, and remember what was asked for the next run."""
        if self.host not in lost_hosts(self.state):
            self.memory.save(complete=carries_out(self.state))  # all questions come before the first change
        if self.asking:
            self.asking.kill()
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
        if arguments.get("_get_pty") or (shell.busy and not self.asking):
            return super().run_shell_command(command, print_output, print_input, **arguments)
        exit_codes = arguments.pop("_success_exit_codes", None) or [0]
        timeout = arguments.pop("_timeout", None)
        stdin = _bytes(arguments.pop("_stdin", None))
        arguments.pop("_get_pty", None)  # what is left says in which way a question is asked: see _ask_ahead

        def show(stream: str, line: str) -> None:
            if isinstance(command, Tells) and stream != STDERR:
                line = command.told(line)
                if not line:
                    return
            line = visible(line)
            text = format_text(line, "red") if stream == STDERR else line
            echo(f"{prefix_of(self.host)}{text}", err=True)

        def execute() -> tuple[int, CommandOutput]:
            if print_input:
                masked = make_unix_command_for_host(self.state, self.host, command, **arguments)
                echo(f"{prefix_of(self.host)}>>> {masked}", err=True)
            if question:
                outcome = self._answer(command.get_raw_value(), arguments, timeout)
                for stream, line in outcome.lines if print_output else []:
                    show(stream, line)
            else:
                line = self._wrapped(command, arguments)
                outcome = self._run(line, stdin, timeout, show if print_output else silent)
            # Of one that failed, pyinfra shows what it printed.
            fit = visible if outcome.status else str
            lines = [OutputLine(stream, fit(line)) for stream, line in outcome.lines]
            return outcome.status, CommandOutput(lines)

        def answerable() -> tuple[int, CommandOutput]:
            status, output = execute()
            wants = any(each.line.strip() in SUDO_PASSWORD_REQUIRED_LINES for each in output.combined_lines)
            if status and wants and not asked_for_password(self.host) and not person.terminal():
                return status, CommandOutput([OutputLine(STDERR, NO_PASSWORD.format(self.host.name))])
            return status, output

        status, output = execute_command_with_sudo_retry(self.host, arguments, answerable)
        return status in exit_codes, output

    def _started(self) -> Shell:
        if self.shell is None:
            self.shell = Shell(self._channel())
        return self.shell

    def _channel(self) -> Channel:
        assert self.client is not None
        transport = self.client.get_transport()
        assert transport is not None
        return transport.open_session()

    def _run(
        self,
        line: str,
        stdin: bytes,
        timeout: float | None,
        show: Callable[[str, str], None] = silent,
        *,
        public: bool = False,
    ) -> Outcome:
        shell = self._started()
        try:
            return shell.run(line, stdin, public=public, timeout=timeout, show=show)
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

    def _ask_ahead(self) -> None:
        """Ask what the last run asked, in the way that facts are asked in where nothing says otherwise.

        Not where sudo wants a password: the operator is asked for that when there is a question.
        """
        given = arguments_of(self.state, self.host)
        if self.memory.remembered and not given.get("_use_sudo_password"):
            others = ("_get_pty", "_stdin", "_success_exit_codes", "_timeout")
            arguments: Any = {name: given[name] for name in CONNECTOR_ARGUMENT_KEYS if name not in others}
            self._ask(self.memory.remembered, arguments, None)

    def _forget(self) -> None:
        """The host is about to change: nothing is known any more.

        Only the next question is asked then, since another change may follow at once; two after it, then four.
        """
        self._settle()
        if self.answers:
            self.answers.clear()
            self.at_once = 1

    def _settle(self) -> None:
        """Wait until the host has answered all that it was asked."""
        if self.asking:
            self.asking.join()
            self.asking = None

    def _answer(self, question: str, arguments: ConnectorArguments, timeout: float | None) -> Outcome:
        """What the host answers, asked now or a moment ago.

        Questions are only asked together when they are asked as the same user, in the same way.
        """
        self.memory.asked[question] = None
        asked = _way(arguments), question
        if asked in self.awaited:
            self.awaited[asked].get()
        if known := self._known(asked):
            return known
        self._settle()
        together = self.memory.next_of(question, self.at_once)
        self.at_once = min(2 * self.at_once, sys.maxsize)
        if len(together) > 1:
            self._ask(together, arguments, timeout)
            answer: Outcome | None = self.awaited[asked].get()
            if answer:
                return answer
            self._settle()  # sudo wants a password, the disk is full: what it says alone is the answer
        outcome = self._run(self._wrapped(StringCommand(question), arguments), b"", timeout)
        self._keep(asked, outcome)
        return outcome

    def _ask(self, questions: Sequence[str], arguments: ConnectorArguments, timeout: float | None) -> None:
        """Ask all these; `awaited` gets their answers as they come, or None where none came."""
        way = _way(arguments)
        script, mark = ask(questions)
        line = self._wrapped(StringCommand("sh"), arguments)
        awaited = self.awaited = {(way, question): AsyncResult() for question in questions}

        def tell(place: int, outcome: Outcome) -> None:
            asked = way, questions[place]
            self._keep(asked, outcome)
            awaited[asked].set(outcome)

        def run() -> None:
            lost: Exception | None = None
            try:
                self._run(line, script.encode(), timeout, Answers(mark, tell).hear, public=True)
            except (SSHException, TimeoutError) as error:
                lost = error
            finally:
                self.awaited = {}
                for each in awaited.values():
                    if not each.ready():
                        each.set_exception(lost) if lost else each.set(None)

        self.asking = gevent.spawn(run)

    def _known(self, asked: tuple[str, str]) -> Outcome | None:
        outcome, since = self.answers.get(asked, (None, 0.0))
        return outcome if time.monotonic() - since < MAX_AGE else None

    def _keep(self, asked: tuple[str, str], outcome: Outcome) -> None:
        """Keep an answer, but for a failure: that may end otherwise when sudo was given a password."""
        if outcome.status == 0:
            self.answers[asked] = outcome, time.monotonic()


def _way(arguments: ConnectorArguments) -> str:
    """In which way something is asked: as which user, where, with which variables."""
    return repr(sorted((name, repr(value)) for name, value in arguments.items() if value))


class Anew(SSHConnector):
    """A connection of its own to a host that is connected already: with the inventory's data, but for what differs.

    It shows whether one could be made now: a new TCP connection, and a login.
    """

    def __init__(self, state: State, host: Host, **differing: Any) -> None:
        """`differing` are arguments of paramiko's `SSHClient.connect`."""
        super().__init__(state, host)
        self.differing = differing

    @override
    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """pyinfra's, with what differs."""
        return super().make_paramiko_kwargs() | self.differing


def _bytes(stdin: Any) -> bytes:
    """Standard input as pyinfra takes it: a text, lines, or a file of them; each line ends."""
    if not stdin:
        return b""
    lines = stdin.readlines() if hasattr(stdin, "readlines") else stdin
    lines = list(lines) if isinstance(lines, list | tuple) else [lines]
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines).encode()
