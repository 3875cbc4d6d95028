"""The commands, with the configuration that the `alembic` command would use here, and their answers."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from slipway_host.schema import apps, django_tool, untrusted
from slipway_host.schema.contract import described
from slipway_host.schema.errors import LATE, Failed, Locked, is_lock, state_of, told
from slipway_host.schema.lines import forked, to_do, to_undo
from slipway_host.schema.runs import Back, Change, Look, Render, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, TextIO

AGAIN = 75  # EX_TEMPFAIL of sysexits.h
MARK = "slipway-schema: "
CONFIG = "ALEMBIC_CONFIG"
MARKED = "SLIPWAY_MARKED"
"""Environment variable: the beginning of the answer comes on standard input."""


class Answer:
    """Where the answer goes. Other output (of env.py, of a revision, of their children) goes elsewhere."""

    def __init__(self, file: TextIO, mark: str = MARK) -> None:
        """`mark`: beginning of the answer's line."""
        self.file, self.mark = file, mark

    def __call__(self, **facts: Any) -> None:
        """Print the answer as a line of JSON."""
        sys.stderr.flush()
        print(self.mark + json.dumps(facts), file=self.file, flush=True)


def apart() -> Answer:
    """Reserve standard output for the answer; all other output goes to standard error from now on.

    With SLIPWAY_MARKED the answer begins with the line from standard input, which the app's code never sees.
    """
    mark = MARK
    if os.environ.pop(MARKED, ""):
        mark = "\n" + sys.stdin.readline().rstrip("\n")  # the last output may lack a line feed
    sys.stdout.flush()
    file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return Answer(file, mark)


class Task:
    """A command under way."""

    def __init__(self, options: argparse.Namespace, answer: Answer) -> None:
        """`options`: the parsed command line."""
        self.options, self.answer = options, answer
        self.run: Run | None = None
        """The run of env.py, once there is one."""
        self.config: Any = None
        """Alembic's Config."""
        self.script: Any = None
        """Alembic's ScriptDirectory."""


def look(task: Task) -> None:
    """Print what the database has and what an upgrade would do."""
    task.run = run = Look(task.config, task.script)
    run("heads")
    pending = [described(one) for one in run.pending]
    heads = {"heads": task.script.get_heads(), "forked": forked(task.script)}
    task.answer(**heads, current=run.current, unknown=run.unknown, dialect=run.dialect, pending=pending)


def read(task: Task) -> None:
    """Print what an upgrade would do to a database at `--at`; run nothing."""
    unknown, todo = to_do(task.script, task.options.at)
    heads = {"heads": task.script.get_heads(), "forked": forked(task.script)}
    task.answer(**heads, unknown=unknown, pending=[described(one) for one in todo])


def render(task: Task) -> None:
    """Print the SQL of the revisions that a database at `--at` lacks."""
    options = task.options
    task.run = run = Render(task.config, task.script, to_do(task.script, options.at)[1], options.dialect)
    why = None
    try:
        run("heads")
    except (Exception, SystemExit) as error:  # it may have no offline mode, for example
        if not options.dialect:
            raise
        why = told(error)
        run.without_env()
    task.answer(sql=run.sql, without_env=why)


def undone(task: Task) -> None:
    """Print what a downgrade to `--to` would undo."""
    task.run = run = Look(task.config, task.script)
    run("heads")
    known = [described(one) for one in to_undo(task.script, run.current, task.options.to)]
    task.answer(
        undone=[{"revision": one["revision"], "doc": one["doc"], "downgrade": one["downgrade"]} for one in known]
    )


def upgrade(task: Task) -> None:
    """Upgrade to the heads."""
    task.run = run = Change(task.config, task.script, task.options.lock_timeout, task.options.statement_timeout)
    run("heads")


def downgrade(task: Task) -> None:
    """Undo all revisions that don't lead to the heads of `--to`."""
    options = task.options
    task.run = run = Back(task.config, task.script, options.lock_timeout, options.statement_timeout, options.to)
    run(options.to[0] if options.to else "base")


BRIEF = (look, read, undone)
"""Commands that end quickly and keep nothing."""


