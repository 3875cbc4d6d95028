"""Starts the schema program: ``<a release's python> …/slipway_host/schema/__main__.py COMMAND …``.

The app's own code runs in this process, env.py and what it imports. It finds `sys.path`, `sys.argv[0]`, `sys.modules`
and the environment as a script of one file in the folder of Slipway's programs would leave them: no module of ours is
in its way, and none of its modules is in ours, whatever they are called. For that, all of ours are loaded before
anything of the app's, and nothing of ours is imported later on.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = "slipway_host"
NAME = "slipway-schema"


def taken() -> dict[str, ModuleType]:
    """The loaded modules that have our package's name; they are loaded no more."""
    names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


def main() -> int:
    """Do what the command line asks for; the exit code."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib isn't loaded yet
    lib = folder.removesuffix(f"/{PACKAGE}/schema")
    programs = os.path.join(os.path.dirname(os.path.dirname(lib)), "bin")  # noqa: PTH118, PTH120  # layout.bin
    # Python has put this file's folder there; not so with PYTHONSAFEPATH, which may be in the app's environment.
    paths = sys.path[0 if sys.flags.safe_path else 1 :]
    theirs = taken()  # by a .pth file of its packages, say
    sys.path[:] = [lib, *paths]
    from slipway_host.schema import cli

    ours = taken()
    sys.modules.update(theirs)
    sys.path[:] = paths if sys.flags.safe_path else [programs, *paths]
    sys.argv[0] = os.path.join(programs, NAME)  # noqa: PTH118
    code = cli.main()
    del ours  # kept until here: a module that nobody has any more may be taken apart
    return code


if __name__ == "__main__":  # a process that the app makes with multiprocessing runs this file under another name
    sys.exit(main())
