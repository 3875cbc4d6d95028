"""What a revision does to the release that still serves, read from its source. Nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path

from slipway_host.schema.reader import Budget, Reader, TooLong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from slipway_host.protocol import Revision

    Function = ast.FunctionDef | ast.AsyncFunctionDef

UNTOLD = "can't be checked: its source is too long"
UNREAD = "can't be checked: it has no source"


def functions_of(tree: ast.Module) -> dict[str, Function]:
    """Name → function, of a module."""
    return {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def only_downgrade(tree: ast.Module) -> set[str]:
    """Names of functions that only downgrade() uses (or `downgrade_engine1` of the multidb template)."""
    functions = functions_of(tree)

    def reached(starts: Iterable[str]) -> set[str]:
        known: set[str] = set()
        waiting = list(starts)
        while waiting:
            name = waiting.pop()
            if name in functions and name not in known:
                known.add(name)
                waiting += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
        return known

    down = reached(name for name in functions if name == "downgrade" or name.startswith("downgrade_"))
    outside = {
        inner.id
        for node in tree.body
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and inner.id != "downgrade"
    }
    return down - reached((set(functions) - down) | outside)


def contract(source: str | bytes) -> list[str]:
    """The steps of upgrade() that can break the release that still serves, in words.

    Raises SyntaxError if the source isn't Python.
    """
    tree = ast.parse(source)
    functions, unread = functions_of(tree), only_downgrade(tree)
    apart = set(functions.values())
    module = [node for node in tree.body if node not in apart]
    whole = Reader(Budget())
    found = whole.found
    try:
        whole.learn(module)
        whole.read(module)
        for name, function in functions.items():
            if name not in unread:
                reader = Reader(whole.budget, whole.values)
                reader.found = found
                reader.learn([function])
                reader.read([function])
    except (TooLong, RecursionError):
        found.append(UNTOLD)
    return list(dict.fromkeys(found))


def has_downgrade(source: str | bytes) -> bool:
    """Whether downgrade() undoes upgrade(), judged by the source. It may do nothing if upgrade() does nothing."""
    tree = ast.parse(source)
    functions = functions_of(tree)
    if "downgrade" not in functions:
        stored = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        return any(node.id == "downgrade" for node in stored)
    body = functions["downgrade"].body
    if not is_idle(body):
        return True
    raises = any(isinstance(node, ast.Raise) for node in body)
    return not raises and "upgrade" in functions and is_idle(functions["upgrade"].body)


def is_idle(body: Iterable[ast.stmt]) -> bool:
    """Whether a body has nothing but `pass`, a docstring, `...`, `return` and `raise`."""
    return all(
        isinstance(node, (ast.Pass, ast.Raise))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Return) and (node.value is None or isinstance(node.value, ast.Constant)))
        for node in body
    )


def first_line(script: Any) -> str:
    """First line of a revision's docstring (`script`: an Alembic Script)."""
    return (script.doc or "").strip().partition("\n")[0].strip()


def described(script: Any) -> Revision:
    """A revision as part of the answer (`script`: an Alembic Script)."""
    path = Path(script.path)
    if path.suffix != ".py":  # Alembic's `sourceless`
        steps, back = [UNREAD], hasattr(script.module, "downgrade")
    else:
        source = path.read_bytes()
        steps, back = contract(source), has_downgrade(source)
    return {"revision": script.revision, "doc": first_line(script), "contract": steps, "downgrade": back}
