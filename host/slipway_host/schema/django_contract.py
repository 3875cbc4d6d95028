"""What migrations of Django do to the release that still serves, read from their source. Nothing is run.

A release that serves knows the models as they were: it names their columns when it reads, and gives a value to each of
them when it inserts. Django's own `default` is no default of the database, so a column that the old release doesn't
know must be one that may be NULL, or have a `db_default` (Django 5.0).
"""

from __future__ import annotations

import ast

from slipway_host.schema import sql
from slipway_host.schema.contract import functions_of
from slipway_host.schema.django_source import argument, calls, doc_of, reversible, text
from slipway_host.schema.reader import Budget, Reader, TooLong, called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slipway_host.protocol import Revision
    from slipway_host.schema.django_source import Source

    Model = tuple[str, str]
    """App, and name in lower case."""

UNREAD = "can't be checked: its operations are no list"
WITHOUT_COLUMN = {"GenericForeignKey", "GenericRelation", "TaggableManager"}
RELATIONS = {"ForeignKey", "OneToOneField", "ParentalKey"}
LENGTHS = {
    "CharField": None,
    "EmailField": 254,
    "FileField": 100,
    "FilePathField": 100,
    "ImageField": 100,
    "SlugField": 50,
    "URLField": 200,
}
"""Fields whose columns have the type varchar → their length where none is given; None: without a limit."""
KEPT = {
    *("AddConstraint", "AddConstraintNotValid", "AddIndex", "AddIndexConcurrently", "AlterConstraint"),
    *("AlterIndexTogether", "AlterModelManagers", "AlterModelTableComment", "AlterUniqueTogether", "BloomExtension"),
    *("BtreeGinExtension", "BtreeGistExtension", "CITextExtension", "CreateCollation", "CreateExtension"),
    *("CryptoExtension", "HStoreExtension", "RemoveConstraint", "RemoveIndex", "RemoveIndexConcurrently"),
    *("RenameIndex", "TrigramExtension", "UnaccentExtension", "ValidateConstraint"),
}
"""Operations of Django that change no column."""
EDITS = {"add_field", "alter_db_table", "alter_field", "delete_model", "remove_field"}
"""Methods of Django's schema editor that change columns."""


