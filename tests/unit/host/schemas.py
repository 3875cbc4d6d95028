"""Apps' folders with Alembic's configuration, revisions of them, and the schema program that is started there."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIB = ROOT / "host"
PROGRAM = LIB / "slipway_host/schema/__main__.py"
EXAMPLE = ROOT / "examples/notes"
SYNC = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(URL, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
"""
LOGGING = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s: %(message)s')\n"
FIRST = ('op.create_table("notes", sa.Column("id", sa.Integer(), primary_key=True))', 'op.drop_table("notes")')
SECOND = ('op.add_column("notes", sa.Column("title", sa.Text()))', 'op.drop_column("notes", "title")')
LIMITS = ["--lock-timeout", "1", "--statement-timeout", "5"]
TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"
"""Leaves a file beside it when it is run."""
SECONDS = 120  # for a command: the machine may have much to do


def source(upgrade: str, downgrade: str = "pass", module: str = "") -> str:
    """A revision's source with these bodies."""
    body, back = (textwrap.indent(textwrap.dedent(text).strip(), "    ") for text in (upgrade, downgrade))
    head = "import sqlalchemy as sa\nfrom alembic import op\n"
    return f"{head}{textwrap.dedent(module)}\ndef upgrade():\n{body}\n\ndef downgrade():\n{back}\n"


def python_with_alembic(temporary: pytest.TempPathFactory) -> Path:
    """The Python of the example app's environment, which has Alembic and SQLAlchemy; made where there is none yet."""
    there = ROOT / ".venv/examples/notes"
    if not (there / "bin/python").exists():
        there = temporary.getbasetemp() / "notes-environment"
    if not (there / "bin/python").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        argv = [uv, "sync", "--quiet", "--locked", "--compile-bytecode", "--project", str(EXAMPLE)]
        environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(there), "UV_PYTHON_DOWNLOADS": "never"}
        environment.pop("VIRTUAL_ENV", None)
        subprocess.run(argv, env=environment, check=True, timeout=300)
    return there / "bin/python"


def python_with(temporary: pytest.TempPathFactory, name: str, *packages: str) -> Path:
    """The Python of an environment with these packages."""
    there = temporary.getbasetemp() / f"{name}-environment"
    if not (there / "bin/python").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        environment.pop("VIRTUAL_ENV", None)
        python = str(there / "bin/python")
        for argv in (["venv", str(there)], ["pip", "install", "--compile-bytecode", "--python", python, *packages]):
            subprocess.run([uv, *argv, "--quiet"], env=environment, check=True, timeout=300)
    return there / "bin/python"


@dataclass
class Project:
    """An app's folder with Alembic's configuration, and its database."""

    folder: Path
    python: Path
    program: Path = PROGRAM
    more: dict[str, str] = field(default_factory=dict)
    """Of the environment."""

    def __post_init__(self) -> None:
        (self.folder / "migrations/versions").mkdir(parents=True)
        (self.folder / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
        )
        self.environment(SYNC)
        self.revision("0001", None, FIRST, "create notes\n\nMore about it.")
        self.revision("0002", "0001", SECOND, "add title")

    @property
    def database(self) -> Path:
        return self.folder / "app.db"

    def revision(self, name: str, after: object, bodies: tuple[str, str], doc: str = "") -> Path:
        identity = f"revision = {name!r}\ndown_revision = {after!r}\n"
        path = self.folder / "migrations/versions" / f"{name}_it.py"
        path.write_text(f'"""{doc or f"revision {name}"}"""\nimport time\n{source(*bodies, module=identity)}')
        return path

    def environment(self, text: str, options: str = "", logging: bool = True) -> None:
        """Write env.py."""
        text = text.replace("URL", repr(f"sqlite:///{self.database}")).replace("OPTIONS", options)
        (self.folder / "migrations/env.py").write_text((LOGGING if logging else "") + text)

    def started(self, *argv: str, said: str = "") -> subprocess.CompletedProcess[str]:
        """A command, once it has ended."""
        return subprocess.run(
            [self.python, self.program, *argv],
            cwd=self.folder,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | self.more,
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def run(self, *argv: str, code: int = 0) -> str:
        """What a command prints, both streams, after it has ended with this code."""
        done = self.started(*argv)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, *argv: str) -> dict[str, Any]:
        """A command's answer."""
        lines = [line for line in self.run(*argv).splitlines() if line.startswith("slipway-schema: ")]
        answer = json.loads(lines[-1].removeprefix("slipway-schema: "))
        assert isinstance(answer, dict)
        return answer

    def ran(self) -> list[Path]:
        """What the traps have left that were run."""
        return sorted(self.folder.rglob("*.ran"))

    def columns(self, table: str) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]

    def tables(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return sorted(row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
