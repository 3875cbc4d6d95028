"""Slipway 0.1's programs: what still runs finds them, and later on nothing of that version does anything here.

It had a file for each part, whose names stand in units: some wait for their time, some are replaced by later steps of
the run that brings this version. As long as one names them they lead to this program, which understands their words.
After that a folder stands at each name, where an older Slipway wants to write its file: so it fails before it touches
what serves and the ways in. It knows no format.json that it would refuse.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePath

from slipway_host import VERSION
from slipway_host.names import FORMER
from slipway_host.system import Busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from slipway_host.system import System

LOCK_SECONDS = 30  # to put them in order takes a hundredth of one
PREFIX = "slipway-"
"""How their names began."""
RENAMED = {"deploy": "release", "attach": "follow", "history": "releases"}
"""Words of `slipway-release` that are called otherwise now."""
SAID_JSON = ("status",)
"""Words that were answered in JSON without being asked to."""
TOLD = f"""A program of Slipway 0.1 was here. Slipway {VERSION} or newer keeps this host.
This folder lets an older Slipway fail before it changes what serves: upgrade that one, and leave the folder here.
"""
README = "README"


def words(argv: Sequence[str]) -> list[str]:
    """This program's command line, without its name, for the one that it was started with.

    + argv: the name that it was started by, and the words after it
    """
    started, *given = argv
    name = PurePath(started).name
    if not name.startswith(PREFIX):
        return given
    part, verb, rest = name.removeprefix(PREFIX), given[:1], given[1:]
    more = ["--json"] if verb and verb[0] in SAID_JSON else []
    if part == "release":
        return [*(RENAMED.get(each, each) for each in verb), *more, *rest]
    return [part, *verb, *more, *rest]


def settle(system: System, but: Collection[str] = ()) -> None:
    """Let the programs' names lead to this program while a unit names them; else put a folder in each one's place.

    + but: names of units that don't count: the one that this runs in, which is about to end
    """
    layout = system.layout
    if all(layout.former(name).is_dir() for name in FORMER):
        return
    with contextlib.suppress(Busy), system.locked(layout.format_lock, LOCK_SECONDS):  # whoever has it does this
        if named(system, but):
            for path in map(layout.former, FORMER):
                if not (path.is_symlink() or path.is_dir()):
                    system.link(path, layout.program.name)  # in one step: a unit may be about to start it
            return  # what a run of that version uses stays: one may be under way
        from slipway_host.release import trees

        for path in (layout.former_cache, layout.former_lib, layout.former_schema):
            trees.remove(path)
        for path in map(layout.former, FORMER):
            _bar(system, path)


def named(system: System, but: Collection[str] = ()) -> list[str]:
    """The files that name one of the programs: systemd's units, those of this boot alone included, and certbot's hook.

    + but: as `settle` takes it
    """
    known = str(system.layout.former("")).encode()
    return [str(path) for path in _files(system) if path.name not in but and known in _content(path)]


def _content(path: Path) -> bytes:
    """What is in a file; nothing of one that is gone: systemd forgets a unit at any time."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _files(system: System) -> Iterator[Path]:
    """Where they may be named."""
    layout = system.layout
    for folder in (layout.units, layout.warm_units, layout.transient_units):
        for inside, _, names in os.walk(folder):  # which passes over a folder that is gone
            yield from (path for name in sorted(names) if (path := Path(inside, name)).is_file())
    if layout.renewal_hook.is_file():
        yield layout.renewal_hook


def _bar(system: System, path: Path) -> None:
    """Let a folder be at a name, and tell people why."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    system.replace(path / README, TOLD)
