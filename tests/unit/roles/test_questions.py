"""What a run asks of a host: as much of ten apps as of one, since each question costs its way there and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.unit.plans import Facts, Planner

QUESTIONS = {
    "Answer": 11,
    "Changed": 2,
    "FirewallState": 1,
    "HostFacts": 1,
    "KernelSettings": 1,
    "NginxVersion": 1,
    "Existing": 1,
    "Overview": 1,
    "Packages": 1,
    "Places": 15,
    "SshdState": 1,
    "SwapFacts": 1,
    "Unit": 4,
}
"""Fact → how many questions of its kind a run has, whatever apps there are."""
OF_ACME = {"Answer": 12, "Changed": 3, "Unit": 5}
"""The same with certificates of an ACME server: whether certbot is there, its timer runs, and nginx serves them."""


def inventory(number: int, **settings: Any) -> dict[str, Any]:
    """The ``slipway`` mapping of a host with so many apps."""
    app = {"source": {"path": "project"}, "app": "notes.main:app"}
    names = [f"app{each}" for each in range(number)]
    return {"apps": {name: {"domains": [f"{name}.example.com"], **app, **settings} for name in names}}


GIT = {"git": "git@git.example.com:team/mono.git", "ref": "main", "deploy_key": "deploy_key"}


@pytest.mark.parametrize("number", [1, 10])
@pytest.mark.parametrize(
    ("settings", "questions"),
    [
        ({"tls": {"mode": "off"}}, QUESTIONS),
        ({}, QUESTIONS | OF_ACME),
        ({"tls": {"mode": "self-signed"}}, QUESTIONS | {"Answer": 12, "Changed": 3}),
        ({"tls": {"mode": "off"}, "source": GIT}, QUESTIONS | {"GitCommits": 1}),
        ({"tls": {"mode": "off"}, "env": {"LEVEL": "info"}, "static": {"path": "static"}, "port": None}, QUESTIONS),
    ],
)
def test_a_further_app_asks_nothing_more(
    plan_deploy: Planner,
    converge: Callable[[Mapping[str, Any]], Facts],
    number: int,
    settings: dict[str, Any],
    questions: dict[str, int],
) -> None:
    data = inventory(number, **settings)
    done = plan_deploy(data, facts=converge(data))
    assert done.changes == []
    assert {fact: len(asked) for fact, asked in done.asked.items()} == questions
    bare = {fact: len(asked) for fact, asked in plan_deploy(data).asked.items()}
    again = {"GitCommits": 11} if "GitCommits" in questions and number == 10 else {}
    assert bare == questions | again, "a key that a run has brought is tried by the release that needs it"


@pytest.mark.parametrize("task", ["release", "rollback"])
def test_a_further_app_asks_nothing_more_in_a_task(
    plan_deploy: Planner, converge: Callable[[Mapping[str, Any]], Facts], task: str
) -> None:
    data = inventory(10)
    done = plan_deploy(data, entry=f"tasks/{task}.py", facts=converge(data))
    asked = {fact: len(arguments) for fact, arguments in done.asked.items()}
    assert asked == {"Overview": 1, "Answer": 1, "Places": 1, "HostFacts": 1}


def test_no_command_is_too_long_for_many_apps(plan_deploy: Planner) -> None:
    """Linux takes no argument of 128 KiB or more (MAX_ARG_STRLEN), and a host runs each command as one."""
    (app,) = inventory(1)["apps"].values()
    names = [f"application-with-a-name-of-{each:03}" for each in range(250)]
    done = plan_deploy({"apps": {name: app | {"domains": [f"{name}.example.com"]} for name in names}})
    lengths = [len(command.line) for operation in done for command in operation.commands]
    assert sum(lengths) > 500_000 and max(lengths) < 100_000
