"""What some SQL says, and that it takes no longer than its length explains whatever it is."""

from __future__ import annotations

import time

import pytest
from slipway_host.schema import sql

CLEANED = {
    "a -- b 'c\n, d": "a  \n, d",
    "a /* b ' ; */ c": "a   c",
    "a 'b;''c' d": "a '' d",
    "\"a'b\" `c'd` 'e'": "\"a'b\" `c'd` ''",
    "CREATE FUNCTION f() AS $$ a; $$": "CREATE FUNCTION f() AS ''",
    "CREATE FUNCTION f() AS $a$ b; $$ c $$ $a$ x": "CREATE FUNCTION f() AS '' x",
    "DO $$ a; 'b' $$": "DO ; a; '' ;",
    "x; DO $a$ b $a$; c $a$ d $a$": "x; DO ; b ;; c ''",
    "-- first\nDO $$ a $$": " \nDO ; a ;",
    "/* first */ do language plpgsql $$ a $$": "  do language plpgsql ; a ;",
    "DO $a$ EXECUTE $b$ c $b$ $a$": "DO ; EXECUTE '' ;",
    "DO $a$ DO $b$ c $b$ $a$": "DO ; DO ; c ; ;",
    "DOES $$ a $$": "DOES ''",
    # what never ends is neither comment nor literal
    "a /* b": "a /* b",
    "a ' b '' c": "a ' b '' c",
    'a " b': 'a " b',
    "a $b$ c $b": "a $b$ c $b",
    "a $b$c$ d $c$": "a $b''",
}


@pytest.mark.parametrize("text", CLEANED)
def test_comments_and_literals_are_left_out(text: str) -> None:
    assert sql.clean_sql(text) == CLEANED[text]


def test_blocks_in_blocks_are_read_to_some_depth_and_then_as_they_are() -> None:
    text = "'DROP TABLE x'"
    for number in range(sql.DEEPEST + 2):
        text = f"DO $a{number}$ {text} $a{number}$"
    assert "DROP TABLE x" in sql.clean_sql(text)


STEPS = {
    "-- Why.\nDO $$ BEGIN DROP TABLE a; END $$": ["drops the table a"],
    "RENAME TABLE IF EXISTS a TO b, `c` TO d.e": ["renames the table a to b", "renames the table c to d.e"],
    "RENAME TABLE a WAIT 10 TO b": ["renames a table"],
    'DROP TABLE [a], `b`, "c"': ["drops the table a", "drops the table b", "drops the table c"],
    "ALTER TABLE a ADD x numeric((1), (2)) NOT NULL, DROP (b), DROP c": [
        "adds the column a.x NOT NULL without a default",
        "drops the column a.c",
    ],
    "ALTER TABLE a DROP b) , DROP (c": ["drops the column a.b"],
    "EXPLAIN DROP TABLE(x)": ["drops a table"],
    "DROP TABLE " + "a" * 1001: ["drops the table " + "a" * 1001 + "…"],
}


@pytest.mark.parametrize("text", STEPS)
def test_steps(text: str) -> None:
    assert sql.sql_contract(text) == STEPS[text]


TEXTS = {
    "": "",
    "a (b) c": "a   c",
    "a (b (c) d) e (f)": "a   e  ",
    "a (b (c) d": "a (b   d",
    "a) b (c": "a) b (c",
    "()()": "  ",
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_in_parentheses_is_left_out(text: str) -> None:
    assert sql.without_parentheses(text) == TEXTS[text]


def test_a_statement_that_is_too_long_is_told_unless_it_only_adds_rows() -> None:
    rows = "INSERT INTO a VALUES " + ", ".join(["(1, 2)"] * 50_000)
    names = "DROP TABLE " + ", ".join(f"table{number}" for number in range(50_000))
    text = "INSERT INTO a VALUES ('" + "x" * 500_000 + "')"
    assert sql.sql_contract(f"{rows}; {names}; DROP TABLE b; {text}") == [sql.TOO_LONG, "drops the table b"]


LONG = 190_000  # just as much as is read of a statement
LONGER = 500_000


def filled(unit: str, length: int = LONG) -> str:
    return (unit * (length // len(unit) + 1))[:length]


def opened(unit: str) -> str:
    """Many $tags$, each within the one before, and all of them closed in the end."""
    numbers = range(LONGER // 40)
    return "".join(unit.replace("N", str(each)) for each in numbers) + "".join(f"$a{each}$" for each in numbers[::-1])


HOSTILE = {
    "spaces": "DROP TABLE" + " " * LONG + "(",
    "spaces after each": filled("ALTER TABLE" + " " * 1000),
    "wide spaces": "ALTER TABLE" + "\u2003" * LONG + "(",
    "quotes": "'" * (LONGER + 1),
    "doubled quotes and one": filled("'' ", LONGER) + "'",
    "double quotes": '"' * (LONGER + 1),
    "names that are never closed": filled("DROP TABLE ["),
    "names after names that are never closed": filled("TRUNCATE a.["),
    "names in quotes": filled('DROP TABLE "'),
    "one name in quotes": 'DROP TABLE "' + "a" * LONG + '"',
    "nested parentheses": "ALTER TABLE a " + "(" * (LONG // 2) + ")" * (LONG // 2),
    "open parentheses": "ALTER TABLE a " + "(" * LONG,
    "half open parentheses": "ALTER TABLE a " + filled("(()"),
    "a list of names": "DROP TABLE " + filled("a, "),
    "names of names": "DROP TABLE " + filled("a."),
    "renamed words": "RENAME TABLE " + "a" * LONG,
    "renamed names of names": "RENAME TABLE " + filled("a . "),
    "renamed names": "RENAME TABLE " + filled("a TO "),
    "columns of names of names": "ALTER TABLE a CHANGE " + filled("a."),
    "columns to be renamed": "ALTER TABLE a RENAME " + "a" * LONG + " IN",
    "types": filled("ALTER TYPE a.b RENAME "),
    "actions": "ALTER TABLE a " + filled("ADD x int NOT NULL,"),
    "kinds of columns": "ALTER TABLE a ADD x int NOT NULL " + filled("serial") + "x",
    "words": filled("DROP  NOT  SET  "),
    "open comments": filled("/*", LONGER),
    "open comments in blocks": filled("DO $$ /* ", LONGER),
    "comments": filled("-- \n", LONGER),
    "dollars": "$" * LONGER,
    "a tag that goes on": "$" + "a" * LONGER,
    "open tags": "".join(f"$a{number}$ " for number in range(LONGER // 8)),
    "blocks in one statement": "DO " + "".join(f"$a{number}$ x $a{number}$ " for number in range(LONGER // 18)),
    "blocks in blocks": opened("DO $aN$ "),
    "all of it in blocks in blocks": opened("DO $aN$ ' /* \" "),
    "statements": ";" * LONGER,
}
DEADLINE = 30  # seconds; it takes about one at most on a machine that has nothing else to do


@pytest.mark.parametrize("what", HOSTILE)
def test_sql_that_means_to_take_long_does_not(what: str) -> None:
    began = time.monotonic()
    sql.sql_contract(HOSTILE[what])
    assert time.monotonic() - began < DEADLINE
