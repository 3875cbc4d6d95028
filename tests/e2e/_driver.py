"""What the stories share: a throw-away host, the deploy that an operator runs, and the public's view of the sites.

A `Host` is a target of its own (tests/target), an inventory file written from `Host.slipway`, and the commands of a
person who works with them: `deploy`, `ssh`, `get`. `Host.traffic` is the public meanwhile.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pprint
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography import x509

from slipway.prober import Load, Prober, Site
from tests.target import lifecycle

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder, where deploy.py is."""

DEPLOY_SECONDS = 1800
"""Time after which a deploy counts as hung; a first one takes 40 s in a container, 300 to 900 on an emulated one."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "notes": {
        "domains": ["notes.test"],
        "source": {"path": str(ROOT / "examples/notes")},
        "app": "notes.main:app",
        "static": {"path": "static"},
    },
    "litestar-notes": {
        "domains": ["litestar.test"],
        "source": {"path": str(ROOT / "examples/litestar-notes")},
        "app": "litestar_notes.main:app",
    },
}
"""Settings of the example apps, by name."""

log = logging.getLogger("e2e")
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


@dataclass
class Run:
    """What one run of pyinfra did."""

    code: int
    """Exit status."""
    output: str
    """All that people see: stderr, without colours; with `dry`, stdout before it."""
    seconds: float
    changed: list[str] = field(default_factory=list)
    """Names of the operations that changed something; of a dry run, of those that would. Of a failed run, those
    whose log says "Success"."""
    unchanged: list[str] = field(default_factory=list)
    """Names of the operations that found nothing to do."""
    errors: list[str] = field(default_factory=list)
    """Names of the operations that failed."""

    @property
    def ok(self) -> bool:
        """The run ended with 0 and no operation failed."""
        return self.code == 0 and not self.errors

    @property
    def told(self) -> str:
        """The last of the output, without the operations that had nothing to do."""
        return re.sub(r"--> Starting operation: .*\n.*No changes\n\n?", "", self.output)[-6000:]

    def says(self, *texts: str) -> None:
        """Fail unless the output has each of the texts; line ends and indents between words don't count."""
        flat = " ".join(self.output.split())
        for text in texts:
            assert " ".join(text.split()) in flat, f"{text!r} isn't said in:\n{self.told}"

    def has_no_traceback(self) -> None:
        """Fail if the output shows Python's inside."""
        assert "Traceback" not in self.output, self.told


@dataclass
class Sample:
    """One request of the public."""

    at: float
    """When it was answered, in seconds since the traffic began."""
    seconds: float
    """How long the answer took."""
    status: int
    """HTTP status; 0 for none."""
    fault: str
    """Why it counts as failed; empty when it was answered with 200."""
    release: str
    """The release that answered, where the body tells."""


@dataclass
class Traffic:
    """Steady requests to one address: half on kept connections, half each on a new one.

    As every browser does (RFC 9110, 9.2.2), a request that met the closing of its kept connection, before a byte of
    answer, is sent again once, on a new connection: `resent` counts these.
    """

    url: str
    samples: list[Sample] = field(default_factory=list)
    resent: int = 0

    @property
    def total(self) -> int:
        """Number of requests."""
        return len(self.samples)

    @property
    def failures(self) -> list[Sample]:
        """The requests that weren't answered with 200."""
        return [sample for sample in self.samples if sample.fault]

    @property
    def failed(self) -> int:
        """Number of requests that weren't answered with 200."""
        return len(self.failures)

    @property
    def longest_gap(self) -> float:
        """Longest time in seconds between two good answers."""
        times = sorted(sample.at for sample in self.samples if not sample.fault)
        return max((later - earlier for earlier, later in pairwise(times)), default=float("inf"))

    @property
    def slowest(self) -> float:
        """Longest time in seconds that one answer took."""
        return max((sample.seconds for sample in self.samples), default=float("inf"))

    @property
    def releases(self) -> list[str]:
        """The releases that answered, in the order of their first answer."""
        return list(
            dict.fromkeys(sample.release for sample in sorted(self.samples, key=lambda s: s.at) if sample.release)
        )

    @property
    def statuses(self) -> Counter[int]:
        """How often each HTTP status came; 0 is no answer."""
        return Counter(sample.status for sample in self.samples)

    def unbroken(self, *, gap: float = 3.0, at_least: int = 10) -> None:
        """Fail unless every request was answered with 200, with no `gap` (seconds) between answers.

        + at_least: number of requests below which nothing was shown
        """
        log.info("    public: %s", self)
        assert self.total >= at_least, f"only {self.total} requests were sent to {self.url}: that shows nothing"
        assert not self.failures, f"{self.failed} of {self.total} requests failed: {self.failures[:5]}"
        assert self.longest_gap < gap, f"no answer for {self.longest_gap:.1f} s"

    def __str__(self) -> str:
        return (
            f"{self.total} requests to {self.url}, {self.failed} failed, {self.resent} sent again, "
            f"longest gap {self.longest_gap:.2f} s, slowest {self.slowest:.2f} s"
        )


