"""Check what is read from a host's own files: another Slipway, or somebody by hand, may have written them.

A fact of a record with a wrong type counts as missing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from slipway_host.protocol import Record

NUMBER = (int, float)
NOTHING = type(None)
RECORD: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "kind", "app", "state", "started", "finished", "committed", "switched", "by", "to"), (str,)),
    **dict.fromkeys(("commit", "subject", "environment", "pinned", "manifest", "step", "error", "hook"), (str,)),
    **dict.fromkeys(("format", "number"), (int,)),
    **dict.fromkeys(("took", "left", "warm_until"), NUMBER),
    **dict.fromkeys(("inputs", "wanted", "steps", "revisions", "served"), (dict,)),
    **dict.fromkeys(("heads", "pending"), (list,)),
    **dict.fromkeys(("previous", "stopped_first"), (str, NOTHING)),
    "own": (list, NOTHING),
}
"""Fact of a record → its types."""
BAD = {"since": "unknown", "by": "somebody", "why": "unknown"}
"""Used for facts that the record of a bad release lacks: it stays bad."""
ROLLBACK: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("source", "migration", "hooks", "readiness", "units", "inputs"), (dict,)),
    **dict.fromkeys(("watch", "drain_timeout", "graceful_timeout", "keep_warm", "keep"), NUMBER),
    "sandbox": (list,),
}
"""What a rollback needs of release.json → its types."""
RELEASE = ROLLBACK | {"app": (str,), "python": (str,), "uv_env": (dict,), "build": (dict,)}
"""The same for a release."""


def record(found: Mapping[str, Any]) -> Record:
    """The facts of a record with the right types. Unknown facts stay as they are."""
    known: Any = {name: value for name, value in found.items() if isinstance(value, RECORD.get(name, (object,)))}
    wanted, steps, revisions = (known.get(name, {}) for name in ("wanted", "steps", "revisions"))
    if not _texts(wanted.get("source"), "subdir") or not _texts(wanted.get("readiness"), "path"):
        known.pop("wanted", None)
    if (bad := known.get("bad")) and not _texts(bad, *BAD):
        known["bad"] = BAD | (bad if isinstance(bad, dict) else {})
    if not all(isinstance(seconds, NUMBER) for seconds in steps.values()):
        known.pop("steps")
    if not all(isinstance(at, list) and all(isinstance(each, str) for each in at) for at in revisions.values()):
        known.pop("revisions")
    return known  # type: ignore[no-any-return]


def lacking(wanted: Mapping[str, Any], verb: str) -> list[str]:
    """Names that a run needs in release.json and that are missing or have a wrong type.

    + verb: of protocol.VERBS
    """
    needed = {"release": RELEASE, "rollback": ROLLBACK}[verb]
    return [name for name, kinds in needed.items() if not isinstance(wanted.get(name), kinds)]


def _texts(found: Any, *names: str) -> bool:
    """Whether an object has texts of these names."""
    return isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names)
