"""The smallest machine that is rented, 512 MB and one core: provisioned, served through releases, nothing killed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e._driver import Host, log
from tests.e2e._machine import answers, change_code, machine_settings, oom, public, settled
from tests.e2e.conftest import MakeHost
from tests.target import lifecycle

pytestmark = [pytest.mark.story, pytest.mark.hours]


@pytest.fixture(scope="module", params=["debian12", "debian13"])
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    """The machine."""
    host = make_host("small", request.param, machine=True, memory=512, cpus=1)
    machine_settings(host)
    return host


def free(host: Host) -> str:
    """What is free of memory and swap, for the log."""
    told = host.ssh("grep -E '^(MemTotal|MemAvailable|SwapTotal|SwapFree)' /proc/meminfo")
    return ", ".join(f"{name} {int(kb) // 1024} MB" for name, kb in re.findall(r"(\w+): +(\d+)", told))


def test_a_machine_of_512_mb_is_provisioned(host: Host) -> None:
    log.info("    bare: %s", free(host))
    host.deploy()
    log.info("    provisioned: %s", free(host))
    assert answers(host) == host.release()
    memory, swap = (int(host.ssh(f"awk '/^{each}/ {{print $2}}' /proc/meminfo")) for each in ("MemTotal", "SwapTotal"))
    assert 0.9 * memory < swap < 1.2 * memory, "by itself it gets as much as it has memory"
    assert host.ssh("swapon --show=NAME --noheadings") == "/swapfile"
    assert oom(host) == ""
    host.converged()


def test_it_serves_through_a_release(host: Host) -> None:
    """Two releases run at a time then."""
    before = host.release()
    change_code(host, "released")
    with public(host, gap=30):
        host.task("tasks/release.py", app="notes")
    log.info("    two releases: %s", free(host))
    assert answers(host) == host.release() != before
    assert oom(host) == ""


def test_it_serves_while_all_dependencies_are_built_anew(host: Host) -> None:
    """Another lock file: nothing of the environment from before is taken over."""
    source, before = Path(host.app()["source"]["path"]), host.release()
    for name, old in (
        ("pyproject.toml", 'name = "notes"\nversion = "1.0.0"'),
        ("uv.lock", '"notes"\nversion = "1.0.0"'),
    ):
        text = (source / name).read_text()
        assert old in text
        (source / name).write_text(text.replace(old, old.replace("1.0.0", "1.0.1")))
    with public(host, gap=30):
        host.task("tasks/release.py", app="notes")
    log.info("    built anew: %s", free(host))
    assert answers(host) == host.release() != before
    assert oom(host) == ""
    settled(host)


def test_with_less_than_it_takes_a_run_is_refused_and_the_site_goes_on(host: Host) -> None:
    before = host.release()
    host.target = lifecycle.memory(host.name, 400)  # of which the kernel keeps some
    assert answers(host) == before
    host.refused("memory is", "expected at least 400 MB: choose a larger machine")
