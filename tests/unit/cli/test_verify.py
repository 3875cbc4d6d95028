"""`slipway verify`: what it makes of pytest's run over tests/host, here with tests of its own in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.cli import main

CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--inventory")
    parser.addoption("--limit")
"""
GOOD = "def test_good(request):\n    assert request.config.option.inventory.endswith('production.py')\n"
SKIPPED = "import pytest\ndef test_other():\n    pytest.skip('it has no TLS')\n"
BAD = "def test_bad():\n    assert 1 == 2, 'they differ'\n"

Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Verify:
    """`verify(tests, *options)`: exit code, standard output and errors, with these tests of a host."""
    monkeypatch.setattr("slipway.project.root", lambda: tmp_path / "project")
    host = tmp_path / "project/tests/host"
    host.mkdir(parents=True)
    (tmp_path / "project/tests/__init__.py").touch()
    (host / "conftest.py").write_text(CONFTEST)
    inventory = tmp_path / "production.py"
    inventory.touch()

    def run(tests: str, *options: str) -> tuple[int, str, str]:
        (host / "test_it.py").write_text(tests)
        with pytest.raises(SystemExit) as ended:
            main(["verify", str(inventory), *options])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return run


def test_success_is_one_line(verify: Verify) -> None:
    code, out, err = verify(GOOD + SKIPPED)
    assert (code, err) == (0, "")
    assert out.startswith("1 checks passed, 1 don't apply (") and out.count("\n") == 1


def test_a_check_that_fails_is_named_with_its_reason(verify: Verify) -> None:
    code, out, err = verify(GOOD + BAD)
    assert code == 1 and out.startswith("1 checks passed, 1 failed (")
    assert err.startswith("Error: test_it.py::test_bad failed\n  AssertionError: they differ\n")
    assert "-v` shows pytest's own output" in err and "Traceback" not in err


def test_a_check_of_a_path_is_named_whole(verify: Verify) -> None:
    of_paths = "import pytest\n@pytest.mark.parametrize('path', ['/', '/no-such-path'])\n"
    _, _, err = verify(of_paths + "def test_path(path):\n    assert not path\n")
    named = [line for line in err.splitlines() if line.startswith("Error")]
    assert named == [f"Error: test_it.py::test_path[{path}] failed" for path in ("/", "/no-such-path")]


def test_a_script_is_told_all_of_it(verify: Verify) -> None:
    code, out, err = verify(GOOD + SKIPPED + BAD, "--json")
    told = json.loads(out)
    assert (code, err, told["version"], told["outcome"], told["passed"]) == (1, "", 1, "failed", 1)
    assert told["skipped"] == [{"check": "test_it.py::test_other", "why": "it has no TLS"}]
    assert told["failed"][0]["check"] == "test_it.py::test_bad" and told["error"] is None


def test_pytests_own_output_is_for_who_asks(verify: Verify) -> None:
    code, out, _ = verify(GOOD, "-v")
    assert code == 0 and "\ntest_it.py::test_good PASSED" in out, "named by its path from elsewhere"


def test_what_pytest_is_told_is_relative_to_the_current_folder(
    verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verify("import pathlib\ndef test_here():\n    pathlib.Path('here').touch()\n", "--", "--junitxml=result.xml")
    assert (tmp_path / "here").exists() and (tmp_path / "result.xml").exists()


def test_options_of_pytest_stand_behind_two_dashes(verify: Verify) -> None:
    code, out, _ = verify(GOOD + BAD, "--", "-k", "good")
    assert code == 0 and out.startswith("1 checks passed (")


def test_nothing_checked_is_no_success(verify: Verify) -> None:
    code, _, err = verify(SKIPPED)
    assert code == 1 and err == "Error: no check was made\n"
    code, _, err = verify("x = = 1\n")
    assert code == 1 and "SyntaxError" in err


def test_an_inventory_that_is_missing_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", "nope.py"])
    assert ended.value.code == 1
    assert "Error: there is no inventory nope.py" in capsys.readouterr().err
