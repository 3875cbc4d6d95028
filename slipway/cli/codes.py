"""Exit codes of `slipway`."""

NOTHING = 0
"""It is done; of a plan: there is nothing to change."""
FAILED = 1
"""It failed, or something is wrong with the command line or the inventory."""
CHANGES = 2
"""Of a plan: there are changes."""
INTERRUPTED = 130
"""A shell's for a program that SIGINT ended."""
