"""Leave what `current` says, and nothing else: at the end of a run, and after one that was killed."""

from __future__ import annotations

from slipway_host.layout import ABOUT
from slipway_host.proxy import nginx
from slipway_host.release import current, database, failure, proof, retire, start, trees
from slipway_host.release import manifest as manifests
from slipway_host.release import plan as plans
from slipway_host.system import Failed
from slipway_host.systemd import ACTIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from slipway_host.release.app import App

KEEP_RECORDS = 50
NO_RELEASE = "none"
"""What nginx's upstream names where no release serves."""


def tidy(app: App, forward: bool = True) -> None:
    """Leave what `current` says, what is warm, and nothing else: it heals a killed run just as it ends a good one.

    + forward: a release that nginx names and that answers was killed between switch and commit: it becomes the truth
    """
    units = [*app.at.helpers, *(app.at.unit(release, "service") for release in sorted(app.installed()))]
    states = app.systemd.loaded(units)
    stop_helpers(app, states)
    serving, proxied = app.serving(), app.proxied()
    if forward and proxied and proxied != serving and answers(app, proxied) and not app.damage(proxied):
        # Its file was written; whether it was reloaded isn't known.
        nginx.Nginx(app.system).switch(app.name, proxied)
        lost = bool(serving and app.damage(serving) and not answers(app, serving))
        current.settle(app, proxied, damaged=lost)
        serving = proxied
        left = " Its after_switch hook wasn't run." if app.wanted["hooks"].get("after_switch") else ""
        app.progress.say(f"{proxied} was killed after the switch; it answers, so it stays, unwatched.{left}")
    elif serving and proxied != serving:  # the upstream was lost or changed by hand, or its release turned bad
        start.ensure_running(app, serving)
        nginx.Nginx(app.system).switch(app.name, serving)
        if proxied:
            retire.drained(app, proxied, until=app.system.time() + app.wanted["drain_timeout"])
    elif not serving and proxied:  # the very first one served, and turned bad
        nginx.Nginx(app.system).switch(app.name, NO_RELEASE)
    if serving and app.record(serving).get("state") != "good":  # killed before it was written down
        app.write_record(serving, state="good", committed=app.system.stamp())
    warm = app.warm()
    for release in sorted(app.installed() - {serving}):
        if release in warm and states.get(app.at.unit(release, "service")) in ACTIVE:
            continue
        record = app.record(release)
        served = release == proxied or record.get("state") == "good"
        if "left" in record:
            retire.drained(app, release, until=retire.drain_end(app, release))
        retire.remove(app, release, at_once=not served)
    plans.sweep_plans(app)
    sweep_partials(app)
    for name in app.unfinished():
        if name != serving:
            trees.remove(app.at.folder(name))
    prune(app, serving)


def sweep_partials(app: App) -> None:
    """Remove what was written in part when its writer was killed."""
    layout = app.system.layout
    for partial in [
        *app.at.srv.glob(".*.partial"),
        *app.at.etc.glob(".*.partial"),
        *app.at.environments.glob(".*.partial"),
        *app.at.records.glob(".*.partial"),
        *layout.units.glob(f".{app.at.unit('*', 'partial')}"),
    ]:
        trees.remove(partial)
    for partial in layout.sources.glob(f".{app.name}.*.partial"):  # named by who was writing it
        if not (layout.proc / partial.name.split(".")[-2]).exists():
            partial.unlink()


def prune(app: App, serving: str | None, left: str | None = None) -> None:
    """Keep the newest releases, and always the one that serves, its predecessor and those that are warm.

    + left: the one that is about to be warm
    """
    good = app.good()
    keep = {serving, left, app.record(serving).get("previous"), *app.warm(), *good[-app.wanted["keep"] :]}
    for release in good:
        if release not in keep:
            trees.remove(app.at.folder(release))
    asked = [app.system.json(about).get("inputs") or {} for about in app.at.runs.glob(f"*/{ABOUT}")]
    commits = {app.wanted["source"]["commit"], *(inputs.get("source") for inputs in asked)}  # some may wait for us
    for archive in app.system.layout.sources.glob(app.at.archive("*").name):
        if archive.name.split(".")[1] not in commits:
            archive.unlink()
    at = app.at
    of_releases = [
        at.environments.glob(at.env("*").name),
        at.records.glob(at.manifest("*").name),
        at.seen.glob("[!.]*"),
    ]
    for path in [path for found in of_releases for path in found]:
        if not app.at.folder(path.stem).is_dir():
            path.unlink()
    records = sorted(app.at.records.glob(app.at.record("*").name), key=lambda path: (app.number(path.stem), path.stem))
    for path in records[:-KEEP_RECORDS]:  # of failed ones too: they can be looked at
        if not app.at.folder(path.stem).is_dir():
            path.unlink()
            app.at.log(path.stem).unlink(missing_ok=True)


