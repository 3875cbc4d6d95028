"""How failures are told, and which one is only a lock; the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slipway_host.schema import cli, commands, errors

from tests.unit.host.schemas import PROGRAM


class Driver(Exception):
    """A driver's error, with what it says about itself."""

    def __init__(self, *args: object, module: str = "psycopg.errors", **facts: object) -> None:
        super().__init__(*args)
        type(self).__module__ = module
        vars(self).update(facts)


@pytest.mark.parametrize(
    ("error", "locked"),
    [
        ({"sqlstate": "55P03"}, True),
        ({"pgcode": "40P01", "module": "psycopg2.errors"}, True),
        ({"args": ({"C": "40001"},), "module": "pg8000.exceptions"}, True),
        ({"sqlstate": "57014"}, False),
        ({"args": (1205, "Lock wait timeout"), "sqlstate": "HY000", "module": "pymysql.err"}, True),
        ({"args": (1213, "Deadlock"), "module": "MySQLdb"}, True),
        ({"args": (1050, "Table exists"), "module": "pymysql.err"}, False),
        ({"args": (1205,), "module": "app"}, False),
        ({"args": ("database is locked",), "module": "sqlite3"}, True),
        ({"args": ("database table is locked: notes",), "module": "sqlite3"}, True),
        ({"args": ("database is locked",), "module": "app"}, False),
    ],
)
def test_a_lock_is_told_from_other_errors_also_as_a_cause(error: dict[str, Any], locked: bool) -> None:
    made = Driver(*error.pop("args", ("no",)), **error)
    outer = RuntimeError("of SQLAlchemy")
    outer.__cause__ = made
    assert errors.is_lock(outer) is locked


def test_a_chain_ends_though_it_is_a_ring() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert errors.chain(first) == [first, second]
    assert errors.state_of(first) is None


def raised(path: Path, text: str) -> BaseException:
    """The error of some code, as of a file of the app's."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        exec(compile(text, str(path), "exec"), {})
    return caught.value.with_traceback(caught.tb.tb_next)


def test_a_failure_is_told_with_its_place_and_its_cause_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "app/models.py"
    path.parent.mkdir()
    path.write_text(
        "import json\ntry:\n    json.loads('x')\nexcept ValueError as error:\n    raise OSError('no') from error\n"
    )
    assert errors.told(raised(path, path.read_text())).splitlines() == [
        "FAILED:",
        "  app/models.py:5, in <module>: raise OSError('no') from error",
        "  after JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "OSError: no",
    ]
    at = type("Script", (), {"revision": "0003", "doc": "add title\n\nmore"})
    long = Driver("no", statement="SELECT\n " + "x" * 500, orig=Driver("duplicate", module="app"), module="app")
    assert errors.told(long, at).splitlines() == [
        "FAILED in revision 0003 (add title):",
        "  SQL: SELECT " + "x" * 393 + "…",
        "Driver: duplicate",
    ]
    assert errors.told(errors.Failed("Do this.")) == "FAILED: Do this."


def told_by(error: BaseException, capsys: pytest.CaptureFixture[str], **options: object) -> tuple[int, list[str]]:
    """How a command ends by an error: its exit code, and what it says."""
    task = commands.Task(cli.arguments(["upgrade", "--lock-timeout=1", "--statement-timeout=0.5"]), None)  # type: ignore[arg-type]
    code = commands._failed(error, task)
    return code, capsys.readouterr().err.splitlines()


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    again = "A lock is taken: nothing is wrong with the migration, try again."
    assert told_by(errors.Locked("Held."), capsys) == (75, ["FAILED: Held.", again])
    held = errors.Locked("; held by\n  pid 1")
    held.__cause__ = Driver("lock timeout", sqlstate="55P03")
    assert told_by(held, capsys) == (75, ["FAILED:", "Driver: lock timeout; held by", "  pid 1", again])
    assert told_by(Driver("serialize", sqlstate="40001"), capsys) == (75, ["FAILED:", "Driver: serialize", again])
    assert told_by(SystemExit(0), capsys) == (1, ["FAILED: env.py ended the program with 0."])
    late = [*["FAILED:", "Driver: late"], "A statement took longer than the statement time-out, 0.5 s."]
    assert told_by(Driver("late", sqlstate="57014"), capsys) == (1, late)
    asked = Driver("canceled on user request", sqlstate="57014")
    assert told_by(asked, capsys) == (1, ["FAILED:", "Driver: canceled on user request"])


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["upgrade"],
        ["downgrade", "--lock-timeout", "1", "--statement-timeout", "1"],
        ["look", "--lock"],
        ["upgrade", "--lock-timeout", "-1", "--statement-timeout", "1"],
        ["upgrade", "--lock-timeout", "1", "--statement-timeout", "86401"],
    ],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.arguments(argv)
    assert ended.value.code == 2
    assert "usage: slipway-schema" in capsys.readouterr().err


def test_usage_of_the_program_itself() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "upgrade"], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert done.stderr.startswith("usage: slipway-schema upgrade ")


def test_options() -> None:
    told = cli.arguments(["downgrade", "--to", "a, base,b", "--lock-timeout", "0", "--statement-timeout", "0"])
    assert (told.to, told.lock_timeout, told.statement_timeout) == (["a", "b"], 0.1, 0)
    assert told.command is commands.downgrade
    told = cli.arguments(["render", "--at", "base", "--dialect", "postgresql"])
    assert (told.at, told.dialect, told.command) == ([], "postgresql", commands.render)


def test_without_alembic_it_says_what_to_do(tmp_path: Path) -> None:
    """As the tests' own environment has none."""
    done = subprocess.run([sys.executable, PROGRAM, "look"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("FAILED: Alembic can't be imported (") and "`uv add alembic`" in done.stderr
