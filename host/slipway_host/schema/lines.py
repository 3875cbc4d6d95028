"""The lines of an app's revisions: what a database lacks of them, what it would undo, and where they fork.

Scripts are objects of the app's own Alembic, of any version.
"""

from __future__ import annotations

from slipway_host.schema.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def to_do(script: Any, heads: Iterable[str]) -> tuple[list[str], list[Any]]:
    """The heads of a database that the scripts don't have, and the revisions that the database lacks, in order."""
    known = {one.revision for one in script.walk_revisions()}
    unknown = sorted(head for head in heads if head not in known)
    if unknown:  # from there, no way to the heads is known
        return unknown, []
    heads = tuple(heads)
    applied = {one.revision for one in script.iterate_revisions(heads, "base")} if heads else set()
    return [], [one for one in script.iterate_revisions("heads", "base") if one.revision not in applied][::-1]


def to_undo(script: Any, heads: Iterable[str], targets: Iterable[str]) -> list[Any]:
    """The revisions that lead to `heads` but not to `targets`, newest first."""
    heads = tuple(heads)
    script.get_revisions(heads)  # raises an error that names an unknown one
    wanted = tuple(one.revision for one in script.get_revisions(tuple(targets)))
    applied = list(script.iterate_revisions(heads, "base")) if heads else []
    missing = sorted(set(wanted) - {one.revision for one in applied})
    if missing:
        at = ", ".join(heads) or "base"
        raise Failed(f"The database is at {at}: it has no {', '.join(missing)} to go back to.")
    kept = {one.revision for one in script.iterate_revisions(wanted, "base")} if wanted else set()
    return [one for one in applied if one.revision not in kept]


def forked(script: Any) -> list[str]:
    """Heads that were to be one: they grew from the same revision, and no label says that they are lines of their own.

    `alembic upgrade head` refuses several heads; lines that begin apart, or have labels, are meant to be several.
    """
    heads = {head.revision: head for head in script.get_revisions("heads")}
    ways = {name: before(script, name) for name in heads}
    mixed = []
    for name, head in heads.items():
        others = [other for other in heads if other != name and ways[name] & ways[other]]
        labels = set(head.branch_labels or ()).difference(*(heads[other].branch_labels or () for other in others))
        if others and not labels:
            mixed.append(name)
    return sorted(mixed) if len(mixed) > 1 else []


def before(script: Any, revision: str) -> set[str]:
    """The revisions that one grew from; not those that it only depends on."""
    found: set[str] = set()
    waiting = [revision]
    while waiting:
        down = script.get_revision(waiting.pop()).down_revision or ()
        named = {down} if isinstance(down, str) else set(down)
        waiting += named - found
        found |= named
    return found
