"""A change of access is kept only if a new connection confirms it: the operator's side of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from roles.access import operations as access_operations
from roles.access.operations import Proven
from slipway.engine.host import PROGRAM

TOLD = CommandOutput([OutputLine("stdout", json.dumps({"token": "t0", "seconds": 60}))])


def client(port: int, key: str = "key") -> SimpleNamespace:
    """What paramiko knows of a connection."""
    transport = SimpleNamespace(getpeername=lambda: ("203.0.113.5", port), get_remote_server_key=lambda: key)
    return SimpleNamespace(get_transport=lambda: transport, close=lambda: None)


class Side:
    """The operator's side: what was asked of the host, over which connection, and what was said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.connected: list[int] = []
        self.error: Callable[[int], str | None] = lambda port: None
        self.keys: dict[int, str] = {}
        self.confirms = self.applies = self.reverts = True
        side = self

        class Fresh(SSHConnector):
            def __init__(self, state: Any, host: Any, **differing: Any) -> None:
                self.port = differing.get("port", 22)

            def connect(self) -> None:
                side.connected.append(self.port)
                if error := side.error(self.port):
                    raise ConnectError(error)
                self.client = client(self.port, side.keys.get(self.port, "key"))  # type: ignore[assignment]

            def run_shell_command(self, command: Any, *given: Any, **rights: Any) -> tuple[bool, CommandOutput]:
                side.asked.append(f"fresh: {command.get_raw_value()} {rights}")
                return side.confirms, CommandOutput([] if side.confirms else [OutputLine("stderr", "not in sudoers")])

        def run(command: Any, **rights: Any) -> tuple[bool, CommandOutput]:
            line = command.get_raw_value()
            side.asked.append(line)
            return (side.reverts, CommandOutput([])) if "revert" in line else (side.applies, TOLD)

        monkeypatch.setattr(access_operations, "Anew", Fresh)
        monkeypatch.setattr(access_operations, "PROOF_SECONDS", 0)
        connector = object.__new__(SSHConnector)
        connector.client = client(22)  # type: ignore[assignment]
        self.host: Any = SimpleNamespace(
            connector=connector, run_shell_command=run, log=lambda text, *level: self.said.append(text)
        )

    def change(self, ports: tuple[int, ...] = (22,), used: frozenset[int] = frozenset({22})) -> bool:
        """Make a change; whether it is kept."""
        sent = Proven(PROGRAM, "access", "apply", ports=ports, used=used, _stdin="{}")
        state: Any = None
        return sent.execute(state, self.host, {"_sudo": True})[0]


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    """An operator whose host answers."""
    return Side(monkeypatch)


def test_a_fresh_connection_confirms_it_as_root(side: Side) -> None:
    assert side.change() is True
    assert side.asked == [f"{PROGRAM} access apply", f"fresh: {PROGRAM} access confirm t0 {{'_sudo': True}}"]


def test_what_the_host_refuses_needs_no_proof(side: Side) -> None:
    side.applies = False
    assert side.change() is False
    assert side.connected == [] and side.asked == [f"{PROGRAM} access apply"]


@pytest.mark.parametrize("error", ["Could not connect (timed out)", "Authentication error (username=deploy)"])
def test_without_a_fresh_connection_it_is_taken_back(side: Side, error: str) -> None:
    side.error = lambda port: error
    assert side.change() is False
    assert side.asked == [f"{PROGRAM} access apply", f"{PROGRAM} access revert"]
    assert error in side.said[0] and "was reverted" in side.said[1]


def test_who_can_log_in_but_not_become_root_proves_nothing(side: Side) -> None:
    side.confirms = False
    assert side.change() is False
    assert "can't become root: not in sudoers" in side.said[0]
    assert side.asked[-1] == f"{PROGRAM} access revert"


def test_where_nothing_is_reached_any_more_it_is_said_that_the_host_helps_itself(side: Side) -> None:
    side.error, side.reverts = lambda port: "Could not connect", False
    assert side.change() is False
    assert "itself reverts the change of access after 60 s" in side.said[1]


def test_a_new_port_must_answer_too_with_the_same_key(side: Side) -> None:
    assert side.change((22, 2222)) is True
    assert side.connected == [22, 2222]
    side.keys[2222] = "another"
    assert side.change((22, 2222)) is False
    assert "another host answers" in side.said[-2]


def test_behind_other_ports_only_the_one_in_use_can_be_proven(side: Side) -> None:
    side.host.connector.client = client(20022)
    assert side.change((22, 2222)) is True
    assert side.connected == [22]


def test_another_connector_changes_nothing(side: Side) -> None:
    side.host.connector = object()
    assert side.change() is False
    assert side.asked == [] and "only be proven over SSH" in side.said[0]
