"""What the connector asks, and when: with an sh on this machine in place of one behind SSH."""

from __future__ import annotations

import contextlib
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from paramiko import BadHostKeyException, RSAKey, ServerInterface, SSHException, Transport
from pyinfra.api import Config, Inventory, State
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import ctx_config

from slipway.engine.question import Question
from slipway.engine.templates import ROOT
from slipway.transport import connector
from slipway.transport.connector import PromptTransport, SlipwayConnector
from slipway.transport.shell import Channel, Outcome, Shell
from tests.unit.transport.test_shell import LocalChannel

Run = Callable[[], SlipwayConnector]


class CountingShell(Shell):
    """Keeps how many questions each round trip carried; 0 for a command."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.trips: list[int] = []

    def run(self, command: str, stdin: bytes = b"", **options: object) -> Outcome:
        asked = len(re.findall(rb"^[0-9a-f]{32}$", stdin, re.MULTILINE))
        self.trips.append(asked or int(command.startswith("sh -c 'echo q")))
        return super().run(command, stdin, **options)  # type: ignore[arg-type]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Begins a run: a connector that has connected."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pyinfra", "inventories/production.py", "deploy.py"])
    monkeypatch.setattr(SSHConnector, "connect", lambda self: None)
    monkeypatch.setattr(SlipwayConnector, "_channel", lambda self: LocalChannel())
    monkeypatch.setattr(connector, "Shell", CountingShell)
    shells: list[Shell] = []

    def begin() -> SlipwayConnector:
        inventory = Inventory((["@slipway/203.0.113.5"], {}))  # type: ignore[no-untyped-call]
        state = State(inventory, Config())  # type: ignore[no-untyped-call]
        host = inventory.get_host("203.0.113.5")
        made = SlipwayConnector(state, host)
        made.connect()
        shells.append(made._started())
        return made

    yield begin
    for shell in shells:
        shell.close()


def trips(host: SlipwayConnector) -> list[int]:
    assert isinstance(host.shell, CountingShell)
    return host.shell.trips


def asked(host: SlipwayConnector, *names: str) -> list[str]:
    return [ask(host, f"echo {name}") for name in names]


def ask(host: SlipwayConnector, question: str) -> str:
    """What the host answers, asked in the way that pyinfra's facts are."""
    given: Any = pop_global_arguments(host.state, host.host, {})[0]
    way = {name: given[name] for name in CONNECTOR_ARGUMENT_KEYS}
    return host.run_shell_command(Question(question), **way)[1].stdout


QUESTIONS = ("q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8")


def test_the_host_is_named_without_the_connector(run: Run) -> None:
    host = run()
    assert (host.host.name, host.data["ssh_hostname"]) == ("203.0.113.5", "203.0.113.5")


def test_the_second_run_asks_everything_at_once(run: Run) -> None:
    first = run()
    assert asked(first, *QUESTIONS) == list(QUESTIONS)
    assert trips(first) == [1] * 8
    first.disconnect()
    second = run()
    assert asked(second, *QUESTIONS) == list(QUESTIONS)
    assert trips(second) == [8]


def test_what_the_last_run_asked_is_asked_before_the_first_question(run: Run) -> None:
    first = run()
    asked(first, *QUESTIONS)
    first.disconnect()
    second = run()
    assert second.asking
    second.asking.join()
    assert trips(second) == [8]
    assert asked(second, *QUESTIONS) == list(QUESTIONS)
    assert trips(second) == [8]


