"""Exit codes of `slipway`."""

NOTHING = 0
"""The run succeeded; of a plan: there is nothing to change."""
FAILED = 1
"""The run failed, or the command line or the inventory is wrong."""
CHANGES = 2
"""Of a plan: there are changes."""
INTERRUPTED = 130
"""The shell's exit code for a program that SIGINT ended."""
