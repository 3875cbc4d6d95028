"""Migrations of Django, read from their source: what they come after, and what they do to the release that still
serves. Nothing is run."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from slipway_host.schema import sql
from slipway_host.schema.reader import called, is_constant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from slipway_host.protocol import Revision

    Key = tuple[str, str]
    """Label of an app, and name of a migration."""

SKIPPED = re.compile(r"\.|(node_modules|site-packages|tests?)$")
DEEPEST = 8  # folders below the app's
NARROWED = ("max_length", "max_digits", "decimal_places")
WITHOUT_COLUMN = {"ManyToManyField", "GenericForeignKey", "GenericRelation"}
SHOWN_OPERATIONS = 3
UNREAD = "can't be checked: its operations are no list"


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
        tree = ast.parse(path.read_bytes())
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


# ── what they do ─────────────────────────────────────────────────────────────────────────────────────────────────────


class State:
    """Fields of models, as migrations have made them so far."""

    def __init__(self) -> None:
        self.fields: dict[tuple[str, str, str], ast.expr] = {}
        """App, model and field → how it is made."""
        self.new: set[tuple[str, str]] = set()
        """App and model of tables that nobody uses yet."""

    def described(self, source: Source, pending: bool) -> Revision:
        """A migration as part of the answer. It counts as applied from then on.

        + pending: whether the database lacks it, so that nobody uses a table that it makes
        """
        steps: list[str] = []
        self.pending = pending
        if source.operations is None:
            steps.append(UNREAD)
        for each in source.operations or []:
            steps += self.step(source.key[0], each)
        steps = list(dict.fromkeys(steps))
        return {"revision": source.name, "doc": doc_of(source), "contract": steps, "downgrade": reversible(source)}

    def step(self, app: str, call: ast.Call) -> list[str]:
        """What an operation can break, in words."""
        name, model = called(call) or "", text(call, 0, "model_name", "name", "old_name")
        field = text(call, 1, "name", "old_name")
        column = sql.column_words(model.lower(), field)
        if name == "CreateModel":
            self.create(app, model, argument(call, 1, "fields"))
        elif (app, model.lower()) in self.new:
            self.new |= {(app, text(call, 1, "new_name").lower())} if name == "RenameModel" else set()
        elif name == "DeleteModel":
            return [f"drops {sql.table_words(model.lower())}"]
        elif name == "RenameModel":
            return [f"renames {sql.table_words(model.lower())}{sql.to_words(text(call, 1, 'new_name').lower())}"]
        elif name == "AlterModelTable":
            return [f"renames {sql.table_words(model.lower())}{sql.to_words(text(call, 1, 'table'))}"]
        elif name == "RemoveField":
            return [f"drops {column}"]
        elif name == "RenameField":
            self.rename(app, model, field, text(call, 2, "new_name"))
            return [f"renames {column}{sql.to_words(text(call, 2, 'new_name'))}"]
        elif name in ("AddField", "AlterField"):
            made = argument(call, 2, "field")
            key = (app, model.lower(), field.lower())
            before = self.fields.get(key)
            if made is not None:
                self.fields[key] = made
            return self.added(column, made) if name == "AddField" else self.altered(column, before, made)
        elif name == "RunSQL":
            return sql_steps(argument(call, 0, "sql"))
        elif name == "SeparateDatabaseAndState":
            inner = argument(call, 0, "database_operations")
            state = argument(call, 1, "state_operations")
            known, pending = dict(self.fields), self.pending
            steps = [found for each in (calls(inner) if inner else None) or [] for found in self.step(app, each)]
            self.fields, self.pending = known, False  # what the state alone gets may be there already, and in use
            for each in (calls(state) if state else None) or []:
                self.step(app, each)
            self.pending = pending
            return steps
        return []

    def create(self, app: str, model: str, fields: ast.expr | None) -> None:
        """Note a model and its fields."""
        if self.pending:
            self.new.add((app, model.lower()))
        for each in fields.elts if isinstance(fields, (ast.List, ast.Tuple)) else []:
            if isinstance(each, ast.Tuple) and len(each.elts) == 2 and isinstance(each.elts[0], ast.Constant):
                self.fields[app, model.lower(), str(each.elts[0].value).lower()] = each.elts[1]

    def rename(self, app: str, model: str, old: str, new: str) -> None:
        """Note that a field has another name."""
        made = self.fields.pop((app, model.lower(), old.lower()), None)
        if made is not None:
            self.fields[app, model.lower(), new.lower()] = made

    def added(self, column: str, made: ast.expr | None) -> list[str]:
        """Of a new field: Django's own default is no default of the database, so old code can't insert."""
        if not isinstance(made, ast.Call) or called(made) in WITHOUT_COLUMN or nullable(made):
            return []
        given = {each.arg for each in made.keywords}
        return [] if given & {"db_default", "expression"} else [f"adds {column} NOT NULL without a db_default"]

    def altered(self, column: str, before: ast.expr | None, after: ast.expr | None) -> list[str]:
        """Of a field that changes."""
        column = column.removeprefix("the column ")
        if not isinstance(before, ast.Call) or not isinstance(after, ast.Call):
            return [f"changes {column}"]
        found = []
        narrower = any(less(value(after, each), value(before, each)) for each in NARROWED)
        if called(before) != called(after) or narrower:
            found.append(f"changes the type of {column}")
        if nullable(before) and not nullable(after):
            found.append(f"makes {column} NOT NULL")
        if value(before, "db_column") != value(after, "db_column"):
            found.append(f"renames the column {column}")
        return found


def nullable(made: ast.Call) -> bool:
    """Whether a field may be NULL."""
    return value(made, "null") is True


def value(made: ast.Call, name: str) -> Any:
    """The value of an argument, if it is a constant."""
    return next(
        (each.value.value for each in made.keywords if each.arg == name and isinstance(each.value, ast.Constant)), None
    )


def less(after: Any, before: Any) -> bool:
    """Whether a limit has become narrower."""
    if after == before or after is None:
        return False
    return before is None or (isinstance(after, int) and isinstance(before, int) and after < before)


def argument(call: ast.Call, place: int, *names: str) -> ast.expr | None:
    """An argument, by one of its names or by its place."""
    found = next((each.value for name in names for each in call.keywords if each.arg == name), None)
    return found if found is not None else call.args[place] if len(call.args) > place else None


def text(call: ast.Call, place: int, *names: str) -> str:
    """The same if it is a text; else a question mark."""
    found = argument(call, place, *names)
    return found.value if isinstance(found, ast.Constant) and isinstance(found.value, str) else "?"


def sql_steps(node: ast.expr | None) -> list[str]:
    """What the SQL of RunSQL can break."""
    nodes = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
    found = []
    for each in nodes:
        told = each.elts[0] if isinstance(each, (ast.List, ast.Tuple)) and each.elts else each
        if isinstance(told, ast.Constant) and isinstance(told.value, str):
            found += sql.sql_contract(told.value)
        elif not (isinstance(told, ast.Attribute) and told.attr == "noop"):
            found.append("can't be checked: its SQL is no constant")
    return found


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
