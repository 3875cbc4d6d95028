"""Migrate, and compare the database with a release's migrations.

A release's own Python runs the schema program (slipway_host/schema) with the release's own Alembic. env.py and
migrations can print anything, so an answer follows a mark, which only the schema program got, on its standard input.
"""

from __future__ import annotations

import contextlib
import json

from slipway_host.release import hooks, migrations, sandbox
from slipway_host.system import Failed, Undecided, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from slipway_host.protocol import Record
    from slipway_host.release.app import App
    from slipway_host.system import Done
    from slipway_host.systemd import Ran

MARKED = {"SLIPWAY_MARKED": "1"}
"""Tells the schema program that a mark is on its standard input."""
LOCK_TAKEN = 75  # EX_TEMPFAIL of sysexits.h: the schema program met a lock
RETRY_SECONDS = 2
MERGE = "`alembic merge heads`"


# ── the schema program ───────────────────────────────────────────────────────────────────────────────────────────────


def schema(app: App, release: str, *argv: str, what: str = "schema", seconds: float = sandbox.IMPORT_SECONDS) -> Ran:
    """Run the schema program with the release's own Python and packages, as the app's user.

    + argv: its command and options
    + what: name of the unit, as `sandbox.as_app` takes it
    """
    if argv[0] in ("upgrade", "downgrade"):
        limits = app.wanted["migration"]
        argv = (*argv, "--lock-timeout", str(limits["lock_timeout"]))
        argv = (*argv, "--statement-timeout", str(limits["statement_timeout"]))
    if tool := migrations.of_release(app, release):
        argv = (*argv, *tool.options)
    command = schema_command(app, release, *argv)
    return sandbox.as_app(app, release, what, command, seconds, MARKED, said=f"{app.mark}\n")


def schema_command(app: App, release: str, *argv: str) -> list[str]:
    """The command line of the schema program with a release's own Python."""
    return [str(app.at.programs(release) / "python"), str(app.system.layout.schema_program), *argv]


def answer(app: App, done: Done, doing: str) -> Any:
    """The schema program's answer (JSON), which follows the mark in its output.

    + doing: for the message if there is no answer, such as "looked at"
    """
    lines = [line for line in done.output.splitlines() if line.startswith(app.mark)]
    if done.code != 0 or not lines:
        raise Failed(f"The database's schema can't be {doing}:\n{tail(done.output)}")
    return json.loads(lines[-1].removeprefix(app.mark))


def look(app: App, release: str) -> Any:
    """A release's migrations compared with the database; None if it has none that the schema program knows."""
    if not migrations.of_release(app, release):
        return None
    return answer(app, schema(app, release, "look"), "looked at")


# ── whether they fit ─────────────────────────────────────────────────────────────────────────────────────────────────


def fits(app: App, seen: Mapping[str, Any]) -> None:
    """Raise Failed if the release's migrations can't be applied, or can break the release that still serves.

    + seen: the result of `look`
    """
    if forked := seen.get("forked"):
        merge = seen.get("merge", MERGE)
        raise Failed(f"The migrations have {len(forked)} heads ({', '.join(forked)}): {merge}, and run again.")
    serving = app.record(app.serving())
    if seen["unknown"] and not same_code(app, serving):
        unknown = ", ".join(seen["unknown"])
        way_out = "it is older than the database, which another release has migrated. Release code that has that too."
        if not migrator(app):
            way_out = "no release on this host has it either. Release code that has it"
            if "merge" not in seen:  # Alembic's
                way_out += (
                    "; or, if it was never one of the app's, set the database right: `alembic stamp --purge REVISION`, "
                    "with the app's environment"
                )
            way_out += "."
        raise Failed(f"The database is at revision {unknown}, which this release doesn't have: {way_out}")
    contract = [f"{each['revision']} {step}" for each in seen["pending"] for step in each["contract"]]
    if contract and serving and not app.request.get("contract"):
        steps = "\n".join(f"  {step}" for step in contract)
        raise Undecided(
            f"The release that serves may not survive these migrations:\n{steps}\n"
            f"If it no longer uses what they change, consent: --contract."
        )


def same_code(app: App, record: Record) -> bool:
    """Whether the wanted code is that of this record; environment and settings may differ."""
    mine, theirs = app.wanted["inputs"], record.get("inputs", {})
    return all(mine.get(key) == theirs.get(key) for key in ("source", "folder"))


def migrator(app: App) -> str | None:
    """A release whose migrations have all revisions of the database: the one that serves, else the newest, or None."""
    for release in dict.fromkeys(filter(None, [app.serving(), *reversed(app.good())])):
        with contextlib.suppress(Failed):
            seen = look(app, release)
            if seen and not seen["unknown"]:
                return release
    return None


# ── migrate ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def migrate(app: App, release: str) -> str | None:
    """Migrate the database, once, as the app's user, before traffic is switched."""
    command, record = app.wanted["migration"]["command"], app.record(release)
    pending = [each["revision"] for each in record.get("pending", [])]
    hooks.hook(app, release, "before_migrate", SLIPWAY_PENDING=",".join(pending))
    note = "no migration"
    if tool := migrations.of_release(app, release):
        note = "nothing pending"
        if pending:
            name = migrations.NAMES[tool.name]
            tries = patient(app, name, lambda limit: schema(app, release, "upgrade", what="migrate", seconds=limit))
            note = ", ".join(pending) + tries
        revisions = record["revisions"]
        after = record["heads"] if pending else revisions["before"]
        app.write_record(release, revisions={**revisions, "after": after})
    elif command and command != "auto":
        argv = hooks.in_path(app, release, command)
        note = patient(app, " ".join(command), lambda limit: sandbox.as_app(app, release, "migrate", argv, limit))
    hooks.hook(app, release, "after_migrate", SLIPWAY_PENDING=",".join(pending))
    return note


def patient(app: App, name: str, command: Callable[[int], Done]) -> str:
    """Run a migration; try again if the database has a lock. Returns a note if it took several tries.

    + name: the command, for messages
    + command: called with the seconds that it may take
    """
    migration = app.wanted["migration"]
    limit, most = migration["timeout"], migration["retries"] + 1
    until, tries = app.system.clock() + limit, 0
    while True:
        done = command(max(1, round(until - app.system.clock())))
        tries += 1
        if done.code == 0:
            return f" (tried {tries} times, for a lock)" if tries > 1 else ""
        late = app.system.clock() >= until
        if done.code != LOCK_TAKEN or late or tries >= most:
            break
        app.progress.say(f"the migration met a lock; it is tried again. {tail(done.output, 1)}")
        app.system.sleep(RETRY_SECONDS)
    how = "failed"
    if late:
        how = f"was ended after migrate_timeout ({limit} s)"
    elif done.code == LOCK_TAKEN:
        how = f"met a lock {'once' if tries == 1 else f'{tries} times (migrate_retries)'}"
        how += ", and waited for migrate_lock_timeout"
    said = tail(done.output) or f"It printed nothing, and ended with {done.code}."
    raise Failed(f"The migration `{name}` {how}:\n{said}")
