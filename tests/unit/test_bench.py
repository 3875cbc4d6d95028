"""tests/bench: the relay that makes a host far away, the state that every tool holds, and the figures."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import grp
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import __main__ as command_line
from tests.bench import apps, hardening
from tests.bench.figures import Figures, ratios, slope, table
from tests.bench.playbook import state_playbook
from tests.bench.relay import Relay
from tests.bench.script import script
from tests.bench.state import File, Folder, Link, Made, State, came

TRIP = 0.4
SLACK = 0.9 * TRIP
"""What a busy machine may add: less than a further round trip."""


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server on 127.0.0.1 that sends back what it gets, and ends when its client does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(65536)
    return data


@pytest.fixture
def far(echo: int) -> Iterator[socket.socket]:
    """A connection to that server, `TRIP` away, over which an echo came back already."""
    with Relay("127.0.0.1", echo) as relay:
        relay.delay = TRIP
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as connection:
            connection.sendall(b"-")
            received(connection, 1)
            yield connection


def test_an_echo_takes_the_round_trip(far: socket.socket) -> None:
    began = time.monotonic()
    far.sendall(b"one")
    assert received(far, 3) == b"one"
    assert TRIP <= time.monotonic() - began < TRIP + SLACK


def test_ten_echoes_under_way_at_once_take_one_round_trip_in_order(far: socket.socket) -> None:
    began, sent = time.monotonic(), b""
    for number in range(10):
        far.sendall(b"%d" % number)
        sent += b"%d" % number
        time.sleep(0.002)
    assert received(far, 10) == sent
    assert TRIP <= time.monotonic() - began < TRIP + SLACK


def test_much_takes_little_longer_than_little(far: socket.socket) -> None:
    much = b"0123456789abcdef" * 262144  # 4 MiB
    began = time.monotonic()
    sender = threading.Thread(target=far.sendall, args=(much,))
    sender.start()
    assert received(far, len(much)) == much
    sender.join()
    assert time.monotonic() - began < TRIP + 3  # one chunk a round trip would take more than twice as long


def test_the_end_is_passed_on_after_what_came_before_it(far: socket.socket) -> None:
    far.sendall(b"last words")
    far.shutdown(socket.SHUT_WR)
    assert received(far, 10) == b"last words"
    assert far.recv(1) == b""


def test_connecting_counts_as_a_round_trip(echo: int) -> None:
    with Relay("127.0.0.1", echo) as relay:
        relay.delay = TRIP
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as connection:
            connection.sendall(b"-")
            received(connection, 1)
        assert 2 * TRIP <= time.monotonic() - began < 2 * TRIP + SLACK
        assert relay.connections == 1


def test_a_relay_that_stopped_holds_no_connection(echo: int) -> None:
    with Relay("127.0.0.1", echo) as relay:
        connection = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
        connection.sendall(b"-")
        received(connection, 1)
    with connection:
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.port), timeout=10)


# ── the state ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def described(tmp_path: Path) -> State:
    """A state of which all lies in a folder of this user's."""
    user, group = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    return State(
        packages=(),
        users=(),
        folders=(Folder(f"{tmp_path}/a", user, group, "750"),),
        files=(File(f"{tmp_path}/a/it's one", user, group, "640", b"$HOME `id` \\ 'END'\nEND\n\x00\xff"),),
        links=(Link(f"{tmp_path}/link", "a/it's one"),),
        absent=(f"{tmp_path}/old",),
        units=(),
        made=(Made("the made one", f"{tmp_path}/made", f"touch {tmp_path}/made"),),
    )


def test_what_comes_with_a_provisioning_is_described() -> None:
    """But for what commands, packages and systemd make besides."""
    by_products = {"/etc/letsencrypt/live/a/cert.pem", "/etc/rc2.d/S01nginx", "/etc/group-", "/opt/slipway/uv"}
    after = by_products | {"/etc/new-one.d/new.conf", "/etc/new-one.d", "/etc/passwd"}
    assert came({"/etc/passwd"}, after) == ["/etc/new-one.d", "/etc/new-one.d/new.conf"]


