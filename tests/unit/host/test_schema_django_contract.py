"""What Django's migrations do to the release that still serves: as it is told, and as it is with real Django."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from slipway_host.schema.django_contract import State
from slipway_host.schema.django_source import Source

from tests.unit.host.schemas import SECONDS, python_with

HEAD = "from django.db import migrations, models\n"
FIRST = """
migrations.CreateModel("Author", [("id", models.BigAutoField(primary_key=True))]),
migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("text", models.CharField(max_length=100, db_column="words")),
    ("title", models.CharField(max_length=100)),
    ("link", models.URLField()),
    ("file", models.FileField(max_length=200)),
    ("price", models.DecimalField(max_digits=8, decimal_places=2, null=True)),
    ("done", models.BooleanField(null=True)),
    ("author", models.ForeignKey("notes.Author", models.CASCADE, null=True)),
    ("readers", models.ManyToManyField("notes.Author", related_name="+")),
]),
migrations.CreateModel("Named", [("id", models.BigAutoField(primary_key=True))], options={"db_table": "named"}),
migrations.CreateModel("Proxy", [], options={"proxy": True}, bases=("notes.note",)),
migrations.CreateModel("Foreign", [("id", models.BigAutoField(primary_key=True))], options={"managed": False}),
"""


def operation(name: str, *arguments: str) -> str:
    return f"migrations.{name}({', '.join(arguments)})"


def field(name: str, model: str, of: str, made: str) -> str:
    return operation(name, repr(model), repr(of), f"models.{made}")


ADD = "adds the column note.{} NOT NULL without a db_default"
KEPT = [
    field("AddField", "note", "colour", "CharField(max_length=9, null=True)"),
    field("AddField", "note", "tags", 'ManyToManyField("notes.Author", related_name="+")'),
    field("AlterField", "note", "title", "CharField(max_length=200)"),
    field("AlterField", "note", "title", 'CharField(max_length=100, db_column="title")'),
    field("AlterField", "note", "link", "CharField(max_length=200)"),
    field("AlterField", "note", "link", "URLField(max_length=250)"),
    field("AlterField", "note", "price", "DecimalField(max_digits=10, decimal_places=4, null=True)"),
    field(
        "AlterField", "note", "author", 'ForeignKey("notes.Author", models.CASCADE, null=True, db_column="author_id")'
    ),
    operation("RenameField", "'note'", "'text'", "'title_of_it'"),  # it has a column of its own
    operation("RenameModel", "'Named'", "'Renamed'"),  # it has a table of its own
    operation("AlterModelTable", "'note'", "'notes_note'"),
    operation("AlterModelTable", "'note'", "None"),
    operation("DeleteModel", "'Proxy'"),
    operation("DeleteModel", "'Foreign'"),
    operation("AddIndex", "'note'", 'models.Index(fields=["title"], name="by_title")'),
    operation("CreateModel", "'Tag'", '[("id", models.BigAutoField(primary_key=True))]')
    + ", "
    + field("AddField", "tag", "colour", "CharField(max_length=9)"),
    operation("SeparateDatabaseAndState", "[]", '[migrations.RemoveField("note", "title")]'),
    operation("AlterModelOptions", "'note'", '{"managed": False}') + ", " + operation("DeleteModel", "'note'"),
    operation("RunPython", "migrations.RunPython.noop"),
]
"""Operations after which the release before reads and writes as before."""
BROKEN = [
    (field("AddField", "note", "colour", "CharField(max_length=9, default='red')"), ADD.format("colour")),
    (
        field("AddField", "note", "colour", "CharField(max_length=9)").replace("9)", "9, default='')"),
        ADD.format("colour"),
    ),
    (operation("RemoveField", "'note'", "'title'"), "drops the column note.title"),
    (operation("RemoveField", "'note'", "'readers'"), "drops the table of note.readers"),
    (operation("RenameField", "'note'", "'title'", "'name'"), "renames the column note.title to name"),
    (operation("RenameModel", "'Note'", "'Memo'"), "renames the table note to memo"),
    (operation("AlterModelTable", "'note'", "'memos'"), "renames the table note to memos"),
    (operation("DeleteModel", "'Note'"), "drops the table note"),
    (field("AlterField", "note", "done", "BooleanField(default=False)"), "makes note.done NOT NULL"),
    (field("AlterField", "note", "title", 'CharField(max_length=100, db_column="t")'), "renames the column note.title"),
    (operation("AlterOrderWithRespectTo", "'note'", "'author'"), ADD.format("_order")),
    (operation("RunSQL", "'DROP TABLE notes_note'"), "drops the table notes_note"),
]
"""Operations, and what is told of them: after them, the release before can't read or write."""
CAUTIOUS = [
    (field("AlterField", "note", "title", "TextField()"), "changes the type of note.title"),
    (field("AlterField", "note", "title", "CharField(max_length=50)"), "changes the type of note.title"),
    (field("AlterField", "note", "file", "FileField()"), "changes the type of note.file"),
    (
        field("AlterField", "note", "price", "DecimalField(max_digits=8, decimal_places=4, null=True)"),
        "changes the type of note.price",
    ),
    (
        field("AlterField", "note", "author", 'ForeignKey("notes.Named", models.CASCADE, null=True)'),
        "changes what note.author refers to",
    ),
    (field("AlterField", "tag", "name", "TextField()"), "changes tag.name"),
    ("Own()", "can't be checked: Own is no operation of Django's"),
    (operation("RunPython", "elsewhere.code"), "can't be checked: its code isn't in the migration"),
    (operation("RunSQL", "SQL"), "can't be checked: its SQL is no constant"),
    (operation("SeparateDatabaseAndState", "made()", "[]"), "can't be checked: its operations are no list"),
]
"""What may break it, or can't be known."""


