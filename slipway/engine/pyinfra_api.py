"""All of pyinfra that Slipway touches and pyinfra doesn't promise: a new release may name it otherwise, or not at all.

Everything else imports `host`, `state`, `logger` and `config` of `pyinfra`, what `pyinfra.api` exports, and the errors
of `pyinfra.api.exceptions`; nothing more. What is touched by name on pyinfra's objects is in `TOUCHED`. The unit tests
tell what the version that is installed lacks of all this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from gevent.pool import Pool

MADE_FOR = "~=3.10.0"
"""The versions of pyinfra that all this was looked up in."""


def missing(name: str) -> str:
    """What to say where pyinfra has no `name`."""
    return f"pyinfra {version('pyinfra')} lacks {name}; Slipway is made for pyinfra {MADE_FOR}"


try:
    import pyinfra
    from pyinfra import host, state
    from pyinfra.api import BaseStateCallback, Host, State
    from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, ConnectorArguments, pop_global_arguments
    from pyinfra.api.arguments_typed import PyinfraOperation
    from pyinfra.api.operation import OperationMeta
    from pyinfra.api.output import echo, format_text, set_echo
    from pyinfra.connectors.ssh import SSHConnector
    from pyinfra.connectors.sshuserclient.client import get_ssh_config
    from pyinfra.connectors.util import (
        SUDO_PASSWORD_REQUIRED_LINES,
        CommandOutput,
        OutputLine,
        execute_command_with_sudo_retry,
        make_unix_command_for_host,
    )
    from pyinfra.context import ctx_host, ctx_state
except ImportError as _error:
    raise ImportError(missing(f"{_error.name}: {_error}"), name=_error.name) from _error

__all__ = [
    "CONNECTOR_ARGUMENT_KEYS",
    "MADE_FOR",
    "SUDO_PASSWORD_REQUIRED_LINES",
    "TOUCHED",
    "CommandOutput",
    "ConnectorArguments",
    "OperationMeta",
    "OutputLine",
    "PyinfraOperation",
    "SSHConnector",
    "any_reached",
    "arguments_of",
    "asked_for_password",
    "begun",
    "carries_out",
    "connect_arguments",
    "current_host",
    "current_state",
    "echo",
    "execute_command_with_sudo_retry",
    "executing",
    "failed",
    "format_text",
    "has_several_hosts",
    "hash_of",
    "know_scripts",
    "known_hosts_of",
    "listen",
    "lost_hosts",
    "make_unix_command_for_host",
    "missing",
    "name_under_way",
    "operation_under_way",
    "operations_of",
    "planned_before",
    "pools",
    "prefix_of",
    "results",
    "role_under_way",
    "run_command_line",
    "set_echo",
    "shows_diffs",
    "shows_input",
    "without_known_hosts",
]

TOUCHED: dict[str, tuple[str, ...]] = {
    "state": (
        "activated_hosts",
        "add_callback_handler",
        "check_for_changes",
        "config",
        "fact_pool",
        "failed_hosts",
        "get_op_meta",
        "get_op_order",
        "initialised",
        "inventory",
        "is_executing",
        "ops",
        "pool",
        "print_input",
    ),
    "host": (
        "connector",
        "connector_data",
        "current_deploy_name",
        "current_op_hash",
        "data",
        "get_fact",
        "groups",
        "log",
        "name",
        "noop",
        "print_prefix",
        "run_shell_command",
    ),
    "inventory": ("hosts",),
    "config": ("DIFF",),
    "data": ("dict",),
    "operation": ("_hash", "did_change", "did_error", "is_complete"),
    "data of an operation": ("operation_meta",),
    "names of an operation": ("names",),
    "command": ("connector_arguments", "execute", "get_raw_value"),
    "connector": (
        "client",
        "connect",
        "data",
        "disconnect",
        "host",
        "make_names_data",
        "make_paramiko_kwargs",
        "put_file",
        "run_shell_command",
        "state",
    ),
    "arguments of a connection": (
        "_pyinfra_ssh_known_hosts_file",
        "_pyinfra_ssh_paramiko_connect_kwargs",
        "_pyinfra_ssh_strict_host_key_checking",
    ),
    "callback": ("operation_host_error", "operation_host_start", "operation_host_success"),
    "command line": (
        "pyinfra.is_cli",
        "pyinfra_cli.cli.cli",
        "pyinfra_cli.exceptions.UnexpectedExternalError",
        "pyinfra_cli.exceptions.UnexpectedInternalError",
    ),
}
"""What is touched by name: kind of an object → names. "command line" has whole paths."""

# --- The run that is under way ---------------------------------------------------------------------------------------


def begun() -> bool:
    """Whether there is a run with its hosts."""
    return bool(ctx_state.isset() and state.initialised)  # type: ignore[no-untyped-call]


def current_state() -> State:
    """pyinfra's state itself: `state` stands for another one in the next run."""
    return cast(State, ctx_state.get())  # type: ignore[no-untyped-call]


def current_host() -> Host:
    """pyinfra's current host itself: `host` stands for another one later."""
    return cast(Host, ctx_host.get())  # type: ignore[no-untyped-call]


def executing() -> bool:
    """Whether this pass carries out, and doesn't only plan."""
    return state.is_executing


def planned_before() -> bool:
    """Whether a plan was shown before this run carries out."""
    return state.check_for_changes


def shows_diffs() -> bool:
    """Whether ``--diff`` asks for differences."""
    return bool(state.config.DIFF)


def listen(handler: BaseStateCallback) -> None:
    """Let a handler hear what happens in the run."""
    state.add_callback_handler(handler)  # type: ignore[no-untyped-call]


def carries_out(run: State) -> bool:
    """Whether a run has begun to carry out, after it planned."""
    return run.is_executing


