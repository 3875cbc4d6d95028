"""Make an older release serve again. Nothing is fetched or built."""

from __future__ import annotations

from slipway_host.release import check, database, heal, processes, proof, retire, start, switch, target, transaction
from slipway_host.release import manifest as manifests
from slipway_host.system import Failed, Undecided
from slipway_host.systemd import ACTIVE
from slipway_host.wanted import made_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slipway_host.release.app import App
    from slipway_host.release.transaction import Step


def rollback(app: App) -> None:
    """Make an older release serve again."""
    replacing = heal.heal(app)
    serving, named = app.serving(), app.request.get("to")
    if replacing and not named:
        return  # the release to leave was the damaged one
    chosen = target.choose(app, serving, named)
    if chosen == serving:
        if not heal.bring_back(app, serving):
            raise Failed(f"{serving} should serve, but doesn't: roll back to another release, or release anew.")
        app.progress.say(f"{serving} serves already")
        return
    app.wanted.update(made_as(app.record(chosen)["wanted"], app.wanted))  # type: ignore[typeddict-item]
    app.record_id = transaction.new_id(app, "rollback")
    taken = steps(bool(app.request.get("stop_first")))
    took = transaction.transact(app, app.record_id, chosen, taken, kind="rollback", previous=serving, to=chosen)
    app.progress.say(f"{chosen} serves again ({took:.1f} s), instead of {serving}")


def steps(stop_first: bool = False) -> list[Step]:
    """The steps of a rollback.

    + stop_first: whether to stop the app before anything of the other release runs
    """
    return [
        *([transaction.stop()] if stop_first else []),
        ("schema", consider),
        ("start", revive),
        ("prove", proof.prove),
        ("switch", switch.switch),
        ("commit", switch.commit),
    ]


def consider(app: App, release: str) -> str | None:
    """Compare the database with the release. If the database is ahead, continue only if the operator has said how."""
    missing = {} if app.at.env(release).exists() else {str(app.at.env(release)): "is missing"}
    if wrong := missing or app.damage(release):
        listed = manifests.listed(wrong)
        raise Failed(f"{release} is damaged: {listed}. Name another one, or release its commit anew.")
    seen = database.look(app, release)
    if not seen:
        return "its schema can't be looked at: no Alembic" if app.wanted["migration"]["command"] else "no migrations"
    _note(app, seen["current"], seen["current"])
    if seen["pending"] and not seen["unknown"]:
        pending = ", ".join(each["revision"] for each in seen["pending"])
        raise Failed(f"The database is behind {release}: it lacks {pending}. Release its commit anew, which migrates.")
    return _back(app, release, seen) if seen["unknown"] else None


def _back(app: App, release: str, seen: dict[str, Any]) -> str:
    """Handle a database that is ahead of the release. Returns a note on what was done."""
    told, to = app.request.get("schema"), ",".join(seen["heads"]) or "base"
    app.migrator = migrator = database.migrator(app)
    undone = [
        {"revision": each, "doc": "(no release on this host has it)", "downgrade": False} for each in seen["unknown"]
    ]
    if migrator:
        undone = database.answer(app, database.schema(app, migrator, "undone", "--to", to), "looked at")["undone"]
    stuck = ", ".join(each["revision"] for each in undone if not each["downgrade"])
    listed = "\n".join(f"  {each['revision']} {each['doc']}" for each in undone)
    ahead = f"The database is ahead of {release} by:\n{listed}\n"
    if told == "code-only":
        app.progress.say(f"{ahead}Only the code is rolled back, as requested.")
        return "code only"
    if not migrator:
        back = f"It can't be downgraded from here: release code that has {stuck}, and roll back from that."
    elif stuck:
        back = f"{stuck} has no downgrade."
    else:
        back = "To downgrade the database first, and lose the data in what it added: --schema downgrade."
    if stuck or not migrator or told != "downgrade":
        alone = f"To roll back only the code, if {release} works with this database: --schema code-only."
        raise Undecided(f"{ahead}{alone}\n{back}")
    who = migrator
    down = ("downgrade", "--to", to)
    database.patient(app, "downgrade", lambda limit: database.schema(app, who, *down, what="migrate", seconds=limit))
    _note(app, seen["current"], seen["heads"])
    return f"downgraded to {to}"


def _note(app: App, before: list[str], after: list[str]) -> None:
    """Record the database's revisions before and after."""
    if app.record_id:
        app.write_record(app.record_id, revisions={"before": before, "after": after})


def revive(app: App, release: str) -> str | None:
    """Start the release again, unless it is warm."""
    units = processes.units(app, release)
    told = app.systemd.states(processes.services(app, [release]), "ActiveState")
    states = {unit: state["ActiveState"] for unit, state in told.items()}
    retire.forget_drain(app, release)
    check.write_units(app, release, app.wanted["units"])
    for unit in units:
        (app.system.layout.warm_units / unit).unlink(missing_ok=True)
    if all(state in ACTIVE for state in states.values()):
        return "it was warm"
    app.systemd.reread()
    slow = [each.service(app, release) for each in processes.of(app, release) if each.finishes]
    ending = [unit for unit, state in states.items() if state == "deactivating" and unit not in slow]
    if ending:  # a start would wait for the stop
        app.systemd.stop(*ending)
    app.systemd.ctl("reset-failed", *units, check=False)
    start.start(app, release)
    return None
