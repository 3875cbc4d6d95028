"""Let Alembic read a source that isn't trusted yet as text. Nothing of it is run."""

from __future__ import annotations

import ast
import os
import types
from pathlib import Path

from slipway_host.schema import alembic_api
from slipway_host.schema.errors import Failed
from slipway_host.schema.sql import HOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FACTS = ("revision", "down_revision", "branch_labels", "depends_on")
"""Names that Alembic reads in a revision's module."""


def run_nothing() -> None:
    """From now on, let Alembic find and read revisions without running them."""
    alembic_api.read_by(lambda folder, name: read_revision(Path(folder, name)), located)


def located(location: str) -> Path:
    """The folder of a `script_location`. If that names a package, look in the source, and import nothing."""
    if ":" not in location or os.path.isabs(location):  # noqa: PTH117
        return Path(location)
    package, *parts = location.split(":")
    inside = Path(*package.split("."), *parts)
    return next((base / inside for base in map(Path, (".", "src")) if (base / inside).is_dir()), inside)


def read_revision(path: Path) -> types.SimpleNamespace:
    """What Alembic needs of a revision's module, from its text. Raises Failed if the text doesn't say it."""
    if path.suffix != ".py":
        raise Failed(f"{path} has no source: it can't be read without running it.")
    tree = ast.parse(path.read_bytes())
    values: dict[str, Any] = {}
    for node in tree.body:
        for name, given in assigned(node):
            if isinstance(name, ast.Name):
                values[name.id] = values.get(given.id, HOLE) if isinstance(given, ast.Name) else literal(given)
    told = {name: values[name] for name in FACTS if name in values}
    unclear = [name for name, value in told.items() if value is HOLE]
    if unclear or "down_revision" not in told:
        named = ", ".join(unclear or ["down_revision"])
        raise Failed(f"{path}: its {named} is no constant, so it can't be read without running it.")
    return types.SimpleNamespace(__doc__=ast.get_docstring(tree, clean=False), **told)


def assigned(node: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Targets and values of an assignment."""
    if isinstance(node, ast.AnnAssign):
        yield node.target, node.value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield target, node.value


def literal(node: ast.expr | None) -> Any:
    """A constant's value; None for no node; a hole for anything else."""
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return HOLE