class State:
    """Models, as migrations have made them so far."""

    def __init__(self) -> None:
        self.fields: dict[tuple[str, str, str], ast.expr] = {}
        """App, model and field → how it is made."""
        self.tables: dict[Model, str] = {}
        """Model → its table, where that has a name of its own."""
        self.new: set[Model] = set()
        """Models whose tables nobody uses yet."""
        self.apart: set[Model] = set()
        """Models whose tables aren't Django's to change: proxies, and those that it doesn't manage."""
        self.ordered: set[Model] = set()
        """Models with an order with respect to another, which is a column."""
        self.pending = False
        self.tree = ast.Module([], [])

    def described(self, source: Source, pending: bool) -> Revision:
        """A migration as part of the answer. It counts as applied from then on.

        + pending: whether the database lacks it, so that nobody uses a table that it makes
        """
        steps: list[str] = []
        self.pending, self.tree = pending, source.tree
        if source.operations is None:
            steps.append(UNREAD)
        for each in source.operations or []:
            steps += self.step(source.key[0], each)
        steps = list(dict.fromkeys(steps))
        return {"revision": source.name, "doc": doc_of(source), "contract": steps, "downgrade": reversible(source)}

    def step(self, app: str, call: ast.Call) -> list[str]:
        """What an operation can break, in words."""
        name, model = called(call) or "", text(call, 0, "model_name", "name", "old_name")
        if name == "RunSQL":
            return sql_steps(argument(call, 0, "sql"))
        if name == "RunPython":
            return code_steps(self.tree, argument(call, 0, "code"))
        if name == "SeparateDatabaseAndState":
            return self.separate(app, call)
        if name.endswith("Field"):
            steps = self.of_field(app, name, model.lower(), call)
        elif name in ("CreateModel", "DeleteModel", "RenameModel", "AlterModelTable", "AlterModelOptions"):
            steps = self.of_model(app, name, model.lower(), call)
        elif name == "AlterOrderWithRespectTo":
            steps = self.order((app, model.lower()), argument(call, 1, "order_with_respect_to"))
        else:
            return [] if name in KEPT else [f"can't be checked: {name or 'one of them'} is no operation of Django's"]
        return steps

    def untouched(self, model: Model) -> bool:
        """Whether the release that serves doesn't use the table, or nothing is done to it."""
        return model in self.new or model in self.apart

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────

    def of_model(self, app: str, name: str, model: str, call: ast.Call) -> list[str]:
        """What an operation of a model can break."""
        key = (app, model)
        if name == "CreateModel":
            self.create(key, call)
            return []
        if name == "AlterModelOptions":
            managed = options_of(call, 1).get("managed")
            if managed is not None:
                (self.apart.discard if managed else self.apart.add)(key)
            return []
        if name == "DeleteModel":
            return [] if self.untouched(key) else [f"drops {sql.table_words(model)}"]
        if name == "RenameModel":
            new = text(call, 1, "new_name").lower()
            steps = [f"renames {sql.table_words(model)}{sql.to_words(new)}"]
            steps = [] if self.untouched(key) or key in self.tables else steps
            self.rename_model(key, (app, new))
            return steps
        table, before = text(call, 1, "table"), self.tables.get(key, f"{app}_{model}")
        table = f"{app}_{model}" if table == "?" else table
        self.tables[key] = table
        if self.untouched(key) or table == before:
            return []
        return [f"renames {sql.table_words(model)}{sql.to_words(table)}"]

    def create(self, key: Model, call: ast.Call) -> None:
        """Note a model, its fields and its options."""
        options, fields = options_of(call, 2), argument(call, 1, "fields")
        if options.get("proxy") or options.get("managed") is False:
            self.apart.add(key)
        if self.pending:
            self.new.add(key)
        if isinstance(options.get("db_table"), str):
            self.tables[key] = options["db_table"]
        if options.get("order_with_respect_to"):
            self.ordered.add(key)
        for each in fields.elts if isinstance(fields, (ast.List, ast.Tuple)) else []:
            if isinstance(each, ast.Tuple) and len(each.elts) == 2 and isinstance(each.elts[0], ast.Constant):
                self.fields[(*key, str(each.elts[0].value).lower())] = each.elts[1]

    def rename_model(self, old: Model, new: Model) -> None:
        """Note that a model has another name."""
        self.fields = {(*new, each[2]) if each[:2] == old else each: made for each, made in self.fields.items()}
        self.tables = {new if each == old else each: table for each, table in self.tables.items()}
        for known in (self.new, self.apart, self.ordered):
            if old in known:
                known.remove(old)
                known.add(new)

    def order(self, key: Model, given: ast.expr | None) -> list[str]:
        """Of an order with respect to another model, which Django keeps in a column."""
        before, after = key in self.ordered, not (isinstance(given, ast.Constant) and given.value is None)
        (self.ordered.add if after else self.ordered.discard)(key)
        if before == after or self.untouched(key):
            return []
        column = sql.column_words(key[1], "_order")
        return [f"adds {column} NOT NULL without a db_default" if after else f"drops {column}"]

    # ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────

    def of_field(self, app: str, name: str, model: str, call: ast.Call) -> list[str]:
        """What an operation of a field can break."""
        field = text(call, 1, "name", "old_name").lower()
        key, column = (app, model, field), sql.column_words(model, field)
        before, made = self.fields.get(key), argument(call, 2, "field")
        steps: list[str]
        if name == "RemoveField":
            self.fields.pop(key, None)
            steps = dropped(column, before)
        elif name == "RenameField":
            new = text(call, 2, "new_name")
            if before is not None:
                self.fields[app, model, new.lower()] = self.fields.pop(key)
            own = isinstance(before, ast.Call) and (value(before, "db_column") or has_no_column(before))
            steps = [] if own else [f"renames {column}{sql.to_words(new)}"]
        else:
            if made is not None:
                self.fields[key] = made
            steps = added(column, made) if name == "AddField" else altered(field, column, before, made)
        return [] if self.untouched((app, model)) else steps

    def separate(self, app: str, call: ast.Call) -> list[str]:
        """Of SeparateDatabaseAndState: only what is done to the database counts."""
        inner = argument(call, 0, "database_operations")
        state = argument(call, 1, "state_operations")
        known, pending = dict(self.fields), self.pending
        steps = [found for each in (calls(inner) if inner else None) or [] for found in self.step(app, each)]
        if inner and calls(inner) is None:
            steps.append(UNREAD)
        self.fields, self.pending = known, False  # what the state alone gets may be there already, and in use
        for each in (calls(state) if state else None) or []:
            self.step(app, each)
        self.pending = pending
        return steps


def added(column: str, made: ast.expr | None) -> list[str]:
    """Of a new field."""
    if not isinstance(made, ast.Call) or has_no_column(made) or nullable(made):
        return []
    given = {each.arg for each in made.keywords}
    filled = given & {"db_default", "expression"} or (called(made) or "").endswith("AutoField")
    return [] if filled else [f"adds {column} NOT NULL without a db_default"]


