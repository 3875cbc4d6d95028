"""What keeps a server's workers (files/app/servers/slipway_master.py): with real processes, and a server of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway import project

SERVERS = project.root() / "files/app/servers"
PROGRAM = """
import os, select, signal, sys, time
sys.path.insert(0, SERVERS)
import slipway_master

def serve(worker):
    stopped = []
    if os.path.exists("broken"):
        sys.exit(5)
    if os.path.exists("hangs"):
        time.sleep(600)
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    worker.serves()
    answered = 0
    while not stopped:
        worker.tick(answered)
        if not select.select([worker.socket], [], [], 0.1)[0]:
            continue
        try:
            connection = worker.socket.accept()[0]
        except BlockingIOError:
            continue
        connection.setblocking(True)
        asked = connection.recv(100).decode()
        if asked == "hang":
            time.sleep(60)
        if asked == "die":
            os._exit(9)
        if asked == "slow":
            time.sleep(1)
        if asked == "long":
            worker.tick(answered + 1)
            connection.sendall(b"begun")
            connection.recv(1)
        answered += 1
        connection.sendall(str(os.getpid()).encode())
        connection.close()

slipway_master.main(serve, "test")
"""
OPTIONS = {"workers": 2, "timeout": 2, "graceful-timeout": 5, "keep-alive": 5, "backlog": 10}


class Server:
    """A master that runs on a socket."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.path = folder / "socket"
        program = folder / "program.py"
        program.write_text(PROGRAM.replace("SERVERS", repr(str(SERVERS))))
        words = [f"--{name.replace('_', '-')}={value}" for name, value in (OPTIONS | options).items()]
        starter = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), "
        starter += "LISTEN_FDS='1'); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen(50)
            self.process = subprocess.Popen(
                [sys.executable, "-c", starter, str(listener.fileno()), str(program), *words],
                cwd=folder,
                pass_fds=[listener.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )

    def ask(self, question: str = "who") -> str:
        """The answer: the number of the worker's process; empty if it ended before."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(300)
            connection.connect(str(self.path))
            connection.sendall(question.encode())
            with contextlib.suppress(ConnectionResetError):
                return connection.recv(100).decode()
        return ""

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it wrote, once it has ended."""
        _, said = self.process.communicate(timeout=300)
        return self.process.returncode, said


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.process.kill()


def test_a_worker_finishes_what_it_has_begun(server: Server) -> None:
    assert server.ask()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.path))
        connection.sendall(b"slow")
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        connection.settimeout(300)
        assert connection.recv(100).decode().isdecimal()
    assert server.ended() == (0, "")


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=1)
    assert server.ask("die") == ""
    assert server.ask(), "by its successor, for it was the only one"
    server.process.terminate()
    code, said = server.ended()
    assert code == 0 and "exited with code 9" in said


def test_a_worker_that_hangs_says_where_and_is_replaced(server: Server) -> None:
    assert server.ask("hang") == ""
    assert server.ask()
    server.process.terminate()
    code, said = server.ended()
    assert code == 0 and "gave no sign of life for 2 s:" in said and "in serve" in said


def test_what_cannot_start_ends(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    code, said = Server(tmp_path).ended()
    assert code == 3
    assert "exited with code 5" in said and said.endswith("No worker serves, and one failed to start.\n")


def test_workers_are_replaced_one_after_another_and_none_is_lost(tmp_path: Path) -> None:
    server = Server(tmp_path, max_requests=5)
    seen, until = [server.ask()], time.monotonic() + 120
    while len(set(seen)) <= 2 and time.monotonic() < until:
        seen.append(server.ask())
    assert "" not in seen and len(set(seen)) > 2
    server.process.terminate()
    assert server.ended() == (0, "")


def test_it_waits_with_a_replacement_while_others_finish_long_requests(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=1, max_requests=1, timeout=300, graceful_timeout=300)
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for connection in connections:
            connection.settimeout(60)
            connection.connect(str(server.path))
            connection.sendall(b"long")
            assert connection.recv(5) == b"begun"
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(4)
        assert server.process.poll() is None
        for connection in connections:
            connection.sendall(b"!")
        assert all(connection.recv(100).isdigit() for connection in connections)
    server.process.terminate()
    assert server.ended() == (0, "")


def test_a_worker_that_never_starts_is_ended(tmp_path: Path) -> None:
    (tmp_path / "hangs").touch()
    code, said = Server(tmp_path, workers=1, timeout=1).ended()
    assert code == 3
    assert "didn't start within 10 s:" in said and said.endswith("No worker serves, and one failed to start.\n")


def test_without_a_socket_it_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("SERVERS", repr(str(SERVERS))))
    words = [f"--{name}={value}" for name, value in OPTIONS.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
    argv = [sys.executable, str(program), *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (1, "There is no socket: systemd starts this, with one.\n")
