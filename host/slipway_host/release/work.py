"""The program of a run's unit: it does one request, under the app's lock."""

from __future__ import annotations

import signal
import threading

from slipway_host import VERSION, commands
from slipway_host.names import REQUEST
from slipway_host.protocol import PROTOCOL
from slipway_host.release import failure, forms, heal, rollback, runs, state, transaction
from slipway_host.system import Failed, Interrupted
from slipway_host.text import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.protocol import Request
    from slipway_host.release.app import App

DRAIN_END_SECONDS = 120  # beyond graceful_timeout; a drain holds the lock while it stops the old release


def work(app: App, token: str) -> int:
    """Do the request of a run, and log how it ended. Returns the exit status.

    + token: name of the run's folder
    """
    folder = app.at.runs / token
    request: Request = app.system.json(folder / REQUEST)
    app.wanted = request["wanted"] if request.get("wanted") else app.system.json(app.at.wanted)
    request.pop("wanted", {})
    app.request = {**request, "folder": str(folder)}
    (folder / REQUEST).unlink()
    app.system.hidden.hide(app.secrets())

    def told_to_stop(*_: object) -> None:
        commands.end_all()  # threads of a step wait for these
        raise Interrupted(f"{app.at.run_unit} was told to stop.")

    signal.signal(signal.SIGTERM, told_to_stop)
    threading.Thread(target=app.progress.beat, daemon=True).start()
    code, error = 1, None
    try:
        do(app, token)
        code = 0
    except (Failed, OSError) as failed:
        error = failure.last_word(failed)
    except Interrupted as told:
        error = failure.last_word(told)
    except BaseException as unforeseen:
        error = failure.last_word(unforeseen)
        raise
    finally:
        event = app.progress.ended(code, app.serving(), error)
        if app.record_id:
            runs.keep_log(app, folder, app.record_id, event)
        app.progress.write(event)
    return code


def do(app: App, token: str) -> None:
    """Do the request."""
    if not app.wanted:
        raise Failed(f"{app.at.wanted} is missing: nothing was ever released here. Run `slipway apply`.")
    if app.request.get("protocol") != PROTOCOL:  # the caller waited for another run, and this program came meanwhile
        raise Failed(f"An older Slipway asked for this. Slipway {VERSION} keeps this host now: upgrade the older one.")
    state.require(app.system)
    verb, by = app.request["verb"], app.request["by"]
    if lacking := forms.lacking(app.wanted, verb):
        told = f"{app.at.wanted} was written by another Slipway, or by hand: it lacks {listed(lacking)}"
        raise Failed(f"{told}, which a {verb} needs. `slipway apply` writes it anew.")
    # The asking process has waited for other runs: this is for the end of a drain.
    patience = max(app.wanted["graceful_timeout"] + DRAIN_END_SECONDS, app.request["wait"])
    with runs.locked(app, f"{verb} by {by}", patience):
        try:
            state.take_over(app)
            runs.sweep_runs(app, app.at.runs / token)
            {"release": transaction.release, "rollback": rollback.rollback}[verb](app)
        except Interrupted as told:  # outside of a transaction, which undoes its own steps
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise Interrupted(f"{told}{heal.take_back(app)}") from told
