"""`role`: pyinfra's `@deploy`, for a function of typed settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, cast

from pyinfra.api.deploy import deploy

P = ParamSpec("P")


def role(title: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Name the operations of a role: ``<title> | <operation>``.

    pyinfra's own type of a decorated function allows no positional argument, which its code does.
    """

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        return cast(Callable[P, None], deploy(title)(function))

    return decorate
