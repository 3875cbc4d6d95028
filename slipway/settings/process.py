"""What an app's processes are shut off from, and what they may take."""

from __future__ import annotations

from typing import Annotated, Literal

from slipway.settings import types as t
from slipway.settings.base import Model


class SandboxSettings(Model):
    """What systemd shuts an app off from, besides what every app is shut off from.

    Migrations, hooks and the check of a release run in the same sandbox.
    """

    network: Annotated[Literal["internet", "unix"], t.one_of("internet", "unix")] = "internet"
    """What the app may talk to. internet: any address, and the kernel about the host's interfaces (netlink). unix: Unix
    sockets alone, such as PostgreSQL's and Redis's on this host (postgresql:///notes?host=/run/postgresql); neither the
    Internet nor 127.0.0.1, so nothing that gets hold of the app can call home."""
    memory_deny_write_execute: t.Switch = True
    """No memory is both written and run as code. False for packages that make machine code as they run (numba, JAX,
    callbacks of cffi); what an attacker smuggles into memory can then be run."""
    hide_system: t.Switch = True
    """/proc has the app's own processes and nothing else (ProcSubset=pid). False for packages that read the machine's
    load or memory there (psutil, monitoring agents); the app then sees the kernel's settings and statistics."""
    filter_system_calls: t.Switch = True
    """Only the system calls that a service needs (@system-service of systemd, without those that set priorities or
    need privileges, chown among them). False for packages that call others and get "Operation not permitted"; the
    whole kernel is then open to what gets hold of the app."""


class LimitsSettings(Model):
    """What an app may take of the host: its releases, migrations and hooks, all together. Builds have limits of their
    own: three quarters of the memory, and a tenth of the processors where others want them."""

    memory_mb: Annotated[int, t.whole(64, 10_000_000, "MB")] | None = None
    """MB of memory; beyond it a process of the app is ended, and none of another's. While a release takes over from
    another, both have to fit. None: 160 % of the host's, divided by one more than it has apps: of one app 80 %, of two
    53 % each, of three 40 %."""
    tasks: Annotated[int, t.whole(32, 1_000_000, "processes and threads")] = 1024
    """Processes and threads."""
    cpu_weight: Annotated[int, t.whole(1, 10_000, "parts")] = 100
    """Share of the processors where several apps want them, against the weights of the others; all apps together have
    as much as nginx, sshd and the other services. Otherwise any app may have all."""
    shm_mb: Annotated[int, t.whole(1, 1_000_000, "MB")] = 64
    """MB that each process of the app may put in /dev/shm, which nobody else sees (64 as Docker's default)."""
    tmp_mb: Annotated[int, t.whole(1, 1_000_000, "MB")] | None = None
    """MB that a release may put in /tmp, and as much again in /var/tmp: in memory, and gone when it ends. Large uploads
    wait there: for more than fits, let the app set TMPDIR to a folder of its /var/lib/<app>. None: a quarter of the
    host's memory."""
    log_mb: Annotated[int, t.whole(8, 1_000_000, "MB")] = 100
    """MB of the app's own journal (`journalctl --namespace=<app>`): the oldest entries make room, and nobody else's."""