def said(text: str) -> list[str]:
    done = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_script_makes_the_state_once(described: State, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    assert said(script(described, dry=True))[-1] == "5 changed"
    assert [each.name for each in tmp_path.iterdir()] == ["old"]
    assert said(script(described))[-1] == "5 changed"
    assert (tmp_path / "link").read_bytes() == described.files[0].content
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "made").exists()
    assert not (tmp_path / "old").exists()
    assert said(script(described)) == ["0 changed"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ('echo more >>"$1/a/it\'s one"', "/a/it's one"),
        ('chmod 600 "$1/a/it\'s one"', "/a/it's one"),
        ("chmod 700 $1/a", "/a"),
        ("ln -sfn elsewhere $1/link", "/link"),
    ],
)
def test_the_script_mends_what_differs(described: State, tmp_path: Path, damage: str, told: str) -> None:
    said(script(described))
    subprocess.run(["sh", "-c", damage, "sh", tmp_path], check=True)
    expected = [f"changed: {tmp_path}{told}", "1 changed"]
    assert said(script(described, dry=True)) == expected
    assert said(script(described)) == expected
    assert said(script(described)) == ["0 changed"]


def test_the_playbook_names_every_resource(described: State, tmp_path: Path) -> None:
    unit = File("/etc/systemd/system/one.timer", "root", "root", "644", b"")
    held = dataclasses.replace(described, files=(*described.files, unit), units=("one.timer",))
    sources = {file.path: tmp_path / str(number) for number, file in enumerate(held.files)}
    [play] = json.loads(state_playbook(held, sources))
    told = json.dumps(play["tasks"])
    paths = [*(each.path for each in held.folders), *(each.path for each in held.files)]
    named = [*paths, held.links[0].path, held.made[0].command]
    assert [each for each in [*named, *held.absent, *held.units] if each not in told] == []
    [handler] = play["handlers"]
    assert handler["ansible.builtin.shell"] == "systemctl daemon-reload"
    [notifies] = [task for task in play["tasks"] if "notify" in task]
    assert notifies["notify"] == handler["name"]
    assert [item["path"] for item in notifies["loop"]] == [unit.path]


# ── the figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_slope_is_the_number_of_round_trips() -> None:
    assert slope({0.0: 1.0, 0.02: 1.24, 0.05: 1.6, 0.1: 2.2}) == pytest.approx(12)
    assert slope({0.0: 1.0}) is None


def test_a_table_shows_medians_and_leaves_open_what_was_not_measured() -> None:
    figures = Figures()
    for seconds in (9.0, 1.0, 2.0):
        figures.add("converged", "shell", 0.0, seconds)
    figures.add("converged", "shell", 0.1, 3.0)
    figures.add("converged", "slow", 0.1, 30.0)
    assert figures.of("converged", "shell") == {0.0: 2.0, 0.1: 3.0}
    rows = [
        line.split() for line in table(figures, "converged", {"slow": "slow", "shell": "sh"}, [0.0, 0.1]).splitlines()
    ]
    assert rows[1] == ["slow", "·", "30.00", "·", "10.0"]
    assert rows[2] == ["sh", "2.00", "3.00", "10"]


