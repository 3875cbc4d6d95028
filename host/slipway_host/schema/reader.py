"""The operations in a revision's source, Alembic's and SQL. Nothing is run."""

from __future__ import annotations

import ast
import itertools
import re

from slipway_host.schema import sql
from slipway_host.schema.sql import HOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Known = Mapping[str, Sequence[ast.expr]]
    """Name → what is assigned to it."""

MOST = 5_000_000
"""Characters that are looked at, of all the texts that the expressions of a source may be; a source of a few lines may
have any number of them."""
DEEPEST = 8  # expressions in expressions
MOST_TEXTS = 32  # that are put together from parts which may be several
MOST_PARTS = 8  # texts of one of these parts


class TooLong(Exception):
    """To read the source would take too long."""


class Budget:
    """How many characters of a source may still be read."""

    def __init__(self, left: int = MOST) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        """Use that many characters. Raises TooLong if fewer are left."""
        self.left -= amount
        if self.left < 0:
            raise TooLong

    def spent(self, texts: Iterable[str]) -> list[str]:
        """The same texts; each uses its length."""
        kept = []
        for text in texts:
            self.spend(len(text) + 1)
            kept.append(text)
        return kept


class Reader(ast.NodeVisitor):
    """Collects the steps of a revision's source. Names are replaced by the values assigned to them."""

    def __init__(self, budget: Budget | None = None, known: Known | None = None) -> None:
        """`budget`: for the whole source; `known`: assignments outside of the part that is read."""
        self.budget = budget or Budget()
        self.known: Known = known or {}
        self.found: list[str] = []
        self.values: dict[str, list[ast.expr]] = {}
        self.batches: dict[str, list[str]] = {}
        """Name of a batch → its tables."""

    def read(self, nodes: Iterable[ast.AST]) -> None:
        """Collect the steps of these nodes."""
        for node in nodes:
            self.visit(node)

    def learn(self, nodes: Iterable[ast.AST]) -> None:
        """Collect assignments, before anything is read."""
        for node in nodes:
            for inner in ast.walk(node):
                pairs: list[tuple[ast.expr, Sequence[ast.expr]]]
                if isinstance(inner, ast.Assign):
                    pairs = [(target, [inner.value]) for target in inner.targets]
                elif isinstance(inner, (ast.AnnAssign, ast.NamedExpr)) and inner.value is not None:
                    pairs = [(inner.target, [inner.value])]
                elif isinstance(inner, (ast.For, ast.comprehension)):
                    pairs = [(inner.target, self._elements(inner.iter))]
                else:
                    continue
                for target, values in pairs:
                    if isinstance(target, ast.Name):
                        self.budget.spend(len(values))
                        self.values.setdefault(target.id, []).extend(values)

    def assigned(self, name: str) -> list[ast.expr]:
        """All values assigned to a name."""
        values = [*self.known.get(name, ()), *self.values.get(name, ())]
        self.budget.spend(len(values))
        return values

    def _elements(self, node: ast.expr) -> Sequence[ast.expr]:
        if isinstance(node, ast.Name):
            nodes = self.assigned(node.id)
            return self._elements(nodes[0]) if len(nodes) == 1 and not isinstance(nodes[0], ast.Name) else [node]
        return node.elts if isinstance(node, (ast.List, ast.Tuple, ast.Set)) else [node]

    # ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def texts(self, node: ast.expr | None, depth: int = 0) -> list[str]:
        """The strings that an expression can be, at least one, with holes for parts that aren't constant."""
        return self.budget.spent(self._texts(node, depth))

    def _texts(self, node: ast.expr | None, depth: int) -> list[str]:
        if depth > DEEPEST:
            return [HOLE]
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else [HOLE]
        if isinstance(node, ast.Name):
            return [text for value in self.assigned(node.id) for text in self.texts(value, depth + 1)] or [HOLE]
        if isinstance(node, ast.JoinedStr):
            return self._joined(node.values, "", depth)
        if isinstance(node, ast.FormattedValue):
            return self.texts(node.value, depth + 1)
        if isinstance(node, ast.IfExp):
            return self.texts(node.body, depth + 1) + self.texts(node.orelse, depth + 1)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._joined([node.left, node.right], "", depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return [re.sub(r"%(\(\w+\))?[sdr]", HOLE, text) for text in self.texts(node.left, depth + 1)]
        return self._called_texts(node, depth) if isinstance(node, ast.Call) else [HOLE]

    def _called_texts(self, node: ast.Call, depth: int) -> list[str]:
        name = called(node)
        if name in {"text", "DDL", "dedent", "cleandoc", "f", "quoted_name"} and node.args:
            return self.texts(node.args[0], depth + 1)
        if isinstance(node.func, ast.Attribute):
            texts = self.texts(node.func.value, depth + 1)
            if name == "format":
                return [re.sub(r"\{[^{}]*\}", HOLE, text) for text in texts]
            if name == "join" and node.args and isinstance(node.args[0], (ast.List, ast.Tuple)):
                return self._joined(node.args[0].elts, texts[0], depth)
            if name in {"strip", "lstrip", "rstrip", "bindparams", "execution_options", "columns"}:
                return texts
        return [HOLE]

    def _joined(self, nodes: Iterable[ast.expr], separator: str, depth: int) -> list[str]:
        results = [""]
        for number, node in enumerate(nodes):
            texts = self.texts(node, depth + 1)[:MOST_PARTS]
            between = separator if number else ""
            made = (before + between + text for before in results for text in texts)
            results = self.budget.spent(itertools.islice(made, MOST_TEXTS))
        return results

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, *steps: str) -> None:
        """Add steps."""
        self.found += self.budget.spent(steps)

    def visit_With(self, node: ast.With) -> None:
        """Read batch mode: `with op.batch_alter_table(table) as batch_op`."""
        self.budget.spend(len(self.batches))
        before = dict(self.batches)
        for item in node.items:
            call = item.context_expr
            if (
                isinstance(call, ast.Call)
                and called(call) == "batch_alter_table"
                and isinstance(item.optional_vars, ast.Name)
            ):
                self.batches[item.optional_vars.id] = self._tables(call, argument(call, 0, "table_name"))
        self.generic_visit(node)
        self.batches = before

    def _tables(self, call: ast.Call, node: ast.expr | None) -> list[str]:
        schema = argument(call, None, "schema")
        if schema is None or (isinstance(schema, ast.Constant) and schema.value is None):
            return self.texts(node)
        names = self.texts(node)
        return self.budget.spent(
            f"{one}.{name}" if HOLE not in one else name for one in self.texts(schema) for name in names
        )

    def visit_Call(self, call: ast.Call) -> None:
        """Read a call: it may be an operation."""
        name = called(call)
        if name == "drop_table":
            for table in self._tables(call, argument(call, 0, "table_name")):
                self.note(f"drops {sql.table_words(table)}")
        elif name == "rename_table":
            for old in self._tables(call, argument(call, 0, "old_table_name")):
                new = self.texts(argument(call, 1, "new_table_name"))[0]
                self.note(f"renames {sql.table_words(old)}{sql.to_words(new)}")
        elif name in {"drop_column", "alter_column", "add_column"}:
            self._of_column(call, name)
        elif name in {"execute", "exec_driver_sql", "executescript", "scalar", "scalars"}:
            for text in self.texts(argument(call, 0, "sqltext") or argument(call, None, "statement")):
                self.note(*sql.sql_contract(text))
        self.generic_visit(call)

    def _of_column(self, call: ast.Call, name: str) -> None:
        """Read `op.drop_column(table, column)` or, in batch mode, `batch_op.drop_column(column)`."""
        keyword = "column" if name == "add_column" else "column_name"
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        own_table = len(call.args) + sum(word.arg in {"table_name", keyword} for word in call.keywords) > 1
        if isinstance(receiver, ast.Name) and receiver.id in self.batches:
            tables, place = self.batches[receiver.id], 0
        elif own_table:
            tables, place = self._tables(call, argument(call, 0, "table_name")), 1
        else:
            tables, place = [HOLE], 0
        node = argument(call, place, keyword)
        for table in tables:
            if name == "add_column":
                for column in self._required(node):
                    self.note(f"adds {sql.column_words(table, column)} NOT NULL without a default")
                continue
            for column in self.texts(node):
                if name == "drop_column":
                    self.note(f"drops {sql.column_words(table, column)}")
                else:
                    self._altered(call, table, column)

    def _altered(self, call: ast.Call, table: str, column: str) -> None:
        self.budget.spend(len(call.keywords))
        given = {word.arg: word.value for word in call.keywords}
        given = {key: node for key, node in given.items() if not is_constant(node, None)}
        if "new_column_name" in given:
            new = self.texts(given["new_column_name"])[0]
            self.note(f"renames {sql.column_words(table, column)}{sql.to_words(new)}")
        if "type_" in given:
            self.note(f"changes the type of {sql.column_words(table, column, '')}")
        if is_constant(given.get("nullable"), False):
            self.note(f"makes {sql.column_words(table, column, '')} NOT NULL")

    def _required(self, node: ast.expr | None) -> list[str]:
        """The names of a column, if old code must give it a value; none otherwise."""
        nodes = self.assigned(node.id) if isinstance(node, ast.Name) else [node]
        names = []
        for column in nodes:
            if not isinstance(column, ast.Call) or called(column) != "Column":
                continue
            self.budget.spend(len(column.keywords) + len(column.args))
            given = {word.arg: word.value for word in column.keywords}
            filled = (
                not is_constant(given.get("server_default"), None, absent=True)
                or is_constant(given.get("autoincrement"), True)
                or any(called(inner) in {"Identity", "Computed"} for inner in column.args)
            )
            if is_constant(given.get("nullable"), False) and not filled:
                first = given.get("name") or (column.args[0] if column.args else None)
                names += self.texts(first)
        return names


def called(node: ast.expr) -> str | None:
    """The last name of a call's function, or None."""
    func = node.func if isinstance(node, ast.Call) else None
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else None


def argument(call: ast.Call, place: int | None, keyword: str) -> ast.expr | None:
    """A call's argument with this keyword or at this position (None: by keyword only), or None."""
    for word in call.keywords:
        if word.arg == keyword:
            return word.value
    return call.args[place] if place is not None and place < len(call.args) else None


def is_constant(node: ast.expr | None, value: object, absent: bool = False) -> bool:
    """Whether a node is this constant; `absent` is the answer for no node."""
    return absent if node is None else isinstance(node, ast.Constant) and node.value is value
