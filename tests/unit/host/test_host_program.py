"""What is started on a host: a few lines, the system's own Python, and nothing besides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slipway_host import cli

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "files/program/slipway"


def test_it_is_run_by_the_systems_python_alone() -> None:
    """Isolated, and without site packages: what a login or a hook has set changes nothing."""
    assert PROGRAM.read_text().startswith("#!/usr/bin/python3 -IS\n") and os.access(PROGRAM, os.X_OK)
    assert "Managed by Slipway" in PROGRAM.read_text()


@pytest.mark.parametrize(
    ("argv", "written"),
    [
        (["release", "notes"], True),
        (["rollback", "notes"], True),
        (["run", "notes", "t1"], True),
        (["status", "notes"], False),
        (["access", "revert"], False),
        (["nginx", "reload"], False),
        (["facts"], False),
        ([], False),
    ],
)
def test_bytecode_is_written_by_runs_alone(monkeypatch: pytest.MonkeyPatch, argv: list[str], written: bool) -> None:
    """A question changes nothing on the host, and what is shut off may not write there."""
    seen: list[bool] = []
    monkeypatch.setattr(sys, "argv", ["slipway", *argv])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(cli, "main", lambda: seen.append(not sys.dont_write_bytecode))
    exec(compile(PROGRAM.read_text(), PROGRAM, "exec"), {"__name__": "__main__"})
    assert seen == [written] and sys.path[0] == "/opt/slipway/host/current"


@pytest.mark.parametrize("verb", [*cli.VERBS, *cli.HIDDEN])
def test_a_verb_needs_no_module_that_takes_long_to_load(verb: str) -> None:
    """`dataclasses` and `typing` alone would take as long as most answers; TLS is for who asks a site."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'host')!r}); sys.dont_write_bytecode = True\n"
        "from slipway_host import cli\n"
        f"import slipway_host.cli.{verb}\n"
        "print(*{'typing', 'dataclasses', 'ssl', 'http.client', 'difflib', 'tempfile'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
