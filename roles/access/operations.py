"""`ways_in`: change who can log in to a host and how, and keep the change only after a new connection has proven it.

The host's part is `slipway access`: it reverts a change by itself unless that is confirmed. This is the other part.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from paramiko import PKey, SSHException
from pyinfra import host, logger
from pyinfra.api import Host, State, StringCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError
from slipway_host.layout import LAYOUT
from slipway_host.names import NO_SHELL, SSHD
from typing_extensions import override

from roles.firewall import TABLE
from roles.firewall.facts import Firewall, FirewallState
from roles.ssh import MODULI, PATHS, path
from roles.ssh.facts import Sshd, SshdState
from slipway.engine import plan
from slipway.engine.facts import Place, Places
from slipway.engine.host import PROGRAM
from slipway.engine.place import File, changes_of, due
from slipway.engine.plan import Ask, Change, Commands
from slipway.engine.pyinfra_api import CommandOutput, ConnectorArguments, SSHConnector, without_known_hosts
from slipway.settings import SMALLEST_RSA
from slipway.transport import paramiko_api
from slipway.transport.connector import Anew

PROOF_SECONDS = 20
"""Seconds to try a new connection; the host waits three times as long before it reverts the change."""
PATIENCE = {"timeout": 8, "banner_timeout": 8, "auth_timeout": 10}
"""Seconds that one try waits for TCP, for sshd's greeting (something else may have accepted), and for the login."""
_OFF = (NO_SHELL, "/sbin/nologin", "/bin/false", "/usr/bin/false")


@dataclass(frozen=True)
class Wanted:
    """Access as it should be."""

    files: Mapping[str, File | None]
    """Path → file; None where there must be none."""
    sshd: Sequence[tuple[str, str]]
    """What `sshd -T` prints: keyword, value; empty where sshd isn't ours."""
    host_keys: Mapping[str, int]
    """Kind of host key ("ed25519", "rsa") → the bits it has at least; empty where sshd isn't ours."""
    ports: Sequence[int]
    """Ports of sshd that are open."""


def _asks(paths: tuple[str, ...], account: str | None, **_: object) -> Iterator[Ask]:
    yield _look(paths, account)
    yield plan.asking(SshdState)
    yield plan.asking(FirewallState, path=TABLE)


def _look(paths: tuple[str, ...], account: str | None) -> Ask:
    accounts = (account,) if account else ()
    return plan.asking(Places, accounts=accounts, folders=(), files=paths, others=())