def dropped(column: str, before: ast.expr | None) -> list[str]:
    """Of a field that is removed."""
    if not isinstance(before, ast.Call) or not has_no_column(before):
        return [f"drops {column}"]
    if not (called(before) or "").endswith("ManyToManyField") or any(each.arg == "through" for each in before.keywords):
        return []
    return [f"drops the table of {column.removeprefix('the column ')}"]


def altered(field: str, column: str, before: ast.expr | None, after: ast.expr | None) -> list[str]:
    """Of a field that changes."""
    column = column.removeprefix("the column ")
    if not isinstance(before, ast.Call) or not isinstance(after, ast.Call):
        return [f"changes {column}"]
    if has_no_column(before) and has_no_column(after):
        return []
    found = []
    if kind(before) != kind(after) or narrower(before, after):
        found.append(f"changes the type of {column}")
    if kind(after) == "relation" and refers_to(before) != refers_to(after):
        found.append(f"changes what {column} refers to")
    if nullable(before) and not nullable(after):
        found.append(f"makes {column} NOT NULL")
    filled = [any(each.arg == "db_default" for each in made.keywords) for made in (before, after)]
    if filled == [True, False] and not nullable(after):
        found.append(f"removes the db_default of {column}")
    names = [
        value(made, "db_column") or f"{field}{'_id' if kind(made) == 'relation' else ''}" for made in (before, after)
    ]
    if names[0] != names[1]:
        found.append(f"renames the column {column}")
    return found


def column_of(field: str, made: ast.Call) -> str:
    """Name of a field's column."""
    return str(value(made, "db_column") or (f"{field}_id" if kind(made) == "relation" else field))


def has_no_column(made: ast.Call) -> bool:
    """Whether a field has no column in the table of its model."""
    name = called(made) or ""
    return name.endswith("ManyToManyField") or name in WITHOUT_COLUMN


def nullable(made: ast.Call) -> bool:
    """Whether a field may be NULL."""
    return value(made, "null") is True or called(made) == "NullBooleanField"


def kind(made: ast.Call) -> str | None:
    """What decides the type of a field's column."""
    name = called(made)
    if name in LENGTHS:
        return "varchar"
    return "relation" if name in RELATIONS else "BooleanField" if name == "NullBooleanField" else name


def refers_to(made: ast.Call) -> str:
    """The model that a relation refers to."""
    to = argument(made, 0, "to")
    return ast.unparse(to).lower() if to is not None else ""


def narrower(before: ast.Call, after: ast.Call) -> bool:
    """Whether values that fit before may not fit after."""
    if kind(after) == "varchar":
        old, new = ((value(each, "max_length") or LENGTHS.get(called(each) or "")) for each in (before, after))
        return less(new, old)
    if called(after) != "DecimalField":
        return False
    (old_digits, old_places), (new_digits, new_places) = (
        (value(each, "max_digits"), value(each, "decimal_places")) for each in (before, after)
    )
    numbers = (old_digits, old_places, new_digits, new_places)
    if not all(isinstance(each, int) for each in numbers):
        return numbers[:2] != numbers[2:]
    return bool(new_places < old_places or new_digits - new_places < old_digits - old_places)


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


def options_of(call: ast.Call, place: int) -> dict[str, Any]:
    """A model's options that are constants; any other has the value True."""
    given = argument(call, place, "options")
    pairs = zip(given.keys, given.values, strict=True) if isinstance(given, ast.Dict) else ()
    return {
        str(key.value): each.value if isinstance(each, ast.Constant) else True
        for key, each in pairs
        if isinstance(key, ast.Constant)
    }


# ── SQL and code ─────────────────────────────────────────────────────────────────────────────────────────────────────


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


def code_steps(tree: ast.Module, code: ast.expr | None) -> list[str]:
    """What the code of RunPython can break: by its SQL, and by Django's schema editor.

    + tree: the module
    """
    if isinstance(code, ast.Attribute) and code.attr == "noop":
        return []
    functions = functions_of(tree)
    nodes: list[ast.AST] = [code] if isinstance(code, ast.Lambda) else []
    waiting = [code.id] if isinstance(code, ast.Name) else []
    known: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in known:
            known.add(name)
            nodes.append(functions[name])
            waiting += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    if not nodes:
        return ["can't be checked: its code isn't in the migration"]
    reader = Reader(Budget())
    try:
        reader.learn([tree])
        reader.read(nodes)
    except (TooLong, RecursionError):
        return ["can't be checked: its code is too long"]
    used = {called(each) for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call)}
    edits = [f"can't be checked: its code changes the schema ({each})" for each in sorted(EDITS & used)]
    return [*reader.found, *edits]
