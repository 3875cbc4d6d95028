"""What the unit tests share: inventories on disk, a host that exists only as facts, and plans of roles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from slipway import uv
from slipway.engine.overview import HostOverview
from slipway.settings import Settings, load
from tests.unit.inventories import MAXIMAL, changed, write_folder
from tests.unit.plans import Facts, Plan, Planner, after, bare_facts, deploy_planner, good_overview, planner


def pytest_addoption(parser: pytest.Parser) -> None:
    """What tests/unit/roles/test_golden.py can be asked for."""
    parser.addoption("--renew", action="store_true", help="keep the golden texts as they are made now")


@pytest.fixture(scope="session", autouse=True)
def _uv_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """uv, which judges lock files, asks no index, and what it said isn't kept in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("locks")
        patch.setitem(uv.GIVEN, "UV_OFFLINE", "1")
        patch.setattr(uv, "folder_of_cache", lambda: cache)
        yield


# ── inventories ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the inventories here name: sources, secrets, keys, certificates."""
    made = tmp_path_factory.mktemp("inventories")
    write_folder(made)
    return made


@pytest.fixture
def minimal_data() -> dict[str, Any]:
    """The smallest inventory there can be; a copy that a test may change."""
    return changed({})


@pytest.fixture
def maximal_data() -> dict[str, Any]:
    """An inventory with every option set, and an app of each TLS mode; a copy that a test may change."""
    return copy.deepcopy(MAXIMAL)


@pytest.fixture
def make_settings(folder: Path) -> Callable[[Mapping[str, Any]], Settings]:
    """Settings of an inventory's ``slipway`` mapping."""
    return lambda data: load(data, inventory=folder / "production.py", host="203.0.113.5")


@pytest.fixture
def minimal(make_settings: Callable[[Mapping[str, Any]], Settings], minimal_data: dict[str, Any]) -> Settings:
    """One app, and a default for everything that has one."""
    return make_settings(minimal_data)


@pytest.fixture
def maximal(make_settings: Callable[[Mapping[str, Any]], Settings], maximal_data: dict[str, Any]) -> Settings:
    """Four apps, and nothing at its default."""
    return make_settings(maximal_data)


# ── a host of facts ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def overview() -> HostOverview:
    """A host that nothing speaks against."""
    return good_overview()


@pytest.fixture
def bare(overview: HostOverview) -> Facts:
    """Facts of a host that has nothing but systemd, sshd and IPv6."""
    return bare_facts(overview)


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, bare: Facts) -> Planner:
    """`plan(role, *arguments, facts=…, failing=…, **named)`: what a role would do to a host of these facts.

    Runs on pyinfra's @fake host in API mode, and answers with a `Plan`. Without `facts` the host is `bare`; a fact that
    isn't declared fails the test. `failing` are operations that end with an error.
    """
    return planner(monkeypatch, bare)


@pytest.fixture(scope="session")
def bare_plans() -> dict[str, Plan]:
    """Plans of deploy.py for a bare host, by inventory: each is made once."""
    return {}


@pytest.fixture
def plan_deploy(plan: Planner, folder: Path, bare_plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch) -> Planner:
    """`plan_deploy(data, *arguments, entry=…, facts=…, failing=…)`: a whole run for a host of this ``slipway`` mapping.

    It is that of deploy.py or of an `entry` among tasks/, with these arguments of pyinfra's command line.
    """
    return deploy_planner(monkeypatch, plan, folder / "production.py", bare_plans)


@pytest.fixture
def converge(
    plan_deploy: Planner, bare: Facts, make_settings: Callable[[Mapping[str, Any]], Settings]
) -> Callable[[Mapping[str, Any]], Facts]:
    """`converge(data)`: facts of a host that deploy.py has made what this ``slipway`` mapping asks for."""
    return lambda data: after(plan_deploy(data), bare, make_settings(data))
