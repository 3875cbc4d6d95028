"""pyinfra runs this before it connects: what is wrong in the inventory is told without touching a host."""

import atexit
import gc
import sys

from pyinfra import config

# pyinfra lets no bytecode be written, for its users' folders' sake; compiling our roles anew takes half a second a run.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# What is loaded stays until the end. Searching it for garbage while more is loaded, and again at the very end, takes a
# fifth of a second a run.
gc.freeze()
atexit.register(gc.freeze)

from roles.settings import check_command_line  # noqa: E402 (what it says of bytecode comes first)

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<4"

check_command_line()