@plan.operation(_asks)
def ways_in(
    wanted: Callable[[Sshd], Wanted], paths: tuple[str, ...], account: str | None, harden: bool, filtered: bool
) -> Commands:
    """Set up account, sshd and firewall. The change is reverted unless a new connection proves it.

    + wanted: called with the facts about sshd
    + paths: all files that the change may concern
    + account: user who must exist and have sudo
    + harden: whether Slipway configures sshd
    + filtered: whether there should be a firewall
    """
    sshd = plan.known(SshdState)
    fact, arguments = _look(paths, account)
    there: dict[str, Place] = plan.known(fact, **dict(arguments))
    firewall = plan.known(FirewallState, path=TABLE)
    want = wanted(sshd)
    _tell(sshd, firewall, want, filtered=filtered)

    files = {name: each for name, each in want.files.items() if each}
    written = files if sshd.pending else due(files, there)  # a pending change is reverted first
    removed = [name for name, each in want.files.items() if each is None and name in there]
    changes = _account(account, there)
    changes += changes_of(written, there)
    changes += [Change("file", name, "remove") for name in removed]
    keys = [kind for kind, bits in want.host_keys.items() if sshd.bits.get(kind, 0) < bits]
    for kind in keys:
        note = f"{want.host_keys[kind]} bits"
        if kind in sshd.bits:
            note += f" instead of {sshd.bits[kind]}: a client that knows the host by this key alone will complain"
        action = "modify" if kind in sshd.bits else "create"
        changes.append(Change("file", str(LAYOUT.host_key(kind)), action, note=note))
    moduli = bool(want.host_keys) and (MODULI not in there or sshd.pending)
    if moduli:
        changes.append(Change("file", MODULI, "create", note="the package's moduli, without those below 3072 bits"))
    wrong = [key for key, value in want.sshd if value not in sshd.effective.get(key, ())]
    edited = {*PATHS} & {*written, *removed}
    reload_sshd = bool(edited or keys or wrong or sshd.pending)
    if reload_sshd:
        note = "sessions go on" if edited or not wrong else f"it goes by another {', '.join(wrong)}; sessions go on"
        changes.append(Change("unit", SSHD, "reload", note=note))
    load = filtered and (TABLE in written or not firewall.live)
    unload = not filtered and (TABLE in removed or firewall.loaded)
    if load:
        note = "connections that are open stay" if firewall.loaded else "from now on, what isn't open is dropped"
        changes.append(Change("firewall", "inet slipway", "load", note=note))
    elif unload:
        changes.append(Change("firewall", "inet slipway", "remove", note="every port that listens is open"))
    if not changes:
        host.noop("access is as it should be")
        return
    if refusal := _refused() if harden and reload_sshd else "":
        if plan.planning():
            plan.say(refusal, logger.error)
        plan.announce(Change("unit", SSHD, plan.FAIL, note="it would refuse the key of this run"))
        yield plan.failure(refusal)
        return
    plan.announce(*changes, makes=[*written, *removed])
    request = {
        "account": account,
        "files": [_sent(name, want.files[name]) for name in [*written, *removed]],
        "drop_in": path(sshd),
        "options": want.sshd,
        "host_keys": want.host_keys,
        "moduli": MODULI if moduli else None,
        "ssh": reload_sshd,
        "firewall": "load" if load else "remove" if unload else None,
    }
    yield Proven(PROGRAM, "access", "apply", ports=want.ports, used=sshd.used, _stdin=json.dumps(request))


def _account(account: str | None, there: Mapping[str, Place]) -> list[Change]:
    if account is None:
        return []
    if account not in there:
        return [Change("user", account, "create", note="with sudo, a key, and no password")]
    return [Change("user", account, "modify", note="gets a shell")] if there[account].target in _OFF else []


def _sent(path: str, wanted: File | None) -> dict[str, Any]:
    if wanted is None:
        return {"path": path, "content": None}
    return {"path": path, "content": wanted.content, "mode": wanted.mode, "owned": wanted.user != "root"}


def _tell(sshd: Sshd, firewall: Firewall, want: Wanted, *, filtered: bool) -> None:
    """Tell the operator what to know, even if nothing changes."""
    if sshd.pending:
        plan.say("an earlier change of access wasn't confirmed: it is reverted and made again", logger.warning)
    moving = [port for port in want.ports if port not in sshd.used]
    if sshd.used and moving and len(want.ports) > len(moving) and want.ports != [*sshd.used]:
        old = " and ".join(map(str, sorted(sshd.used)))
        new = " and ".join(map(str, moving))
        plan.say(
            f"sshd is at port {new}, and still at {old}, which this run connects through: set ssh_port to {new} in the "
            f"inventory; the next run then closes {old}",
            logger.warning,
        )
    if filtered and firewall.others:
        tables = " and ".join(firewall.others)
        plan.say(f"table {tables} drops what comes in, too: only what both let in gets in", logger.warning)


# --- The operator's side ---------------------------------------------------------------------------------------------


class NotProvenError(Exception):
    """A new connection couldn't be made, or can't do what the inventory says."""


