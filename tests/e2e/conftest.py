"""Hosts for the stories, and stories that stop where they break.

Each module has hosts of its own, so with pytest-xdist they run side by side: ``-n 2 --dist loadfile``.

SLIPWAY_KEEP=1   leave the targets up afterwards, to look at; the next run of a story starts with a new one
SLIPWAY_REUSE=1  take the targets as they were left, and go on after a failure: for work on single tests of a story
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import Any

import pytest

from tests.e2e._driver import ROOT, Host, log
from tests.e2e._provisioned import provisioned
from tests.target.image import SUITES

REUSE = os.environ.get("SLIPWAY_REUSE") == "1"

MakeHost = Callable[..., Host]
"""``make_host(story, os_name, apps=("notes",))``: a target with an inventory, removed when the module ends.

It is provisioned already, as deploy.py does it before it comes to apps (`_provisioned`); with ``bare=True`` it is not:
for stories about that. It is a bare virtual machine with ``machine=True``; ``memory=512`` and the like are those of
`lifecycle.up`.
"""


def variants(names: Iterable[str], quick: Collection[str], other: pytest.MarkDecorator = pytest.mark.slow) -> list[Any]:
    """Values of a parameter: those of `quick` are there in each run, the others have a mark."""
    return [pytest.param(name, marks=() if name in quick else other) for name in names]


def systems(usual: str, other: pytest.MarkDecorator = pytest.mark.slow) -> list[Any]:
    """Both systems, as parameters of a story's host: `usual` is there in each run, the other one has a mark."""
    return variants(SUITES, (usual,), other)


def looked_at(request: pytest.FixtureRequest, parameter: str) -> list[str]:
    """Values of a parameter that tests of this module have in this run: what none looks at needn't be deployed."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    return list(dict.fromkeys(spec.params[parameter] for spec in specs if spec and parameter in spec.params))


_broken: dict[tuple[str, str], str] = {}
"""(module, system) of a story → the test at which it broke."""


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line(
        "markers", "story: tests of the module build on one another; after a failure the rest is skipped"
    )
    config.addinivalue_line("markers", "slow: a variant of another test, or a long story; runs with -m 'not hours'")
    config.addinivalue_line("markers", "hours: what takes hours where machines are emulated; runs with -m hours")
    config.option.markexpr = config.option.markexpr or "not slow and not hours"


def _story(item: pytest.Item) -> tuple[str, str]:
    callspec = getattr(item, "callspec", None)
    made_for = [str(callspec.params[name]) for name in ("host", "place") if name in callspec.params] if callspec else []
    return item.path.stem, ",".join(made_for)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember where a story broke."""
    report = yield
    if report.failed and report.when != "teardown" and item.get_closest_marker("story"):
        _broken.setdefault(_story(item), item.name)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what builds on a step that failed."""
    if item.get_closest_marker("story") and _story(item) in _broken and not REUSE:
        pytest.skip(f"the story broke at {_broken[_story(item)]}")


@pytest.fixture(autouse=True)
def _title(request: pytest.FixtureRequest) -> None:
    """Say in the log what begins."""
    log.info("── %s", request.node.name)


@pytest.fixture(scope="module")
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHost]:
    """Makes targets, named for the story and this clone; all are removed in the end."""
    made: list[Host] = []
    keep = os.environ.get("SLIPWAY_KEEP") == "1"

    def make(
        story: str, os_name: str = "debian13", apps: tuple[str, ...] = ("notes",), *, bare: bool = False, **kind: Any
    ) -> Host:
        name = f"e2e-{story}-{os_name[-2:]}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]}"
        assert re.fullmatch(r"[a-z0-9-]{1,31}", name), f"{name} can't be a target's name"
        folder, fresh = tmp_path_factory.mktemp(story), os.environ.get("SLIPWAY_REUSE") != "1"
        if not (bare or kind.get("machine")):
            kind["start_from"] = provisioned(os_name)
        host = Host.up(name, os_name, folder, apps, fresh=fresh, **kind)
        made.append(host)
        return host

    yield make
    for host in made:
        if keep:
            log.info("target %s stays: python -m tests.target ssh --name %s", host.name, host.name)
        else:
            host.down()
