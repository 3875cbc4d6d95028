"""Starts the schema program: ``<a release's python> …/slipway_host/schema/__main__.py COMMAND …``.

The app's own code (env.py and its imports) runs in this process. For it, `sys.path`, `sys.argv[0]`, `sys.modules` and
the environment look as if this were a script of one file: modules of ours and of the app can have the same names. So
all modules of ours are loaded first, and none later.
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
    """Remove the loaded modules with our package's name from `sys.modules`, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


def main() -> int:
    """Run the command of the command line. Returns the exit code."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib isn't loaded yet
    lib = folder.removesuffix(f"/{PACKAGE}/schema")
    programs = os.path.join(os.path.dirname(os.path.dirname(lib)), "bin")  # noqa: PTH118, PTH120  # layout.bin
    # Python puts this file's folder first, unless the app's environment has PYTHONSAFEPATH.
    paths = sys.path[0 if sys.flags.safe_path else 1 :]
    theirs = taken()  # by a .pth file of its packages, say
    sys.path[:] = [lib, *paths]
    from slipway_host.schema import cli

    ours = taken()
    sys.modules.update(theirs)
    sys.path[:] = paths if sys.flags.safe_path else [programs, *paths]
    sys.argv[0] = os.path.join(programs, NAME)  # noqa: PTH118
    code = cli.main()
    del ours  # kept until here: Python may clear a module without references
    return code


if __name__ == "__main__":  # a process that the app makes with multiprocessing runs this file under another name
    sys.exit(main())