class _Through(httpx.HTTPTransport):
    """To a target's published ports, whatever the host of the URL; name and certificate are the URL's."""

    def __init__(self, ports: Mapping[str, int], verify: ssl.SSLContext, *, http2: bool) -> None:
        super().__init__(verify=verify, http2=http2)
        self._ports = ports

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._ports[request.url.scheme])
        return super().handle_request(request)


class Host:
    """A target, its inventory file and the public's way to it. Made by `Host.up`.

    `slipway` is the mapping that the inventory file holds under "slipway": change it with `change`, or in place; every
    `deploy` writes it anew. Paths in it may be absolute, or relative to `folder`, where the inventory lies.
    """

    def __init__(self, target: lifecycle.Description, folder: Path, apps: tuple[str, ...]) -> None:
        self.target = target
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
        self._control = tempfile.mkdtemp(prefix="slw")

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
        + fresh: remove one of that name first, so that it is bare
        + kind: of `lifecycle.up`: ``machine=True``, memory, …
        """
        if fresh:
            lifecycle.down(name)
        began = time.monotonic()
        target = lifecycle.up(name, os_name, **kind)
        log.info("target %s (%s) is up after %.1f s", name, os_name, time.monotonic() - began)
        return cls(target, folder, apps)

    def down(self) -> None:
        """Remove the target."""
        self._forget_connection()
        shutil.rmtree(self._control, ignore_errors=True)
        lifecycle.down(self.name)

    # ── the operator's side ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.target["name"])

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
        return _start_pyinfra(self.command("-y", *options, user=user), output or Path(os.devnull))

    def deploy(self, *options: str, user: str | None = None, check: bool = True) -> Run:
        """Run ``pyinfra -y --json <inventory> deploy.py``; with `check`, fail unless it ends well.

        + options: more of pyinfra's options, such as "--dry"
        + user: SSH user; None is the sudo user, "root" needs no sudo
        """
        dry = "--dry" in options
        # With -y pyinfra skips what a dry run is for; with --json it hides the diff.
        command = self.command(*(() if dry else ("-y", "--json")), *options, user=user)
        return _run_pyinfra(" ".join(["deploy", *options]), command, dry=dry, check=check, folder=self.project)

    def planned(self) -> list[str]:
        """Names of the operations that ``pyinfra --dry --json <inventory> deploy.py`` lists as changes."""
        command = self.command("--dry", "--json")
        return _run_pyinfra("plan", command, dry=True, check=True, folder=self.project).changed

    def run_slipway(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``slipway VERB <inventory>``; the caller looks at exit code, stdout and stderr."""
        program = [sys.executable, "-c", "from slipway.cli import main; main()"]
        began = time.monotonic()
        done = _run([*program, verb, str(self.write_inventory()), *options], ROOT)
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
            env=_environment(),
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

    # ── on the host ──────────────────────────────────────────────────────────────────────────────────────────────

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

    def deploy_killed_at(self, moment: str, seconds: float = 90) -> None:
        """Start a deploy and end it as a crash would when a command line with `moment` runs on the host.

        That process is stopped first, so that the moment is this one; pyinfra and what it runs on the host then get
        SIGKILL. What runs on the host in a unit of its own is left as it is.
        """
        log_file = self.folder / "killed.log"
        process = self.start_deploy(output=log_file)
        # As standard input, since a shell whose own command line has the words would find itself.
        watch = 'until pid=$(pgrep -o -f -- "$MOMENT"); do sleep 0.02; done; kill -STOP $pid; echo $pid'
        script = f"MOMENT={shlex.quote(moment)}; {watch}"
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

    # ── the public's side ────────────────────────────────────────────────────────────────────────────────────────

    def trust(self, ca: Path | str | None = None) -> ssl.SSLContext:
        """What a browser trusts: the ACME server's root as it is now, or another PEM file."""
        return ssl.create_default_context(cafile=str(ca or self.target["ca_file"]))

    def client(
        self, *, http2: bool = False, ca: Path | str | None = None, verify: bool = True, **options: Any
    ) -> httpx.Client:
        """A client for URLs such as https://notes.test/, through the published ports; follows no redirect.

        + http2: offer HTTP/2 too
        + ca: PEM file with the CA to trust; None is the ACME server's root
        + verify: False believes any certificate
        + options: more of httpx.Client's options
        """
        context = self.trust(ca)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        ports = {"http": self.target["http_port"], "https": self.target["https_port"]}
        return httpx.Client(transport=_Through(ports, context, http2=http2), **{"timeout": 20.0, **options})

    def request(
        self, method: str, path: str, *, domain: str = "notes.test", scheme: str = "https", http2: bool = False,
        ca: Path | str | None = None, verify: bool = True, **options: Any,
    ) -> httpx.Response:  # fmt: skip
        """Send one request through the published port, with the domain's name in SNI and Host; see `client`.

        + options: of httpx's request: headers, json, content, params, …
        """
        with self.client(http2=http2, ca=ca, verify=verify) as client:
            return client.request(method, f"{scheme}://{domain}{path}", **options)

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        """`request` with GET."""
        return self.request("GET", path, **options)

    def connect(
        self, domain: str = "notes.test", *, port: int | None = None, ca: Path | str | None = None, verify: bool = True,
        alpn: str | None = None,
    ) -> ssl.SSLSocket:  # fmt: skip
        """A TLS connection for a domain, ready to be written to; `alpn`: the protocol that it offers."""
        context = self.trust(ca)
        if alpn:
            context.set_alpn_protocols([alpn])
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port or self.target["https_port"]), timeout=20)
        try:
            return context.wrap_socket(plain, server_hostname=domain)
        except OSError:
            plain.close()
            raise

    def certificate(self, domain: str = "notes.test", **options: Any) -> x509.Certificate:
        """The certificate that the host serves for a domain now; `options` are those of `connect`."""
        with self.connect(domain, **options) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der)

    @contextmanager
    def traffic(
        self,
        domain: str = "notes.test",
        path: str = "/api/whoami",
        *,
        rate: float = 20.0,
        scheme: str = "https",
        ca: Path | str | None = None,
    ) -> Iterator[Traffic]:
        """The public, sending `rate` requests a second until the block ends; then look at what is yielded."""
        seen = Traffic(f"{scheme}://{domain}{path}")
        ended, began = threading.Event(), time.monotonic()
        ports = {"http": self.target["http_port"], "https": self.target["https_port"]}
        every = 2 / rate

        def visit(*, kept: bool) -> None:
            # One a thread: httpcore sets the context's ALPN anew for each connection, and a hello that another thread
            # is writing at that moment is torn (the server then says "bad extension").
            context = self.trust(ca)
            client = httpx.Client(transport=_Through(ports, context, http2=False), timeout=20)
            due = time.monotonic()
            while not ended.is_set():
                start = time.monotonic()
                try:
                    try:
                        answer = client.get(seen.url)
                    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                        if not kept or "certificate" in str(error):
                            raise
                        client.close()
                        client = httpx.Client(transport=_Through(ports, context, http2=False), timeout=20)
                        seen.resent += 1
                        answer = client.get(seen.url)
                    fault = "" if answer.status_code == 200 else answer.text[:100] or str(answer.status_code)
                    status, release = answer.status_code, _release_in(answer)
                except httpx.HTTPError as error:
                    fault, status, release = f"{type(error).__name__}: {error}", 0, ""
                now = time.monotonic()
                seen.samples.append(Sample(now - began, now - start, status, fault, release))
                if not kept or fault:
                    client.close()
                    client = httpx.Client(transport=_Through(ports, context, http2=False), timeout=20)
                due = max(due + every, now)
                ended.wait(max(0.0, due - time.monotonic()))
            client.close()

        threads = [threading.Thread(target=visit, kwargs={"kept": kept}, daemon=True) for kept in (True, False)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            time.sleep(0.5)  # what is due to a reload that has just ended shows now
            ended.set()
            for thread in threads:
                thread.join(30)

    def prober(
        self,
        domain: str = "notes.test",
        path: str = "/api/whoami",
        *,
        scheme: str = "https",
        ca: Path | str | None = None,
        **load: Any,
    ) -> Prober:
        """The public, as a context manager: its `result` is there after the block.

        + path: of the short requests; an answer that is JSON tells the release
        + load: more of `Load`: slow, upload, websocket, stream, connections, rate, …
        """
        tls = scheme == "https"
        port = self.target["https_port" if tls else "http_port"]
        trusted = str(ca or self.target["ca_file"]) if tls else None
        site = Site(f"{scheme}://{domain}", address="127.0.0.1", port=port, ca_file=trusted)
        return Prober(site, Load(**{"short": (path,), **load}))

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
        return _run_pyinfra(entry, self.task_command(entry, "-y", "--json", *options, **data), dry=False, check=check)

    def start_task(self, entry: str, output: Path, *options: str, **data: object) -> subprocess.Popen[bytes]:
        """Start an entry point in a process group of its own and don't wait; see `task_command`."""
        return _start_pyinfra(self.task_command(entry, "-y", *options, **data), output)


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


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the project in a folder of it, to its end, with nobody at its standard input."""
    return subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEPLOY_SECONDS,
        check=False,
    )


def _run_pyinfra(what: str, command: list[str], *, dry: bool, check: bool, folder: Path = ROOT) -> Run:
    """Run pyinfra in a folder of the project, to its end; with `check`, fail unless it ends well."""
    began = time.monotonic()
    done = _run(command, folder)
    run = _parse(done, time.monotonic() - began, dry=dry)
    changed = ", ".join(run.changed) if 0 < len(run.changed) <= 6 else f"{len(run.changed)} operations"
    log.info("    %s: exit %d after %.1f s, changed: %s", what, run.code, run.seconds, changed)
    if check:
        assert run.ok, f"{what} ended with {run.code}, errors: {run.errors}\n{run.told}"
    return run


def _start_pyinfra(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Start pyinfra in a process group of its own and don't wait."""
    with output.open("wb") as sink:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )


