"""What the tests of the programs that run on the host share."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ACCESS, NGINX = "access/slipway-access", "nginx/slipway_nginx.py"
SSHD = "access/slipway_sshd.py"
RELEASE, ACME = "release/slipway_release.py", "tls/slipway-acme"
TREES, ROOM, SOCKETS, SOURCES, GUEST, MANIFEST, STEP, TEXT = (
    f"release/slipway_{name}.py"
    for name in ("trees", "room", "sockets", "sources", "guest", "manifest", "step", "text")
)
IMPORTED = (TREES, ROOM, SOCKETS, SOURCES, GUEST, MANIFEST, STEP)
"""What these import from each other, in this order; on a host they are in one folder."""
MODULES = (*IMPORTED, TEXT, SSHD)
"""What others import on a host, beside what NGINX is."""
PROGRAMS = (ACCESS, NGINX, RELEASE, ACME)
STARTED = {NGINX: "nginx/slipway-nginx", RELEASE: "release/slipway-release"}
"""Module → the program that starts it."""


@functools.cache
def code(path: str) -> types.CodeType:
    """A program, compiled: once for all tests, since that takes longer than most of them."""
    file = ROOT / "files" / path
    return compile(file.read_text(encoding="utf-8"), file, "exec")


def load(path: str) -> Any:
    """A host program as a module of its own; most have names without an ending, which `import` can't find."""
    module = types.ModuleType(Path(path).stem.replace("-", "_"))
    if path == ACCESS:
        sys.modules["slipway_sshd"] = load(SSHD)  # anew, since tests change what it goes by
    if path in (RELEASE, *IMPORTED):
        for each in IMPORTED[: IMPORTED.index(path) if path in IMPORTED else None]:
            if Path(each).stem not in sys.modules:
                sys.modules[Path(each).stem] = load(each)
    if path == RELEASE:
        sys.modules["slipway_text"] = load(TEXT)  # anew, since it keeps the secrets of an app
    exec(code(path), module.__dict__)
    return module


@dataclass
class Recorder:
    """Stands in for a program's `run`: notes the command lines, and answers as told."""

    error: type[Exception]
    calls: list[str] = field(default_factory=list)
    failing: dict[str, str] = field(default_factory=dict)
    """Part of a command line → what it prints when it fails."""
    codes: dict[str, int] = field(default_factory=dict)
    """Part of a command line that fails → its exit status, if not 1."""
    printing: dict[str, str] = field(default_factory=dict)
    """Part of a command line → what it prints."""
    doing: dict[str, Callable[[str], None]] = field(default_factory=dict)
    """Part of a command line → what it does, given the whole line."""

    def __call__(self, *argv: str, check: bool = True, **_: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(argv)
        self.calls.append(line)
        for part, output in list(self.failing.items()):
            if part in line:
                if check:
                    raise self.error(output)
                return subprocess.CompletedProcess(argv, self.codes.get(part, 1), output)
        for part, effect in list(self.doing.items()):
            if part in line:
                effect(line)
        found = next((output for part, output in self.printing.items() if part in line), "")
        return subprocess.CompletedProcess(argv, 0, found)

    def matching(self, part: str) -> list[str]:
        """The command lines that have this part."""
        return [call for call in self.calls if part in call]


def tree(folder: Path) -> dict[str, str]:
    """Relative path → content of a file, or the target of a link."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
