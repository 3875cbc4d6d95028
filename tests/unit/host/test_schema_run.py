"""The schema program with real Alembic, on databases of SQLite."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import textwrap
from pathlib import Path

import pytest

from tests.unit.host.schemas import EXAMPLE, LIMITS, SYNC, TRAP, Project, python_with_alembic


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_alembic(tmp_path_factory)


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Project:
    return Project(tmp_path / "app", python)


PENDING = [
    {"revision": "0001", "doc": "create notes", "contract": [], "downgrade": True},
    {"revision": "0002", "doc": "add title", "contract": [], "downgrade": True},
]


def test_up_and_down_and_what_is_told_of_it(project: Project) -> None:
    told = {"heads": ["0002"], "forked": [], "unknown": [], "dialect": "sqlite"}
    assert project.ask("look") == told | {"current": [], "pending": PENDING}
    assert project.tables() == [], "it only looked"
    said = project.run("upgrade", *LIMITS)
    assert "INFO alembic.runtime.migration: Running upgrade 0001 -> 0002, add title\n" in said
    assert project.ask("look") == told | {"current": ["0002"], "pending": []}
    assert project.ask("undone", "--to", "0001") == {
        "undone": [{"revision": "0002", "doc": "add title", "downgrade": True}]
    }
    assert "Running downgrade 0002 -> 0001, add title" in project.run("downgrade", "--to", "0001", *LIMITS)
    assert project.columns("notes") == ["id"]
    refused = project.run("downgrade", "--to", "0002", *LIMITS, code=1)
    assert refused.endswith("FAILED: The database is at 0001: it has no 0002 to go back to.\n")


def test_sql_is_rendered_where_that_can_be(project: Project) -> None:
    project.revision("0003", "0002", ('op.get_bind().execute(sa.text("SELECT 1")).scalar_one()', "pass"))
    project.revision("0004", "0003", ("op.execute(\"UPDATE notes SET title = ''\")", "pass"))
    told = project.ask("render", "--at", "0001")
    assert told == {
        "sql": {
            "0002": "ALTER TABLE notes ADD COLUMN title TEXT;",
            "0003": None,
            "0004": "UPDATE notes SET title = '';",
        },
        "without_env": None,
    }
    project.environment("import nowhere")
    told = project.ask("render", "--at", "base", "--dialect", "postgresql")
    assert told["sql"]["0001"].startswith("CREATE TABLE notes (\n    id SERIAL NOT NULL")
    assert told["without_env"].endswith("ModuleNotFoundError: No module named 'nowhere'")
    assert project.tables() == []
    assert project.run("render", "--at", "base", code=1).endswith("No module named 'nowhere'\n")


def test_a_revision_that_is_no_constant_is_not_guessed(project: Project) -> None:
    path = project.folder / "migrations/versions/0003_it.py"
    for line in ("down_revision = before()", "from x import down_revision"):
        path.write_text(f"revision = '0003'\n{line}\n")
        assert "its down_revision is no constant" in project.run("read", "--at", "base", code=1)
    path.write_text("revision = chr(51)\ndown_revision = None\n")
    assert "its revision is no constant" in project.run("read", "--at", "base", code=1)


def test_scripts_of_a_package_are_those_of_the_source(project: Project) -> None:
    """And the package isn't imported to find them."""
    (project.folder / "src/pkg").mkdir(parents=True)
    (project.folder / "src/pkg/__init__.py").write_text(TRAP)
    (project.folder / "migrations").rename(project.folder / "src/pkg/migrations")
    (project.folder / "alembic.ini").write_text("[alembic]\nscript_location = pkg:migrations\n")
    assert project.ask("read", "--at", "0001")["heads"] == ["0002"]
    assert project.ask("read", "--at", "0009")["unknown"] == ["0009"]
    assert project.ran() == []


def test_configuration_in_pyproject_toml_without_logging(project: Project) -> None:
    (project.folder / "alembic.ini").unlink()
    (project.folder / "pyproject.toml").write_text(
        '[tool.alembic]\nscript_location = "%(here)s/migrations"\nprepend_sys_path = ["."]\n'
    )
    (project.folder / "app_settings.py").write_text("")
    project.environment("import app_settings\n" + SYNC, logging=False)
    assert "Running upgrade 0001 -> 0002, add title\n" in project.run("upgrade", *LIMITS)
    (project.folder / "pyproject.toml").write_text("")
    assert project.run("look", code=1) == "FAILED: No 'script_location' key found in configuration.\n"