def contract(tmp_path: Path, *operations: str, more: str = "") -> list[str]:
    """What is told of pending operations after `FIRST`."""
    state, told = State(), []
    for number, text in enumerate([FIRST, *operations]):
        path = tmp_path / f"{number}.py"
        path.write_text(f"{HEAD}{more}\nclass Migration(migrations.Migration):\n    operations = [{text}]\n")
        told = state.described(Source(("notes", f"{number}"), path), number > 0)["contract"]
    return told


@pytest.mark.parametrize("operations", KEPT)
def test_what_the_old_release_survives(tmp_path: Path, operations: str) -> None:
    assert contract(tmp_path, operations) == []


@pytest.mark.parametrize(("operations", "told"), [*BROKEN, *CAUTIOUS])
def test_what_it_may_not_survive(tmp_path: Path, operations: str, told: str) -> None:
    assert contract(tmp_path, operations) == [told]


def test_a_default_of_the_database(tmp_path: Path) -> None:
    """While there is one, a column may be new; without it the release that counts on it can't insert."""
    colour = 'migrations.{}("note", "colour", models.CharField(max_length=9, {}))'
    adding = colour.format("AddField", "db_default='red'")
    assert contract(tmp_path, adding) == []
    assert contract(tmp_path, adding, colour.format("AlterField", "null=True")) == []
    removed = contract(tmp_path, adding, colour.format("AlterField", "default='red'"))
    assert removed == ["removes the db_default of note.colour"]


def test_a_model_with_another_name_is_the_same(tmp_path: Path) -> None:
    renamed = operation("RenameModel", "'Note'", "'Memo'")
    told = contract(tmp_path, renamed, field("AlterField", "memo", "title", "CharField(max_length=200)"))
    assert told == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('apps.get_model("notes", "Note").objects.update(title="")', []),
        ('schema_editor.execute("ALTER TABLE notes_note DROP COLUMN title")', ["drops the column notes_note.title"]),
        ("inner(schema_editor)", ["can't be checked: its code changes the schema (remove_field)"]),
    ],
)
def test_the_code_of_a_migration_is_read(tmp_path: Path, body: str, told: list[str]) -> None:
    """Data may change; of SQL and of Django's schema editor it is told. A reverse isn't run."""
    inner = "def inner(editor):\n    editor.remove_field(Note, Note.title)\n"
    back = "def back(apps, schema_editor):\n    schema_editor.delete_model(Note)\n"
    more = f"{inner}{back}def forth(apps, schema_editor):\n    {body}\n"
    assert contract(tmp_path, operation("RunPython", "forth", "back"), more=more) == told


# ── as it is ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DRIVER = """
import json, sys
import django
from django.conf import settings
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
settings.configure(INSTALLED_APPS=[], DATABASES=DATABASES, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState

def migrated(state, text):
    made = type("Migration", (migrations.Migration,), {"operations": eval(f"[{text}]")})("it", "notes")
    with connection.schema_editor(atomic=False) as editor:
        return made.apply(state, editor)

def works(model, names):
    made = model.objects.create(**{name: None if name in ("done", "price") else "a" for name in names})
    for each in model._meta.many_to_many:
        list(getattr(made, each.name).all())
    return list(model.objects.values_list()) != []

def survives(number, first, text):
    connection.close()
    connection.settings_dict["NAME"] = f"{sys.argv[1]}/{number}.db"
    before = migrated(ProjectState(), first)
    old = {name: before.apps.get_model("notes", name) for name in ("Note", "Named")}
    connection.disable_constraint_checking()
    migrated(before.clone(), text)
    try:
        names = ("text", "title", "link", "file", "price", "done")
        return works(old["Note"], names) and works(old["Named"], ())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

first, *others = json.load(sys.stdin)
print(json.dumps([survives(number, first, each) for number, each in enumerate(others)]))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(tmp_path_factory, "django", "django~=5.2.0")


def test_what_is_told_is_so(tmp_path: Path, python: Path) -> None:
    """With real Django, and the models of the release before, on a database that was migrated."""
    asked = [*KEPT, *(each for each, _ in BROKEN)]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", DRIVER, tmp_path],
        input=json.dumps([FIRST, *asked]),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    found = dict(zip(asked, json.loads(done.stdout), strict=True))
    assert {each: found[each] for each in KEPT if found[each] is not True} == {}
    assert [each for each, _ in BROKEN if found[each] is True] == []
