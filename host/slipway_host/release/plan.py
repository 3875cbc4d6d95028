"""What a release would change, without making one: its commits, and the migrations with their SQL.

Nothing of the new source is run but in `sandbox.sandboxed`. The new one isn't built yet, so that its migrations are
read with the packages of the release that serves; which is also who asks the database where it is.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from slipway_host.layout import PROC
from slipway_host.release import database, failure, runs, sandbox, source, trees
from slipway_host.systemd import transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from slipway_host.protocol import Planned, Request
    from slipway_host.release.app import App


SECONDS = source.FETCH_SECONDS + 10 * sandbox.PLAN_SECONDS
"""A plan takes a few; this is more than all of its parts may take."""


def plan(app: App, request: Request) -> Planned:
    """What a request would change; where that can't be told, `error` says why."""
    import tempfile

    app.wanted, serving = request["wanted"], app.serving()
    wanted, served = app.wanted["source"], app.record(serving).get("commit")
    told: Planned = {"commits": [], "pending": [], "error": None, "sql_error": None}
    sweep_plans(app)
    # Readable, as is what it is shown in the sandbox; to its name nobody comes first.
    made = tempfile.mkdtemp(prefix=app.at.plan, suffix=f".{os.getpid()}", dir=app.system.layout.plans)
    folder = Path(made)
    folder.chmod(0o755)
    unpacked, archive = folder / "source", None
    try:
        if given := request.get("archive"):  # which no release is to find, nor to take away
            archive = folder / "source.tar.gz"
            source.store(app, archive, given)
        source.unpack(app, unpacked, archive)
        if wanted["kind"] == "git" and served:
            told["commits"] = source.subjects(app, f"{served}..{wanted['commit']}")
        if serving and database.has_alembic(app, unpacked, wanted["subdir"]):
            app.system.run("chown", "-hR", f"root:{app.at.group}", str(unpacked))
            told.update(planned_migrations(app, serving, folder, request.get("placeholders", {})))
    except Exception as error:  # whatever a source makes of its own plan, the operator hears of it
        told["error"] = app.system.hidden.shown(failure.said_of(error))
    finally:
        trees.remove(folder)
    return told


def in_its_unit(app: App) -> int:
    """Plan in a unit with the memory of a run: what is planned is a stranger's. Returns the exit status.

    The request is read from standard input, and the answer written to standard output.
    """
    limits = (f"MemoryMax={runs.RUN_MEMORY}", f"RuntimeMaxSec={SECONDS}", *runs.SHUT_OFF)
    argv = [str(app.system.layout.program), "plan", "--here", app.name]
    command = transient(f"{app.at.plan_unit}-{os.getpid()}", limits, {}, argv)
    return subprocess.run(command, check=False).returncode


def sweep_plans(app: App) -> None:
    """Remove what plans that were killed have left."""
    for folder in app.system.layout.plans.glob(f"{app.at.plan}*.*"):
        with contextlib.suppress(FileNotFoundError):
            pid, owner = folder.name.rpartition(".")[2], folder.lstat().st_uid
            # Others may write there, too.
            if owner == os.geteuid() and pid.isdigit() and not (PROC / pid).exists():
                trees.remove(folder)


def planned_migrations(app: App, serving: str, folder: Path, placeholders: Mapping[str, str]) -> Planned:
    """What of a new source's migrations the database lacks, each with its SQL as far as that can be written.

    + serving: the release whose packages they are read with
    + folder: has the source
    + placeholders: name → value of the environment that its env.py gets
    """
    seen: Any = {"current": [], "dialect": None}
    if database.uses_alembic(app, serving):
        seen = database.answer(app, database.schema(app, serving, "look", what=f"plan-look-{os.getpid()}"), "looked at")

    def read(doing: str, environment: Mapping[str, str], *argv: str) -> Any:
        command = database.schema_command(app, serving, *argv)
        given = {**environment, **database.MARKED}
        done = sandbox.sandboxed(app, serving, folder, command, given, said=f"{app.mark}\n")
        return database.answer(app, done, doing)

    at = f"--at={','.join(seen['current']) or 'base'}"
    # Nothing else of the environment, by which Python itself could be told to run something of the source.
    where = {name: value for name, value in placeholders.items() if name == "ALEMBIC_CONFIG"}
    known: Planned = {"current": seen["current"]}
    known.update(read("compared with the new migrations", where, "read", at))
    known["pending"] = [each | {"sql": None} for each in known["pending"]]
    if known["pending"]:
        dialect = [f"--dialect={seen['dialect']}"] if seen["dialect"] else []
        shown = app.system.hidden.shown
        try:  # whatever it answers comes from the new source: it is a text to show, and nothing else
            sql = read("written as SQL", placeholders, "render", at, *dialect)["sql"]
            known["pending"] = [
                each | {"sql": shown(str(sql.get(each["revision"]) or ""))} for each in known["pending"]
            ]
        except Exception as error:
            known["sql_error"] = shown(failure.said_of(error))
    return known