def test_where_sudo_wants_a_password_nothing_is_asked_ahead(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    asked(first, *QUESTIONS)
    first.disconnect()
    monkeypatch.setattr(connector, "arguments_of", lambda *_: {"_use_sudo_password": True})
    assert run().asking is None


def test_a_change_waits_for_what_was_asked_and_makes_it_old(run: Run, tmp_path: Path) -> None:
    look = f"sleep 0.3; [ ! -e {tmp_path}/made ] || echo there"
    for answer in ("", "there"):
        host = run()
        host.run_shell_command(StringCommand(f"touch {tmp_path}/made" if answer else "true"))
        assert ask(host, look) == answer
        asked(host, *QUESTIONS)
        host.disconnect()


def test_what_a_run_says_it_will_ask_is_asked_at_once_the_first_time(run: Run) -> None:
    host = run()
    host.expect([Question(f"echo {name}") for name in QUESTIONS])
    assert asked(host, *QUESTIONS) == list(QUESTIONS)
    assert trips(host) == [8]


def test_another_entry_point_has_a_memory_of_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    asked(first, *QUESTIONS)
    first.disconnect()
    monkeypatch.setattr(sys, "argv", ["pyinfra", "inventories/production.py", "tasks/release.py"])
    other = run()
    asked(other, "q1", "q2")
    assert trips(other) == [1, 1]


def test_a_run_that_ended_early_does_not_shorten_the_memory(run: Run) -> None:
    for names in (QUESTIONS, QUESTIONS[:2]):
        host = run()
        asked(host, *names)
        host.disconnect()
    last = run()
    asked(last, *QUESTIONS)
    assert trips(last) == [8]


def test_a_failed_run_is_not_remembered(run: Run) -> None:
    host = run()
    asked(host, *QUESTIONS)
    host.state.failed_hosts.add(host.host)
    host.disconnect()
    assert run().memory.known == []


def test_after_a_change_the_host_is_asked_again(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        host = run()
        look = Question(f"[ ! -e {tmp_path}/made ] || echo there")
        assert host.run_shell_command(look)[1].stdout == ""
        asked(host, *QUESTIONS)
        host.run_shell_command(StringCommand(f"touch {tmp_path}/made"))
        assert host.run_shell_command(look)[1].stdout == "there"
        (tmp_path / "made").unlink()
        host.disconnect()


def test_after_a_change_little_is_asked_ahead_then_more_and_more(run: Run) -> None:
    first = run()
    asked(first, *QUESTIONS)
    first.disconnect()
    second = run()
    asked(second, "q1")
    second.run_shell_command(StringCommand("true"))
    asked(second, *QUESTIONS)
    assert trips(second) == [8, 0, 1, 2, 4, 1]


def test_an_old_answer_is_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    host = run()
    asked(host, "q1", "q1")
    assert trips(host) == [1]
    later = time.monotonic() + connector.MAX_AGE + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    asked(host, "q1")
    assert trips(host) == [1, 1]


def test_a_failure_is_no_answer(run: Run, tmp_path: Path) -> None:
    host = run()
    look = Question(f"echo q; [ -e {tmp_path}/made ]")
    assert host.run_shell_command(look)[0] is False
    (tmp_path / "made").touch()
    assert host.run_shell_command(look)[0] is True


def test_the_same_question_asked_in_another_way_is_another_one(run: Run) -> None:
    host = run()
    look = Question("echo q$NAME")
    told = [host.run_shell_command(look, _env={"NAME": name})[1].stdout for name in ("1", "2", "1")]
    assert told == ["q1", "q2", "q1"]


def test_a_broken_memory_is_none(run: Run) -> None:
    host = run()
    host.memory.path.parent.mkdir(parents=True)
    host.memory.path.write_text("[1, 2")
    assert run().memory.known == []


def test_the_memory_holds_questions_only_and_is_the_users_alone(run: Run) -> None:
    host = run()
    host.run_shell_command(Question("echo $((40 + 2)) answers"))
    host.run_shell_command(StringCommand("echo a change"))
    host.disconnect()
    path = run().memory.path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == '["echo $((40 + 2)) answers"]'


def test_exit_statuses_that_count_as_success(run: Run) -> None:
    host = run()
    assert host.run_shell_command(StringCommand("exit 3"))[0] is False
    assert host.run_shell_command(StringCommand("exit 3"), _success_exit_codes=[0, 3])[0] is True


def test_standard_input_is_what_pyinfra_takes(run: Run) -> None:
    host = run()
    for given in ("one\ntwo", ["one", "two"], ["one\n", "two\n"]):
        assert host.run_shell_command(StringCommand("cat"), _stdin=given)[1].stdout_lines == ["one", "two"]


def test_a_lost_connection_fails_the_command_as_pyinfra_expects(run: Run) -> None:
    host = run()
    host.run_shell_command(StringCommand("true"))
    assert host.shell is not None and isinstance(host.shell.channel, LocalChannel)
    with pytest.raises(SSHException, match="connection to the host was lost"):
        host.run_shell_command(StringCommand(f"kill -9 {host.shell.channel.process.pid}; sleep 1"))
    assert host.shell is None  # and the next command starts another


# ── while it connects ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_there_is_to_do_is_done_while_the_other_side_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step after the other; an error there ends no connection, and is told by nobody: it is met again later."""
    done: list[int] = []

    def work() -> Iterator[None]:
        for step in (1, 2, 3):
            done.append(step)
            yield
        raise RuntimeError("a template is broken")

    monkeypatch.setattr(PromptTransport, "meanwhile", work())
    with socket.create_server(("127.0.0.1", 0)) as theirs, socket.create_connection(theirs.getsockname()) as ours:
        transport = PromptTransport(ours)
        gevent.sleep(0)
        assert not done, "paramiko's own greenlet sends the first packet before"
        for _ in range(10):
            gevent.sleep(0)
        transport.close()
    assert done == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_run_loads_every_role_and_template_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """What config.py gives the connector to do."""
    monkeypatch.setattr(sys, "argv", ["pyinfra", "--version"])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(PromptTransport, "meanwhile", iter(()))
    with ctx_config.use(Config()):  # type: ignore[no-untyped-call]
        runpy.run_path(str(ROOT / "config.py"))
    steps = len(list(PromptTransport.meanwhile))
    assert steps == len(list(ROOT.glob("roles/**/*[!_].py"))) + len(list(ROOT.glob("templates/*/*.j2")))


@pytest.mark.parametrize(("given", "shown"), [("", ""), ("logging.basicConfig()", "ERROR:paramiko.transport:words\n")])
def test_paramikos_own_words_are_for_who_asks_for_them(given: str, shown: str) -> None:
    """As with pyinfra's --debug-all, which gives the root logger a handler."""
    program = (
        f"import logging, slipway.transport.connector; {given}\nlogging.getLogger('paramiko.transport').error('words')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == shown


WANTS = "echo 'sudo: a password is required' >&2; exit 1"


def test_where_there_is_no_terminal_sudos_question_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing waits at a prompt that nobody sees."""
    monkeypatch.setattr("slipway.person.terminal", lambda: False)
    monkeypatch.setattr("pyinfra.connectors.util.getpass", lambda _: pytest.fail("asked"))
    host = run()
    done, output = host.run_shell_command(Question(WANTS))
    assert not done and output.combined_lines[0].line == connector.NO_PASSWORD.format("203.0.113.5")
    assert len(output.combined_lines) == 1


def test_where_there_is_a_terminal_sudos_password_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    monkeypatch.setattr("slipway.person.terminal", lambda: True)

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return "secret"

    monkeypatch.setattr("pyinfra.connectors.util.getpass", answer)
    host = run()
    host.run_shell_command(Question(WANTS))
    assert len(prompts) == 1 and prompts[0].endswith("sudo password: ")


def test_a_passphrase_that_nobody_can_type_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def prompt(_: object) -> None:
        raise EOFError

    host = run()
    monkeypatch.setattr(SSHConnector, "make_paramiko_kwargs", prompt)
    with pytest.raises(ConnectError, match="the SSH key has a passphrase, and there is no terminal"):
        host.make_paramiko_kwargs()


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_who_has_no_name_names_the_user_to_log_in_as(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def ask(_: object) -> None:
        raise error

    host = run()
    monkeypatch.setattr(SSHConnector, "connect", ask)
    with pytest.raises(type(error)):
        host.connect()  # it is something else where there is a name
    monkeypatch.setattr("slipway.person.login", lambda: None)
    with pytest.raises(ConnectError, match='add "ssh_user" to the data of this host'):
        host.connect()


# ── the host's key ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator's home folder without anything of SSH's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(sys, "argv", ["pyinfra"])
    monkeypatch.setattr("pyinfra.connectors.sshuserclient.client.get_ssh_config.cache", {}, raising=False)
    return tmp_path


@pytest.fixture
def port() -> Iterator[int]:
    """Of an SSH server on this machine that lets nobody in."""
    key = RSAKey.generate(2048)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = Transport(listening.accept()[0])
                    transport.add_server_key(key)
                    with contextlib.suppress(SSHException, EOFError):
                        transport.start_server(server=ServerInterface())

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def refused(port: int, **data: Any) -> str:
    """Why a connection to that server fails."""
    login = {"ssh_user": "x", "ssh_port": port, "ssh_password": "x", "ssh_strict_host_key_checking": "accept-new"}
    inventory = Inventory(([("@slipway/127.0.0.1", login | data)], {}))  # type: ignore[no-untyped-call]
    state = State(inventory, Config())  # type: ignore[no-untyped-call]
    with pytest.raises(ConnectError) as error:
        SlipwayConnector(state, inventory.get_host("127.0.0.1")).connect()
    return str(error.value)


def other_key(names: str) -> str:
    """A line of known_hosts with another key than any host has."""
    key = RSAKey.generate(2048)
    return f"{names} {key.get_name()} {key.get_base64()}\n"


def test_a_key_that_changed_is_told_with_what_to_do(home: Path, port: int) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/known_hosts").write_text(other_key(f"[127.0.0.1]:{port}"))
    assert refused(port) == (
        f"The SSH key of [127.0.0.1]:{port} isn't the one in ~/.ssh/known_hosts. If you rebuilt the machine: "
        f"`ssh-keygen -R '[127.0.0.1]:{port}'`. If not, don't go on: somebody may stand between you and the host"
    )


def test_the_file_that_holds_the_key_is_named(home: Path, port: int) -> None:
    (home / "one").write_text(other_key("203.0.113.5"))
    (home / "two").write_text(other_key(f"[127.0.0.1]:{port}"))
    (home / "config").write_text(f"Host 127.0.0.1\n  UserKnownHostsFile {home}/one {home}/two\n")
    told = (
        f"isn't the one in {home}/two. If you rebuilt the machine: `ssh-keygen -R '[127.0.0.1]:{port}' -f {home}/two`"
    )
    assert told in refused(port, ssh_config_file=str(home / "config"))
    assert told in refused(port, ssh_known_hosts_file=str(home / "two"))


def test_the_usual_port_is_not_named(run: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    host = run()
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh/known_hosts").write_text(other_key("203.0.113.5"))

    def fail(_: object) -> None:
        try:
            raise BadHostKeyException("203.0.113.5", RSAKey.generate(2048), RSAKey.generate(2048))
        except BadHostKeyException:
            raise failures.pop()  # noqa: B904 as pyinfra does

    monkeypatch.setattr(SSHConnector, "connect", fail)
    failures = [ConnectError("does not match"), AttributeError("no _ssh_config")]
    while failures:
        told = r"^The SSH key of 203\.0\.113\.5 isn't .*: `ssh-keygen -R 203\.0\.113\.5`\. If not"
        with pytest.raises(ConnectError, match=told):
            host.connect()


def test_the_folder_of_known_keys_is_made_where_there_is_none(home: Path, port: int) -> None:
    assert refused(port).startswith("Authentication error")
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert f"[127.0.0.1]:{port} ssh-rsa " in (home / ".ssh/known_hosts").read_text()
