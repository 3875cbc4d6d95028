"""The changes of access to this host, one at a time. Nothing here prints."""

from __future__ import annotations

import contextlib
import json
import math
import shutil

from slipway_host.access import before, sshd
from slipway_host.access.sshd import Refused
from slipway_host.names import REVERT
from slipway_host.system import Busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipway_host.access.protocol import Armed, Before, Ways
    from slipway_host.system import System

__all__ = ["Refused", "apply", "confirm", "free", "reload", "revert"]

SECONDS = 60  # until the timer reverts; a new connection takes about one second, and is tried for 30
LOCK_SECONDS = 30  # a change takes a second or two
TAKEN_BACK = "An unconfirmed change of access was reverted."


# ── the verbs ────────────────────────────────────────────────────────────────────────────────────────────────────


def apply(system: System, request: Ways) -> Armed:
    """Arm the revert and make a change. Returns the token that confirms it.

    Raises Failed; the old state is then restored.
    """
    # Imported only here: reverting must work even if these modules are damaged.
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
        except Exception as error:  # of any kind: nobody will confirm this change
            take_back(system)
            told = "\n".join([*said, str(error)])
            raise Refused(f"{told}\nNothing was changed: the old state was restored.") from error
    return {"token": token, "seconds": SECONDS, "said": said}


def confirm(system: System, token: str) -> None:
    """Keep the change that `token` names. Raises Refused if it was reverted already."""
    with _locked(system):
        if system.json(system.layout.pending).get("token") != token:
            raise Refused("it was reverted before it was confirmed")
        _done_with(system)


def revert(system: System, booting: bool = False) -> str:
    """Revert an unconfirmed change, even if another process holds the lock. Returns a message, empty without a change.

    + booting: restore files only; sshd and the firewall start later
    """
    with _locked(system, patient=False):
        return TAKEN_BACK if take_back(system, booting) else ""


def reload(system: System, say: sshd.Say) -> None:
    """Let sshd read its configuration, or start it if it has ended. It takes no lock: the lock's holder calls it."""
    sshd.reload(system, say)


def free(system: System, say: sshd.Say) -> None:
    """End apps that occupy a port of sshd, which is about to start."""
    sshd.free(system, sshd.ports(system), say)


# ── how ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def take_back(system: System, booting: bool = False) -> bool:
    """Revert an unconfirmed change. Returns whether there was one."""
    pending = system.layout.pending
    if not pending.exists():
        return False
    there: Before = json.loads(pending.read_text())
    failed = before.restore(system, there, booting)
    if failed:
        raise Refused("not everything could be restored; the next boot tries again:\n" + "\n".join(failed))
    _done_with(system)
    return True


def _done_with(system: System) -> None:
    """Forget the pending change, and disarm the timer."""
    system.layout.pending.unlink(missing_ok=True)
    system.sync_folder(system.layout.access)
    system.run("systemctl", "stop", f"{REVERT}.timer", check=False)


def _arm(system: System, there: Before) -> str:
    """Save the old state, and start the timer that restores it. Returns the token that confirms the change."""
    import secrets

    token = secrets.token_hex(16)
    before.put(system, system.layout.pending, json.dumps(there | {"token": token}).encode(), 0o600, 0, 0)
    system.run("systemctl", "stop", f"{REVERT}.timer", check=False)
    # The files of these units may be new.
    system.run("systemctl", "daemon-reload")
    # Whichever comes first: a daemon-reload restarts a span of time, and the clock may be set back.
    when = (f"--on-active={SECONDS}", f"--on-calendar=@{math.ceil(system.time()) + SECONDS}")
    system.run("systemd-run", "--quiet", f"--unit={REVERT}.service", *when, "--timer-property=AccuracySec=100ms")
    return token


@contextlib.contextmanager
def _locked(system: System, patient: bool = True) -> Iterator[None]:
    """Only one change at a time.

    + patient: fail if another change doesn't end; if False, go on, since nobody may be able to log in and end it
    """
    lock = system.layout.access_lock
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(lock, LOCK_SECONDS, patient=patient))
        except Busy as busy:
            raise Refused(
                f"Another change of access did not end within {LOCK_SECONDS} s (`fuser -v {lock}` names it); "
                "nothing was changed. Run again."
            ) from busy
        yield
