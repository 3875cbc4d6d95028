"""A target from inside: commands as root, its releases and processes, its power, and all there is on its disk."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e._public import Visited
from tests.target import lifecycle


class Entered(Visited):
    """A target, as its administrator works on it by SSH and by its switches."""

    def __init__(self, target: lifecycle.Description) -> None:
        super().__init__(target)
        self._control = tempfile.mkdtemp(prefix="slw")

    def leave(self) -> None:
        """Close the kept SSH connection for good."""
        self._forget_connection()
        shutil.rmtree(self._control, ignore_errors=True)

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.target["name"])

    def ssh(self, command: str, *, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a shell command on the host as root, through sudo; returns its stdout, without white space at the ends.

        + check: fail unless it ends with 0
        + stdin: its standard input
        """
        done = self.run(command, stdin=stdin, timeout=timeout)
        if check:
            assert done.returncode == 0, f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def run(self, command: str, *, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as root, through sudo; the caller looks at exit code, stdout and stderr."""
        target = self.target["ssh"]
        call = [
            "ssh", "-i", target["key"], "-p", str(target["port"]), "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR",
            "-o", f"UserKnownHostsFile={target['known_hosts']}", "-o", "StrictHostKeyChecking=yes",
            "-o", "BatchMode=yes", "-o", f"ControlPath={self._control}/c",
            "-o", "ControlMaster=auto", "-o", "ControlPersist=120",
            f"{target['user']}@{target['host']}", f"sudo sh -c {shlex.quote(command)}",
        ]  # fmt: skip
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(call, capture_output=True, text=True, timeout=timeout, check=False, **given)

    @contextmanager
    def afterwards(self, command: str) -> Iterator[None]:
        """Run a command on the host when the block ends, however it ends."""
        try:
            yield
        finally:
            self.run(command)

    def _forget_connection(self) -> None:
        """Close the kept SSH connection: after a reboot it leads nowhere."""
        subprocess.run(
            ["ssh", "-o", f"ControlPath={self._control}/c", "-O", "exit", "any"], capture_output=True, check=False
        )

    def reboot(self, *, hard: bool = False) -> None:
        """Restart the host and wait until it has booted; `hard`: as by pulling the plug."""
        self._forget_connection()
        self.target = lifecycle.reboot(self.name, hard=hard)

    def cut(self) -> None:
        """Cut its power: what it had not flushed to its disk is lost. It stays off until `boot`."""
        self._forget_connection()
        self.target = lifecycle.cut(self.name)

    def boot(self) -> None:
        """Switch it on, and wait until it has booted."""
        self._forget_connection()
        self.target = lifecycle.up(self.name)

    def keep(self, name: str) -> None:
        """Keep a machine's memory and disk under a name; it goes on."""
        self._forget_connection()
        self.target = lifecycle.snapshot(self.name, name)

    def go_back(self, name: str, *, ahead: int = 0) -> None:
        """Go on from what `keep` kept, as often as wanted; `ahead`: seconds by which its clock is ahead then."""
        self._forget_connection()
        self.target = lifecycle.restore(self.name, name, ahead=ahead)

    def release(self, app: str = "notes") -> str:
        """Id of the release that `current` names; empty before the first one."""
        return self.ssh(f"readlink /srv/{app}/current || true").rpartition("/")[2]

    def releases(self, app: str = "notes") -> list[str]:
        """Ids of all release folders."""
        return self.ssh(f"ls -1 /srv/{app}/releases 2>/dev/null || true").split()

    def processes(self) -> list[tuple[int, int, str]]:
        """(process id, parent's id, command line) of every process of the host."""
        listed = (line.split(None, 2) for line in self.ssh("ps -eo pid=,ppid=,args=").splitlines())
        return [(int(parts[0]), int(parts[1]), parts[2] if len(parts) > 2 else "") for parts in listed]

    def snapshot(self) -> str:
        """All there is on the host's disk, with owners, modes and times; its packages, users and units.

        Without what a host writes by itself, or at every login: logs, /tmp, /run, /proc, /sys, /dev.
        """
        pruned = " -o ".join(
            f"-path {path}" for path in ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log")
        )
        own = " -o ".join(f"-path {path}" for path in ("/var/lib/systemd", "/var/lib/sudo", "/var/lib/private"))
        return self.ssh(
            rf"find / -xdev \( {pruned} -o {own} \) -prune -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\n' | sort; "
            "dpkg-query -W -f '${binary:Package} ${Version} ${Status}\\n'; getent passwd; "
            "systemctl list-units --all --plain --no-legend --type=service,socket,timer | grep -v ^user "
            "| tr -s ' ' | sort"
        )

    def unchanged_since(self, before: str) -> None:
        """Fail, and show what differs, unless the host is as in a `snapshot` of before."""
        then, now = before.splitlines(), self.snapshot().splitlines()
        had, has = set(then), set(now)
        gone, new = [line for line in then if line not in has], [line for line in now if line not in had]
        shown = [f"- {line}" for line in gone[:20]] + [f"+ {line}" for line in new[:20]]
        assert not shown, f"{len(gone)} lines gone, {len(new)} new:\n" + "\n".join(shown)
