"""Who imports whom: no circle between modules, no arrow upwards between packages, and no name that isn't public."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ARROWS: dict[str, set[str]] = {
    "deploy.py": {"roles", "settings"},
    "tasks": {"roles", "settings"},
    "config.py": {"roles", "settings", "engine", "transport", "project"},
    "cli": {"settings", "engine", "project", "foreign", "person", "uv"},
    "roles": {"roles", "prober", "transport", "settings", "engine", "servers", "foreign", "person"},
    "prober": {"settings", "foreign", "person"},
    "transport": {"engine", "foreign", "person"},
    "settings": {"servers", "project", "foreign", "person", "uv"},
    "uv": {"person"},
    "engine": {"project", "foreign", "person"},
    "servers": set(),
    "project": set(),
    "foreign": set(),
    "person": set(),
}
"""Package (of ``slipway/``, or of the project's folder) → those that it may import, besides itself.

`cli` starts runs of pyinfra, which load deploy.py and tasks: it imports no role. A role may import another one.
"""

PROMISED = {"pyinfra", "pyinfra.api", "pyinfra.api.exceptions"}
"""What of pyinfra anybody may import; all else comes through slipway/engine/pyinfra_api.py."""
SERVERS = re.compile(r"gunicorn|uvicorn|granian|hypercorn", re.IGNORECASE)


def sources() -> list[Path]:
    """All that runs on the operator's side."""
    found = [ROOT / "deploy.py", ROOT / "config.py"]
    for folder in ("tasks", "roles", "slipway"):
        found += sorted((ROOT / folder).rglob("*.py"))
    return found


def module_of(path: Path) -> str:
    """Dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Name → file."""
    return {module_of(path): path for path in sources()}


def package_of(module: str) -> str:
    """The package that an arrow begins or ends at."""
    first, _, rest = module.partition(".")
    if first == "slipway":
        return rest.partition(".")[0] or "slipway"
    return f"{first}.py" if first in ("deploy", "config") else first


def at_load(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when a module is loaded: not those of functions, nor those for types alone."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        for name in ("body", "orelse", "finalbody", "handlers"):
            todo += [each for each in getattr(node, name, []) if isinstance(each, ast.stmt)]


def imported(nodes: Iterator[ast.stmt] | Iterator[ast.AST]) -> Iterator[tuple[str, str]]:
    """Module and name of each import; the name is empty where a whole module is meant."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                yield (whole, "") if whole in modules() else (node.module, each.name)


def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def refuse_circles(graph: Mapping[str, set[str]]) -> None:
    """Fail if modules import each other in a circle. `graph`: module → those that it imports."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, f"a circle: {' → '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_no_circle_between_modules() -> None:
    """Of what is loaded when a module is: an import within a function comes later."""
    graph = {
        name: {module for module, _ in imported(at_load(parsed(path))) if module in modules() and module != name}
        for name, path in modules().items()
    }
    refuse_circles(graph)


def test_no_arrow_upwards_between_packages() -> None:
    """Wherever the import stands: within a function, and for types alone, too."""
    wrong = []
    for name, path in modules().items():
        here = package_of(name)
        if here == "slipway":  # its own docstring
            continue
        for module, _ in imported(ast.walk(parsed(path))):
            there = package_of(module)
            if module.partition(".")[0] not in ("slipway", "roles", "tasks", "deploy", "config", "tests"):
                continue
            if there not in {here, *ARROWS[here]}:
                wrong.append(f"{name} imports {module}: {here} → {there}")
    assert wrong == []


def test_of_the_hosts_package_both_sides_have_the_same_words() -> None:
    """Its paths, and what it is asked and tells: nothing that runs there is run here."""
    words = ("layout", "names", "protocol", "wanted", "events", "lockfiles")
    shared = {"slipway_host", *(f"slipway_host.{each}" for each in words)}
    for name, path in modules().items():
        found = {module for module, _ in imported(ast.walk(parsed(path))) if module.startswith("slipway_host")}
        assert found <= shared, name


def test_the_arrows_themselves_have_no_circle() -> None:
    order: list[str] = []
    left = {name: to - {name} for name, to in ARROWS.items()}
    while left:
        free = [name for name, to in left.items() if not to & left.keys()]
        assert free, f"a circle among {', '.join(left)}"
        order += free
        left = {name: to for name, to in left.items() if name not in free}
    assert order[-1] in ("deploy.py", "tasks", "config.py", "cli")


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_nobody_takes_anothers_private_name(path: Path) -> None:
    """A name with an underscore is its module's own; so is a module of that kind its package's."""
    for module, name in imported(ast.walk(parsed(path))):
        if module in modules() or module.partition(".")[0] in ("slipway", "roles"):
            assert not name.startswith("_"), f"{name} of {module}"
            assert not any(part.startswith("_") for part in module.split(".")), module


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_what_pyinfra_does_not_promise_comes_through_one_file(path: Path) -> None:
    if module_of(path) == "slipway.engine.pyinfra_api":
        return
    found = {module for module, _ in imported(ast.walk(parsed(path))) if module.partition(".")[0].startswith("pyinfra")}
    assert found <= PROMISED
    if module_of(path) != "slipway.transport.paramiko_api":
        found = {module for module, _ in imported(ast.walk(parsed(path))) if module.startswith("paramiko")}
        assert found <= {"paramiko"}


INNER = {
    *("activated_hosts", "add_callback_handler", "check_for_changes", "connector_data", "current_deploy_name"),
    *("current_op_hash", "fact_pool", "failed_hosts", "get_op_meta", "get_op_order", "initialised", "is_executing"),
    *("op_meta", "operation_meta", "print_input", "print_prefix", "_hash", "auth_handler", "inner_key"),
}
"""Names within pyinfra's and paramiko's objects that are theirs: one file each knows them."""


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_nobody_else_reaches_into_pyinfras_objects(path: Path) -> None:
    if path.name not in ("pyinfra_api.py", "paramiko_api.py"):
        found = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
        assert found & INNER == set()


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_a_server_is_named_by_its_module_alone() -> None:
    files = [path for path in sources() if "slipway/servers" not in path.as_posix()]
    files += sorted((ROOT / "templates").rglob("*.j2"))
    assert [str(path) for path in files if SERVERS.search(path.read_text(encoding="utf-8"))] == []
