"""The kernel's settings, and what decides on swap."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from slipway_host.names import PROC
from typing_extensions import override

from slipway.engine.question import Question


@dataclass(frozen=True)
class KernelSetting:
    """A file below /proc/sys."""

    value: str
    writable: bool
    """False in most containers: the setting is the machine's."""


class KernelSettings(FactBase[dict[str, KernelSetting]]):
    """Path below /proc/sys → what is there, of all that these patterns name; what the kernel doesn't have isn't told.

    + patterns: such as "kernel/kptr_restrict" or "net/ipv4/conf/*/send_redirects"
    """

    default = dict

    @override
    def command(self, patterns: tuple[str, ...]) -> Question:
        files = " ".join(each if re.fullmatch(r"[\w*/.-]+", each) else shlex.quote(each) for each in patterns)
        # Not the shell's `read`: it reads single bytes, and these files give only their first one. Modes say nothing if
        # /proc/sys is mounted read-only, as in containers; find's -writable uses access(2), which knows.
        asked = f"grep -Hs '' {files}; find {files} -maxdepth 0 -writable -printf 'w %p\\n' 2>/dev/null"
        return Question(f"cd {PROC}/sys && {{ {asked}; }}; true")

    @override
    def process(self, output: list[str]) -> dict[str, KernelSetting]:
        writable = {line.removeprefix("w ") for line in output if line.startswith("w ")}
        read = (line.partition(":") for line in output if not line.startswith("w "))
        return {path: KernelSetting(" ".join(value.split()), path in writable) for path, _, value in read}


def sysctl_path(key: str) -> str:
    """Path below /proc/sys of a setting's name."""
    return key.replace(".", "/")


class SwapFacts(FactBase[dict[str, str]]):
    """What decides on a swap file: "swaps" (how many there are), "type" of the root file system, "free" MB there."""

    default = dict

    @override
    def command(self) -> Question:
        asked = (
            f'echo "swaps=$(($(wc -l <{PROC}/swaps) - 1))"; echo "type=$(stat --file-system --format=%T /)"; '
            "echo \"free=$(df -Pm / | awk 'NR == 2 {print $4}')\""
        )
        return Question(f"{{ {asked}; }} 2>/dev/null; true")

    @override
    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("=", 1) for line in output if "=" in line)
