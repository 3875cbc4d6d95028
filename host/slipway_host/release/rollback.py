"""Back to a release that served before: nothing is fetched and nothing built."""

from __future__ import annotations

from slipway_host.release import check, database, heal, proof, retire, start, switch, target, transaction
from slipway_host.release import manifest as manifests
from slipway_host.system import Failed, Undecided
from slipway_host.systemd import ACTIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slipway_host.release.app import App
    from slipway_host.release.transaction import Step

MADE_FROM = ("app", "source", "units", "sandbox", "migration", "static", "inputs", "programs", "deaths")
"""What a release has of its own of what is wanted; the rest is the host's."""


def rollback(app: App) -> None:
    """Let a release that served before serve again."""
    replacing = heal.heal(app)
    serving, named = app.serving(), app.request.get("to")
    if replacing and not named:
        return  # the damaged one was to go back from
    chosen = target.choose(app, serving, named)
    if chosen == serving:
        if not heal.bring_back(app, serving):
            raise Failed(f"{serving} doesn't serve, though it is what should: go back to another one, or release anew.")
        app.progress.say(f"{serving} serves already")
        return
    made: dict[str, Any] = {**app.record(chosen)["wanted"]}
    wanted: dict[str, Any] = {**app.wanted}
    wanted |= {key: made[key] for key in MADE_FROM if key in made}
    wanted["readiness"] = {**wanted["readiness"], "path": made["readiness"]["path"]}
    app.wanted.update(wanted)  # type: ignore[typeddict-item]
    app.record_id = transaction.new_id(app, "rollback")
    taken = steps(bool(app.request.get("stop_first")))
    took = transaction.transact(app, app.record_id, chosen, taken, kind="rollback", previous=serving, to=chosen)
    app.progress.say(f"{chosen} serves again ({took:.1f} s); {serving} was before")


def steps(stop_first: bool = False) -> list[Step]:
    """The steps of a rollback.

    + stop_first: whether the app is stopped before anything of the other release runs
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
    """Look whether the database is ahead of the release one goes back to; go on only when told how."""
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
    """What becomes of a database that is ahead of the release; says what was done."""
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
        app.progress.say(f"{ahead}The code alone goes back, as told.")
        return "code only"
    if not migrator:
        back = f"It can't be taken back from here: release code that has {stuck}, and go back from that."
    elif stuck:
        back = f"{stuck} can't be taken back: it has no downgrade."
    else:
        back = "To take that back first, and lose what is stored in what it added: --data schema=downgrade."
    if stuck or not migrator or told != "downgrade":
        alone = f"To let the code alone go back, if {release} can live with that: --data schema=code-only."
        raise Undecided(f"{ahead}{alone}\n{back} (On the host: --schema.)")
    who = migrator
    down = ("downgrade", "--to", to)
    database.patient(app, "downgrade", lambda limit: database.schema(app, who, *down, what="migrate", seconds=limit))
    _note(app, seen["current"], seen["heads"])
    return f"downgraded to {to}"


def _note(app: App, before: list[str], after: list[str]) -> None:
    """Write down where the database was, and is."""
    if app.record_id:
        app.write_record(app.record_id, revisions={"before": before, "after": after})


def revive(app: App, release: str) -> str | None:
    """Start the release again, where it isn't warm."""
    state = app.systemd.state(app.at.unit(release, "service"), "ActiveState")["ActiveState"]
    retire.forget_drain(app, release)
    check.write_units(app, release, app.wanted["units"])
    for unit in app.at.units(release):
        (app.system.layout.warm_units / unit).unlink(missing_ok=True)
    if state in ACTIVE:
        return "it was warm"
    app.systemd.reread()
    if state == "deactivating":  # a start would wait for its end
        app.systemd.stop(app.at.unit(release, "service"))
    app.systemd.ctl("reset-failed", *app.at.units(release), check=False)
    start.start(app, release)
    return None