def act(options: argparse.Namespace, answer: Answer) -> int:
    """Run a command with the configuration that the `alembic` command would use here. Returns the exit code."""
    if options.command in BRIEF:
        gc.disable()  # a sixth of the time
    if options.tool == "django":
        task = Task(options, answer)
        try:
            django_tool.act(options, answer)
        except (Exception, SystemExit) as error:
            return _failed(error, task)
        return 0
    try:
        from alembic.config import CommandLine
        from alembic.script import ScriptDirectory
    except ImportError as error:
        raise Failed(f"Alembic can't be imported ({error}): `uv add alembic` in the project.") from error
    task = Task(options, answer)
    if options.command is read:
        untrusted.run_nothing()

    def work(config: Any) -> None:
        paths = list(sys.path)
        task.config, task.script = config, ScriptDirectory.from_config(config)
        has_revisions(task.script)
        if options.command is read:
            sys.path[:] = paths  # nothing of the source can be imported by chance
        options.command(task)

    class Line(CommandLine):  # type: ignore[misc]  # Alembic is the app's own
        """Alembic's command line, up to the point where it has read the configuration."""

        def run_cmd(self, config: Any, _: Any) -> None:
            work(config)

    try:
        if options.tool not in apps.TOOLS:
            reads_toml(options)
            Line(prog="alembic").main([*configured(options), "upgrade", "heads"])
        elif options.command is read:
            work(apps.plain(options))
        else:
            by_app(options, task, work)
    except (Exception, SystemExit) as raised:
        return _failed((task.run and task.run.error) or raised, task)
    if options.command in BRIEF:
        gc.freeze()  # the collection at the interpreter's end takes another quarter
    return 0


def reads_toml(options: argparse.Namespace) -> None:
    """Raise Failed if the configuration is in pyproject.toml, and this Alembic doesn't read that."""
    import alembic
    from alembic.config import Config

    path = Path(options.config or "pyproject.toml")
    if hasattr(Config, "toml_alembic_config") or path.name != "pyproject.toml" or CONFIG in os.environ:
        return
    if Path("alembic.ini").exists() or not path.is_file() or b"[tool.alembic" not in path.read_bytes():
        return
    raise Failed(
        f"[tool.alembic] of pyproject.toml needs Alembic 1.16 or newer, and the release has {alembic.__version__}: "
        "`uv lock --upgrade-package alembic`, or write an alembic.ini."
    )


def has_revisions(script: Any) -> None:
    """Raise Failed if Alembic finds no revisions because a folder of `version_locations` isn't there."""
    locations = list(script.version_locations or ())
    if locations and not script.get_heads() and not all(Path(each).is_dir() for each in locations):
        import alembic

        told = ", ".join(map(str, locations))
        raise Failed(
            f"Alembic {alembic.__version__} finds no revisions in the folders of version_locations, {told}: correct "
            "it. Versions before 1.16 don't know path_separator, but version_path_separator."
        )


def configured(options: argparse.Namespace) -> list[str]:
    """Options of `alembic` for its configuration."""
    if options.config.endswith("/pyproject.toml"):  # which Alembic reads in its folder
        os.environ.pop(CONFIG, None)
        return []
    if options.config and CONFIG in os.environ:  # env.py may read it, too
        os.environ[CONFIG] = options.config
    return ["-c", options.config] if options.config else []


def by_app(options: argparse.Namespace, task: Task, work: Callable[[Any], None]) -> None:
    """Run a command with what the app configures. SQL can be written without the app, if that needs a database."""
    try:
        apps.by_app(options, work)
    except (Exception, SystemExit) as error:
        if task.script is not None or options.command is not render or not options.dialect:
            raise
        why = told(error)
        from alembic.script import ScriptDirectory

        config = apps.plain(options)
        script = ScriptDirectory.from_config(config)
        task.run = run = Render(config, script, to_do(script, options.at)[1], options.dialect)
        run.without_env()
        task.answer(sql=run.sql, without_env=why)


def _failed(error: BaseException, task: Task) -> int:
    """Print an error on standard error. Returns the exit code."""
    at = task.run.at if task.run else None
    if isinstance(error, Locked) or is_lock(error):
        if not isinstance(error, Locked):
            print(told(error, at), file=sys.stderr)
        else:
            print(f"{told(error.__cause__, at)}{error}" if error.__cause__ else f"FAILED: {error}", file=sys.stderr)
        print("A lock is taken: nothing is wrong with the migration, try again.", file=sys.stderr)
        return AGAIN
    if isinstance(error, SystemExit):
        error = Failed(f"env.py ended the program with {error.code!r}.")
    print(told(error, at), file=sys.stderr)
    if state_of(error) in LATE and "user request" not in str(error):
        limit = f"the statement time-out, {task.options.statement_timeout:g} s"
        print(f"A statement took longer than {limit}.", file=sys.stderr)
    return 1
