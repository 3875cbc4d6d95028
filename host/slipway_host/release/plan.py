"""What a release would change, without making one: its commits, and the migrations with their SQL.

The new source is run only in `sandbox.sandboxed`. It isn't built yet: so its migrations are read with the packages of
the release that serves, which also asks the database for its revision.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from slipway_host import lockfiles
from slipway_host.names import PROC
from slipway_host.release import database, failure, locks, migrations, runs, sandbox, source, trees
from slipway_host.system import Failed
from slipway_host.systemd import transient
from slipway_host.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from slipway_host.protocol import Planned, Request
    from slipway_host.release.app import App
    from slipway_host.release.migrations import Tool


SECONDS = source.LOCK_SECONDS + source.FETCH_SECONDS + 10 * sandbox.PLAN_SECONDS
"""The limit for a plan: more than all its parts may take. Usually it takes a few seconds."""


def plan(app: App, request: Request) -> Planned:
    """What a request would change. If that can't be found out, `error` says why."""
    import tempfile

    app.request, app.wanted, serving = request, request["wanted"], app.serving()
    wanted, served = app.wanted["source"], app.record(serving).get("commit")
    told: Planned = {"commits": [], "pending": [], "error": None, "sql_error": None}
    sweep_plans(app)
    # Readable, because the sandbox shows it. mkdtemp's name can't be guessed.
    made = tempfile.mkdtemp(prefix=app.at.plan, suffix=f".{os.getpid()}", dir=app.system.layout.plans)
    folder = Path(made)
    folder.chmod(0o755)
    unpacked, archive = folder / "source", None
    try:
        if given := request.get("archive"):  # in the plan's own folder: no release uses it or deletes it
            archive = folder / "source.tar.gz"
            source.store(app, archive, given)
        source.unpack(app, unpacked, archive)
        if wanted["kind"] == "git" and served:
            told["commits"] = source.subjects(app, f"{served}..{wanted['commit']}")
            told["notes"] = notes(app, unpacked)
        tool, known = None, request.get("placeholders", {})
        if serving:  # without its packages they can't be read
            found = app.record(serving).get("served", {}).get("app")
            named = {**app.wanted, "app": app.wanted.get("app") or found}
            tool = migrations.tool_of(app, unpacked, wanted["subdir"], named, known)
        if serving and tool:
            app.system.run("chown", "-hR", f"root:{app.at.group}", str(unpacked))
            told.update(planned_migrations(app, serving, folder, tool, known))
    except Exception as error:  # of any kind, for the source isn't trusted: the operator must see it
        told["error"] = app.system.hidden.shown(failure.said_of(error))
    finally:
        trees.remove(folder)
    return told


def notes(app: App, folder: Path) -> list[str]:
    """Which Python a release of a source would have, and why its build would fail, as far as its files tell."""
    told, content = [f"it gets Python {app.wanted['python']}"], source.content_of(app, folder)
    if other := lockfiles.other_python(app.wanted["source"]["subdir"], content, app.wanted["python"]):
        told = [f"{told[0]}; {other}"]
    try:
        locks.find(app, folder)
    except Failed as error:
        told.append(f"its build would fail: {error}")
    return [app.system.hidden.shown(one_line(each)) for each in told]


def in_its_unit(app: App) -> int:
    """Plan in a unit with a limit of memory, since the source isn't trusted. Returns the exit status.

    The request comes on standard input, and the answer goes to standard output.
    """
    limits = (f"MemoryMax={runs.RUN_MEMORY}", f"RuntimeMaxSec={SECONDS}", *runs.SHUT_OFF)
    argv = [str(app.system.layout.program), "plan", "--here", app.name]
    command = transient(f"{app.at.plan_unit}-{os.getpid()}", limits, {}, argv)
    return subprocess.run(command, check=False).returncode


def sweep_plans(app: App) -> None:
    """Remove the folders of killed plans."""
    for folder in app.system.layout.plans.glob(f"{app.at.plan}*.*"):
        with contextlib.suppress(FileNotFoundError):
            pid, owner = folder.name.rpartition(".")[2], folder.lstat().st_uid
            # Other users may write there, too.
            if owner == os.geteuid() and pid.isdigit() and not (PROC / pid).exists():
                trees.remove(folder)


def python_path(app: App) -> dict[str, str]:
    """The variable for the folders of modules of a source, where its sandbox shows it; empty if there are none."""
    top = Path("/source", app.wanted["source"]["subdir"])
    paths = [str(top / each) for each in app.wanted.get("python_path", [])]
    return {"PYTHONPATH": ":".join(paths)} if paths else {}


def planned_migrations(app: App, serving: str, folder: Path, tool: Tool, placeholders: Mapping[str, str]) -> Planned:
    """The migrations of a new source that the database lacks, with their SQL if it can be written.

    + serving: the release with whose packages they are read
    + folder: has the source
    + tool: of the source
    + placeholders: environment of env.py, name → value
    """
    seen: Any = {"current": [], "dialect": None}
    before = migrations.of_release(app, serving)
    if before and before.name == tool.name:
        seen = database.answer(app, database.schema(app, serving, "look", what=f"plan-look-{os.getpid()}"), "looked at")

    def read(doing: str, environment: Mapping[str, str], *argv: str) -> Any:
        command = database.schema_command(app, serving, *argv, *tool.options)
        given = {**environment, **database.MARKED}
        done = sandbox.sandboxed(app, serving, folder, command, given, said=f"{app.mark}\n")
        return database.answer(app, done, doing)

    at = f"--at={','.join(seen['current']) or 'base'}"
    known: Planned = {"current": seen["current"]}
    # No variable: some would make Python run code of the source.
    known.update(read("compared with the new migrations", {}, "read", at))
    known["pending"] = [each | {"sql": None} for each in known["pending"]]
    if known["pending"]:
        dialect = [f"--dialect={seen['dialect']}"] if seen["dialect"] else []
        shown = app.system.hidden.shown
        try:  # the answer comes from the new source: it is only shown
            sql = read("written as SQL", {**placeholders, **python_path(app)}, "render", at, *dialect)["sql"]
            known["pending"] = [
                each | {"sql": shown(str(sql.get(each["revision"]) or ""))} for each in known["pending"]
            ]
        except Exception as error:
            known["sql_error"] = shown(failure.said_of(error))
    return known