def test_what_fails_is_told_with_its_place_and_its_cause_last(project: Project) -> None:
    project.revision("0003", "0002", ('op.add_column("notes", sa.Column("title", sa.Text()))', "pass"), "title again")
    assert project.run("upgrade", *LIMITS, code=1).endswith(
        "FAILED in revision 0003 (title again):\n"
        "  migrations/env.py:11, in <module>: context.run_migrations()\n"
        "  migrations/versions/0003_it.py:9, in upgrade: "
        'op.add_column("notes", sa.Column("title", sa.Text()))\n'
        "  SQL: ALTER TABLE notes ADD COLUMN title TEXT\n"
        "OperationalError: duplicate column name: title\n"
    )
    assert project.ask("look")["current"] == ["0002"]


def test_env_py_that_swallows_or_runs_nothing(project: Project) -> None:
    project.environment("")
    assert "ended without context.run_migrations()" in project.run("look", code=1)
    project.environment("raise SystemExit(0)")
    assert project.run("look", code=1).endswith("FAILED: env.py ended the program with 0.\n")
    project.revision("0003", "0002", ('raise ValueError("no")', "pass"))
    project.environment("try:\n" + textwrap.indent(SYNC, "    ") + "\nexcept Exception:\n    pass\n")
    assert project.run("upgrade", *LIMITS, code=1).endswith("ValueError: no\n")


def test_a_locked_sqlite_is_75(project: Project) -> None:
    project.run("upgrade", *LIMITS)
    project.revision("0003", "0002", ('op.create_table("more", sa.Column("id", sa.Integer()))', "pass"))
    with contextlib.closing(sqlite3.connect(project.database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        said = project.run("upgrade", *LIMITS, code=75)
    assert "OperationalError: database is locked\nA lock is taken:" in said


def test_the_examples_own_env_py(tmp_path: Path, python: Path) -> None:
    project = Project(tmp_path / "notes", python)
    shutil.rmtree(project.folder)
    shutil.copytree(EXAMPLE, project.folder, ignore=shutil.ignore_patterns(".venv", "*.db*", "__pycache__"))
    assert [one["revision"] for one in project.ask("look")["pending"]] == ["0001", "0002"]
    project.run("upgrade", *LIMITS)
    assert project.ask("look")["pending"] == []


def test_a_pyproject_that_this_alembic_does_not_read(project: Project) -> None:
    """Alembic before 1.16 would say that there is no alembic.ini."""
    (project.folder / "alembic.ini").unlink()
    (project.folder / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/migrations"\n')
    assert [each["revision"] for each in project.ask("look")["pending"]] == ["0001", "0002"]
    older = project.folder / "older"
    older.mkdir()
    (older / "sitecustomize.py").write_text(
        "import alembic.config\nalembic.__version__ = '1.13.3'\ndel alembic.config.Config.toml_alembic_config\n"
    )
    project.more["PYTHONPATH"] = str(older)
    assert project.run("look", code=1) == (
        "FAILED: [tool.alembic] of pyproject.toml needs Alembic 1.16 or newer, and the release has 1.13.3: "
        "`uv lock --upgrade-package alembic`, or write an alembic.ini.\n"
    )


@pytest.mark.parametrize("command", [("look",), ("read", "--at", "base")])
def test_folders_of_revisions(project: Project, command: tuple[str, ...]) -> None:
    """All of them are read; where they can't be told apart, that is an error, and not a database that lacks nothing."""
    migrations = project.folder / "migrations"
    (migrations / "more").mkdir()
    shutil.move(migrations / "versions/0002_it.py", migrations / "more")
    ini = project.folder / "alembic.ini"
    folders = "%(here)s/migrations/versions{}%(here)s/migrations/more"
    text = ini.read_text()
    ini.write_text(f"{text}version_path_separator = space\nversion_locations = {folders.format(' ')}\n")
    assert [each["revision"] for each in project.ask(*command)["pending"]] == ["0001", "0002"]
    ini.write_text(f"{text}version_path_separator = space\nversion_locations = {folders.format(';')}\n")
    told = project.run(*command, code=1)
    assert "finds no revisions in the folders of version_locations, " in told and told.count("\n") == 1, told
