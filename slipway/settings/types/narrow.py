"""What a narrow type is: it says once, for people and for the check, what a value must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Hint = str
"""What to do about a refused value."""


@dataclass(frozen=True)
class Narrow:
    """What a setting must be: the text, the check, and the next step when the check fails."""

    expected: str
    """Completes the sentence "this must be …"."""
    do: Hint
    """What to do when a value is refused and the check knows nothing better."""
    check: Callable[[Any], Hint | bool] | None = None
    """False or a hint refuse a value that already has the right Python type."""
    secret: bool = False
    """The value may be a secret and is never shown."""
    container: bool = False
    """A list or mapping: what is wrong inside is reported there, not here."""

    def refuse(self, hint: Hint | None = None) -> PydanticCustomError:
        """The error for a refused value, in the form `slipway.settings.problems` reads."""
        context = {"expected": self.expected, "do": hint or self.do, "secret": self.secret}
        return PydanticCustomError("setting", "{expected}", context)

    def _checked(self, value: Any) -> Any:
        verdict = True if self.check is None else self.check(value)
        if verdict is True:
            return value
        raise self.refuse(verdict if isinstance(verdict, str) else None)

    def _narrowed(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            value = handler(value)
        except ValidationError:
            wrong_type = self.refuse()
        else:
            return self._checked(value)
        raise wrong_type

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic's hook: the value's own type first, then the check."""
        if self.container:
            return core_schema.no_info_after_validator_function(self._checked, handler(source))
        return core_schema.no_info_wrap_validator_function(self._narrowed, handler(source))


def matches(pattern: str) -> Callable[[str], bool]:
    """A check whether the whole of a text is of a pattern."""
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: compiled.fullmatch(value) is not None


def whole(low: int, high: int, unit: str = "") -> Narrow:
    """A whole number of `unit` from `low` to `high`."""
    expected = f"a whole number{f' of {unit}' if unit else ''} from {low} to {high}"
    return Narrow(expected, f"write a number from {low} to {high}, without quotes", lambda value: low <= value <= high)


def one_of(*values: str) -> Narrow:
    """One of a few words."""
    listed = ", ".join(f'"{value}"' for value in values)
    return Narrow(f"one of {listed}", f"write one of {listed}", lambda value: value in values)


def mapping_of(what: str, do: Hint) -> Narrow:
    """A mapping, with what its keys and values are."""
    return Narrow(f"a mapping of {what}", do, container=True)
