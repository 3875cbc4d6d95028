"""How the schema program is started: what the app's code finds then, and that nothing of a source takes our place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from slipway_host.layout import Layout

from tests.unit.host.schemas import LIB, LIMITS, PROGRAM, SYNC, TRAP, Project, python_with_alembic

OURS = sorted(path.stem for path in PROGRAM.parent.glob("*.py") if not path.stem.startswith("__"))
"""Names of our modules."""
PROBE = """
import json, os, pathlib, sys
told = {
    "path": sys.path,
    "argv": sys.argv,
    "modules": sorted(sys.modules),
    "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("__")),
    "environ": dict(os.environ),
}
pathlib.Path("told.json").write_text(json.dumps(told))
"""
THEIRS = """
import pathlib, importlib
for name in NAMES:
    assert pathlib.Path(importlib.import_module(name).__file__).resolve().is_relative_to(pathlib.Path.cwd()), name
"""
SCRIPT = "import json, os, sys\nprint(json.dumps({'path': sys.path, 'argv': sys.argv, 'environ': dict(os.environ)}))\n"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_alembic(tmp_path_factory)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A host with our package, and a program of one file beside the others."""
    made = Layout(tmp_path / "host")
    made.bin.mkdir(parents=True)
    (made.bin / "slipway-schema").write_text(SCRIPT)
    shutil.copytree(LIB / "slipway_host", made.lib / "slipway_host", ignore=shutil.ignore_patterns("__pycache__"))
    return made


@pytest.fixture
def project(tmp_path: Path, python: Path, layout: Layout) -> Project:
    return Project(tmp_path / "app", python, layout.schema_program)


def plain(project: Project, layout: Layout, *argv: str) -> dict[str, Any]:
    """What a program of one file finds that is started in the same way."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | project.more
    command = [str(project.python), str(layout.bin / "slipway-schema"), *argv]
    output = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def packages(folder: Path, text: str) -> None:
    """Packages and modules with names of ours, with this text in each."""
    for package in (folder / "slipway_host", folder / "slipway_host/schema", folder / "schema"):
        package.mkdir()
        for name in ("__init__", "__main__", *OURS):
            (package / f"{name}.py").write_text(text)
    for name in ("__main__", *OURS):
        (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    "more",
    [{}, {"PYTHONPATH": "{app}:/nowhere"}, {"PYTHONSAFEPATH": "1"}, {"PYTHONSAFEPATH": "1", "PYTHONPATH": "{app}"}],
    ids=["plain", "path", "safe", "both"],
)
def test_an_apps_code_finds_what_a_program_of_one_file_leaves_it(
    project: Project, layout: Layout, more: dict[str, str]
) -> None:
    project.more = {name: value.format(app=project.folder) for name, value in more.items()}
    packages(project.folder, "")
    project.environment(PROBE + THEIRS.replace("NAMES", repr(["slipway_host.schema", "schema", *OURS])) + SYNC)
    expected = plain(project, layout, "upgrade", *LIMITS)
    project.run("upgrade", *LIMITS)
    found = json.loads((project.folder / "told.json").read_text())
    last = [] if "PYTHONPATH" in more else [str(project.folder)]  # searched last, wherever the configuration lies
    assert found["path"] == [".", *expected["path"], *last], "prepend_sys_path is Alembic's"
    assert found["argv"] == expected["argv"]
    assert found["environ"] == expected["environ"]
    assert [name for name in found["modules"] if "slipway" in name] == []
    assert set(found["modules"]).isdisjoint({"schema", *OURS}), "none of ours under a name of its own"
    assert project.columns("notes") == ["id", "title"]


def test_the_mark_of_an_answer_is_told_to_nobody(project: Project, layout: Layout) -> None:
    project.environment(PROBE + "print('from env.py')\n" + SYNC)
    project.more = {"SLIPWAY_MARKED": "1"}
    done = project.started("look", said="only ours \nmore")
    assert done.stdout.startswith('\nonly ours {"heads": ["0002"]') and done.stdout.count("\n") == 2
    assert "from env.py" in done.stderr
    environment = json.loads((project.folder / "told.json").read_text())["environ"]
    assert "SLIPWAY_MARKED" not in environment and "only ours" not in str(environment)


def test_modules_of_our_packages_name_that_are_loaded_at_the_start_stay_the_apps(project: Project) -> None:
    """By a .pth file of the app's environment, say."""
    packages(project.folder, "WHOSE = 'app'\n")
    (project.folder / "sitecustomize.py").write_text("import slipway_host.schema.cli, slipway_host.schema.commands\n")
    project.more = {"PYTHONPATH": str(project.folder)}
    check = "import sys, slipway_host.schema.cli as cli\nassert cli.WHOSE == 'app'\n"
    project.environment(check + "assert sys.modules['slipway_host'].WHOSE == 'app'\n" + SYNC)
    assert project.ask("look")["heads"] == ["0002"]


def test_a_process_that_the_app_makes_is_left_alone(project: Project) -> None:
    """multiprocessing runs our file there once more, under another name."""
    (project.folder / "told.py").write_text(
        "import sys\ndef told():\n    return sys.path, sys.argv, 'slipway_host' in sys.modules\n"
    )
    project.environment(
        "import sys, told, multiprocessing\nwith multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "    found = pool.apply(told.told)\nassert found == (sys.path, sys.argv, False), found\n" + SYNC
    )
    assert project.ask("look")["heads"] == ["0002"]


STANDARD = ("json", "ast", "alembic", "sqlalchemy", "tomllib", "configparser", "argparse", "types", "traceback", "os")


def test_a_source_is_read_and_no_module_of_it_is_loaded_in_place_of_ours(project: Project) -> None:
    project.revision("0003", "0002", ('op.drop_table("old")', "raise NotImplementedError"))
    packages(project.folder, TRAP)
    for name in (*STANDARD, "env", "sitecustomize", "usercustomize"):
        (project.folder / f"{name}.py").write_text(TRAP)
    for path in project.folder.rglob("migrations/**/*.py"):
        path.write_text(f"{path.read_text()}\n{TRAP}")
    for paths in (".", "src:.", "%(here)s"):
        ini = f"[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = {paths}\n"
        (project.folder / "alembic.ini").write_text(ini)
        told = project.ask("read", "--at", "0002")
        contract = {"doc": "revision 0003", "contract": ["drops the table old"], "downgrade": False}
        pending = [{"revision": "0003"} | contract]
        assert told == {"heads": ["0003"], "unknown": [], "forked": [], "pending": pending}
    assert project.ran() == [] and not project.database.exists()


def test_a_package_of_our_name_on_pythonpath_is_not_ours(project: Project) -> None:
    packages(project.folder, TRAP)
    project.more = {"PYTHONPATH": str(project.folder)}
    for name in OURS:  # others import modules of these names, and find those of the app, as they do without us
        (project.folder / f"{name}.py").unlink()
    assert project.ask("read", "--at", "base")["heads"] == ["0002"]
    assert project.ran() == []


def test_where_the_program_is(layout: Layout) -> None:
    assert layout.schema_program.is_file()
    assert layout.lib.parent.parent == layout.bin.parent, "the program takes its folder for that of the others"
