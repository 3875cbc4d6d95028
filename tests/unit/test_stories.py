"""The parts of tests/e2e that need no host."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from slipway.prober import Fault, Result
from tests.e2e._provisioned import ENTRY, digest
from tests.e2e._public import Public

ROOT = Path(__file__).resolve().parents[2]


def steps(path: str) -> list[str]:
    """What an entry point does after its imports."""
    body = ast.parse((ROOT / path).read_text("utf-8")).body[1:]
    return [ast.unparse(node) for node in body if not isinstance(node, ast.ImportFrom)]


def test_a_provisioned_host_is_what_deploy_makes_before_it_comes_to_apps() -> None:
    first = steps("deploy.py")
    until = next(number for number, step in enumerate(first) if step.startswith("app("))
    assert [step for step in first[:until] if not step.startswith("options = ")] == steps(ENTRY)


def test_an_image_of_a_provisioned_host_is_for_what_decides_it_alone(tmp_path: Path) -> None:
    for name in ("roles/ssh.py", "templates/ssh/sshd.j2", "slipway/x.py", "host/y.py", "README.md", "examples/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    for name in ("config.py", ENTRY, "tests/e2e/_provisioned.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = digest(tmp_path, "bare image")
    assert digest(tmp_path, "another bare image") != before
    for name in ("README.md", "examples/a.py", "roles/__pycache__/ssh.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("after")
        assert digest(tmp_path, "bare image") == before, name
    for name in (
        "roles/ssh.py",
        "templates/ssh/sshd.j2",
        "slipway/x.py",
        "host/y.py",
        "config.py",
        ENTRY,
        "roles/new.py",
    ):
        text = (tmp_path / name).read_text() if (tmp_path / name).exists() else None
        (tmp_path / name).write_text("after")
        assert digest(tmp_path, "bare image") != before, name
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)


RESULT = Result(requests=100, failed=0, resent=3, p50=0.01, p99=0.02, longest_gap=0.4, slowest=0.1, seconds=5.0)


def public(monkeypatch: pytest.MonkeyPatch, **seen: object) -> Public:
    """The public, after it noticed this."""
    values = {**vars(RESULT), **seen}
    monkeypatch.setattr(Public, "result", Result(**values))
    return object.__new__(Public)


def test_an_unbroken_site_is_one_that_answered_all(monkeypatch: pytest.MonkeyPatch) -> None:
    public(monkeypatch).unbroken()
    lost = Fault(1.2, "short", "GET / answered 502")
    with pytest.raises(AssertionError, match="GET / answered 502"):
        public(monkeypatch, failed=1, faults=[lost]).unbroken()
    with pytest.raises(AssertionError, match=r"longest gap 3\.1 s"):
        public(monkeypatch, longest_gap=3.1, counts={"short": 100}).unbroken()
    public(monkeypatch, longest_gap=3.1).unbroken(gap=5)
    with pytest.raises(AssertionError, match="that shows nothing"):
        public(monkeypatch, requests=9).unbroken()
