"""What modules of the host load: few things where a question is asked on every run, or where little else works."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "host/slipway_host"
MODULES = sorted(
    str(path.relative_to(PACKAGE))
    for path in [*PACKAGE.glob("access/*"), *PACKAGE.glob("proxy/*"), PACKAGE / "acme.py"]
    if path.suffix == ".py"
)
HEAVY = {"typing", "dataclasses", "argparse", "http.client", "ssl", "concurrent.futures", "tempfile", "difflib", "csv"}
NEWER = {"UTC", "StrEnum", "file_digest", "batched"}
"""Attributes that Python 3.10 hasn't."""


def loaded(code: str, folder: Path = PACKAGE.parent) -> set[str]:
    """Names of the modules that a program has loaded in the end, by an interpreter as it is on a host."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); {code}; print(*sys.modules)"
    argv = [sys.executable, "-IS", "-X", f"pycache_prefix={folder / 'nowhere'}", "-B", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def ours(names: set[str]) -> set[str]:
    """Of these modules those of the package, without its name."""
    return {name.partition(".")[2] for name in names if name.startswith("slipway_host.")}


@pytest.mark.parametrize("path", MODULES)
def test_a_module_needs_python_3_10_and_nothing_else(path: str) -> None:
    parsed = ast.parse((PACKAGE / path).read_text(encoding="utf-8"), feature_version=(3, 10))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(parsed)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported <= sys.stdlib_module_names | {"slipway_host"}, imported
    assert "tomllib" not in imported, "since Python 3.11"
    assert not {node.attr for node in ast.walk(parsed) if isinstance(node, ast.Attribute)} & NEWER


@pytest.mark.parametrize("module", ["proxy.nginx", "proxy.sockets", "access.change", "acme"])
def test_a_module_loads_little(module: str) -> None:
    found = loaded(f"import slipway_host.{module}")
    assert f"slipway_host.{module}" in found and not found & HEAVY


def test_what_nginx_serves_is_told_with_little(tmp_path: Path) -> None:
    """It is asked on every run."""
    asked = "from slipway_host.proxy.nginx import Nginx; from slipway_host.system import System"
    asked += f"; from slipway_host.layout import Layout; Nginx(System(Layout({str(tmp_path)!r}))).status()"
    found = loaded(asked)
    assert not found & (HEAVY | {"hashlib"})
    assert ours(found) == {
        *("layout", "text", "commands", "system"),
        *("proxy", "proxy.live", "proxy.generations", "proxy.nginx"),
    }


def test_a_change_is_taken_back_whatever_became_of_the_rest(tmp_path: Path) -> None:
    """Of the package: nothing else of it is there."""
    needed = ["__init__", "layout", "text", "commands", "system"]
    needed += [f"access/{name}" for name in ("__init__", "change", "before", "sshd")]
    for name in needed:
        path = tmp_path / f"slipway_host/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / f"{name}.py", path)
    for broken in ("release", "proxy"):
        (tmp_path / "slipway_host" / broken).mkdir()
        (tmp_path / "slipway_host" / broken / "__init__.py").write_text("broken(")
    (tmp_path / "slipway_host/access/wanted.py").write_text("broken(")
    root = tmp_path / "root"
    (root / "var/lib/slipway/access").mkdir(parents=True)
    (root / "run").mkdir()
    file, pending = root / "file", root / "var/lib/slipway/access/pending.json"
    file.write_text("changed")
    pending.write_text(f'{{"files": {{"{file}": null}}, "firewall": true, "table": null, "ssh": true, "token": "x"}}')
    taken = "from slipway_host.access import change; from slipway_host.system import System, Done"
    taken += "; from slipway_host.layout import Layout"
    taken += "; System.run = lambda self, *argv, **options: Done(argv, 0, '')"
    taken += f"; assert change.revert(System(Layout({str(root)!r})))"
    found = loaded(taken, tmp_path)
    assert ours(found) == {
        "layout",
        "text",
        "commands",
        "system",
        "access",
        *(f"access.{name}" for name in ("change", "before", "sshd")),
    }
    assert not file.exists() and not pending.exists()
