"""What SQL does to the release that still serves, judged by its words. Nothing is run.

A plan reads SQL that isn't trusted. So the time to read it grows only with its length: no expression here reads the
same text again from many places.
"""

from __future__ import annotations

import bisect
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HOLE = "\0"
"""Placeholder for a value that is known only when the revision runs."""
LONGEST = 200_000
"""Most characters of a statement to read, without comments and literals."""
TOO_LONG = "can't be checked: a statement of its SQL is too long"
DEEPEST = 4
"""Most nested DO blocks to read."""

LONGEST_NAME = 1000  # characters between quotes: no database's names are that long
PART = rf'(?:"[^"]{{1,{LONGEST_NAME}}}"|`[^`]{{1,{LONGEST_NAME}}}`|\[[^\]]{{1,{LONGEST_NAME}}}\]|[\w$\0]+)'
NAME = rf"{PART}(?:\s*\.\s*{PART})*"
NAMES = rf"{NAME}(?:\s*,\s*{NAME})*"
OPENS = re.compile(r"--[^\n]*|/\*|\$\w*\$|['\"`;]")
TAG = re.compile(r"(?=(\$\w*\$))")
NO_COLUMN = r"(?!(?:CONSTRAINT|INDEX|KEY|PRIMARY|UNIQUE|FOREIGN|CHECK|EXCLUDE|FULLTEXT|SPATIAL|PARTITION|TO|AS)\b)"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


OTHER = _compiled(r"\s*(?:CREATE|GRANT|REVOKE|COMMENT)\b")
DO = _compiled(r"\s*DO\b")
CHANGES = _compiled(r"\b(?:DROP|ALTER|RENAME|TRUNCATE|SET\s+NOT)\b")
DROP = _compiled(
    rf"\bDROP\s+(?:MATERIALIZED\s+|FOREIGN\s+)?(TABLE|VIEW|TYPE|SCHEMA)\s+(?:IF\s+EXISTS\s+)?({NAMES})",
)
TRUNCATE = _compiled(rf"\bTRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?({NAMES})")
RENAME_TABLES = _compiled(r"\s*RENAME\s+TABLE\s+(.*)")
RENAMED = _compiled(rf"\s*(?:IF\s+EXISTS\s+)?({NAME})\s+TO\s+({NAME})")
TO = _compiled(r"\bTO\b")
ALTER_OTHER = _compiled(
    rf"\bALTER\s+(VIEW|TYPE)\s+(?:IF\s+EXISTS\s+)?({NAME})\s+RENAME\s+(TO|VALUE|ATTRIBUTE)\s*({NAME})?",
)
ALTER_TABLE = _compiled(rf"\bALTER\s+(?:FOREIGN\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({NAME})\s+(.*)")
DROP_COLUMN = _compiled(rf"DROP\s+(?:COLUMN\s+)?(?:IF\s+EXISTS\s+)?{NO_COLUMN}({NAME})")
RENAME_TABLE = _compiled(rf"RENAME\s+(?:TO|AS)\s+({NAME})")
RENAME_COLUMN = _compiled(rf"RENAME\s+(?:COLUMN\s+)?{NO_COLUMN}({NAME})\s+TO\s+({NAME})")
CHANGE_COLUMN = _compiled(rf"CHANGE\s+(?:COLUMN\s+)?({NAME})\s+({NAME})")
NEW_TYPE = _compiled(
    rf"(?:ALTER\s+(?:COLUMN\s+)?({NAME})\s+(?:SET\s+DATA\s+)?TYPE\b|MODIFY\s+(?:COLUMN\s+)?({NAME}))",
)
NOT_NULL = _compiled(rf"ALTER\s+(?:COLUMN\s+)?({NAME})\s+SET\s+NOT\s+NULL")
ADD_COLUMN = _compiled(rf"ADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{NO_COLUMN}({NAME})\s+(.*)")
IS_REQUIRED = _compiled(r"\bNOT\s+NULL\b")
IS_FILLED = _compiled(r"\b(?:DEFAULT|GENERATED|IDENTITY|\w*SERIAL\d?|AUTO_INCREMENT)\b")
# Of a statement that is built from pieces which aren't known: the words alone.
WORDS = tuple(
    (_compiled(rf"\b{words}\b"), said)
    for words, said in (
        (r"DROP\s+COLUMN", "drops a column"),
        (r"DROP\s+TABLE", "drops a table"),
        (r"RENAME\s+COLUMN", "renames a column"),
        (r"SET\s+NOT\s+NULL", "makes a column NOT NULL"),
    )
)


def table_words(table: str) -> str:
    """A table in words."""
    return "a table" if HOLE in table else f"the table {table}"


def column_words(table: str, column: str, article: str = "the column ") -> str:
    """A column in words; `article` comes before a name that is known."""
    if HOLE in column:
        return "a column" if HOLE in table else f"a column of {table}"
    return f"the column {column} of a table" if HOLE in table else f"{article}{table}.{column}"


def to_words(name: str) -> str:
    """The new name, as the end of a step."""
    return "" if HOLE in name else f" to {name}"


def sql_contract(text: str) -> list[str]:
    """The steps in SQL that can break the release that still serves, in words."""
    found = []
    for statement in clean_sql(text).split(";"):
        # TRUNCATE is also a privilege, and an event of triggers.
        if OTHER.match(statement) or not CHANGES.search(statement):
            continue
        if len(statement) > LONGEST:
            found.append(TOO_LONG)
            continue
        found += statement_contract(statement) or [said for words, said in WORDS if words.search(statement)]
    return found


