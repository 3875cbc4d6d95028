"""^C: who is ended by it, and how soon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.context import ctx_state

from slipway.cli import interrupt
from slipway.cli.interrupt import interruptible


@pytest.fixture
def state() -> Iterator[State]:
    """Of a run with one host: the pool has one place."""
    made = State(Inventory((["@slipway/203.0.113.5"], {})), Config(PARALLEL=1))  # type: ignore[no-untyped-call]
    with ctx_state.use(made):
        yield made


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def ends(run: Callable[[], None]) -> None:
    """`run` does, by ^C."""
    with pytest.raises(KeyboardInterrupt), interruptible():
        run()


def press_soon() -> None:
    """While gevent's hub runs, and everybody waits."""
    signal.setitimer(signal.ITIMER_REAL, 0.2)


@pytest.fixture(autouse=True)
def pythons_own() -> Iterator[None]:
    """SIGINT is Python's own, also where the tests run in the background and a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: press())
    yield
    signal.signal(signal.SIGALRM, before)


def test_it_ends_what_runs_for_a_host_so_that_pyinfra_can_say_goodbye(
    state: State, capfd: pytest.CaptureFixture[str]
) -> None:
    command = state.pool.spawn(gevent.sleep, 30)
    began = time.monotonic()
    goodbyes: list[str] = []

    def run() -> None:
        try:
            command.join()
        finally:
            state.pool.spawn(goodbyes.append, "host").join()

    press_soon()
    ends(run)
    assert goodbyes == ["host"]
    assert time.monotonic() - began < 1
    assert capfd.readouterr() == ("", "")


def test_a_host_that_does_not_say_goodbye_is_left(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "PATIENCE", 0.3)
    began = time.monotonic()

    def run() -> None:
        try:
            gevent.sleep(30)
        finally:
            state.pool.spawn(gevent.sleep, 30).join()

    press_soon()
    ends(run)
    assert time.monotonic() - began < 2


def test_it_hurts_nobody_elses_greenlet(state: State, capfd: pytest.CaptureFixture[str]) -> None:
    """One of paramiko's would print a traceback of it."""
    done = []

    def work() -> None:
        press()
        done.append("work")

    gevent.spawn(work)
    ends(lambda: gevent.sleep(30))
    assert done == ["work"]
    assert capfd.readouterr() == ("", "")


def test_it_ends_a_prompt_for_a_password(state: State, capfd: pytest.CaptureFixture[str]) -> None:
    """That waits in a host's greenlet, and gevent doesn't know of it."""
    done = []

    def prompt() -> None:
        press()
        done.append("answered")

    state.pool.spawn(prompt)
    ends(lambda: gevent.sleep(30))
    assert done == []
    assert capfd.readouterr() == ("", "")


def test_where_no_run_has_begun_it_is_pythons_own() -> None:
    ends(press)
    with interruptible():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