def heal(app: App) -> str | None:
    """Put the host in order after whatever ended the last run, and write down that it was ended.

    Returns the release that took the place of a damaged one, or None.
    """
    app.progress.begin("looking at what is here")  # the first time after a boot, at every file
    for release in app.good():
        if not app.record(release).get("manifest") and not app.damage(release):  # an earlier Slipway made it
            app.describe(release)
    replacing = replace_damaged(app)
    if not app.request.get("stop_first") and (told := start.start_again(app)):
        app.progress.say(told)
    tidy(app)
    for record in app.history():
        if record.get("state") == "started":
            app.write_record(record["id"], state="killed", finished=app.system.stamp())
    app.progress.end()
    return replacing


def stop_helpers(app: App, states: Collection[str]) -> None:
    """End what a killed run may have left running: a migration, say.

    + states: the units that systemd has in memory
    """
    if left := [unit for unit in app.at.helpers if unit in states]:
        app.systemd.stop(*left)
        app.systemd.ctl("reset-failed", *left, check=False)


def replace_damaged(app: App) -> str | None:
    """Let the last whole release serve in the place of one that is damaged and doesn't answer.

    Returns that release; None where there is nothing to replace, or none that can take its place: one that somebody
    went back from can't, nor one that doesn't fit the database as it is.
    """
    serving = app.serving()
    wrong = app.damage(serving) if serving else {}
    if not serving or not wrong:
        return None
    app.progress.say(f"{serving} is damaged: {manifests.listed(wrong)}")
    stop_helpers(app, app.systemd.loaded(app.at.helpers))
    for _ in range(proof.BAD_IN_A_ROW):
        if answers(app, serving):
            return None
        app.system.sleep(proof.WATCH_EVERY)
    for release in reversed(app.good()):
        bad = app.record(release).get("bad")
        if release == serving or bad or not app.at.env(release).exists() or app.damage(release):
            continue
        if not fits_database(app, release):
            app.progress.say(f"{release} can't take its place: the database isn't at its revision")
        elif bring_back(app, release):
            current.settle(app, release, damaged=True)
            app.progress.say(f"{release} serves in its place")
            return release
        else:
            retire.remove(app, release, at_once=True)
    app.progress.say("no other release can take its place")
    return None


def fits_database(app: App, release: str) -> bool:
    """Whether the database is just where a release's migrations end, as far as Alembic can tell."""
    try:
        seen = database.look(app, release)
    except (Failed, OSError):
        return False
    return not seen or not (seen["pending"] or seen["unknown"])


def answers(app: App, release: str) -> bool:
    """Whether a release is there and answers that it is ready."""
    return app.at.socket(release).exists() and app.at.folder(release).is_dir() and proof.probe(app, release)[0]


def bring_back(app: App, release: str) -> bool:
    """Let the release that `current` names serve, fully; say whether it does."""
    try:
        start.ensure_running(app, release)
        proof.prove(app, release)
        nginx.Nginx(app.system).switch(app.name, release)
    except (Failed, OSError) as error:
        app.progress.say(f"{release} can't be brought back.\n{failure.said_of(error)}")
        return False
    return True


def undo(app: App, release: str) -> str:
    """Take a failed release away; its record and its log stay. Returns what there is to say of that, if anything."""
    if app.serving() == release:
        return ""
    try:
        tidy(app, forward=False)
    except (Failed, OSError) as error:
        return f"\nWhat was begun can't be taken away yet ({failure.said_of(error)}); the next run does it."
    return f"\n{told}" if (told := start.start_again(app)) else ""


def take_back(app: App) -> str:
    """Take back what a run did that was told to stop before it made an attempt; returns what came of it, if anything.

    What `current` says serves: as the next run would begin, and without what this one let run beside it.
    """
    try:
        tidy(app)
    except (Failed, OSError) as error:
        return f"\nWhat was begun can't be taken back yet ({failure.said_of(error)}); the next run does it."
    return f"\n{told}" if (told := start.start_again(app)) else ""
