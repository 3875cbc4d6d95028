"""What the host's modules import: nothing of the operator's side, in no circle, and few things where that counts.

Few where a question is asked on every run, and where little else works.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_imports import at_load, refuse_circles

PACKAGE = Path(__file__).resolve().parents[3] / "host/slipway_host"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
ARROWS: dict[str, set[str]] = {
    "cli": {"access", "acme", "proxy", "release", "system", "layout", "names", "protocol", "text"},
    "release": {
        *("proxy", "systemd", "http", "system", "commands", "events", "layout", "lockfiles", "names"),
        *("protocol", "requirements", "text", "wanted"),
    },
    "proxy": {"system", "layout", "names", "protocol"},
    "access": {"system", "layout", "names", "protocol"},
    "acme": {"http", "system", "protocol"},
    "systemd": {"system"},
    "system": {"commands", "layout", "names", "text"},
    "schema": {"protocol"},
    "lockfiles": {"requirements"},
    "layout": {"names"},
    "protocol": {"wanted"},
    **{name: set() for name in ("commands", "events", "http", "names", "pins", "requirements", "text", "wanted")},
}
"""Subject (a folder, or a module beside them) → those below it that it may import, besides itself."""
HEAVY = {"typing", "dataclasses", "argparse", "http.client", "ssl", "concurrent.futures", "tempfile", "difflib", "csv"}
NEWER = {"UTC", "StrEnum", "file_digest", "batched"}
"""Attributes that Python 3.10 hasn't."""


def loaded(code: str, folder: Path = PACKAGE.parent) -> set[str]:
    """Names of the modules that a program has loaded in the end, by an interpreter as it is on a host."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); {code}; print(*sys.modules)"
    argv = [sys.executable, "-IS", "-X", f"pycache_prefix={folder / 'nowhere'}", "-B", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def ours(names: set[str]) -> set[str]:
    """Of these modules those of the package, without its name."""
    return {name.partition(".")[2] for name in names if name.startswith("slipway_host.")}


@pytest.mark.parametrize("path", MODULES)
def test_a_module_needs_python_3_10_and_nothing_else(path: str) -> None:
    parsed = ast.parse((PACKAGE / path).read_text(encoding="utf-8"), feature_version=(3, 10))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(parsed)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    tools = {"alembic", "sqlalchemy", "advanced_alchemy", "django", "flask"}
    apps = tools if path.startswith("schema/") else set()  # an app's own, in its own Python
    assert imported <= sys.stdlib_module_names | {"slipway_host"} | apps, imported
    assert "tomllib" not in imported or path == "pins.py", "since Python 3.11, which an app's own Python is"
    assert not {node.attr for node in ast.walk(parsed) if isinstance(node, ast.Attribute)} & NEWER


def others(path: str, nodes: Iterator[ast.stmt] | Iterator[ast.AST]) -> set[str]:
    """Paths of the package's other modules that these statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "slipway_host":
            whole = [".".join([*str(node.module).split(".")[1:], each.name]) for each in node.names]
            for dotted in [*whole, ".".join(str(node.module).split(".")[1:])]:
                file = dotted.replace(".", "/")
                found |= {each for each in (f"{file}.py", f"{file}/__init__.py".lstrip("/")) if each in MODULES}
    return found - {path}


def subject_of(path: str) -> str:
    """The subject of a module."""
    return path.partition("/")[0].removesuffix(".py").replace("__init__", "")


def test_no_circle_and_no_arrow_upwards() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
        # Who names a module of a folder doesn't need the folder's own, which says what is in it.
        graph[path] = {each for each in others(path, at_load(tree)) if not each.endswith("__init__.py")}
        for other in others(path, ast.walk(tree)):
            here, there = subject_of(path), subject_of(other)
            assert there in {"", here, *ARROWS.get(here, ())}, f"{path} imports {other}"  # "" is the package's own
    refuse_circles(graph)
    order = list(ARROWS)
    assert all(order.index(to) > order.index(name) for name, all_to in ARROWS.items() for to in all_to), "upwards"


@pytest.mark.parametrize("module", ["proxy.nginx", "proxy.sockets", "access.change", "acme"])
def test_a_module_loads_little(module: str) -> None:
    found = loaded(f"import slipway_host.{module}")
    assert f"slipway_host.{module}" in found and not found & HEAVY


def test_what_nginx_serves_is_told_with_little(tmp_path: Path) -> None:
    """It is asked on every run."""
    asked = "from slipway_host.proxy.nginx import Nginx; from slipway_host.system import System"
    asked += f"; from slipway_host.layout import Layout; Nginx(System(Layout({str(tmp_path)!r}))).status()"
    found = loaded(asked)
    assert not found & (HEAVY | {"hashlib"})
    assert ours(found) == {
        *("layout", "names", "text", "commands", "system"),
        *("proxy", "proxy.live", "proxy.generations", "proxy.nginx"),
    }


def test_a_change_is_taken_back_whatever_became_of_the_rest(tmp_path: Path) -> None:
    """Of the package: nothing else of it is there."""
    needed = ["__init__", "layout", "names", "text", "commands", "system"]
    needed += [f"access/{name}" for name in ("__init__", "change", "before", "sshd")]
    for name in needed:
        path = tmp_path / f"slipway_host/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / f"{name}.py", path)
    for broken in ("release", "proxy"):
        (tmp_path / "slipway_host" / broken).mkdir()
        (tmp_path / "slipway_host" / broken / "__init__.py").write_text("broken(")
    (tmp_path / "slipway_host/access/wanted.py").write_text("broken(")
    root = tmp_path / "root"
    (root / "var/lib/slipway/access").mkdir(parents=True)
    (root / "run").mkdir()
    file, pending = root / "file", root / "var/lib/slipway/access/pending.json"
    file.write_text("changed")
    pending.write_text(f'{{"files": {{"{file}": null}}, "firewall": true, "table": null, "ssh": true, "token": "x"}}')
    taken = "from slipway_host.access import change; from slipway_host.system import System, Done"
    taken += "; from slipway_host.layout import Layout"
    taken += "; System.run = lambda self, *argv, **options: Done(argv, 0, '')"
    taken += f"; assert change.revert(System(Layout({str(root)!r})))"
    found = loaded(taken, tmp_path)
    assert ours(found) == {
        "layout",
        "names",
        "text",
        "commands",
        "system",
        "access",
        *(f"access.{name}" for name in ("change", "before", "sshd")),
    }
    assert not file.exists() and not pending.exists()
