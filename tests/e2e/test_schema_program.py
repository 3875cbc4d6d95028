"""The schema program: what it does to real databases through real Alembic."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway_host.schema.locks import LOCK

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "host/slipway_host/schema/__main__.py"
EXAMPLE = ROOT / "examples/notes"


def source(upgrade: str, downgrade: str = "pass", module: str = "") -> str:
    """A revision's source with these bodies."""
    body, back = (textwrap.indent(textwrap.dedent(text).strip(), "    ") for text in (upgrade, downgrade))
    head = "import sqlalchemy as sa\nfrom alembic import op\n"
    return f"{head}{textwrap.dedent(module)}\ndef upgrade():\n{body}\n\ndef downgrade():\n{back}\n"


# ── with real Alembic ────────────────────────────────────────────────────────────────────────────────────────────

SYNC = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(URL, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
"""
BEGUN = """
from alembic import context
from sqlalchemy import create_engine

with create_engine(URL).begin() as connection:
    context.configure(connection=connection, OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
"""
ASYNC = """
import asyncio
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection, OPTIONS)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(URL, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""
LOGGING = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s: %(message)s')\n"
FIRST = ('op.create_table("notes", sa.Column("id", sa.Integer(), primary_key=True))', 'op.drop_table("notes")')
SECOND = ('op.add_column("notes", sa.Column("title", sa.Text()))', 'op.drop_column("notes", "title")')
LIMITS = ["--lock-timeout", "1", "--statement-timeout", "5"]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the example app's environment, which has Alembic, SQLAlchemy, aiosqlite and asyncpg."""
    there = ROOT / ".venv/examples/notes"
    if not (there / "bin/python").exists():
        there = tmp_path_factory.mktemp("environment") / "venv"
        uv = str(Path(sys.executable).with_name("uv"))
        argv = [uv, "sync", "--quiet", "--locked", "--compile-bytecode", "--project", str(EXAMPLE)]
        environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(there), "UV_PYTHON_DOWNLOADS": "never"}
        environment.pop("VIRTUAL_ENV", None)
        subprocess.run(argv, env=environment, check=True, timeout=300)
    return there / "bin/python"


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true, for a while."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@dataclass
class Project:
    """An app's folder with Alembic's configuration, and its database."""

    folder: Path
    python: Path
    url: str

    def revision(self, name: str, after: object, bodies: tuple[str, str], doc: str = "") -> None:
        identity = f"revision = {name!r}\ndown_revision = {after!r}\n"
        text = f'"""{doc or f"revision {name}"}"""\nimport time\n{source(*bodies, module=identity)}'
        (self.folder / "migrations/versions" / f"{name}_it.py").write_text(text)

    def environment(self, text: str, options: str = "", logging: bool = True) -> None:
        text = text.replace("URL", repr(self.url)).replace("OPTIONS", options)
        (self.folder / "migrations/env.py").write_text((LOGGING if logging else "") + text)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, PROGRAM, *argv],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str, code: int = 0) -> str:
        """What a command prints, both streams, after it has ended with this code."""
        started = self.start(*argv)
        out, error = started.communicate(timeout=60)
        assert started.returncode == code, out + error
        return out + error

    def ask(self, *argv: str) -> dict[str, Any]:
        lines = [line for line in self.run(*argv).splitlines() if line.startswith("slipway-schema: ")]
        answer = json.loads(lines[-1].removeprefix("slipway-schema: "))
        assert isinstance(answer, dict)
        return answer

    @property
    def database(self) -> Path:
        return self.folder / "app.db"

    def tables(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return sorted(row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def columns(self, table: str) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def made(folder: Path, python: Path, url: str | None = None) -> Project:
    project = Project(folder, python, url or f"sqlite:///{folder / 'app.db'}")
    (folder / "migrations/versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n")
    project.environment(SYNC)
    project.revision("0001", None, FIRST, "create notes\n\nMore about it.")
    project.revision("0002", "0001", SECOND, "add title")
    return project


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Project:
    return made(tmp_path / "app", python)


@pytest.mark.slow
def test_look_on_an_empty_database_tells_all_and_writes_nothing(project: Project) -> None:
    assert project.ask("look") == {
        "heads": ["0002"],
        "current": [],
        "forked": [],
        "unknown": [],
        "dialect": "sqlite",
        "pending": [
            {"revision": "0001", "doc": "create notes", "contract": [], "downgrade": True},
            {"revision": "0002", "doc": "add title", "contract": [], "downgrade": True},
        ],
    }
    assert project.tables() == []


def test_look_behind_and_current(project: Project) -> None:
    project.run("upgrade", *LIMITS)
    assert project.ask("look") | {"heads": []} == {
        "heads": [],
        "current": ["0002"],
        "forked": [],
        "unknown": [],
        "dialect": "sqlite",
        "pending": [],
    }
    drop = ('op.drop_column("notes", "title")', "raise NotImplementedError")
    project.revision("0003", "0002", drop)
    before = project.database.read_bytes()
    assert project.ask("look")["pending"] == [
        {
            "revision": "0003",
            "doc": "revision 0003",
            "contract": ["drops the column notes.title"],
            "downgrade": False,
        }
    ]
    assert project.database.read_bytes() == before


RENDERED: dict[str, str | None] = {
    "0001": "CREATE TABLE notes (\n    id INTEGER NOT NULL, \n    PRIMARY KEY (id)\n);",
    "0002": "ALTER TABLE notes ADD COLUMN title TEXT;",
}


@pytest.mark.slow
def test_sql_is_rendered_where_that_can_be(project: Project) -> None:
    project.revision("0003", "0002", ('op.get_bind().execute(sa.text("SELECT 1")).scalar_one()', "pass"))
    project.revision("0004", "0003", ("op.execute(\"UPDATE notes SET title = ''\")", "pass"))
    later: dict[str, str | None] = {"0003": None, "0004": "UPDATE notes SET title = '';"}
    assert project.ask("render", "--at", "base") == {"sql": RENDERED | later, "without_env": None}
    assert project.ask("render", "--at", "0002")["sql"] == later
    assert project.tables() == []


@pytest.mark.slow
def test_sql_is_rendered_without_an_env_py_that_cannot_run(project: Project) -> None:
    project.environment("import nowhere")
    told = project.ask("render", "--at", "base", "--dialect", "postgresql")
    assert told["sql"]["0001"].startswith("CREATE TABLE notes (\n    id SERIAL NOT NULL")
    assert told["without_env"].endswith("ModuleNotFoundError: No module named 'nowhere'")
    assert project.run("render", "--at", "base", code=1).endswith("No module named 'nowhere'\n")


@pytest.mark.slow
def test_what_a_revision_prints_is_no_answer(project: Project) -> None:
    """The line that begins the answer is known to nobody here, and standard output is the answer's alone."""
    forged = 'slipway-schema: {"heads": []}'
    project.revision("0003", "0002", (f"print('{forged}')", "pass"))
    path = project.folder / "migrations/versions/0003_it.py"
    path.write_text(f"{path.read_text()}\nimport atexit\natexit.register(lambda: print('{forged}'))\n")
    started = subprocess.run(
        [project.python, PROGRAM, "render", "--at", "0002"],
        cwd=project.folder,
        env=os.environ | {"SLIPWAY_MARKED": "1"},
        input="only ours \nmore",
        capture_output=True,
        text=True,
        check=True,
    )
    assert started.stdout == '\nonly ours {"sql": {"0003": ""}, "without_env": null}\n'
    assert started.stderr.count(forged) == 2


TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


@pytest.mark.slow
def test_a_source_is_read_and_nothing_of_it_is_run(project: Project) -> None:
    versions = project.folder / "migrations/versions"
    project.revision("0003", "0002", ('op.drop_table("old")', "raise NotImplementedError"))
    (versions / "0004.py").write_text(
        '"""Fourth\n\nand more"""\nFIRST = "0003"\nrevision: str = "0004"\ndown_revision = FIRST\n'
        "branch_labels = ('x',)\ndepends_on: str | None = None\ndef upgrade(): pass\n"
    )
    (versions / "000a.py").write_text("revision, down_revision = '000a', ('0002',)\ndef upgrade(): pass\n")
    for path in [*versions.glob("*.py"), project.folder / "migrations/env.py"]:
        path.write_text(f"{path.read_text()}\n{TRAP}")
    for name in ("json", "ast", "alembic", "tomllib", "configparser"):
        (project.folder / f"{name}.py").write_text(TRAP)
    told = project.ask("read", "--at", "0002")
    assert sorted(told["heads"]) == ["0004", "000a"] and told["unknown"] == []
    pending = {one.pop("revision"): one for one in told["pending"]}
    assert pending == {
        "0003": {"doc": "revision 0003", "contract": ["drops the table old"], "downgrade": False},
        "0004": {"doc": "Fourth", "contract": [], "downgrade": False},
        "000a": {"doc": "", "contract": [], "downgrade": False},
    }
    assert project.ask("read", "--at", "0009")["unknown"] == ["0009"]
    assert not list(project.folder.rglob("*.ran")) and project.tables() == []


@pytest.mark.slow
def test_a_revision_that_is_no_constant_is_not_guessed(project: Project) -> None:
    path = project.folder / "migrations/versions/0003_it.py"
    for line in ("down_revision = before()", "from x import down_revision", "down_revision = OTHER"):
        path.write_text(f"revision = '0003'\n{line}\n")
        assert "its down_revision is no constant" in project.run("read", "--at", "base", code=1)
    path.write_text("revision = chr(51)\ndown_revision = None\n")
    assert "its revision is no constant" in project.run("read", "--at", "base", code=1)


@pytest.mark.slow
def test_scripts_of_a_package_are_those_of_the_source(project: Project) -> None:
    """And the package isn't imported to find them."""
    (project.folder / "src/pkg").mkdir(parents=True)
    (project.folder / "src/pkg/__init__.py").write_text(TRAP)
    (project.folder / "migrations").rename(project.folder / "src/pkg/migrations")
    (project.folder / "alembic.ini").write_text("[alembic]\nscript_location = pkg:migrations\n")
    assert project.ask("read", "--at", "0001")["heads"] == ["0002"]
    assert not list(project.folder.rglob("*.ran"))


@pytest.mark.slow
def test_look_names_revisions_that_the_scripts_do_not_know(project: Project) -> None:
    project.revision("0003", "0002", ("pass", "pass"))
    project.run("upgrade", *LIMITS)
    (project.folder / "migrations/versions/0003_it.py").unlink()
    looked = project.ask("look")
    assert (looked["current"], looked["unknown"], looked["pending"]) == (["0003"], ["0003"], [])
    for command in (["upgrade", *LIMITS], ["downgrade", "--to", "0001", *LIMITS], ["undone", "--to", "0001"]):
        assert project.run(*command, code=1).endswith("FAILED: Can't locate revision identified by '0003'\n")


@pytest.mark.slow
def test_look_reports_heads_that_forked(project: Project) -> None:
    project.revision("0003", "0001", ("pass", "pass"))
    looked = project.ask("look")
    assert sorted(looked["heads"]) == ["0002", "0003"]
    assert sorted(one["revision"] for one in looked["pending"]) == ["0001", "0002", "0003"]
    assert looked["forked"] == ["0002", "0003"]


PER_MIGRATION = "transaction_per_migration=True"


@pytest.mark.parametrize(
    ("text", "options"),
    [(SYNC, ""), (SYNC, PER_MIGRATION), (BEGUN, ""), (ASYNC, PER_MIGRATION)],
    ids=["sync", "sync-each", "begun", "async-each"],
)
@pytest.mark.slow
def test_up_and_down(project: Project, text: str, options: str) -> None:
    if text is ASYNC:
        project.url = project.url.replace("sqlite:", "sqlite+aiosqlite:")
    project.environment(text, options)
    said = project.run("upgrade", *LIMITS)
    assert "INFO alembic.runtime.migration: Running upgrade 0001 -> 0002, add title\n" in said
    assert project.columns("notes") == ["id", "title"]
    assert "Running" not in project.run("upgrade", *LIMITS)
    assert "Running downgrade 0002 -> 0001, add title" in project.run("downgrade", "--to", "0001", *LIMITS)
    assert project.columns("notes") == ["id"]
    project.run("downgrade", "--to", "base", *LIMITS)
    assert project.tables() == ["alembic_version"]
    assert project.ask("look")["current"] == []


def test_undone_tells_what_a_downgrade_would_do(project: Project) -> None:
    project.run("upgrade", *LIMITS)
    assert project.ask("undone", "--to", "0001") == {
        "undone": [{"revision": "0002", "doc": "add title", "downgrade": True}]
    }
    assert [one["revision"] for one in project.ask("undone", "--to", "base")["undone"]] == ["0002", "0001"]
    assert project.ask("undone", "--to", "0002") == {"undone": []}
    assert project.columns("notes") == ["id", "title"]
    project.run("downgrade", "--to", "0001", *LIMITS)
    for command in (["downgrade", "--to", "0002", *LIMITS], ["undone", "--to", "0002"]):
        refused = project.run(*command, code=1)
        assert refused.endswith("FAILED: The database is at 0001: it has no 0002 to go back to.\n")


@pytest.mark.slow
def test_a_merge_is_undone_to_the_heads_before_it(project: Project) -> None:
    project.revision("000a", "0001", ("pass", "pass"))
    project.revision("000b", "000a", ("pass", "pass"))
    project.revision("0009", ("0002", "000b"), ("pass", "pass"))
    project.run("upgrade", *LIMITS)
    undone = project.ask("undone", "--to", "0002,000a")["undone"]
    assert [one["revision"] for one in undone] == ["0009", "000b"]
    project.run("downgrade", "--to", "0002,000a", *LIMITS)
    assert project.ask("look")["current"] == ["0002", "000a"]


@pytest.mark.slow
def test_the_examples_own_env_py(tmp_path: Path, python: Path) -> None:
    folder = tmp_path / "notes"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".venv", "*.db*", "__pycache__"))
    project = Project(folder, python, "")
    assert [one["revision"] for one in project.ask("look")["pending"]] == ["0001", "0002"]
    rendered = project.ask("render", "--at", "base")
    assert rendered["without_env"] is None and rendered["sql"]["0001"].startswith("CREATE TABLE notes (")
    project.run("upgrade", *LIMITS)
    assert project.ask("look")["pending"] == []
    with contextlib.closing(sqlite3.connect(folder / "notes.db")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "database is locked" in project.run("downgrade", "--to", "0001", *LIMITS, code=75)


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_fails_is_told_with_its_place_and_its_cause_last(project: Project) -> None:
    project.revision("0003", "0002", SECOND, "title again")
    assert project.run("upgrade", *LIMITS, code=1).endswith(
        "FAILED in revision 0003 (title again):\n"
        "  migrations/env.py:11, in <module>: context.run_migrations()\n"
        "  migrations/versions/0003_it.py:9, in upgrade: "
        'op.add_column("notes", sa.Column("title", sa.Text()))\n'
        "  SQL: ALTER TABLE notes ADD COLUMN title TEXT\n"
        "OperationalError: duplicate column name: title\n"
    )
    assert project.ask("look")["current"] == ["0002"]
    raising = 'try:\n    int("x")\nexcept ValueError as error:\n    raise RuntimeError("no number") from error'
    project.revision("0003", "0002", (raising, "pass"))
    assert project.run("upgrade", *LIMITS, code=1).endswith(
        "  after ValueError: invalid literal for int() with base 10: 'x'\nRuntimeError: no number\n"
    )


@pytest.mark.slow
def test_env_py_that_fails_swallows_or_runs_nothing(project: Project) -> None:
    project.environment("import nowhere")
    assert project.run("look", code=1).endswith(
        "  migrations/env.py:3, in <module>: import nowhere\nModuleNotFoundError: No module named 'nowhere'\n"
    )
    project.environment("")
    assert "ended without context.run_migrations()" in project.run("look", code=1)
    project.revision("0003", "0002", ('raise ValueError("no")', "pass"))
    swallowing = "try:\n" + textwrap.indent(SYNC, "    ") + "\nexcept Exception:\n    pass\n"
    project.environment(swallowing)
    assert project.run("upgrade", *LIMITS, code=1).endswith("ValueError: no\n")
    project.environment("raise SystemExit(0)")
    assert project.run("look", code=1).endswith("FAILED: env.py ended the program with 0.\n")


@pytest.mark.slow
@pytest.mark.parametrize("text", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_locked_sqlite_is_75(project: Project, text: str) -> None:
    project.run("upgrade", *LIMITS)
    project.revision("0003", "0002", ('op.create_table("more", sa.Column("id", sa.Integer()))', "pass"))
    if text is ASYNC:
        project.url = project.url.replace("sqlite:", "sqlite+aiosqlite:")
    project.environment(text)
    with contextlib.closing(sqlite3.connect(project.database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        said = project.run("upgrade", *LIMITS, code=75)
    assert "OperationalError: database is locked\nA lock is taken:" in said
    project.run("upgrade", *LIMITS)


@pytest.mark.slow
def test_two_migrations_of_one_sqlite_take_turns(project: Project) -> None:
    waits = 'import pathlib\nwhile not pathlib.Path("go").exists():\n    time.sleep(0.05)\n'
    project.revision("0003", "0002", (waits + 'op.create_table("more", sa.Column("id", sa.Integer()))', "pass"))
    patient = ["--lock-timeout", "60", "--statement-timeout", "60"]
    first = project.start("upgrade", *LIMITS)
    until(lambda: project.database.exists() and "title" in project.columns("notes"))
    second = project.start("upgrade", *patient)
    third = project.run("upgrade", "--lock-timeout", "0.2", "--statement-timeout", "5", code=75)
    assert "Another migration of this database still runs, after 0.2 s of waiting." in third
    (project.folder / "go").touch()
    assert "Running upgrade 0002 -> 0003" in first.communicate(timeout=60)[1]
    assert "Running" not in second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Cluster:
    """A PostgreSQL of its own, on a socket in its folder."""

    binaries: Path
    folder: Path

    def argv(self, *argv: str) -> list[str]:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return [*user, str(self.binaries / argv[0]), *argv[1:]]

    def sql(self, statement: str, database: str = "postgres") -> str:
        argv = self.argv("psql", "-h", str(self.folder), "-d", database, "-U", "postgres", "-XAtqc", statement)
        return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    @contextlib.contextmanager
    def session(self, database: str, *statements: str) -> Iterator[None]:
        """A session that has run these, and stays as it is."""
        argv = self.argv("psql", "-h", str(self.folder), "-d", database, "-U", "postgres", "-XAtq")
        started = subprocess.Popen(argv, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write("".join(f"{one};\n" for one in statements) + "\\echo ready\n")
        started.stdin.flush()
        try:
            while started.stdout.readline().strip() != "ready":
                assert started.poll() is None
            yield
        finally:
            started.stdin.close()
            started.stdout.close()
            started.wait(10)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    if not found:
        pytest.skip("no PostgreSQL binaries (apt install postgresql): the stories of tests/e2e run a real one")
    # A socket's path is short, and the server's own user must get there.
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    made = Cluster(found[0], folder)
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    data = ["-D", str(folder / "data")]
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    try:
        subprocess.run(
            made.argv("initdb", *data, "-A", "trust", "-U", "postgres", "--no-sync"), cwd="/", check=True, stdout=-3
        )
        start = ["pg_ctl", *data, "-o", options, "-l", str(folder / "log"), "-w", "start"]
        subprocess.run(made.argv(*start), cwd="/", check=True, stdout=-3)
        try:
            yield made
        finally:
            subprocess.run(made.argv("pg_ctl", *data, "-m", "immediate", "-w", "stop"), cwd="/", check=True, stdout=-3)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres(cluster: Cluster, tmp_path: Path, python: Path) -> Project:
    name = f"app{time.monotonic_ns()}"
    cluster.sql(f"CREATE DATABASE {name}")
    project = made(tmp_path / "app", python, f"postgresql+asyncpg://postgres@/{name}?host={cluster.folder}")
    project.environment(ASYNC)
    return project


def database(project: Project) -> str:
    return project.url.partition("@/")[2].partition("?")[0]


HELD = f"SELECT pg_advisory_lock({LOCK[0]}, {LOCK[1]})"
SHOW = "op.execute(\"INSERT INTO seen SELECT name, setting FROM pg_settings WHERE name ~ 'timeout|check_interval'\")"


@pytest.mark.parametrize("options", ["", PER_MIGRATION], ids=["whole", "each"])
def test_postgresql_up_and_down_with_its_limits(postgres: Project, cluster: Cluster, options: str) -> None:
    postgres.environment(ASYNC, options)
    postgres.revision("0003", "0002", (f'op.execute("CREATE TABLE seen (name text, setting text)")\n{SHOW}', "pass"))
    looked = postgres.ask("look")
    assert (looked["dialect"], looked["current"]) == ("postgresql", [])
    rendered = postgres.ask("render", "--at", "0001", "--dialect", "postgresql")
    assert rendered["sql"]["0002"] == "ALTER TABLE notes ADD COLUMN title TEXT;"
    assert cluster.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database(postgres)) == "0"
    postgres.run("upgrade", *LIMITS)
    seen = dict(line.split("|") for line in cluster.sql("SELECT * FROM seen", database(postgres)).splitlines())
    wanted = {"lock_timeout": "1000", "statement_timeout": "5000", "idle_in_transaction_session_timeout": "60000"}
    assert {key: seen[key] for key in wanted} == wanted
    assert seen.get("client_connection_check_interval", "2000") == "2000"  # since PostgreSQL 14
    assert cluster.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    postgres.run("downgrade", "--to", "0001", *LIMITS)
    assert postgres.ask("look")["current"] == ["0001"]


@pytest.mark.parametrize("how", ["block", "engine"])
def test_postgresql_is_locked_for_others_whatever_commits_meanwhile(
    postgres: Project, cluster: Cluster, how: str
) -> None:
    # Both end the transaction, and with it a lock that is the transaction's.
    waits = 'op.execute("SELECT pg_advisory_lock(1)")'
    if how == "block":
        postgres.revision("0003", "0002", (f"with op.get_context().autocommit_block():\n    {waits}", "pass"))
    else:
        postgres.revision("0003", "0002", (waits, "pass"))
        postgres.environment(ASYNC.replace("NullPool", "NullPool, isolation_level='AUTOCOMMIT'"))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    patient = ["--lock-timeout", "60", "--statement-timeout", "60"]
    with cluster.session(database(postgres), "SELECT pg_advisory_lock(1)"):
        first = postgres.start("upgrade", *patient)
        until(lambda: cluster.sql(waiting) == "1")
        said = postgres.run("upgrade", "--lock-timeout", "0.3", "--statement-timeout", "5", code=75)
        second = postgres.start("upgrade", *patient)
    assert "Another migration of this database still runs, after 0.3 s of waiting; held by\n  pid " in said
    assert "user postgres" in said
    assert "UTC: SELECT pg_advisory_lock(1)" in said
    assert "Running upgrade 0002 -> 0003" in first.communicate(timeout=60)[1]
    assert "Running" not in second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.parametrize("options", ["", PER_MIGRATION], ids=["whole", "each"])
def test_postgresql_locks_are_75_and_say_who(postgres: Project, cluster: Cluster, options: str) -> None:
    postgres.environment(ASYNC, options)
    with cluster.session(database(postgres), HELD):
        said = postgres.run("upgrade", *LIMITS, code=75)
    assert "Another migration of this database still runs, after 1 s of waiting; held by\n  pid " in said
    assert "user postgres, psql, idle since 20" in said
    assert said.endswith("A lock is taken: nothing is wrong with the migration, try again.\n")
    postgres.run("upgrade", *LIMITS)
    postgres.run("downgrade", "--to", "0001", *LIMITS)
    with cluster.session(database(postgres), "BEGIN", "SELECT count(*) FROM notes"):
        said = postgres.run("upgrade", *LIMITS, code=75)
    assert "FAILED in revision 0002 (add title):\n" in said
    assert "  SQL: ALTER TABLE notes ADD COLUMN title TEXT\n" in said
    assert "LockNotAvailableError: canceling statement due to lock timeout; held by\n  pid " in said
    assert "user postgres, psql, idle in transaction since 20" in said
    assert "UTC: SELECT count(*) FROM notes;\n" in said


def test_postgresql_statement_timeout_is_1(postgres: Project) -> None:
    postgres.revision("0003", "0002", ('op.execute("SELECT pg_sleep(30)")', "pass"))
    said = postgres.run("upgrade", "--lock-timeout", "1", "--statement-timeout", "0.5", code=1)
    assert said.endswith(
        "  SQL: SELECT pg_sleep(30)\n"
        "QueryCanceledError: canceling statement due to statement timeout\n"
        "A statement took longer than the statement time-out, 0.5 s.\n"
    )
    assert postgres.ask("look")["current"] == []


def test_a_killed_migration_leaves_no_backend_behind(postgres: Project, cluster: Cluster) -> None:
    postgres.run("upgrade", *LIMITS)
    postgres.run("downgrade", "--to", "0001", *LIMITS)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE notes%'"
    if int(cluster.sql("SHOW server_version_num")) < 140000:
        pytest.skip("PostgreSQL before 14 doesn't look whether its client lives")
    with cluster.session(database(postgres), "BEGIN", "SELECT count(*) FROM notes"):
        started = postgres.start("upgrade", "--lock-timeout", "60", "--statement-timeout", "60")
        until(lambda: cluster.sql(waiting) == "1")
        started.send_signal(signal.SIGKILL)
        started.communicate()
        killed = time.monotonic()
        until(lambda: cluster.sql(waiting) == "0")
        assert time.monotonic() - killed < 10
    postgres.run("upgrade", *LIMITS)
