"""Migrate, and what the database and a release know of each other.

That comes from the schema program (slipway_host/schema), which a release's own Python runs with the release's own
Alembic. Its output is foreign, since env.py and migrations print what they like: an answer is what follows a mark that
only the program was told, on its standard input.
"""

from __future__ import annotations

import contextlib
import json

from slipway_host.release import hooks, sandbox, source
from slipway_host.system import Failed, Undecided, tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from slipway_host.protocol import Record
    from slipway_host.release.app import App
    from slipway_host.system import Done
    from slipway_host.systemd import Ran

MARKED = {"SLIPWAY_MARKED": "1"}
"""Tells the schema program that a mark is on its standard input."""
LOCK_TAKEN = 75  # EX_TEMPFAIL of sysexits.h: the schema program met a lock
RETRY_SECONDS = 2


def has_alembic(app: App, folder: Path, subdir: str) -> bool:
    """Whether the schema of the code in this folder is Alembic's affair.

    + subdir: the app's folder below it
    """
    if app.wanted["migration"]["command"] != "auto":
        return False
    if source.of_source(app, folder, "alembic.ini", subdir) is not None:
        return True
    return b"[tool.alembic" in (source.of_source(app, folder, "pyproject.toml", subdir) or b"")


def uses_alembic(app: App, release: str) -> bool:
    """The same of a release's code."""
    return has_alembic(app, app.at.folder(release), app.subdir(release))


# ── the schema program ───────────────────────────────────────────────────────────────────────────────────────────────


def schema(app: App, release: str, *argv: str, what: str = "schema", seconds: float = sandbox.IMPORT_SECONDS) -> Ran:
    """Run the schema program with the release's own Python and Alembic, as the app's user.

    + argv: its command and options
    + what: it is for, as `sandbox.as_app` takes it
    """
    if argv[0] in ("upgrade", "downgrade"):
        limits = app.wanted["migration"]
        argv = (*argv, "--lock-timeout", str(limits["lock_timeout"]))
        argv = (*argv, "--statement-timeout", str(limits["statement_timeout"]))
    command = schema_command(app, release, *argv)
    return sandbox.as_app(app, release, what, command, seconds, MARKED, said=f"{app.mark}\n")


def schema_command(app: App, release: str, *argv: str) -> list[str]:
    """The command line of the schema program with a release's own Python and Alembic."""
    return [str(app.at.programs(release) / "python"), str(app.system.layout.schema_program), *argv]


def answer(app: App, done: Done, doing: str) -> Any:
    """What the schema program answered, which is JSON: behind the mark that env.py, whose output it is in, can't know.

    + doing: what the schema was, for the message of Failed where there is no answer: "looked at", say
    """
    lines = [line for line in done.output.splitlines() if line.startswith(app.mark)]
    if done.code != 0 or not lines:
        raise Failed(f"The database's schema can't be {doing}:\n{tail(done.output)}")
    return json.loads(lines[-1].removeprefix(app.mark))


def look(app: App, release: str) -> Any:
    """What a release's migrations and the database know of each other; None where Alembic isn't used."""
    return answer(app, schema(app, release, "look"), "looked at") if uses_alembic(app, release) else None


# ── whether they fit ─────────────────────────────────────────────────────────────────────────────────────────────────


def fits(app: App, seen: Mapping[str, Any]) -> None:
    """Fail if the release's migrations can't be applied, or may break the release that still serves.

    + seen: as `look` returns it
    """
    if len(seen["heads"]) > 1:
        heads = ", ".join(seen["heads"])
        raise Failed(f"The migrations have {len(seen['heads'])} heads ({heads}): `alembic merge heads`, and run again.")
    serving = app.record(app.serving())
    if seen["unknown"] and not same_code(app, serving):
        unknown = ", ".join(seen["unknown"])
        way_out = "it is older than the database, which another release has migrated. Release code that has that too."
        if not migrator(app):
            way_out = (
                "no release on this host has it either. Release code that has it; or, if it was never one of the "
                "app's, set the database right: `alembic stamp --purge REVISION`, with the app's environment."
            )
        raise Failed(f"The database is at revision {unknown}, which this release doesn't have: {way_out}")
    contract = [f"{each['revision']} {step}" for each in seen["pending"] for step in each["contract"]]
    if contract and serving and not app.request.get("contract"):
        steps = "\n".join(f"  {step}" for step in contract)
        raise Undecided(
            f"The release that serves may not survive these migrations:\n{steps}\n"
            f"If it no longer uses what they change, consent: --data contract=true (on the host: --contract)."
        )


def same_code(app: App, record: Record) -> bool:
    """Whether what is wanted is the code of this record, with another environment or other settings at most."""
    mine, theirs = app.wanted["inputs"], record.get("inputs", {})
    return all(mine.get(key) == theirs.get(key) for key in ("source", "folder"))


def migrator(app: App) -> str | None:
    """A release whose migrations know all that the database has: the one that serves, else the newest; or None."""
    for release in dict.fromkeys(filter(None, [app.serving(), *reversed(app.good())])):
        with contextlib.suppress(Failed):
            seen = look(app, release)
            if seen and not seen["unknown"]:
                return release
    return None


# ── migrate ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def migrate(app: App, release: str) -> str | None:
    """Bring the database's schema up, once, as the app's user, before traffic shifts."""
    command, record = app.wanted["migration"]["command"], app.record(release)
    pending = [each["revision"] for each in record.get("pending", [])]
    hooks.hook(app, release, "before_migrate", SLIPWAY_PENDING=",".join(pending))
    note = "no migration"
    if uses_alembic(app, release):
        note = "nothing pending"
        if pending:
            tries = patient(
                app, "alembic", lambda limit: schema(app, release, "upgrade", what="migrate", seconds=limit)
            )
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
    """Run a migration, and again where it met a lock of the database's; says how often that was.

    + name: the command, for the message of Failed
    + command: takes the seconds that it may take
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
    raise Failed(f"The migration `{name}` {how}:\n{tail(done.output)}")