class Proven(StringCommand):
    """A change of access, confirmed through a connection that is made after it.

    + ports: ports on which sshd must answer
    + used: the host's port to which this run is connected
    """

    def __init__(self, *bits: str, ports: Sequence[int], used: frozenset[int], **arguments: Any) -> None:
        super().__init__(*bits, **arguments)
        self.ports = ports
        self.used = used

    @override
    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> tuple[bool, CommandOutput]:
        """Make the change, prove it, and let the host keep it; else let it take the change back."""
        rights = dict(connector_arguments)
        if not isinstance(host.connector, SSHConnector):
            host.log("a change of access can only be proven over SSH; nothing was changed", logger.error)
            return False, CommandOutput([])
        done, output = host.run_shell_command(self, **(rights | self.connector_arguments))
        if not done:
            return False, output
        told = json.loads(output.stdout_lines[-1])
        try:
            self._prove(state, host, rights, told["token"])
        except NotProvenError as error:
            self._take_back(host, rights, str(error), told["seconds"])
            return False, CommandOutput([])
        host.log("proven by a fresh connection")
        return True, output

    def _prove(self, state: State, host: Host, rights: dict[str, Any], token: str) -> None:
        """Connect anew as the inventory says, at other ports too, and confirm the change through that connection."""
        transport = paramiko_api.transport_of(host.connector)
        outside = transport.getpeername()[1] if transport else None
        fresh = _connected(Anew(state, host, **PATIENCE))
        new = paramiko_api.transport_of(fresh)
        try:
            for port in self.ports if {outside} == self.used else ():
                if port != outside and new:
                    self._prove_port(state, host, port, new.get_remote_server_key())
            done, output = fresh.run_shell_command(StringCommand(PROGRAM, "access", "confirm", token), **rights)
        except (OSError, SSHException, EOFError) as error:
            raise NotProvenError(f"the fresh connection broke: {error}") from None
        finally:
            _close(fresh)
        if not done:
            raise NotProvenError(f"logged in anew, but the user can't become root: {output.stderr or output.stdout}")

    def _prove_port(self, state: State, host: Host, port: int, key: PKey) -> None:
        """Log in at another port; known_hosts need not know it, since it must have the key of the first one."""
        nowhere = without_known_hosts(os.devnull)
        other = _connected(Anew(state, host, port=port, **nowhere, **PATIENCE))
        transport = paramiko_api.transport_of(other)
        same = transport is not None and transport.get_remote_server_key() == key
        _close(other)
        if not same:
            raise NotProvenError(f"at port {port} another host answers")

    def _take_back(self, host: Host, rights: dict[str, Any], why: str, seconds: int) -> None:
        host.log(f"not proven: {why}", logger.error)
        try:
            back, output = host.run_shell_command(
                StringCommand(PROGRAM, "access", "revert"), **(rights | {"_timeout": 20})
            )
            told = output.stderr
        except Exception as error:  # of any kind: the connection may be broken
            back, told = False, str(error)
        if back:
            message = "the change of access was reverted"
        else:
            message = f"the host itself reverts the change of access after {seconds} s ({told})"
        what = "correct slipway.ssh, slipway.firewall or slipway.operator, and run again"
        host.log(f"{message}: {what}", logger.error)


def _connected(connector: Anew) -> Anew:
    """Connect; tried again while nobody answers, as while sshd reads its configuration, but not where it refuses."""
    until = time.monotonic() + PROOF_SECONDS
    logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)  # it logs tracebacks of what it raises anyway
    while True:
        try:
            connector.connect()
        except ConnectError as error:
            refused = "uthentication" in str(error) or "host key" in str(error).lower()
            if refused or time.monotonic() > until:
                raise NotProvenError(str(error)) from None
            gevent.sleep(0.5)
        except PyinfraError as error:
            raise NotProvenError(str(error)) from None
        else:
            return connector


def _close(connector: Anew) -> None:
    if connector.client:
        connector.client.close()


def _refused() -> str:
    """Why the hardened sshd would refuse what this run logged in with; nothing where it wouldn't, or can't be told."""
    method, key = paramiko_api.login_of(paramiko_api.transport_of(host.connector))
    if method in ("password", "keyboard-interactive"):
        return (
            f"{host.name}: this run logged in with a password, and sshd is about to take keys alone. Put your key on "
            "the host (`ssh-copy-id`), write ssh_key instead of ssh_password, and run again; nothing was changed"
        )
    if key is None:
        return ""
    name, bits = key.get_name(), paramiko_api.bits_of(key)
    if name.startswith("ssh-rsa") and isinstance(bits, int) and 0 < bits < SMALLEST_RSA:
        return (
            f"{host.name}: this run logged in with an RSA key of {bits} bits, and sshd is about to take {SMALLEST_RSA} "
            "bits at least. Make a new key (`ssh-keygen -t ed25519`), put its .pub on the host (`ssh-copy-id -i`), "
            "name it as ssh_key, and run again; nothing was changed"
        )
    return ""
