"""What isn't promised of pyinfra and paramiko (pyinfra_api.py, paramiko_api.py): all of it is in this version."""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paramiko
import pyinfra.context
import pytest
from packaging.specifiers import SpecifierSet
from pyinfra import config
from pyinfra.api import BaseStateCallback, Config, Inventory, State, StringCommand
from pyinfra.context import ctx_config, ctx_host, ctx_state

from slipway import project
from slipway.engine import plan, pyinfra_api
from slipway.engine.pyinfra_api import SSHConnector
from slipway.engine.question import Expects
from slipway.transport import paramiko_api
from slipway.transport.connector import SlipwayConnector


@pytest.fixture
def objects() -> dict[str, Any]:
    """Kind of an object, as `pyinfra_api.TOUCHED` names it → one."""
    state = State(Inventory((["@fake"], {})), Config())  # type: ignore[no-untyped-call]
    host = state.inventory.get_host("@fake")
    state.activate_host(host)

    @plan.operation(list)
    def nothing() -> plan.Commands:
        return
        yield

    with ctx_state.use(state), ctx_host.use(host):
        meta = nothing()
    ((op_hash, data),) = state.ops[host].items()
    connector = SSHConnector(state, host)
    return {
        "state": state,
        "host": host,
        "inventory": state.inventory,
        "config": state.config,
        "data": host.data,
        "operation": meta,
        "data of an operation": data,
        "names of an operation": state.get_op_meta(op_hash),
        "command": StringCommand("true"),
        "connector": connector,
        "callback": BaseStateCallback,
    }


def test_pyinfra_has_all_that_is_touched(objects: dict[str, Any]) -> None:
    for kind, names in pyinfra_api.TOUCHED.items():
        if kind in ("arguments of a connection", "command line"):
            continue
        for name in names:
            assert hasattr(objects[kind], name), pyinfra_api.missing(f"{name} of a {kind}")


def test_pyinfra_connects_with_the_arguments_that_are_touched() -> None:
    source = inspect.getsource(sys.modules[SSHConnector.__module__])
    for name in pyinfra_api.TOUCHED["arguments of a connection"]:
        assert f'"{name}"' in source, pyinfra_api.missing(f"the argument {name} of a connection")


def test_pyinfra_has_the_command_line_that_is_run() -> None:
    """Read, and not loaded: that would let gevent patch this process."""
    root = Path(inspect.getfile(pyinfra)).parents[1]
    for whole in pyinfra_api.TOUCHED["command line"]:
        module, _, name = whole.rpartition(".")
        path = root / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        there = file.is_file() and any(
            line.startswith((f"def {name}(", f"class {name}(", f"{name} =")) for line in file.read_text().splitlines()
        )
        assert there, pyinfra_api.missing(whole)


def test_a_name_that_pyinfra_lacks_is_named_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.modules["slipway.engine.pyinfra_api"]
    monkeypatch.delattr(pyinfra.context, "ctx_host")
    monkeypatch.delitem(sys.modules, "slipway.engine.pyinfra_api")
    try:
        with pytest.raises(ImportError, match="ctx_host") as error:
            importlib.import_module("slipway.engine.pyinfra_api")
    finally:
        sys.modules["slipway.engine.pyinfra_api"] = before
    told = str(error.value)
    assert told.startswith(f"pyinfra {version('pyinfra')} lacks ") and "Slipway is made for pyinfra ~=3.10.0" in told


def test_the_version_that_is_installed_is_one_that_it_is_made_for() -> None:
    assert SpecifierSet(pyinfra_api.MADE_FOR).contains(version("pyinfra"))
    assert f'"pyinfra{pyinfra_api.MADE_FOR}"' in (project.root() / "pyproject.toml").read_text(encoding="utf-8")
    with ctx_config.use(Config()):  # type: ignore[no-untyped-call]
        config.REQUIRE_PYINFRA_VERSION = pyinfra_api.MADE_FOR  # pyinfra reads it, or says that it is none


def test_paramiko_has_all_that_is_touched() -> None:
    for whole, names in paramiko_api.TOUCHED.items():
        module, _, last = whole.rpartition(".")
        holder: Any = importlib.import_module(module) if not module.startswith("paramiko.SSH") else paramiko.SSHClient
        touched = getattr(holder, last)
        source = inspect.getsource(touched)
        for name in names:
            there = hasattr(touched, name) or f"self.{name} =" in source or f"{name}=" in source
            assert there, paramiko_api.missing(f"{name} of {whole}")


def test_our_connector_is_told_what_will_be_asked() -> None:
    """The plan knows it by that, and not by its class, which lies above."""
    assert isinstance(object.__new__(SlipwayConnector), Expects)
    assert not isinstance(object.__new__(SSHConnector), Expects)
