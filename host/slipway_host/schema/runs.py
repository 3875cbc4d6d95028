"""Runs of an app's env.py, in which Alembic does something else, or something more, than env.py asks for.

Configurations, scripts and contexts are objects of the app's own Alembic, of any version.
"""

from __future__ import annotations

import io
import logging
import sys

from slipway_host.schema import alembic_api
from slipway_host.schema.errors import LOCKED_TABLES, Failed, Locked, state_of
from slipway_host.schema.lines import to_do, to_undo
from slipway_host.schema.locks import Guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

RENDERED = 1_000_000
"""Most characters of SQL to print for a revision."""


class Run:
    """One run of env.py. `visit` is called where env.py asks Alembic to migrate a connection."""

    offline = False
    """Whether it runs without a connection, as for `alembic upgrade --sql`."""

    def __init__(self, config: Any, script: Any) -> None:
        """`config`, `script`: Alembic's Config and ScriptDirectory."""
        self.config = config
        self.script = script
        self.error: BaseException | None = None
        """The error that ended the run, even if env.py swallows it."""
        self.at: Any = None
        """The running revision."""
        self.environment: Any = None
        """Alembic's EnvironmentContext, while there is one."""
        self.visited = False

    def steps(self, heads: Any, context: Any) -> Iterable[Any]:
        """The steps for Alembic (`fn` of EnvironmentContext)."""
        return []

    def visit(self, context: Any, options: dict[str, Any], run_migrations: Callable[..., Any]) -> None:
        """Handle a connection.

        + context: its MigrationContext
        + options: what env.py gave to context.run_migrations()
        + run_migrations: what Alembic would do
        """
        run_migrations(context, **options)

    def after(self) -> None:
        """Called when env.py has ended, while its context is still there."""

    def __call__(self, target: str) -> None:
        """Run env.py. `target`: the revision that it may ask for."""
        from alembic.runtime.environment import EnvironmentContext

        def visited(context: Any, **options: Any) -> None:
            if not self.offline and (context.as_sql or context.connection is None):
                raise Failed("env.py gave Alembic no connection to a database.")
            self.visited = True
            try:
                self.visit(context, options, run_migrations)
            except BaseException as error:
                self.error = error
                raise

        with (
            alembic_api.migrated_by(visited) as run_migrations,
            EnvironmentContext(
                self.config,
                self.script,
                fn=self.steps,
                as_sql=self.offline,
                starting_rev=None,
                destination_rev=target,
                tag=None,
            ) as self.environment,
        ):
            self.script.run_env()
            if self.error is not None:
                raise self.error
            if not self.visited:
                raise Failed(f"{alembic_api.env_of(self.script)} ended without context.run_migrations().")
            self.after()


class Look(Run):
    """Reads which revisions the database has. Nothing is migrated; not even the version table is made."""

    def __init__(self, config: Any, script: Any) -> None:
        super().__init__(config, script)
        self.current: list[str] = []
        self.pending: list[Any] = []
        """For all databases that env.py visits (usually one) together."""
        self.unknown: list[str] = []
        self.dialect: str | None = None

    def visit(self, context: Any, options: dict[str, Any], run_migrations: Callable[..., Any]) -> None:
        """Read the heads."""
        heads = context.get_current_heads()
        self.dialect = context.connection.dialect.name
        unknown, todo = to_do(self.script, heads)
        self.current += [each for each in sorted(heads) if each not in self.current]
        self.unknown += [each for each in unknown if each not in self.unknown]
        self.pending += [each for each in todo if each not in self.pending]


class Render(Run):
    """Writes the SQL of revisions like `alembic upgrade --sql`: it runs env.py and each upgrade(), offline."""

    offline = True

    def __init__(self, config: Any, script: Any, pending: Sequence[Any], dialect: str | None) -> None:
        """`pending`: Alembic's Scripts; `dialect`: of the database, or None for env.py's."""
        super().__init__(config, script)
        self.pending = pending
        self.dialect = dialect
        self.opts: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.sql: dict[str, str | None] = {}
        """Revision → its SQL; None if it can't be written."""

    def visit(self, context: Any, options: dict[str, Any], run_migrations: Callable[..., Any]) -> None:
        """Remember env.py's options."""
        self.opts, self.options = alembic_api.options_of(context), options
        self.dialect = self.dialect or context.dialect.name

    def after(self) -> None:
        """Write the SQL."""
        from alembic.operations import Operations
        from alembic.runtime.migration import MigrationContext

        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)  # "Generating static SQL", each time
        for script in self.pending:
            buffer = io.StringIO()
            offline = {"as_sql": True, "output_buffer": buffer, "literal_binds": True, "transactional_ddl": False}
            context = MigrationContext.configure(
                dialect_name=self.dialect, environment_context=self.environment, opts=self.opts | offline
            )
            try:
                with Operations.context(context):
                    script.module.upgrade(**self.options)
                self.sql[script.revision] = buffer.getvalue().strip()[:RENDERED]
            except Exception:  # it may read data, which needs a database
                self.sql[script.revision] = None

    def without_env(self) -> None:
        """Write the SQL without env.py, if that needs a database."""
        from alembic.runtime.environment import EnvironmentContext

        self.opts, self.options = {}, {}
        with EnvironmentContext(self.config, self.script, as_sql=True) as self.environment:
            self.after()


class Change(Run):
    """Migrates, under a lock and with time-outs."""

    def __init__(self, config: Any, script: Any, lock_timeout: float, statement_timeout: float) -> None:
        """The time-outs are in seconds; see Guard."""
        super().__init__(config, script)
        self.guard = Guard(lock_timeout, statement_timeout)

    def plan(self, heads: Any) -> Sequence[Any]:
        """Alembic's steps from these heads to the target."""
        return alembic_api.upgrade_steps(self.script, heads)

    def steps(self, heads: Any, context: Any) -> Iterator[Any]:
        """The steps, one after the other; `at` is the running one."""
        logger = logging.getLogger("alembic.runtime.migration")
        silent = not (logger.isEnabledFor(logging.INFO) and logger.hasHandlers())
        for step in self.plan(heads):
            self.at = step.revision
            if silent:  # env.py has set up no logging
                print(f"Running {step}", file=sys.stderr, flush=True)
            yield step
        self.at = None

    def visit(self, context: Any, options: dict[str, Any], run_migrations: Callable[..., Any]) -> None:
        """Migrate, once no other migration runs."""
        self.guard.take(context, lambda: self.plan(context.get_current_heads()))
        try:
            run_migrations(context, **options)
        except Exception as error:
            if state_of(error) in LOCKED_TABLES:
                raise Locked(self.guard.relation_holders(context.connection, error)) from error
            raise


class Back(Change):
    """Undoes all revisions that don't lead to earlier heads."""

    def __init__(
        self, config: Any, script: Any, lock_timeout: float, statement_timeout: float, targets: Sequence[str]
    ) -> None:
        """`targets`: the heads to go back to; none means base."""
        super().__init__(config, script, lock_timeout, statement_timeout)
        self.targets = targets

    def plan(self, heads: Any) -> Sequence[Any]:
        """Alembic's steps from these heads back."""
        return alembic_api.downgrade_steps(self.script, to_undo(self.script, heads, self.targets))
