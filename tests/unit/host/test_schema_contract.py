"""What a revision's source says that it does to code which still serves."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from slipway_host.schema import contract, reader

from tests.unit.host.schemas import source

CONTRACTS: dict[str, list[str]] = {
    # Alembic's own operations
    'op.drop_table("users")': ["drops the table users"],
    'op.drop_table(op.f("users"), schema="app")': ["drops the table app.users"],
    "op.drop_table(table_name='users')": ["drops the table users"],
    "op.drop_table(sys.argv[1])": ["drops a table"],
    'op.drop_column("notes", "title")': ["drops the column notes.title"],
    'op.drop_column("notes", "title", schema="app")': ["drops the column app.notes.title"],
    'op.drop_column("notes", column_name="title")': ["drops the column notes.title"],
    'op.drop_column("notes", name())': ["drops a column of notes"],
    'op.drop_column(name(), "title")': ["drops the column title of a table"],
    "op.drop_column(name(), name())": ["drops a column"],
    'op.rename_table("users", "people")': ["renames the table users to people"],
    'op.rename_table("users", name())': ["renames the table users"],
    'op.rename_table(name(), "people")': ["renames a table to people"],
    'op.alter_column("users", "name", new_column_name="title")': ["renames the column users.name to title"],
    'op.alter_column("users", "age", type_=sa.BigInteger())': ["changes the type of users.age"],
    'op.alter_column("users", "age", existing_type=sa.Integer(), nullable=False)': ["makes users.age NOT NULL"],
    'op.alter_column("users", "age", type_=sa.Text(), nullable=False)': [
        "changes the type of users.age",
        "makes users.age NOT NULL",
    ],
    'op.alter_column("users", "age", nullable=True)': [],
    'op.alter_column("users", "age", server_default="1", new_column_name=None, type_=None)': [],
    'op.add_column("users", sa.Column("x", sa.Integer(), nullable=False))': [
        "adds the column users.x NOT NULL without a default"
    ],
    'op.add_column("users", sa.Column("x", sa.Integer(), nullable=False, server_default=None))': [
        "adds the column users.x NOT NULL without a default"
    ],
    'op.add_column("users", sa.Column(name(), sa.Integer(), nullable=False))': [
        "adds a column of users NOT NULL without a default"
    ],
    'column = sa.Column("x", sa.Integer(), nullable=False)\nop.add_column("users", column)': [
        "adds the column users.x NOT NULL without a default"
    ],
    'op.add_column("users", sa.Column("x", sa.Integer(), nullable=False, server_default="0"))': [],
    'op.add_column("users", sa.Column("x", sa.Integer(), sa.Identity(), nullable=False))': [],
    'op.add_column("users", sa.Column("x", sa.Integer(), sa.Computed("y + 1"), nullable=False))': [],
    'op.add_column("users", sa.Column("x", sa.Integer(), autoincrement=True, nullable=False))': [],
    'op.add_column("users", sa.Column("x", sa.Integer()))': [],
    'op.create_table("users", sa.Column("x", sa.Integer(), nullable=False))': [],
    'op.drop_index("ix")\nop.drop_constraint("fk", "users")': [],
    # batch mode
    'with op.batch_alter_table("users") as batch_op:\n    batch_op.drop_column("age")': ["drops the column users.age"],
    'with op.batch_alter_table("users", schema="app") as b:\n    b.alter_column("age", nullable=False)': [
        "makes app.users.age NOT NULL"
    ],
    """
    with op.batch_alter_table("users") as batch_op:
        batch_op.add_column(sa.Column("x", sa.Integer(), nullable=False))
    with op.batch_alter_table("notes") as batch_op:
        batch_op.alter_column("name", new_column_name="title")
    """: ["adds the column users.x NOT NULL without a default", "renames the column notes.name to title"],
    'with op.batch_alter_table(name()) as batch_op:\n    batch_op.drop_column("age")': [
        "drops the column age of a table"
    ],
    # SQL
    'op.execute("DROP TABLE IF EXISTS users, app.notes CASCADE")': [
        "drops the table users",
        "drops the table app.notes",
    ],
    "op.execute('drop table \"Users\"')": ["drops the table Users"],
    'op.execute("DROP MATERIALIZED VIEW totals; DROP TYPE mood")': ["drops the view totals", "drops the type mood"],
    'op.execute(sa.text("ALTER TABLE ONLY users DROP COLUMN IF EXISTS age, DROP name"))': [
        "drops the column users.age",
        "drops the column users.name",
    ],
    'op.execute("ALTER TABLE users DROP CONSTRAINT c, ALTER COLUMN age DROP NOT NULL, ALTER age DROP DEFAULT")': [],
    'op.execute("ALTER TABLE users RENAME name TO title")': ["renames the column users.name to title"],
    'op.execute("ALTER TABLE users RENAME TO people")': ["renames the table users to people"],
    'op.execute("ALTER TABLE users RENAME CONSTRAINT a TO b; ALTER INDEX a RENAME TO b")': [],
    'op.execute("RENAME TABLE a TO b, c TO d")': ["renames the table a to b", "renames the table c to d"],
    "op.execute(\"ALTER TYPE mood RENAME TO feeling; ALTER TYPE mood RENAME VALUE 'a' TO 'b'\")": [
        "renames the type mood to feeling",
        "changes the type mood",
    ],
    "op.execute(\"ALTER TYPE mood ADD VALUE 'soso'\")": [],
    'op.execute("ALTER TABLE users ALTER COLUMN age TYPE bigint USING (age::bigint), ALTER name SET NOT NULL")': [
        "changes the type of users.age",
        "makes users.name NOT NULL",
    ],
    'op.execute("ALTER TABLE users MODIFY COLUMN age BIGINT, CHANGE name title TEXT")': [
        "changes the type of users.age",
        "renames the column users.name to title",
    ],
    'op.execute("ALTER TABLE users ADD COLUMN x int NOT NULL, ADD y numeric(10, 2) NOT NULL DEFAULT 0")': [
        "adds the column users.x NOT NULL without a default"
    ],
    'op.execute("ALTER TABLE users ADD COLUMN x int CHECK (x IS NOT NULL), ADD id BIGSERIAL NOT NULL")': [],
    'op.execute("TRUNCATE TABLE users, notes")': ["empties the table users", "empties the table notes"],
    'op.execute("GRANT SELECT, TRUNCATE ON users TO app; -- DROP TABLE users\\n/* DROP TABLE users */ SELECT 1")': [],
    "op.execute(\"INSERT INTO log VALUES ('it''s time to DROP TABLE users; or not')\")": [],
    "op.execute('CREATE FUNCTION f() RETURNS void AS $$ BEGIN DROP TABLE tmp; END $$ LANGUAGE plpgsql')": [],
    "op.execute('DO $$ BEGIN IF true THEN ALTER TABLE users DROP COLUMN age; END IF; END $$')": [
        "drops the column users.age"
    ],
    'op.execute(f"ALTER TABLE {name()} DROP COLUMN age")': ["drops the column age of a table"],
    'op.execute(f"DROP TABLE {name()}")': ["drops a table"],
    'op.execute(f"{name()} DROP COLUMN {name()}")': ["drops a column"],
    'op.execute("ALTER TABLE %s " % name() + "DROP COLUMN age")': ["drops the column age of a table"],
    'op.execute("ALTER TABLE {} DROP COLUMN age".format(name()))': ["drops the column age of a table"],
    'op.get_bind().execute(sa.text("DROP TABLE users").bindparams(a=1))': ["drops the table users"],
    'op.get_bind().exec_driver_sql("DROP TABLE users")': ["drops the table users"],
    'for statement in ["DROP TABLE a", "SELECT 1", "DROP TABLE b"]:\n    op.execute(statement)': [
        "drops the table a",
        "drops the table b",
    ],
    'for column in ("a", "b"):\n    op.drop_column("users", column)': [
        "drops the column users.a",
        "drops the column users.b",
    ],
    "op.execute(sys.argv[1])": [],
}


@pytest.mark.parametrize("body", CONTRACTS)
def test_contract(body: str) -> None:
    assert contract.contract(source(body)) == CONTRACTS[body]


def test_contract_knows_the_names_of_the_module_and_reads_helpers_but_not_downgrade() -> None:
    text = source(
        "op.execute(DROP)\nop.drop_column(TABLE, 'a')\nhelp_up()",
        "op.execute('DROP TABLE down')\nDROP = 'DROP TABLE other'\nhelp_down()\nshared()",
        """
        DROP: str = "DROP " "TABLE " + "users"
        TABLE = "notes"
        def help_up():
            op.rename_table("a", "b")
            shared()
        def help_down():
            op.drop_table("never")
        def shared():
            op.drop_column(TABLE, "b")
        def downgrade_engine1():
            op.drop_table("never")
        """,
    )
    assert contract.contract(text) == [
        "renames the table a to b",
        "drops the column notes.b",
        "drops the table users",
        "drops the column notes.a",
    ]


@pytest.mark.parametrize(
    ("upgrade", "downgrade", "expected"),
    [
        ("op.x()", "op.y()", True),
        ("op.x()", "pass", False),
        ("op.x()", '"""Nothing."""', False),
        ("op.x()", "...", False),
        ("op.x()", "return None", False),
        ("op.x()", 'raise NotImplementedError("one way")', False),
        ("op.x()", '"""No."""\nraise NotImplementedError', False),
        ("pass", "pass", True),
        ('"""Merge."""', "pass", True),
        ("pass", "raise NotImplementedError", False),
        ("op.x()", "if a:\n    raise ValueError\nop.y()", True),
    ],
)
def test_a_downgrade_is_one_that_does_something(upgrade: str, downgrade: str, expected: bool) -> None:
    assert contract.has_downgrade(source(upgrade, downgrade)) is expected


def test_a_revision_without_downgrade_has_none() -> None:
    assert contract.has_downgrade("def upgrade():\n    pass\n") is False
    assert contract.has_downgrade("def upgrade():\n    op.x()\ndowngrade = other\n") is True


class Script:
    """A revision, as Alembic has it."""

    revision, doc = "0001", "\n First line \nand more"

    def __init__(self, path: str, module: object = None) -> None:
        self.path, self.module = path, module


def test_a_revision_is_described(tmp_path: Path) -> None:
    path = tmp_path / "0001.py"
    path.write_text(source('op.drop_table("a")'))
    told = {"revision": "0001", "doc": "First line"}
    assert contract.described(Script(str(path))) == told | {"contract": ["drops the table a"], "downgrade": False}
    compiled = contract.described(Script("0001.pyc", Script))
    assert compiled == told | {"contract": ["can't be checked: it has no source"], "downgrade": False}


def test_what_is_no_python_is_told() -> None:
    with pytest.raises(SyntaxError):
        contract.contract("def upgrade(:")


def names(template: str) -> str:
    """Each name is made of the next one."""
    letters = "abcdefghij"
    lines = (template.replace("THIS", this).replace("NEXT", next_) for this, next_ in itertools.pairwise(letters))
    return "\n".join(lines) + "\nj = 'DROP TABLE x'\ndef upgrade():\n    op.execute(a)\n"


MANY = 3000
EACH = f"L = [{'1,' * MANY}]\n"
TABLES = "t = [" + ",".join(f"'t{number}'" for number in range(MANY)) + "]\ndef upgrade():\n"
HOSTILE = {
    "names that are each many names": names("THIS = NEXT\n" * 60),
    "texts of many texts": names("THIS = f'" + "{NEXT}" * 50 + "'"),
    "a list in each loop": EACH + "def upgrade():\n" + "    for x in L: pass\n" * MANY,
    "each table with each column": TABLES + "    for a in t:\n        for b in t: op.drop_column(a, b)\n",
    "each schema with each table": TABLES + "    for a in t:\n        for b in t: op.drop_table(a, schema=b)\n",
    "a long text again and again": "t = '" + "x" * 100_000 + "'\ndef upgrade():\n" + "    op.execute(t)\n" * MANY,
    "a column of any of many": "c = 1\n" * MANY + "def upgrade():\n" + "    op.add_column('a', c)\n" * MANY,
    "a long separator": "s = '" + "x" * 1000 + "'\ndef upgrade():\n    op.execute(s.join([" + "s," * 9000 + "]))\n",
    "expressions in expressions": "def upgrade():\n    op.execute(" + "+".join(["'a'"] * 800) + ")\n",
}
PLAIN = {
    "many functions and names": "".join(f"def f{number}(): pass\na{number} = 1\n" for number in range(MANY * 3)),
    "many places": "def upgrade():\n    op.execute('" + "{" * 100_000 + "'.format(x))\n",
    "many places of the old kind": "def upgrade():\n    op.execute('" + "%(" * 100_000 + "' % x)\n",
}
DEADLINE = 30  # seconds; it takes about one, and would take minutes or all memory


@pytest.mark.parametrize("what", [*HOSTILE, *PLAIN])
def test_a_source_that_means_to_take_long_does_not(what: str) -> None:
    began = time.monotonic()
    found = contract.contract((HOSTILE | PLAIN)[what])
    assert time.monotonic() - began < DEADLINE
    assert found[-1:] == (["can't be checked: its source is too long"] if what in HOSTILE else [])


def test_what_was_found_before_it_took_too_long_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader.Budget.__init__, "__defaults__", (500,))
    found = contract.contract(source("op.drop_table('a')\n" + "op.drop_table('b')\n" * 50))
    assert found == ["drops the table a", "drops the table b", contract.UNTOLD]