def lost_hosts(run: State) -> set[Host]:
    """Hosts of a run that weren't reached, or on which something failed."""
    return set(run.failed_hosts)


def any_reached(run: State) -> bool:
    """Whether a run reached a host at all."""
    return bool(run.activated_hosts)


def has_several_hosts(run: State) -> bool:
    """Whether a run's inventory has more than one host."""
    return len(run.inventory.hosts) > 1


def shows_input(run: State) -> bool:
    """Whether commands are shown as they are sent."""
    return run.print_input


def prefix_of(of: Host) -> str:
    """How pyinfra begins a line about a host."""
    return of.print_prefix


def pools() -> list[Pool]:
    """The greenlets that work for hosts; none before there is a run."""
    return [state.pool, state.fact_pool] if begun() else []


# --- Operations ------------------------------------------------------------------------------------------------------


def hash_of(meta: OperationMeta) -> str:
    """pyinfra's hash of an operation, which hosts share."""
    return meta._hash


def operation_under_way() -> str:
    """The hash of the operation that the current host is at; only operations ask."""
    by = host.current_op_hash
    assert by is not None
    return by


def role_under_way(of: Host) -> str | None:
    """Title of the role that a host is at; None outside of any."""
    return of.current_deploy_name


def name_under_way(op_hash: str) -> str:
    """The names of an operation on all hosts, in one line."""
    return ", ".join(sorted(state.get_op_meta(op_hash).names))


def failed(of: Host, op_hash: str) -> bool:
    """Whether an operation of this run ended with an error on a host."""
    data = state.ops[of].get(op_hash)
    return data is not None and data.operation_meta.is_complete() and data.operation_meta.did_error()


def results(of: Host) -> list[OperationMeta]:
    """Every operation that ended on a host."""
    made = [each.operation_meta for each in current_state().ops[of].values()]
    return [meta for meta in made if meta.is_complete()]


def operations_of(run: State | None) -> Iterator[tuple[Host, list[tuple[str, OperationMeta]]]]:
    """Every host that was reached, with its operations by pyinfra's hash, in their order."""
    if run is None:
        return
    order = run.get_op_order()  # type: ignore[no-untyped-call]
    for each in run.inventory:
        if each in run.activated_hosts:
            made = run.ops[each]
            yield each, [(op_hash, made[op_hash].operation_meta) for op_hash in order if op_hash in made]


# --- Connections -----------------------------------------------------------------------------------------------------

_CONNECT = "_pyinfra_ssh_paramiko_connect_kwargs"


def connect_arguments(made: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a connection, as pyinfra made them, with more for paramiko where the inventory names no other."""
    return made | {_CONNECT: defaults | (made[_CONNECT] or {})}


def without_known_hosts(nowhere: str) -> dict[str, Any]:
    """Arguments of a connection that takes any host key, and keeps it `nowhere`."""
    return {"_pyinfra_ssh_known_hosts_file": nowhere, "_pyinfra_ssh_strict_host_key_checking": "no"}


def known_hosts_of(connector: SSHConnector) -> tuple[str, int, list[Path]]:
    """A host's address and port as SSH has them, and the files where its key is looked up: it is kept in the first."""
    data = connector.data
    name = data["ssh_hostname"] or connector.host.name
    found = get_ssh_config(data["ssh_config_file"])
    said = found.lookup(name) if found else {}
    files = [data["ssh_known_hosts_file"]] if data["ssh_known_hosts_file"] else []
    files = files or said.get("userknownhostsfile", "").split() or ["~/.ssh/known_hosts"]
    port = int(data["ssh_port"] or said.get("port") or 22)
    return said.get("hostname", name), port, [Path(file).expanduser() for file in files]


def arguments_of(run: State, of: Host) -> dict[str, Any]:
    """How commands are run on a host where nothing says otherwise."""
    return cast("dict[str, Any]", pop_global_arguments(run, of, {})[0])


def asked_for_password(of: Host) -> bool:
    """Whether the operator has told the password of sudo for a host."""
    return bool(of.connector_data.get("prompted_sudo_password"))


# --- The command line ------------------------------------------------------------------------------------------------


def know_scripts(words: Sequence[str]) -> None:
    """Let Python know each script of a command line as a module.

    For the order of operations pyinfra asks Python for the module of each of their callers, three times an operation.
    Where a file is none, as deploy.py isn't to pyinfra, Python searches all modules: a twentieth of a second a run.
    """
    for script in (word for word in words if word.endswith(".py")):
        sys.modules[script] = ModuleType(script)
        sys.modules[script].__file__ = str(Path(script).resolve())


def run_command_line(arguments: Sequence[str], ended: Callable[[int], str]) -> str:
    """Run pyinfra's command line in this process; what was wrong, or nothing. KeyboardInterrupt passes.

    gevent's patches must have come before anything that they patch.

    + ended: what to say of another exit code than 0 and 1
    """
    import click
    from pyinfra_cli.cli import cli
    from pyinfra_cli.exceptions import UnexpectedExternalError, UnexpectedInternalError

    pyinfra.is_cli = True  # as its own main says: passphrases are asked for, operations of several hosts put in order
    try:
        cli.main(list(arguments), prog_name="pyinfra", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as done:  # 1 is "a host failed", which the state tells better
        return "" if done.code in (0, 1, None) else ended(cast(int, done.code))
    except (UnexpectedExternalError, UnexpectedInternalError) as unexpected:
        if isinstance(getattr(unexpected, "exception", None), EOFError):
            return "a password is to be typed, and there is no terminal here to ask you for it"
        return f"this shouldn't happen, please report it:\n{unexpected.get_traceback()}{unexpected.get_exception()}"
    except click.ClickException as error:
        return error.format_message()
    return ""
