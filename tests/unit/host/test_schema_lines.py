"""Configurations of Alembic at other places than the app's folder, and revisions in several lines; on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.host.schemas import LIMITS, SYNC, Project, python_with_alembic

TABLE = ('op.create_table("{}", sa.Column("id", sa.Integer()))', 'op.drop_table("{}")')
LABEL = "branch_labels = ('stock',)"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_alembic(tmp_path_factory)


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Project:
    return Project(tmp_path / "app", python)


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("%(here)s/migrations", ["--config=db/own.ini"]),
        ("db/migrations", ["--config=db/own.ini"]),
        ("migrations", ["--config=db/own.ini", "--in=db"]),
    ],
)
def test_a_configuration_below(project: Project, location: str, options: list[str]) -> None:
    """Modules of the app's folder and of the configuration's are found, wherever it runs; the variable is overruled."""
    (project.folder / "db").mkdir()
    (project.folder / "alembic.ini").unlink()
    (project.folder / "db/own.ini").write_text(f"[alembic]\nscript_location = {location}\n")
    (project.folder / "app_settings.py").write_text("")
    (project.folder / "db/tables.py").write_text("")
    project.more["ALEMBIC_CONFIG"] = "/srv/app/current/db/own.ini"
    wanted = f"assert os.environ['ALEMBIC_CONFIG'] == {str(project.folder / 'db/own.ini')!r}"
    project.environment(f"import os, app_settings, tables\n{wanted}\n{SYNC}")
    (project.folder / "migrations").rename(project.folder / "db/migrations")
    assert project.ask("read", "--at", "0001", *options)["heads"] == ["0002"]
    assert [each["revision"] for each in project.ask("look", *options)["pending"]] == ["0001", "0002"]
    project.run("upgrade", *LIMITS, *options)
    assert project.ask("look", *options)["current"] == ["0002"]
    assert project.columns("notes") == ["id", "title"]


def test_a_pyproject_below(project: Project) -> None:
    (project.folder / "db").mkdir()
    (project.folder / "db/pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/migrations"\n')
    (project.folder / "migrations").rename(project.folder / "db/migrations")
    project.more["ALEMBIC_CONFIG"] = "/srv/app/current/db/pyproject.toml"
    assert project.ask("look", "--config=db/pyproject.toml", "--in=db")["heads"] == ["0002"]


def line(project: Project, name: str, after: object, more: str = "") -> None:
    """A revision that makes a table of its own."""
    path = project.revision(name, after, (TABLE[0].format(f"t{name}"), TABLE[1].format(f"t{name}")))
    path.write_text(path.read_text().replace("\nimport time\n", f"\n{more}\n"))


@pytest.mark.parametrize(("after", "more"), [(None, ""), ("0001", LABEL), (None, "depends_on = '0001'")])
def test_lines_of_their_own_are_all_migrated(project: Project, after: object, more: str) -> None:
    """They begin apart, or have a label; and all of them are undone."""
    line(project, "0101", after, more)
    told = project.ask("look")
    assert told["heads"] == ["0002", "0101"] and told["forked"] == []
    assert sorted(each["revision"] for each in told["pending"]) == ["0001", "0002", "0101"]
    assert project.ask("read", "--at", "0002")["forked"] == []
    project.run("upgrade", *LIMITS)
    assert project.tables() == ["alembic_version", "notes", "t0101"]
    assert project.ask("look")["current"] == ["0002", "0101"] and project.ask("look")["pending"] == []
    line(project, "0102", "0101")
    assert [each["revision"] for each in project.ask("look")["pending"]] == ["0102"]
    project.run("upgrade", *LIMITS)
    undone = project.ask("undone", "--to", "0002,0101")["undone"]
    assert [each["revision"] for each in undone] == ["0102"]
    project.run("downgrade", "--to", "0002,0101", *LIMITS)
    assert project.tables() == ["alembic_version", "notes", "t0101"]
    project.run("downgrade", "--to", "base", *LIMITS)
    assert project.tables() == ["alembic_version"]


def test_a_fork_is_told(project: Project) -> None:
    """Two people have written the next revision: nobody meant two lines."""
    line(project, "0101", "0001")
    assert project.ask("look")["forked"] == ["0002", "0101"]
    assert project.ask("read", "--at", "0001")["forked"] == ["0002", "0101"]
    line(project, "0102", ("0101", "0002"))
    assert project.ask("look")["forked"] == []
