"""What the stories share: a throw-away host, the deploy that an operator runs, and the public's view of the sites.

A `Host` is a target of its own (tests/target), an inventory file written from `Host.slipway`, and the commands of a
person who works with them: `deploy`, `ssh`, `get`. `Host.traffic` is the public meanwhile.
"""

from __future__ import annotations

import copy
import os
import pprint
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e._entered import Entered
from tests.e2e._public import Public
from tests.e2e._run import ROOT, Run, environment, log, run_command, run_pyinfra, start_pyinfra
from tests.target import lifecycle

__all__ = ["EXAMPLES", "ROOT", "Host", "Public", "Run", "log", "login", "merge", "wait_until"]

EXAMPLES: dict[str, dict[str, Any]] = {
    "notes": {
        "domains": ["notes.test"],
        "source": {"path": str(ROOT / "examples/notes")},
        "app": "notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
        "static": {"path": "static"},
    },
    "litestar-notes": {
        "domains": ["litestar.test"],
        "source": {"path": str(ROOT / "examples/litestar-notes")},
        "app": "litestar_notes.main:app",
        "liveness_path": "/healthz",
        "readiness_path": "/readyz",
    },
}
"""Settings of the example apps, by name."""

T = TypeVar("T")


def merge(into: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings into `into`, in place; lists and scalars are replaced. Returns `into`."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
    return into


def wait_until(question: Callable[[], T], seconds: float, what: str) -> T:
    """Ask until the answer is true or something like it, and return it; an exception is a no. Fails after `seconds`."""
    until, seen = time.monotonic() + seconds, ""
    while True:
        try:
            answer = question()
            if answer:
                return answer
            seen = repr(answer)
        except Exception as error:  # whatever it is, it isn't there yet
            seen = f"{type(error).__name__}: {error}"
        assert time.monotonic() < until, f"{what}: not within {seconds} s; last seen: {seen}"
        time.sleep(0.2)


CATCH = r"""
    while (1) {
        opendir(my $processes, "/proc");
        for my $pid (sort { $a <=> $b } grep { /^\d+$/ && $_ != $$ } readdir $processes) {
            open(my $file, "<", "/proc/$pid/cmdline") or next;
            my $line = do { local $/; <$file> } // next;
            $line =~ tr/\0/ /;
            if ($line =~ /$ENV{MOMENT}/) { kill "STOP", $pid; print "$pid\n"; exit }
        }
        select(undef, undef, undef, 0.002);
    }
"""
"""Stops the first process whose command line is like MOMENT. In Perl, which each Debian has: `pgrep` looks too seldom
for a command of some milliseconds."""


class Host(Entered):
    """A target, its inventory file and the public's way to it. Made by `Host.up`.

    `slipway` is the mapping that the inventory file holds under "slipway": change it with `change`, or in place; every
    `deploy` writes it anew. Paths in it may be absolute, or relative to `folder`, where the inventory lies.
    """

    def __init__(self, target: lifecycle.Description, folder: Path, apps: tuple[str, ...]) -> None:
        super().__init__(target)
        self.folder = folder
        self.project = ROOT
        """Folder of the project that deploys; a story that changes it has a copy."""
        self.inventory = folder / "inv.py"
        self.slipway: dict[str, Any] = {
            "acme": {
                "email": "ops@example.com",
                "directory": target["acme_directory"],
                "ca_file": target["acme_ca_file"],
            },
            "python": dict(target["python"]),
            "apps": {app: copy.deepcopy(EXAMPLES[app]) for app in apps},
        }
        self.data: dict[str, Any] = {}
        """Connection data that differs from the usual, such as ``{"_sudo": False}``; what is None is left out."""
        self.connector = "@slipway/"
        """What stands before the host's name in the inventory; empty is pyinfra's own SSH connector."""

    @classmethod
    def up(
        cls,
        name: str,
        os_name: str,
        folder: Path,
        apps: tuple[str, ...] = ("notes",),
        *,
        fresh: bool = True,
        **kind: Any,
    ) -> Host:
        """Bring a target up.

        + name: its name
        + os_name: "debian12" or "debian13"
        + folder: where the inventory is written
        + apps: which of `EXAMPLES` its inventory has at first
        + fresh: remove one of that name first, so that it is new
        + kind: of `lifecycle.up`: ``machine=True``, memory, ``start_from``, …
        """
        if fresh:
            lifecycle.down(name)
        began = time.monotonic()
        target = lifecycle.up(name, os_name, **kind)
        log.info("target %s (%s) is up after %.1f s", name, os_name, time.monotonic() - began)
        return cls(target, folder, apps)

    def down(self) -> None:
        """Remove the target."""
        self.leave()
        lifecycle.down(self.name)

    # ── the operator's side ──────────────────────────────────────────────────────────────────────────────────────

    def app(self, name: str = "notes") -> dict[str, Any]:
        """The settings of one app, to be changed in place."""
        settings: dict[str, Any] = self.slipway["apps"][name]
        return settings

    def change(self, changes: Mapping[str, Any]) -> None:
        """Merge nested `changes` into the settings; a list or a scalar replaces what was there."""
        merge(self.slipway, changes)

    def settings(self, **changes: Any) -> None:
        """Set single settings by their path with ``__`` between the parts: ``settings(apps__notes__workers=3)``."""
        for path, value in changes.items():
            nested = value
            for part in reversed(path.split("__")):
                nested = {part: nested}
            self.change(nested)

    @contextmanager
    def changed(self, changes: Mapping[str, Any]) -> Iterator[None]:
        """The settings with `changes` merged in, and afterwards as they were; the host is left to the caller."""
        before = copy.deepcopy(self.slipway)
        self.change(changes)
        try:
            yield
        finally:
            self.slipway = before

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        """Write a file beside the inventory and return its name, as settings take it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return name

    def write_inventory(self, user: str | None = None) -> Path:
        """Write the inventory file; `user`: None is the sudo user, "root" needs no sudo. Returns its path."""
        target = self.target["ssh"]
        user = user or target["user"]
        data = {
            "ssh_hostname": target["host"],
            "ssh_port": target["port"],
            "ssh_user": user,
            "ssh_key": target["key"],
            "ssh_known_hosts_file": target["known_hosts"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "_sudo": user != "root",
            # Where tests/host finds the sites (its conftest.py).
            "verify": {
                "address": "127.0.0.1",
                "http_port": self.target["http_port"],
                "https_port": self.target["https_port"],
                "ca_file": self.target["ca_file"],
            },
            **self.data,
            "slipway": self.slipway,
        }
        data = {key: value for key, value in data.items() if value is not None}
        hosts = [(self.connector + self.target["container"], data)]
        self.inventory.write_text(f"hosts = {pprint.pformat(hosts, sort_dicts=False)}\n")
        return self.inventory

    def command(self, *options: str, user: str | None = None) -> list[str]:
        """The command line of a deploy; its inventory is written."""
        pyinfra = "import sys; from pyinfra_cli.main import main; sys.exit(main())"
        return [sys.executable, "-c", pyinfra, *options, str(self.write_inventory(user)), "deploy.py"]

    def start_deploy(
        self, *options: str, user: str | None = None, output: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a deploy in a process group of its own and don't wait; `output`: where it writes, None is nowhere."""
        return start_pyinfra(self.command("-y", *options, user=user), output or Path(os.devnull))

    def deploy(self, *options: str, user: str | None = None, check: bool = True) -> Run:
        """Run ``pyinfra -y --json <inventory> deploy.py``; with `check`, fail unless it ends well.

        + options: more of pyinfra's options, such as "--dry"
        + user: SSH user; None is the sudo user, "root" needs no sudo
        """
        dry = "--dry" in options
        # With -y pyinfra skips what a dry run is for; with --json it hides the diff.
        command = self.command(*(() if dry else ("-y", "--json")), *options, user=user)
        return run_pyinfra(" ".join(["deploy", *options]), command, dry=dry, check=check, folder=self.project)

    def planned(self) -> list[str]:
        """Names of the operations that ``pyinfra --dry --json <inventory> deploy.py`` lists as changes."""
        command = self.command("--dry", "--json")
        return run_pyinfra("plan", command, dry=True, check=True, folder=self.project).changed

    def run_slipway(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``slipway VERB <inventory>``; the caller looks at exit code, stdout and stderr."""
        program = [sys.executable, "-c", "from slipway.cli import main; main()"]
        began = time.monotonic()
        done = run_command([*program, verb, str(self.write_inventory()), *options], ROOT)
        log.info("slipway %s: exit %s after %.1f s", verb, done.returncode, time.monotonic() - began)
        return done

    def converged(self, **options: Any) -> Run:
        """Deploy, and fail if anything changed."""
        run = self.deploy(**options)
        assert run.changed == [], f"these changed on a host that was as it should be: {run.changed}"
        assert run.unchanged
        return run

    def refused(self, *says: str, **options: Any) -> Run:
        """Deploy, and fail unless it is refused, with a message that has each of the texts, and without traceback."""
        run = self.deploy(check=False, **options)
        assert run.code != 0, f"it wasn't refused\n{run.told}"
        run.says(*says)
        run.has_no_traceback()
        return run

    def verify(self) -> str:
        """Run tests/host over it; fail unless it tested something, and all of it passed. Returns what pytest told."""
        command = [sys.executable, "-m", "pytest", "tests/host", "-q", "-p", "no:cacheprovider", "--color=no"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--inventory", str(self.write_inventory())],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        found = re.search(r"(\d+) passed", done.stdout)
        log.info("    verify: %s after %.1f s", done.stdout.strip().splitlines()[-1:], time.monotonic() - began)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
        assert found and int(found[1]) >= 30, f"too few tests ran: {done.stdout[-500:]}"
        return done.stdout

    # ── killed runs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def deploy_killed_at(self, moment: str, seconds: float = 90) -> None:
        """Start a deploy and end it as a crash would when a command line with `moment` runs on the host.

        That process is stopped first, so that the moment is this one; pyinfra and what it runs on the host then get
        SIGKILL. What runs on the host in a unit of its own is left as it is.
        """
        log_file = self.folder / "killed.log"
        process = self.start_deploy(output=log_file)
        # As standard input, since a shell whose own command line has the words would find itself.
        script = f"export MOMENT={shlex.quote(moment)}; exec perl -e {shlex.quote(CATCH)}"
        try:
            found = self.run(f"timeout {seconds:.0f} sh -s", stdin=script, timeout=seconds + 30)
            assert found.returncode == 0, f"`{moment}` didn't run within {seconds} s\n{log_file.read_text()[-3000:]}"
        finally:
            self.kill_deploy(process)
        log.info("    killed at %s (process %s)", moment, found.stdout.strip())

    def kill_deploy(self, process: subprocess.Popen[bytes]) -> None:
        """End a deploy as a crash would: with SIGKILL, what its connection runs on the host, then pyinfra itself."""
        # Stopped first, so that it doesn't react to the end of its command.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGSTOP)
        # Each connection's commands are below an sshd of their own; ours are told by what they descend from.
        script = """
            tree() { for pid in $(pgrep -P "$1"); do echo "$pid"; tree "$pid"; done; }
            own=$$; kept=; while [ "$own" -gt 1 ]; do kept="$kept $own "; own=$(ps -o ppid= -p "$own" | tr -d ' '); done
            for session in $(pgrep -f '^sshd.*@notty'); do
                case "$kept" in *" $session "*) continue ;; esac
                # Again until none is left: one may have had a child meanwhile.
                while doomed=$(tree "$session"); [ -n "$doomed" ]; do kill -KILL $doomed; sleep 0.05; done
            done
        """
        self.run("sh -s", stdin=script)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    # ── other entry points than deploy.py ────────────────────────────────────────────────────────────────────────

    def task_command(self, entry: str, *options: str, **data: object) -> list[str]:
        """The command line of another entry point, such as "tasks/release.py"; its inventory is written.

        + data: what ``--data`` says, such as ``app="tiny"``, ``prove=True``
        """
        command = self.command(*options)
        given = [word for name, value in data.items() for word in ("--data", f"{name}={_plain(value)}")]
        return [*command[:-2], *given, command[-2], entry]

    def task(self, entry: str, *options: str, check: bool = True, **data: object) -> Run:
        """Run an entry point as `deploy` runs deploy.py; see `task_command`."""
        return run_pyinfra(entry, self.task_command(entry, "-y", "--json", *options, **data), dry=False, check=check)

    def start_task(self, entry: str, output: Path, *options: str, **data: object) -> subprocess.Popen[bytes]:
        """Start an entry point in a process group of its own and don't wait; see `task_command`."""
        return start_pyinfra(self.task_command(entry, "-y", *options, **data), output)


def login(
    host: Host, user: str | None = None, *options: str, connect: int = 4, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Log in anew, over a connection that nothing is shared with, and become root.

    + user: None is the sudo user
    + options: more of ssh's
    + connect, seconds: how long the connection may take, and all of it
    """
    *call, whom = lifecycle.ssh_options(host.target, user)
    short = ("-o", f"ConnectTimeout={connect}", "-o", "BatchMode=yes", "-o", "ControlPath=none")
    return subprocess.run(
        [*call, *short, *options, whom, "sudo -n true"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def _plain(value: object) -> str:
    """A value as ``--data`` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
