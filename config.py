"""pyinfra runs this before it connects: what is wrong in the inventory is told without touching a host."""

import atexit
import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pyinfra import config

from slipway import project

# pyinfra lets no bytecode be written, for its users' folders' sake; compiling our roles anew takes half a second a run.
if not project.installed():
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# What is loaded stays until the end. Searching it for garbage while more is loaded, and again at the very end, takes a
# fifth of a second a run.
gc.freeze()
atexit.register(gc.freeze)

from slipway.engine.pyinfra_api import MADE_FOR, know_scripts  # noqa: E402
from slipway.settings import check_command_line  # noqa: E402 (what it says of bytecode comes first)
from slipway.transport.connector import PromptTransport  # noqa: E402

config.REQUIRE_PYINFRA_VERSION = MADE_FOR

check_command_line()

know_scripts(sys.argv[1:])


def load_ahead() -> Iterator[None]:
    """Load roles and templates, in small steps: there is time for it while the connection is made."""
    from slipway.engine.templates import load, names

    here = Path(__file__).parent
    for path in sorted(here.glob("roles/**/*[!_].py")):
        import_module(".".join(path.relative_to(here).with_suffix("").parts))
        yield
    for name in names():
        load(name)
        yield


PromptTransport.meanwhile = load_ahead()
