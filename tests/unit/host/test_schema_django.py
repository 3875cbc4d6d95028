"""The schema program with real Django, on databases of SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.unit.host.schemas import LIMITS, PROGRAM, SECONDS, TRAP, python_with

MANAGE = """
import os, sys

def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)

if __name__ == "__main__":
    main()
"""
SETTINGS = """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["notes"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}}
"""
FIRST = """migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True)),
    ("text", models.CharField(max_length=100)), ("done", models.BooleanField(null=True))])"""
COLOUR = 'migrations.AddField("note", "colour", models.CharField(max_length=9, {}))'


class Site:
    """An app of Django, and its database."""

    def __init__(self, folder: Path, python: Path, database: Path) -> None:
        self.folder, self.python, self.database = folder, python, database
        (folder / "notes/migrations").mkdir(parents=True)
        for name in ("notes/__init__.py", "notes/models.py", "notes/migrations/__init__.py"):
            (folder / name).touch()
        (folder / "manage.py").write_text(MANAGE)
        (folder / "site_settings.py").write_text(SETTINGS)
        self.migration("0001_first", FIRST)

    def migration(self, name: str, *operations: str, after: str = "", more: str = "") -> Path:
        path = self.folder / f"notes/migrations/{name}.py"
        depends = f'[("notes", "{after}")]' if after else "[]"
        body = f"dependencies = {depends}\n{more}\noperations = [{', '.join(operations)}]\n"
        head = "from django.db import migrations, models\nclass Migration(migrations.Migration):\n"
        path.write_text(head + textwrap.indent(body, "    "))
        return path

    def run(self, command: str, *argv: str, code: int = 0, config: str = "manage.py") -> str:
        """What a command prints, both streams, after it has ended with this code."""
        where = ["--tool=django", *([f"--config={config}"] if config else [])]
        environment = os.environ | {"DATABASE": str(self.database), "PYTHONDONTWRITEBYTECODE": "1"}
        if not config:
            environment["DJANGO_SETTINGS_MODULE"] = "site_settings"
        done = subprocess.run(
            [self.python, PROGRAM, command, *where, *argv],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, command: str, *argv: str, **how: Any) -> dict[str, Any]:
        """A command's answer."""
        lines = [each for each in self.run(command, *argv, **how).splitlines() if each.startswith("slipway-schema: ")]
        answer = json.loads(lines[-1].removeprefix("slipway-schema: "))
        assert isinstance(answer, dict)
        return answer


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(tmp_path_factory, "django", "django~=5.2.0")


@pytest.fixture
def site(tmp_path: Path, python: Path) -> Site:
    return Site(tmp_path / "site", python, tmp_path / "site.db")


FORWARD = {"heads": ["notes.0001_first"], "forked": [], "unknown": [], "merge": "`manage.py makemigrations --merge`"}
CREATED = {"revision": "notes.0001_first", "doc": "create model Note", "contract": [], "downgrade": True}


def test_up_and_back_and_what_is_told_of_it(site: Site) -> None:
    told = FORWARD | {"current": [], "dialect": "sqlite", "pending": [CREATED]}
    assert site.ask("look") == told
    assert site.ask("read", "--at", "base") == FORWARD | {"pending": [CREATED]}
    assert "Applying notes.0001_first... OK" in site.run("upgrade", *LIMITS)
    assert site.ask("look", config="") == told | {"current": ["notes.0001_first"], "pending": []}
    later = site.migration("0002_colour", COLOUR.format("null=True"), after="0001_first")
    assert site.ask("render", "--at", "notes.0001_first")["sql"] == {
        "notes.0002_colour": 'ALTER TABLE "notes_note" ADD COLUMN "colour" varchar(9) NULL;'
    }
    site.run("upgrade", *LIMITS)
    undone = {"revision": "notes.0002_colour", "doc": "add field colour", "downgrade": True}
    assert site.ask("undone", "--to", "notes.0001_first") == {"undone": [undone]}
    text = later.read_text()
    later.unlink()  # an older release
    older = site.ask("look")
    assert (older["unknown"], older["pending"]) == (["notes.0002_colour"], []), "the database is ahead of it"
    assert site.ask("read", "--at", "notes.0002_colour")["unknown"] == ["notes.0002_colour"]
    later.write_text(text)
    assert "Unapplying notes.0002_colour... OK" in site.run("downgrade", "--to", "notes.0001_first", *LIMITS)
    assert site.ask("look")["current"] == ["notes.0001_first"]
    refused = site.run("undone", "--to", "notes.0002_colour", code=1)
    assert refused == ("FAILED: The database is at notes.0001_first: it has no notes.0002_colour to go back to.\n")
    site.run("downgrade", "--to", "base", *LIMITS)
    assert site.ask("look")["current"] == []