def test_ratios_are_told_at_the_ends_of_what_both_have() -> None:
    assert ratios({0.0: 2.0, 0.05: 9.0, 0.1: 6.0}, {0.0: 1.0, 0.05: 1.0, 0.1: 2.0}) == "2.0 / 3.0"
    assert ratios({0.0: 2.0}, {0.0: 1.0, 0.1: 1.0}) == "2.0"
    assert ratios({0.0: 2.0}, {}) == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--delays", "fast"], "write milliseconds with commas between"),
        (["--delays", "-1"], "0 to 2000 ms"),
        (["--tools", "slipway,salt"], "salt: choose from slipway, pyinfra, ansible, mitogen, shell"),
        (["--cases", "all"], "all: choose from converged, dry, file, release, files, apps, first"),
        (["--rounds", "0"], "a number from 1 to 100"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_write(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_line.parser().parse_args([arguments[0] + "=" + arguments[1]])
    assert told in " ".join(capsys.readouterr().err.split())


def rounds(*rates: tuple[float, float, float]) -> list[hardening.Rates]:
    """Rounds of figures, in the order of the states."""
    return [dict(zip(hardening.STATES, each, strict=True)) for each in rates]


def test_cost_is_the_geometric_mean_of_ratios() -> None:
    """A round in which all are slow counts as any other, and luck in one round is undone by as much in another."""
    text, good = hardening.table({"small": rounds((1000, 1000, 900), (100, 96, 90))})
    assert good and "0.980 +- 0.020" in text and "meets" in text and "0.900 +- 0.000" in text
    assert "1.000 +- " in hardening.table({"small": rounds((1000, 800, 1), (80, 100, 1))})[0]
    text, good = hardening.table({"small": rounds((1000, 990, 980)), "static": rounds((1000, 960, 990))})
    assert not good and text.count("falls short") == 1


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("ProtectSystem=strict", True),
        ("RestrictSUIDSGID=yes", True),
        ("SystemCallFilter=@system-service", True),
        ("Restart=always", False),
        ("RestartSec=1", False),
        ("LimitNOFILE=65536", False),
        ("StateDirectory=notes", False),
    ],
)
def test_sandbox_is_told_from_the_rest_of_a_unit(line: str, taken: bool) -> None:
    assert bool(re.match(rf"({hardening.SANDBOX})=", line)) is taken


def measured_apps(**seconds: tuple[float, float, float]) -> Figures:
    """Seconds that each kind of run takes with 1, 10 and 100 apps, near; a tenth more each 100 ms away."""
    figures = Figures()
    for kind, each in seconds.items():
        for count, took in zip(apps.COUNTS, each, strict=True):
            figures.add("apps", f"{kind} {count}", 0.0, took)
            figures.add("apps", f"{kind} {count}", 0.1, took + 0.5)
    return figures


def test_what_further_apps_cost_is_told_beside_its_bar() -> None:
    figures = measured_apps(converged=(0.75, 0.8, 1.25), dry=(0.75, 1.2, 2.5))
    told = apps.table(figures, [0.0, 0.1]).splitlines()
    assert [line.split() for line in told[:4]] == [
        ["0", "ms", "100", "ms", "round", "trips", "a", "further", "app"],
        ["a", "converged", "run", "with", "1", "app", "0.75", "1.25", "5"],
        ["a", "converged", "run", "with", "10", "apps", "0.80", "1.30", "5", "5.6", "ms"],
        ["a", "converged", "run", "with", "100", "apps", "1.25", "1.75", "5", "5.1", "ms"],
    ]
    assert told[7:] == [
        "a converged run with 10 apps: a further app takes 5.6 ms, within the bar of 10 ms",
        "a converged run with 100 apps: a further app takes 5.1 ms, within the bar of 10 ms",
        "a converged run with 100 apps takes 1.2 s, within the bar of 2 s",
        "a plan with 10 apps: a further app takes 50.0 ms, MISSED: the bar of 10 ms",
        "a plan with 100 apps: a further app takes 17.7 ms, MISSED: the bar of 10 ms",
        "a plan with 100 apps takes 2.5 s, MISSED: the bar of 2 s",
    ]


def test_apps_that_were_not_measured_are_not_told_of() -> None:
    figures = Figures()
    figures.add("apps", "converged 10", 0.0, 0.9)
    told = apps.table(figures, [0.0]).splitlines()
    assert len(told) == 2 and told[1].split()[-2:] == ["0.90", "·"]
