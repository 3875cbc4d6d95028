"""The running nginx: ask what it serves, let it check a configuration, reload it, and prove it."""

from __future__ import annotations

import contextlib
import os
import re
import socket

from slipway_host.names import INTERNAL, ITSELF, NGINX
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slipway_host.system import System

    Expected = Mapping[str, str | None]
    """Path on the internal server → the answer that the running nginx must give."""

PORT = 80
ANSWER_SECONDS = 2
MOST_BYTES = 65536  # of an answer: another program may have the port
PROOF_SECONDS = 15  # a reload of a large configuration takes well under a second
LOOK_EVERY = 0.005  # seconds
ACCEPTING = "nginx: worker process"
"""Title of a worker that accepts connections; other workers have a longer title."""
STARTED = 19  # index of a field behind the name in /proc/<process>/stat: ticks from boot to start (proc(5))
TICKS = os.sysconf("SC_CLK_TCK")  # a second
TITLE_BYTES = 256  # "nginx: worker process is shutting down", with the zeros behind it


class Refused(Failed):
    """The change was not made; the message says why and what serves now."""


def ask(system: System, path: str) -> str | None:
    """The running nginx's answer on its internal server; None without an answer."""
    # By hand: to import http.client takes longer than the rest of `status`.
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", PORT), ANSWER_SECONDS, (_own_address(system), 0)) as connection:
            until = system.clock() + ANSWER_SECONDS  # in all: another program may have the port, and answer slowly
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {INTERNAL}\r\n\r\n".encode())
            while (part := connection.recv(4096)) and len(answer) < MOST_BYTES:
                answer += part
                connection.settimeout(max(0.001, until - system.clock()))
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace").strip() if re.match(rb"HTTP/1\.[01] 200 ", head) else None


def _own_address(system: System) -> str:
    """Where the host's own programs ask from, by nginx's configuration: Slipway 0.1 has no address of theirs in it."""
    with contextlib.suppress(OSError):
        if ITSELF not in system.layout.nginx_internal.read_text(errors="replace"):
            return ""
    return ITSELF


def validate(system: System, mounts: Sequence[tuple[Path, Path]]) -> None:
    """Let nginx check the configuration with each source of `mounts` in its place. Raises Refused if nginx refuses it.

    The candidates are mounted over the live paths in a mount namespace: no other process sees them before nginx has
    accepted them.
    """
    # umask, because nginx makes missing log files even now, and they hold visitors' addresses.
    script = 'set -e; umask 027; while [ $# -gt 1 ]; do mount --bind "$1" "$2"; shift 2; done; exec nginx -t -q'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    # Raw, because we parse it: a secret may equal one of its words by chance.
    done = system.run(*argv, *(str(part) for pair in mounts for part in pair), check=False, raw=True)
    if done.code != 0:
        told = system.hidden.shown(explain(system, done.output))
        raise Refused(f"nginx refuses the configuration; nothing was changed.\n{told}")


def explain(system: System, output: str) -> str:
    """nginx's own message, and a hint if the wrong file isn't Slipway's."""
    layout = system.layout
    ours = tuple(map(str, (layout.nginx_live, layout.nginx_generations, layout.upstreams)))
    named = re.search(r" in (/\S+):(\d+)", output)
    text = output.strip()
    if named and not named[1].startswith(ours):
        text += f"\n{named[1]} isn't Slipway's. Correct its line {named[2]} (`nginx -t` checks it), then run again."
    return text


def workers(system: System) -> dict[int, str]:
    """Process id → title, of nginx's workers. Only children of nginx count: any process can take such a title."""
    found: dict[int, str] = {}
    try:
        master = system.layout.nginx_pid.read_text().strip().encode()
    except FileNotFoundError:
        return found
    for process in system.layout.proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we look
            # Check the parent first: the title of another process may be huge.
            if _parent(process) == master and (title := _title(process)).startswith(ACCEPTING):
                found[int(process.name)] = title
    return found


def _parent(process: Path) -> bytes:
    """Process id of a process's parent, in digits."""
    # proc(5): the second field after the name. The name may contain any character.
    return (process / "stat").read_bytes().rpartition(b")")[2].split()[1]


def _title(process: Path) -> str:
    """A process's title, up to the longest that nginx uses."""
    with (process / "cmdline").open("rb") as file:
        return file.read(TITLE_BYTES).rstrip(b"\0 ").decode(errors="replace")


def accepting(system: System) -> set[int]:
    """Process ids of nginx's workers that still accept connections."""
    return {number for number, title in workers(system).items() if title == ACCEPTING}


def since(system: System) -> float | None:
    """When the oldest worker that accepts connections started, in seconds since 1970; None without a worker.

    Its configuration was read before that.
    """
    booted = system.time() - system.uptime()
    began = []
    for number in accepting(system):
        with contextlib.suppress(OSError):  # it may end while we look
            ticks = (system.layout.proc / str(number) / "stat").read_bytes().rpartition(b")")[2].split()[STARTED]
            began.append(booted + int(ticks) / TICKS)
    return min(began, default=None)


def reload_and_prove(system: System, expected: Expected, unmask: bool = False, alone: bool = True) -> None:
    """Reload nginx and wait until it answers every path of `expected` with its value, from new workers.

    nginx is started if it doesn't run. Raises Refused if that takes longer than PROOF_SECONDS.

    + unmask: start it even if it is masked; a renewal of certificates mustn't
    + alone: wait until the old workers accept no more connections; nginx lets them for a tenth of a second
    """
    before: set[int] = set()
    if system.run("systemctl", "is-active", "--quiet", NGINX, check=False).code != 0:
        _start(system, unmask)
    else:
        before = accepting(system)
        # As `systemctl reload` does, but without its second reading of the whole configuration.
        system.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", NGINX)
    deadline = system.clock() + PROOF_SECONDS
    while True:
        answers = {path: ask(system, path) for path in expected}
        now = accepting(system)
        if answers == expected and now - before and not (alone and now & before):
            return
        if system.clock() > deadline:
            wrong = ", ".join(
                f"{path} is {answers[path]}, not {value}" for path, value in expected.items() if answers[path] != value
            )
            log = system.run("tail", "-n", "5", str(system.layout.nginx_errors), check=False).output.strip()
            raise Refused(
                f"nginx was reloaded, but the new configuration isn't live ({wrong or 'old workers go on'}).\n{log}"
            )
        system.sleep(LOOK_EVERY)


def _start(system: System, unmask: bool) -> None:
    system.run("systemctl", "reset-failed", NGINX, check=False)
    if unmask:
        system.run("systemctl", "unmask", "--quiet", NGINX, check=False)
    if system.run("systemctl", "start", NGINX, check=False).code != 0:
        journal = ("journalctl", "-u", NGINX, "-n", "8", "-o", "cat", "--no-pager")
        raise Refused("nginx doesn't start:\n" + system.run(*journal, check=False).output)
