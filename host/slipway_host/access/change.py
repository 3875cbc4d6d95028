"""What can be done about the ways into this host, one at a time; nothing here is printed."""

from __future__ import annotations

import contextlib
import json
import math
import shutil

from slipway_host.access import before, sshd
from slipway_host.access.sshd import Refused
from slipway_host.layout import REVERT
from slipway_host.system import Busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipway_host.protocol import Armed, Before, Ways
    from slipway_host.system import System

__all__ = ["Refused", "apply", "confirm", "free", "reload", "revert"]

SECONDS = 60  # from the arming to the timer; a fresh connection takes about one, and is tried for half a minute
LOCK_SECONDS = 30  # a change takes a second or two
TAKEN_BACK = "An unconfirmed change of the ways in was taken back."


# ── the verbs ────────────────────────────────────────────────────────────────────────────────────────────────────


def apply(system: System, request: Ways) -> Armed:
    """Arm the revert and make a change; returns what confirms it.

    Raises Failed, and then what was there before is there.
    """
    # Only here: they aren't needed to take a change back, so that works where they are damaged.
    from slipway_host.access import wanted
    from slipway_host.protocol import FORMAT

    state = system.layout.access
    said: list[str] = []
    with _locked(system):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        take_back(system)
        for leftover in state.iterdir():  # of a run that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        wanted.validate(system, request)
        made = wanted.host_keys(system, request["host_keys"])
        there: Before = {
            "format": FORMAT,
            "files": {str(path): before.file_of(path) for path in wanted.touched(system, request, made)},
            "firewall": bool(request["firewall"]),
            "table": before.table(system),
            "ssh": bool(request["ssh"]),
        }
        try:
            token = _arm(system, there)
            wanted.make(system, request, made, said.append)
        except Exception as error:  # whatever it is: nobody will confirm this
            take_back(system)
            told = "\n".join([*said, str(error)])
            raise Refused(f"{told}\nNothing was changed: what was there before was put back.") from error
    return {"token": token, "seconds": SECONDS, "said": said}


def confirm(system: System, token: str) -> None:
    """Keep the change that `token` names; raises Refused where it was taken back already."""
    with _locked(system):
        if system.json(system.layout.pending).get("token") != token:
            raise Refused("it was taken back before it was confirmed")
        _done_with(system)


def revert(system: System, booting: bool = False) -> str:
    """Take an unconfirmed change back, whoever holds the lock. Returns what people should know: nothing if none was.

    + booting: put back files alone, since sshd and the firewall start after this
    """
    with _locked(system, patient=False):
        return TAKEN_BACK if take_back(system, booting) else ""


def reload(system: System, say: sshd.Say) -> None:
    """Let sshd read its configuration, or start it where it has ended. Without a lock: who holds it asks for this."""
    sshd.reload(system, say)


def free(system: System, say: sshd.Say) -> None:
    """End apps that have a port of sshd's, which is about to start."""
    sshd.free(system, sshd.ports(system), say)


# ── how ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def take_back(system: System, booting: bool = False) -> bool:
    """Take an unconfirmed change back. Returns whether there was one."""
    pending = system.layout.pending
    if not pending.exists():
        return False
    there: Before = json.loads(pending.read_text())
    failed = before.restore(system, there, booting)
    if failed:
        raise Refused("not all could be put back; it is tried again at the next boot:\n" + "\n".join(failed))
    _done_with(system)
    return True


def _done_with(system: System) -> None:
    """Nothing is pending any more."""
    system.layout.pending.unlink(missing_ok=True)
    system.sync_folder(system.layout.access)
    system.run("systemctl", "stop", f"{REVERT}.timer", check=False)


def _arm(system: System, there: Before) -> str:
    """Write down what there is, and let a timer put it back. Returns the token that confirms the change."""
    import secrets

    token = secrets.token_hex(16)
    before.put(system, system.layout.pending, json.dumps(there | {"token": token}).encode(), 0o600, 0, 0)
    system.run("systemctl", "stop", f"{REVERT}.timer", check=False)
    # The units of the timer and of the firewall may have been written just now.
    system.run("systemctl", "daemon-reload")
    # By whichever clock it comes first: at each daemon-reload a span of time begins anew, and a clock may be set back.
    when = (f"--on-active={SECONDS}", f"--on-calendar=@{math.ceil(system.time()) + SECONDS}")
    system.run("systemd-run", "--quiet", f"--unit={REVERT}.service", *when, "--timer-property=AccuracySec=100ms")
    return token


@contextlib.contextmanager
def _locked(system: System, patient: bool = True) -> Iterator[None]:
    """Only one change at a time; the kernel frees the lock when its holder dies, however it dies.

    + patient: fail where another change doesn't end; if not, go on: who is locked out can't end it
    """
    lock = system.layout.access_lock
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(lock, LOCK_SECONDS, patient=patient))
        except Busy as busy:
            raise Refused(
                f"Another change of the ways in did not end within {LOCK_SECONDS} s (`fuser -v {lock}` names it); "
                "nothing was changed. Run again."
            ) from busy
        yield
