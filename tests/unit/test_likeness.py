"""What a target has as a VPS of its own: the parts of tests/target/likeness.py and host.py that need no Docker."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.target import host, likeness
from tests.target.likeness import Limits

ALL, NONE = Limits(2048, 8192), Limits(None, None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, ...]]]:
    """Let an engine answer as told; returns what it is asked."""
    calls: list[tuple[str, ...]] = []

    def engine(info: str, probe: int) -> list[tuple[str, ...]]:
        def call(*args: str, **_: Any) -> subprocess.CompletedProcess[bytes]:
            calls.append(args)
            return subprocess.CompletedProcess(args, probe)

        monkeypatch.setattr(likeness, "docker", lambda *_: info)
        monkeypatch.setattr(likeness, "call", call)
        likeness._memory.cache_clear()
        likeness._disk.cache_clear()
        return calls

    return engine


@pytest.mark.parametrize(
    ("info", "probe", "found"),
    [
        ("true true", 0, Limits(likeness.MEMORY_MB, likeness.DISK_MB)),
        ("true false", 0, Limits(None, likeness.DISK_MB)),
        ("false false", 1, NONE),
    ],
)
def test_limits_are_those_that_the_engine_can_set(
    info: str, probe: int, found: Limits, asked: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = asked(info, probe)
    assert likeness.limits("image", ["--cap-add=ALL"]) == found
    assert calls[0][:3] == ("run", "--rm", "--cap-add=ALL") and calls[0][-1] == "probe"
    assert capsys.readouterr().err.count("it has the machine's") == list(found).count(None)


def test_options_of_a_limited_target() -> None:
    options = likeness.options(ALL)
    assert {"--memory=2048m", "--memory-swap=2048m", "--volume=/disk"} < set(options)
    assert [each.split("=")[0] for each in likeness.options(NONE)] == ["--label"]


def test_first_process_is_told_its_limits_and_the_kernels_values() -> None:
    command = likeness.command(ALL)
    assert command[:2] == ["/bin/sh", "-c"] and command[4:6] == ["2048", "8192"]
    assert "net.ipv4.ip_unprivileged_port_start=1024" in command[6:]
    assert likeness.command(NONE)[4:6] == ["0", "0"]


def test_description_has_the_limits_of_the_container() -> None:
    labels = dict(each.removeprefix("--label=").split("=", 1) for each in likeness.options(ALL)[:1])
    assert likeness.of(labels) == {"memory_mb": 2048, "disk_mb": 8192}
    assert likeness.of({}) == {"memory_mb": None, "disk_mb": None}


def test_kernel_values_are_the_containers_own() -> None:
    """Of another namespace than the network's nothing differs, and the rest is the machine's."""
    assert all(name.startswith("net.") for name in likeness.KERNEL)


@pytest.mark.parametrize("disk", [True, False])
def test_a_plug_is_pulled_only_where_the_disk_is_the_targets(disk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(host, "docker", lambda *args: calls.append(args))
    host.kill("slipway-demo", disk=disk)
    assert [call[0] for call in calls] == (["exec", "kill"] if disk else ["kill"])


@pytest.mark.parametrize("program", [["sh", "-n", "-c", likeness.init()], ["perl", "-c", "-e", host.POWER_CUT]])
def test_what_a_target_runs_can_be_read(program: list[str]) -> None:
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]} here")
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
