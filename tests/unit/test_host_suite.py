"""tests/host without a host: its usage errors, its SSH options, its client against misbehaving servers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.host._client import Client
from tests.host._hosts import ssh_backend
from tests.host.conftest import load_targets

INVENTORY = """
hosts = [("203.0.113.5", {"ssh_user": "root", %s "slipway": {"apps": {"notes": {
    "domains": ["notes.example.com"],
    "source": {"git": "https://git.example.com/notes.git"},
    "app": "notes.main:app",
}}}})]
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """An inventory of one host."""
    path = tmp_path / "production.py"
    path.write_text(INVENTORY % "")
    return path


def refusal(inventory: str | None, limit: str | None, control: Path) -> str:
    """What `pytest tests/host` says to these options."""
    with pytest.raises(pytest.UsageError) as caught:
        load_targets(inventory, limit, control)
    return str(caught.value)


def test_inventory_is_asked_for(tmp_path: Path) -> None:
    """One sentence, with the command to type."""
    usage = "pytest tests/host --inventory inventories/production.py"
    assert refusal(None, None, tmp_path) == f"--inventory is missing: {usage}"
    assert refusal("no.py", None, tmp_path) == f"--inventory: there is no file no.py; write it as in: {usage}"


def test_limit_names_the_hosts_that_there_are(inventory: Path, tmp_path: Path) -> None:
    """Nothing is verified instead of another host."""
    assert refusal(str(inventory), "web2", tmp_path).endswith(" has no host web2; it has 203.0.113.5")
    assert [target.name for target in load_targets(str(inventory), "203.0.113.5", tmp_path)] == ["203.0.113.5"]


def test_unknown_key_of_verify_is_refused(inventory: Path, tmp_path: Path) -> None:
    """A typo would otherwise let the tests judge another host."""
    inventory.write_text(INVENTORY % '"verify": {"adress": "127.0.0.1"},')
    assert "'adress'" in refusal(str(inventory), None, tmp_path)


def test_verify_says_where_to_connect(inventory: Path, tmp_path: Path) -> None:
    """The domains themselves at 80 and 443, unless the inventory says otherwise."""
    assert load_targets(str(inventory), None, tmp_path)[0].client == Client(None, 80, 443)
    inventory.write_text(INVENTORY % '"verify": {"address": "127.0.0.1", "https_port": 8443},')
    assert load_targets(str(inventory), None, tmp_path)[0].client == Client("127.0.0.1", 80, 8443)


def test_ssh_options(tmp_path: Path) -> None:
    """pyinfra's connection data as options of ssh: known hosts are strict where a file is given."""
    data = {
        "ssh_user": "deploy",
        "ssh_port": 2222,
        "ssh_key": "/k e y",
        "ssh_known_hosts_file": "/hosts",
        "_sudo": True,
    }
    backend = ssh_backend("web1", data, tmp_path).backend
    options = backend.ssh_extra_args
    assert backend.sudo
    for part in ("User=deploy", "Port=2222", "UserKnownHostsFile=/hosts", "StrictHostKeyChecking=yes", "-i '/k e y'"):
        assert part in options, options
    assert "StrictHostKeyChecking=accept-new" in ssh_backend("web1", {}, tmp_path).backend.ssh_extra_args


def test_who_has_no_home_is_told_so(inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files that ssh is to read; and who is nobody, what OpenSSH wants."""

    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    def refused(*_: object) -> None:
        raise RuntimeError("No user exists for uid 54321")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    (target,) = load_targets(str(inventory), None, tmp_path)
    target.host = SimpleNamespace(run=refused)
    assert target.trouble() == (
        "no SSH session: No user exists for uid 54321; the system must know the user who runs OpenSSH: add that user, "
        "or run this as another one"
    )
    inventory.write_text(INVENTORY % '"ssh_known_hosts_file": "~/known_hosts",')
    told = refusal(str(inventory), None, tmp_path)
    assert f"{inventory}: 203.0.113.5: your home folder isn't known" in told and "\n" not in told


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], Client]]:
    """Starts a server that answers each connection with these bytes, or resets it; gives a client for it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def start(answer: bytes | None) -> Client:
        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed at the end of the test
                return
            with connection:
                connection.recv(65536)
                if answer is None:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        return Client("127.0.0.1", port, port)

    yield start
    listener.close()


@pytest.mark.parametrize("answer", [b"", None], ids=["closed", "reset"])
def test_silence_is_told_from_an_answer(server: Callable[[bytes | None], Client], answer: bytes | None) -> None:
    """nginx closes a connection for an unknown name; on the way that may become a reset."""
    assert server(answer).raw("unknown.example", b"GET / HTTP/1.0\r\n\r\n") == b""
    assert server(b"HTTP/1.0 200 OK\r\n\r\n").raw("unknown.example", b"GET / HTTP/1.0\r\n\r\n")[:12] == b"HTTP/1.0 200"


def test_a_refused_port_is_no_silence() -> None:
    """A host whose nginx is down must not look like one that keeps quiet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Client("127.0.0.1", port, port).raw("unknown.example", b"GET / HTTP/1.0\r\n\r\n")


def test_refusal_of_a_handshake_is_the_server_s(server: Callable[[bytes | None], Client]) -> None:
    """The alert for an unknown name reaches the test as nginx sent it (RFC 8446, 6.2: unrecognized_name)."""
    client = server(bytes([21, 3, 3, 0, 2, 2, 112]))
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        client.handshake("unknown.example", to="unknown.example")
