"""Save the state of access to this host, and restore it."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from slipway_host.access import sshd
from slipway_host.names import BESIDE, SSHD_OUTSIDE, TABLE
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from slipway_host.access.protocol import Before, Kept
    from slipway_host.system import System

OUTSIDE_SECONDS = 60
TABLE_BYTES = 50_000_000  # of our table: it is put back whole, or not touched


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(system: System, path: Path, data: bytes, mode: int, uid: int, gid: int) -> None:
    """Write a file atomically: after a power cut there is the old or the new one."""
    # sshd's Include and sudo skip a file with this name.
    partial = path.with_name(f"{BESIDE}{path.name}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        system.sync(file.fileno())
    partial.rename(path)
    system.sync_folder(path.parent)


def file_of(path: Path) -> Kept | None:
    """A file with all that is needed to restore it; None if there is no such file."""
    if not path.is_file():
        return None
    data, found = path.read_bytes(), path.stat()
    content = base64.b64encode(data).decode()
    return {"content": content, "mode": found.st_mode & 0o7777, "uid": found.st_uid, "gid": found.st_gid}


def units_among(system: System, paths: Iterable[str]) -> bool:
    """Whether one of these files is a unit of systemd."""
    return any(Path(each).is_relative_to(system.layout.units) for each in paths)


# ── the firewall ─────────────────────────────────────────────────────────────────────────────────────────────────


def table(system: System) -> str | None:
    """The loaded rules of our table; None if it isn't loaded."""
    try:
        # Raw, because it is loaded again.
        done = system.run("nft", "--stateless", "list", *TABLE, check=False, raw=True, most=TABLE_BYTES)
    except FileNotFoundError:
        return None
    return done.output if done.code == 0 else None


def load(system: System, rules: str | None) -> None:
    """Load `rules` as our table, or remove it for None, in one step."""
    if rules is None and table(system) is None:
        return
    # To delete a table that isn't there would fail.
    fresh = f"{' '.join(TABLE)}\ndelete {' '.join(TABLE)}\n"
    system.run("nft", "-f", "-", said=fresh + (rules or ""))


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────


def restore(system: System, before: Before, booting: bool) -> list[str]:
    """Restore the state from before a change. Every step is tried, even if another fails. Returns what failed."""
    failed: list[str] = []

    def attempt(step: Callable[..., object], *arguments: Any) -> None:
        try:
            step(*arguments)
        except (Failed, OSError) as error:
            failed.append(str(error))

    for name, was in before["files"].items():
        path = Path(name)
        if was is None:
            attempt(path.unlink, True)
        else:
            attempt(put, system, path, base64.b64decode(was["content"]), was["mode"], was["uid"], was["gid"])
    if booting:  # sshd and the firewall start later, with the restored files
        return failed
    if units_among(system, before["files"]):
        attempt(system.run, "systemctl", "daemon-reload")
    if before["firewall"]:
        attempt(load, system, before["table"])
    if before["ssh"] or sshd.dead(system):
        attempt(reload_outside, system)
    return failed


def reload_outside(system: System) -> None:
    """Let sshd read its configuration in a unit of its own: the sandbox of this unit forbids it."""
    reading = ["--property=Type=oneshot", f"--property=TimeoutStartSec={OUTSIDE_SECONDS}"]
    unit = f"{SSHD_OUTSIDE}-{os.getpid()}"
    argv = [str(system.layout.program), "access", "reload"]
    done = system.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *reading, *argv, check=False)
    if done.code != 0:
        raise sshd.Refused(f"sshd could not be reloaded (`journalctl -u {unit}`):\n{done.output.strip()}")
