"""Restore the state that `current` names, and remove the rest: at the end of a run, and after a killed one."""

from __future__ import annotations

from slipway_host.names import ABOUT
from slipway_host.proxy import nginx
from slipway_host.release import current, database, failure, jobs, processes, proof, retire, start, trees
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
"""Name in nginx's upstream when no release serves."""


def tidy(app: App, forward: bool = True) -> None:
    """Keep what `current` names and what is warm, and remove the rest. It heals after a killed run and ends a good one.

    + forward: whether a release that nginx names and that answers becomes the current one: its run was killed between
      switch and commit
    """
    units = [*app.at.helpers, *processes.services(app, sorted(app.installed()))]
    states = app.systemd.loaded(units)
    stop_helpers(app, states)
    serving, proxied = app.serving(), app.proxied()
    if forward and proxied and proxied != serving and answers(app, proxied) and not app.damage(proxied):
        # The upstream's file was written, but nginx may not have read it.
        nginx.Nginx(app.system).switch(app.name, proxied)
        lost = bool(serving and app.damage(serving) and not answers(app, serving))
        current.settle(app, proxied, damaged=lost)
        serving = proxied
        left = " Its after_switch hook wasn't run." if app.wanted["hooks"].get("after_switch") else ""
        app.progress.say(f"the run of {proxied} was killed after the switch. It answers, so it stays.{left}")
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
        runs_on = any(states.get(unit) in ACTIVE for unit in processes.services(app, [release]))
        if release in warm and (runs_on or processes.finishing(app, release, states)):
            continue
        record = app.record(release)
        served = release == proxied or record.get("state") == "good"
        if "left" in record:
            retire.drained(app, release, until=retire.drain_end(app, release))
        retire.remove(app, release, at_once=not served)
    plans.sweep_plans(app)
    sweep_partials(app)
    ending = app.warm()  # one that failed may have a worker that finishes its work
    for name in app.unfinished():
        if name != serving and name not in ending:
            trees.remove(app.at.folder(name))
    if serving:
        start.start_missing(app, serving)
    jobs.settle(app, serving)
    prune(app, serving)


def sweep_partials(app: App) -> None:
    """Remove incomplete files of killed runs."""
    layout = app.system.layout
    for partial in [
        *app.at.srv.glob(".*.partial"),
        *app.at.shared.glob(".*.partial"),
        *app.at.etc.glob(".*.partial"),
        *app.at.environments.glob(".*.partial"),
        *app.at.records.glob(".*.partial"),
        *layout.units.glob(f".{app.at.unit('*', 'partial')}"),
        *layout.units.glob(f".{app.at.unit('*', '*.partial')}"),
    ]:
        trees.remove(partial)
    for partial in layout.sources.glob(f".{app.name}.*.partial"):
        if not (layout.proc / partial.name.split(".")[-2]).exists():  # the writer's process id
            partial.unlink()


def prune(app: App, serving: str | None, left: str | None = None) -> None:
    """Keep the newest releases, and always the one that serves, its predecessor and warm ones. Remove the others.

    + left: the release that is about to be warm
    """
    good = app.good()
    keep = {serving, left, app.record(serving).get("previous"), *app.warm(), *good[-app.wanted["keep"] :]}
    keep |= jobs.in_use(app)
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
    """Put the host in order after a killed run, and record that it was killed.

    Returns the release that replaced a damaged one, or None.
    """
    app.progress.begin("checking the host")  # after a boot this reads every file of the releases
    for release in app.good():
        if not app.record(release).get("manifest") and not app.damage(release):  # Slipway 0.1 made it
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
    """Stop helper units that a killed run has left, such as a migration.

    + states: the units that systemd has loaded
    """
    if left := [unit for unit in app.at.helpers if unit in states]:
        app.systemd.stop(*left)
        app.systemd.ctl("reset-failed", *left, check=False)


def replace_damaged(app: App) -> str | None:
    """If the serving release is damaged and doesn't answer, let the last whole one serve instead.

    Returns that release; None if nothing needs a replacement, or none fits. A bad release doesn't fit, nor one that
    doesn't match the database.
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
            app.progress.say(f"{release} can't replace it: the database isn't at its revision")
        elif bring_back(app, release):
            current.settle(app, release, damaged=True)
            app.progress.say(f"{release} serves instead")
            return release
        else:
            retire.remove(app, release, at_once=True)
    app.progress.say("no other release can replace it")
    return None


def fits_database(app: App, release: str) -> bool:
    """Whether the database is exactly at the head of a release's migrations, as far as Alembic knows."""
    try:
        seen = database.look(app, release)
    except (Failed, OSError):
        return False
    return not seen or not (seen["pending"] or seen["unknown"])


def answers(app: App, release: str) -> bool:
    """Whether a release exists and each of its processes works."""
    there = app.at.folder(release).is_dir()
    return there and all(process.ready(app, release)[0] for process in processes.of(app, release))


def bring_back(app: App, release: str) -> bool:
    """Make the release that `current` names serve fully. Returns whether it does."""
    try:
        start.ensure_running(app, release)
        proof.prove(app, release)
        nginx.Nginx(app.system).switch(app.name, release)
    except (Failed, OSError) as error:
        app.progress.say(f"{release} doesn't serve again.\n{failure.said_of(error)}")
        return False
    return True


def undo(app: App, release: str) -> str:
    """Remove a failed release; its record and log stay. Returns a message, or an empty text."""
    if app.serving() == release:
        return ""
    try:
        tidy(app, forward=False)
    except (Failed, OSError) as error:
        return f"\nNot everything could be undone ({failure.said_of(error)}); the next run does it."
    return f"\n{told}" if (told := start.start_again(app)) else ""


def take_back(app: App) -> str:
    """Undo a run that was told to stop before it had a record. Returns a message, or an empty text.

    What `current` names serves, as at the beginning of the next run.
    """
    try:
        tidy(app)
    except (Failed, OSError) as error:
        return f"\nNot everything could be undone ({failure.said_of(error)}); the next run does it."
    return f"\n{told}" if (told := start.start_again(app)) else ""
