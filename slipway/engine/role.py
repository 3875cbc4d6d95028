"""`role`: pyinfra's `@deploy`, for a function of typed settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from pyinfra.api import deploy

P = ParamSpec("P")
R = TypeVar("R")


def role(title: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Name the operations of a role: ``<title> | <operation>``.

    pyinfra's own type of a decorated function allows no positional argument, which its code does.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return cast(Callable[P, R], deploy(title)(function))

    return decorate