@pytest.mark.parametrize(
    ("operation", "contract"),
    [
        (COLOUR.format("null=True"), []),
        (COLOUR.format("db_default='red'"), []),
        (COLOUR.format("default='red'"), ["adds the column note.colour NOT NULL without a db_default"]),
        ('migrations.AddField("note", "tags", models.ManyToManyField("notes.Note"))', []),
        ('migrations.RemoveField("note", "text")', ["drops the column note.text"]),
        ('migrations.RenameField("note", "text", "words")', ["renames the column note.text to words"]),
        ('migrations.DeleteModel("Note")', ["drops the table note"]),
        ('migrations.AlterField("note", "text", models.CharField(max_length=200))', []),
        ('migrations.AlterField("note", "text", models.CharField(max_length=50))', ["changes the type of note.text"]),
        ('migrations.AlterField("note", "text", models.TextField())', ["changes the type of note.text"]),
        ('migrations.AlterField("note", "done", models.BooleanField(default=False))', ["makes note.done NOT NULL"]),
        (
            'migrations.AlterField("note", "text", models.CharField(max_length=100, db_column="words"))',
            ["renames the column note.text"],
        ),
        (
            (
                "migrations.SeparateDatabaseAndState("
                '[migrations.AlterField("note", "text", models.TextField())], '
                '[migrations.AlterField("note", "text", models.TextField())])'
            ),
            ["changes the type of note.text"],
        ),
        (  # a table that is there already gets a model
            (
                'migrations.SeparateDatabaseAndState([], [migrations.CreateModel("Tag", [])]), '
                'migrations.AddField("tag", "colour", models.CharField(max_length=9))'
            ),
            ["adds the column tag.colour NOT NULL without a db_default"],
        ),
        ('migrations.RunSQL("DROP TABLE old", migrations.RunSQL.noop)', ["drops the table old"]),
        ("migrations.RunSQL(SQL)", ["can't be checked: its SQL is no constant"]),
        (
            'migrations.SeparateDatabaseAndState([], [migrations.RemoveField("note", "text")])',
            [],
        ),
        ('migrations.CreateModel("Tag", []), migrations.DeleteModel("Tag")', []),
    ],
)
def test_what_the_old_release_may_not_survive(site: Site, operation: str, contract: list[str]) -> None:
    """It is read from the source, so that a plan and its run tell the same."""
    path = site.migration("0002_it", operation, after="0001_first")
    path.write_text(path.read_text() + TRAP)
    told = site.ask("read", "--at", "notes.0001_first", config="")["pending"]
    assert [(each["revision"], each["contract"]) for each in told] == [("notes.0002_it", contract)]
    assert list(site.folder.rglob("*.ran")) == [], "nothing of it ran"


def test_a_squashed_migration(site: Site) -> None:
    """`migrate` must note it, though it changes nothing; and what it replaced is no newer than the release."""
    site.migration("0002_colour", COLOUR.format("null=True"), after="0001_first")
    site.run("upgrade", *LIMITS)
    replaces = 'replaces = [("notes", "0001_first"), ("notes", "0002_colour")]'
    squashed = site.migration("0001_squashed", FIRST, COLOUR.format("null=True"), more=replaces)
    assert [each["revision"] for each in site.ask("look")["pending"]] == ["notes.0001_squashed"]
    assert site.ask("read", "--at", "notes.0002_colour")["pending"] == []
    site.run("upgrade", *LIMITS)
    assert site.ask("look")["pending"] == []
    squashed.write_text(squashed.read_text().replace(replaces, ""))
    for name in ("0001_first", "0002_colour"):
        (site.folder / f"notes/migrations/{name}.py").unlink()
    told = site.ask("look")
    assert (told["current"], told["unknown"], told["pending"]) == (["notes.0001_squashed"], [], [])


def test_a_squashed_migration_is_no_fork(site: Site) -> None:
    """What came after one that it replaces comes after it."""
    site.migration("0002_colour", COLOUR.format("null=True"), after="0001_first")
    site.migration("0003_more", after="0002_colour")
    replaces = 'replaces = [("notes", "0001_first"), ("notes", "0002_colour")]'
    site.migration("0001_squashed", FIRST, COLOUR.format("null=True"), more=replaces)
    for told in (site.ask("look"), site.ask("read", "--at", "base")):
        assert (told["heads"], told["forked"]) == (["notes.0003_more"], [])
        assert [each["revision"] for each in told["pending"]] == ["notes.0001_squashed", "notes.0003_more"]


def test_a_fork_is_told(site: Site) -> None:
    for name in ("0002_one", "0002_two"):
        site.migration(name, after="0001_first")
    for told in (site.ask("look"), site.ask("read", "--at", "base")):
        assert (told["forked"], told["pending"]) == (["notes.0002_one", "notes.0002_two"], [])


def test_what_fails_is_told(site: Site) -> None:
    site.migration("0002_sql", "migrations.RunSQL('ALTER TABLE nowhere ADD x')", after="0001_first")
    assert site.run("upgrade", *LIMITS, code=1).endswith("OperationalError: no such table: nowhere\n")
    assert site.ask("look")["current"] == ["notes.0001_first"]
    (site.folder / "manage.py").write_text("print('hello')\n")
    assert site.run("look", code=1).endswith("FAILED: manage.py ended without execute_from_command_line().\n")
    (site.folder / "manage.py").write_text("import nowhere\n")
    assert site.run("look", code=1).endswith("ModuleNotFoundError: No module named 'nowhere'\n")
