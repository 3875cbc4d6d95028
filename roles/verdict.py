"""The end of a run: it failed if a step of one app did, though the other apps went on."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra import host

from slipway.engine import plan, pyinfra_api
from slipway.engine.plan import Commands
from slipway.engine.pyinfra_api import OperationMeta
from slipway.engine.role import role


@plan.operation(lambda steps: [])
def all_succeeded(steps: Mapping[str, OperationMeta]) -> Commands:
    """Fail if one of `steps` has failed. Their errors were ignored until now, so that one app can't stop another.

    + steps: what was to be achieved → its operation
    """
    failed = [what for what, meta in steps.items() if not plan.planning() and meta.did_error()]
    if not failed:
        if not plan.planning():
            done = pyinfra_api.results(pyinfra_api.current_host())
            changed = sum(meta.did_change() for meta in done)
            told = f"{changed} of {len(done)} operations changed the host" if changed else ""
            host.log(plan.result(plan.undone(pyinfra_api.current_host()), told))
        host.noop("every step succeeded")
        return
    what = " and ".join(failed)
    rest = " Everything else succeeded." if len(failed) < len(steps) else ""
    yield plan.failure(f"{host.name}: {what} failed; the reason stands above, at its operation.{rest}")


@role("Verdict")
def verdict(steps: Mapping[str, OperationMeta]) -> None:
    """Fail the run, and name what failed, if one of `steps` did."""
    all_succeeded(name="Every app's certificate and release succeeded", steps=steps)