def clean_sql(text: str, depth: int = 0) -> str:
    """SQL without comments and literals. The body of a DO block counts as statements; that of a function doesn't.

    An opening mark that is never closed begins no comment and no literal. `depth`: number of DO blocks around it.
    """
    find, close = _finder(text), _closer(text)
    pieces: list[str] = []
    is_do: bool | None = None  # whether the statement is a DO block; None before its first word
    done = position = 0  # where what isn't in `pieces` begins, and where to look on

    def take(end: int) -> None:
        """Copy the text up to this place."""
        nonlocal is_do
        piece = text[done:end]
        if is_do is None and piece.strip():
            is_do = DO.match(piece) is not None
        pieces.append(piece)

    while match := OPENS.search(text, position):
        start, inside, opening = match.start(), match.end(), match[0]
        closed, closing, instead, ends = inside, "", " ", False
        if opening == ";":
            instead, ends = ";", True
        elif opening == "/*":
            closed, closing = find("*/", inside), "*/"
        elif opening == "'":
            closed, closing, instead = _end_of_literal(text, find, inside), "'", "''"
        elif opening in {'"', "`"}:
            closed, closing = find(opening, inside), opening
            instead = text[start : closed + 1]
        elif opening[0] == "$":
            closed, closing, instead = close(opening, inside), opening, "''"
        if closed < 0:
            position = start + 1
            continue
        take(start)
        if opening[0] == "$" and is_do:
            body = text[inside:closed]
            instead = f";{clean_sql(body, depth + 1) if depth < DEEPEST else body};"
        if ends:
            is_do = None
        elif is_do is None and instead.strip():
            is_do = False
        pieces.append(instead)
        done = position = closed + len(closing)
    take(len(text))
    return "".join(pieces)


def _finder(text: str) -> Callable[[str, int], int]:
    """`text.find` for growing positions: it reads no part of the text twice."""
    known: dict[str, int] = {}

    def find(what: str, start: int) -> int:
        if what not in known or 0 <= known[what] < start:
            known[what] = text.find(what, start)
        return known[what]

    return find


def _closer(text: str) -> Callable[[str, int], int]:
    """Where a $tag$ is met again, or -1."""
    places: dict[str, list[int]] = {}

    def close(tag: str, start: int) -> int:
        if not places:
            for each in TAG.finditer(text):
                places.setdefault(each[1], []).append(each.start())
        there = places[tag]
        at = bisect.bisect_left(there, start)
        return there[at] if at < len(there) else -1

    return close


def _end_of_literal(text: str, find: Callable[[str, int], int], start: int) -> int:
    """Position of the quote that ends a literal which begins before `start`, or -1. A doubled quote doesn't end it."""
    while (found := find("'", start)) >= 0 and text[found + 1 : found + 2] == "'":
        start = found + 2
    return found


def identifier(text: str) -> str:
    """A name for a message: without quotes, and shortened if it is longer than any database allows."""
    name = ".".join(part.strip().strip('"`[]') for part in text[: LONGEST_NAME + 1].split("."))
    return name if len(text) <= LONGEST_NAME else f"{name}…"


def statement_contract(statement: str) -> list[str]:
    """The steps of one statement, without comments and literals."""
    found = []
    for kind, names in DROP.findall(statement):
        found += [
            f"drops a {kind.lower()}" if HOLE in name else f"drops the {kind.lower()} {name}"
            for name in map(identifier, names.split(","))
        ]
    for names in TRUNCATE.findall(statement):
        found += [f"empties {table_words(identifier(name))}" for name in names.split(",")]
    if renames := RENAME_TABLES.match(statement):
        for pair in renames[1].split(","):
            if match := RENAMED.match(pair):
                found.append(f"renames {table_words(identifier(match[1]))}{to_words(identifier(match[2]))}")
            elif TO.search(pair):
                found.append("renames a table")
    for kind, name, what, new in ALTER_OTHER.findall(statement):
        known = f"the {kind.lower()} {identifier(name)}" if HOLE not in name else f"a {kind.lower()}"
        found.append(f"renames {known}{to_words(identifier(new))}" if what.upper() == "TO" else f"changes {known}")
    if alter := ALTER_TABLE.search(statement):
        for action in without_parentheses(alter[2]).split(","):
            found += action_contract(identifier(alter[1]), action.strip())
    return found


def without_parentheses(text: str) -> str:
    """A text with each pair of parentheses and its content replaced by a space."""
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for match in re.finditer(r"[()]", text):
        if match[0] == "(":
            opened.append(match.start())
        elif opened:
            start = opened.pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, match.end()))
    pieces, done = [], 0
    for start, end in pairs:
        pieces += [text[done:start], " "]
        done = end
    return "".join([*pieces, text[done:]])


def action_contract(table: str, action: str) -> list[str]:
    """The steps of one action of an ALTER TABLE."""
    if match := DROP_COLUMN.match(action):
        return [f"drops {column_words(table, identifier(match[1]))}"]
    if match := RENAME_TABLE.match(action):
        return [f"renames {table_words(table)}{to_words(identifier(match[1]))}"]
    if match := RENAME_COLUMN.match(action) or CHANGE_COLUMN.match(action):
        old, new = identifier(match[1]), identifier(match[2])
        if old != new or HOLE in old:
            return [f"renames {column_words(table, old)}{to_words(new)}"]
        return [f"changes the type of {column_words(table, old, '')}"]
    if match := NEW_TYPE.match(action):
        return [f"changes the type of {column_words(table, identifier(match[1] or match[2]), '')}"]
    if match := NOT_NULL.match(action):
        return [f"makes {column_words(table, identifier(match[1]), '')} NOT NULL"]
    if (match := ADD_COLUMN.match(action)) and IS_REQUIRED.search(match[2]) and not IS_FILLED.search(match[2]):
        return [f"adds {column_words(table, identifier(match[1]))} NOT NULL without a default"]
    return []
