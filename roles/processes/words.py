"""A command line as systemd reads it (systemd.service(5), "Command lines")."""

from __future__ import annotations

import re
from collections.abc import Sequence

ENV = "/usr/bin/env"
"""Finds a program as PATH has it: systemd itself looks for it in folders of its own."""


def command_line(argv: Sequence[str]) -> str:
    """The words after ``ExecStart=`` that run a command of an app."""
    return " ".join([ENV, *map(word, argv)])


def word(text: str) -> str:
    """One word: nothing of it is replaced."""
    if re.fullmatch(r"[A-Za-z0-9_@+=:,./-]+", text, re.ASCII):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{quoted}"'