def _plain(value: object) -> str:
    """A value as ``--data`` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _environment() -> dict[str, str]:
    """The environment of a deploy: without what would steer or colour it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLIPWAY_", "PYINFRA_", "PYTEST_"))}
    cache = {"XDG_CACHE_HOME": str(ROOT / ".target" / "cache")}
    return kept | cache | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def _release_in(answer: httpx.Response) -> str:
    if "json" not in answer.headers.get("content-type", ""):
        return ""
    body = answer.json()
    return str(body.get("release", "")) if isinstance(body, dict) else ""


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _parse(done: subprocess.CompletedProcess[str], seconds: float, *, dry: bool) -> Run:
    """A run from pyinfra's JSON, or from its log where it printed none (dry runs and failures)."""
    shown = _COLOUR.sub("", done.stderr)
    run = Run(done.returncode, shown, seconds)
    if dry and done.stdout.startswith("{"):
        for operation in json.loads(done.stdout)["plan"]:
            changes = operation["hosts_with_change"] + operation["hosts_with_conditional_change"]
            (run.changed if changes else run.unchanged).append(operation["name"])
        return run
    if dry:
        run.output = _COLOUR.sub("", done.stdout) + shown
        cell = r"\s{2,}(-|\d+ \([^)]*\))"
        for name, change, conditional in re.findall(rf"^    (\S.*? \| .*?){cell}{cell}\s*$", run.output, re.MULTILINE):
            (run.unchanged if (change, conditional) == ("-", "-") else run.changed).append(name)
        return run
    try:
        told = json.loads(done.stdout)
    except ValueError:
        name = ""
        for line in shown.splitlines():
            if "Starting operation:" in line:
                name = line.partition("Starting operation:")[2].strip()
            elif name and (ended := re.match(r"\s*\[[^\]]+\] (Success|No changes|Error)", line)):
                {"S": run.changed, "N": run.unchanged, "E": run.errors}[ended[1][0]].append(name)
        return run
    for operation in told["results"]["operations"]:
        if operation["error"]:
            run.errors.append(operation["name"])
        elif operation["success"]:
            run.changed.append(operation["name"])
        else:
            run.unchanged.append(operation["name"])
    return run
