"""The end of a run: it failed if a step of one app did, though the other apps went on."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api.operation import OperationMeta

from roles import _operations as operations
from roles._role import role


@role("Verdict")
def verdict(steps: Mapping[str, OperationMeta]) -> None:
    """Fail the run, and name what failed, if one of `steps` did."""
    operations.all_succeeded(name="Every app's certificate and release succeeded", steps=steps)
