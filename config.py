"""pyinfra runs this before it connects: what is wrong in the inventory is told without touching a host."""

from pyinfra import config

from roles.settings import check_command_line

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<4"

check_command_line()
