"""Migrations of Django, read from their source: what they have, and what they come after. Nothing is run."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from slipway_host.schema.reader import called, is_constant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Key = tuple[str, str]
    """Label of an app, and name of a migration."""

SKIPPED = re.compile(r"\.|(node_modules|site-packages|tests?)$")
DEEPEST = 8  # folders below the app's
SHOWN_OPERATIONS = 3


class Source:
    """A migration, as its source tells it."""

    def __init__(self, key: Key, path: Path) -> None:
        """Raises SyntaxError if it isn't Python."""
        self.key = key
        self.doc = ""
        self.dependencies: list[Key] = []
        """Only those that are written out."""
        self.replaces: list[Key] = []
        self.operations: list[ast.Call] | None = None
        self.tree = tree = ast.parse(path.read_bytes())
        """The whole module."""
        made = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Migration"]
        self.is_migration = bool(made)
        for node in made[-1].body if made else []:
            for name, value in assigned(node):
                if name in ("dependencies", "replaces"):
                    setattr(self, name, pairs(value))
                elif name == "operations":
                    self.operations = calls(value)

    @property
    def name(self) -> str:
        """Label and name, as `Revision` has them."""
        return ".".join(self.key)


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of an assignment."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = getattr(node, "value", None)
    for target in targets:
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value


def pairs(node: ast.expr) -> list[Key]:
    """The pairs of texts in a list."""
    found = []
    for each in node.elts if isinstance(node, (ast.List, ast.Tuple)) else []:
        parts = each.elts if isinstance(each, (ast.Tuple, ast.List)) else []
        texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if len(texts) == 2:
            found.append((texts[0], texts[1]))
    return found


def calls(node: ast.expr) -> list[ast.Call] | None:
    """The calls of a list; None if it is no list of calls."""
    elements = node.elts if isinstance(node, (ast.List, ast.Tuple)) else None
    if elements is None or not all(isinstance(each, ast.Call) for each in elements):
        return None
    return [each for each in elements if isinstance(each, ast.Call)]


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def argument(call: ast.Call, place: int, *names: str) -> ast.expr | None:
    """An argument, by one of its names or by its place."""
    found = next((each.value for name in names for each in call.keywords if each.arg == name), None)
    return found if found is not None else call.args[place] if len(call.args) > place else None


def text(call: ast.Call, place: int, *names: str) -> str:
    """The same if it is a text; else a question mark."""
    found = argument(call, place, *names)
    return found.value if isinstance(found, ast.Constant) and isinstance(found.value, str) else "?"


def reversible(source: Source) -> bool:
    """Whether each operation can be undone."""
    return source.operations is not None and all(map(can_be_undone, source.operations))


def can_be_undone(call: ast.Call) -> bool:
    """Whether an operation can be undone."""
    if called(call) in ("RunSQL", "RunPython"):
        back = argument(call, 1, "reverse_sql", "reverse_code")
        return back is not None and not is_constant(back, None)
    if called(call) == "SeparateDatabaseAndState":
        inner = argument(call, 0, "database_operations")
        return all(map(can_be_undone, (calls(inner) if inner else None) or []))
    return True


def doc_of(source: Source) -> str:
    """What a migration does, in a few words."""
    names = [told(each) for each in source.operations or []]
    more = f" and {len(names) - SHOWN_OPERATIONS} more" if len(names) > SHOWN_OPERATIONS else ""
    return ", ".join(names[:SHOWN_OPERATIONS]) + more


def told(call: ast.Call) -> str:
    """An operation in words, such as ``add field colour``."""
    name = called(call) or "operation"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    named = (
        text(call, 1, "name", "old_name") if name.endswith("Field") else text(call, 0, "name", "old_name", "model_name")
    )
    return f"{words} {named}" if named != "?" and not name.startswith("Run") else words


# ── a folder of sources ──────────────────────────────────────────────────────────────────────────────────────────────


def sources_below(top: Path) -> dict[Key, Source]:
    """The migrations in a folder and below it."""
    found: dict[Key, Source] = {}
    for path, folders, files in os.walk(top):
        here = Path(path)
        folders[:] = sorted(each for each in folders if not SKIPPED.match(each))
        if len(here.relative_to(top).parts) > DEEPEST:
            folders.clear()
        if here.name == "migrations" and "__init__.py" in files:
            label = label_of(here.parent)
            for name in sorted(files):
                if name.endswith(".py") and name[0] not in "_~":
                    source = Source((label, name.removesuffix(".py")), here / name)
                    if source.is_migration:
                        found[source.key] = source
    return found


def label_of(folder: Path) -> str:
    """Label of the app in a folder: as its apps.py says, else its name."""
    path = folder / "apps.py"
    tree = ast.parse(path.read_bytes()) if path.is_file() else ast.Module([], [])
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) else []:
            for name, given in assigned(inner):
                if name == "label" and isinstance(given, ast.Constant) and isinstance(given.value, str):
                    return given.value
    return folder.name


def in_order(sources: Mapping[Key, Source]) -> list[Source]:
    """Migrations, each after those that it comes after; those that a squashed one replaces, and it replaces, once."""
    ordered: dict[Key, Source] = {}

    def add(key: Key, above: tuple[Key, ...]) -> None:
        if key in sources and key not in ordered and key not in above:
            for each in sorted(sources[key].dependencies):
                add(each, (*above, key))
            ordered[key] = sources[key]

    for key in sorted(sources):
        add(key, ())
    return list(ordered.values())


def applied(sources: Mapping[Key, Source], heads: Iterable[Key]) -> set[Key]:
    """The migrations that a database has which is at these heads."""
    found: set[Key] = set()
    waiting = list(heads)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += sources[key].dependencies if key in sources else []
            waiting += sources[key].replaces if key in sources else []
    while (
        squashed := {key for key, each in sources.items() if each.replaces and found.issuperset(each.replaces)} - found
    ):
        found |= squashed
    return found


def leaves(sources: Mapping[Key, Source]) -> list[Key]:
    """The last migrations of each app, sorted."""
    replaced = {each: key for key, source in sources.items() for each in source.replaces}
    before = {
        each
        for key, source in sources.items()
        for each in source.dependencies
        if each[0] == key[0] and key not in replaced
    }
    before |= {replaced[each] for each in before if each in replaced}  # what comes after those comes after it
    return sorted(key for key in sources if key not in before and key not in replaced)


def conflicts(found: Iterable[Key]) -> list[str]:
    """Names of the last migrations of apps that have several."""
    keys = list(found)
    labels = [label for label, _ in keys]
    return sorted(".".join(key) for key in keys if labels.count(key[0]) > 1)
