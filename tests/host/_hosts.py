"""A host under test, its apps and their sites: the typed settings, and what the host says about them.

Facts are read by few commands and kept for the run; nothing on the host is changed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import testinfra  # type: ignore[import-untyped]
import testinfra.host  # type: ignore[import-untyped]

from roles.app import worker_count
from slipway import person
from slipway.engine.overview import HostOverview, Overview
from slipway.engine.place import File
from slipway.settings import AppSettings, Settings
from tests.host._client import Answer, Client

EXPOSURE = {"internet": 1.3, "unix": 0.4}
"""sandbox.network → the worst rating of an app by `systemd-analyze security`; 9.6 is that of one without any.

Netlink, by which programs list interfaces, counts 0.1."""
OUTSIDER = "www-data"
"""An unprivileged user that every Debian has; nginx's workers run as it."""

# Runs a command as another user with no more than that user's rights. Not runuser: it would write to the journal.
_AS_USER = "setpriv --reuid={0} --regid={0} --init-groups --inh-caps=-all --no-new-privs "


@dataclass(frozen=True)
class Verify:
    """How the tests reach a host's sites: the key "verify" of the host's data, beside "slipway"."""

    address: str | None = None
    """Where to connect instead of the domains, such as 127.0.0.1 for published ports, or the host behind a CDN."""
    http_port: int = 80
    https_port: int = 443
    ca_file: str | None = None
    """PEM file, relative to the inventory: the root of the certificates; None is this machine's own store."""


class Entry(NamedTuple):
    """One path on the host."""

    kind: str
    """As `stat` calls it: "regular file", "directory", "socket", "symbolic link"."""
    mode: str
    """In octal, without a leading zero."""
    user: str
    group: str


def ssh_backend(name: str, data: Mapping[str, Any], control: Path) -> testinfra.host.Host:
    """testinfra's connection by pyinfra's connection data, over one SSH session that stays open.

    + name: the host's name in the inventory
    + control: folder for that session's socket, with a short path
    """
    address = data.get("ssh_hostname") or name.removeprefix("@ssh/")
    sudo = bool(data.get("_sudo"))
    user, port = data.get("ssh_user"), data.get("ssh_port")
    if password := data.get("ssh_password"):
        login = f"{user or 'root'}:{urllib.parse.quote(password, safe='')}"
        shown = f"[{address}]" if ":" in address else address
        return testinfra.get_host(f"paramiko://{login}@{shown}:{port or 22}", sudo=sudo)
    known_hosts = data.get("ssh_known_hosts_file")
    options = {
        "BatchMode": "yes",
        "ControlMaster": "auto",
        "ControlPersist": "60",
        "ControlPath": control / "%C",
        "ConnectTimeout": 10,
        "StrictHostKeyChecking": data.get("ssh_strict_host_key_checking") or ("yes" if known_hosts else "accept-new"),
        "UserKnownHostsFile": known_hosts and person.expanded(known_hosts).absolute(),
        "IdentitiesOnly": "yes" if data.get("ssh_key") else None,
        "User": user,
        "Port": port,
    }
    words = [word for key, value in options.items() if value for word in ("-o", f"{key}={value}")]
    if data.get("ssh_config_file"):
        words += ["-F", str(person.expanded(data["ssh_config_file"]))]
    if data.get("ssh_key"):
        words += ["-i", str(person.expanded(data["ssh_key"]))]
    return testinfra.get_host(f"ssh://{urllib.parse.quote(address)}", sudo=sudo, ssh_extra_args=shlex.join(words))


class Target:
    """A host of the inventory."""

    def __init__(self, name: str, data: Mapping[str, Any], settings: Settings, inventory: Path, control: Path) -> None:
        """`control` is a folder for the SSH session's socket. Raises TypeError for an unknown key in "verify"."""
        self.name = name
        self.settings = settings
        self.verify = Verify(**data.get("verify", {}))
        self.folder = inventory.absolute().parent
        self.client = Client(self.verify.address, self.verify.http_port, self.verify.https_port)
        self.host = ssh_backend(name, data, control)
        self.apps = {app.name: App(self, app) for app in settings.apps.values()}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def trouble(self) -> str | None:
        """Why the host can't be verified: no SSH, or not as root; None when it can."""
        try:
            done = self.host.run("id -u")
        except Exception as error:  # each backend has its own kinds
            first = error.args[0] if error.args else None
            return f"no SSH session: {getattr(first, 'stderr', str(error)).strip()}{person.advice_on_ssh()}"
        if done.rc != 0:
            return f"a command fails: {done.stderr.strip() or done.rc}; sudo must work without a password"
        if done.stdout.strip() != "0":
            return 'commands don\'t run as root; set "ssh_user": "root", or "_sudo": True'
        return None if self.verify.address else self.unknown_domains()

    def unknown_domains(self) -> str | None:
        """Which domains this machine can't look up, so that no test of a site could say anything; None if none."""
        unknown = []
        for domain in dict.fromkeys(domain for app in self.settings.apps.values() for domain in app.domains):
            try:
                socket.getaddrinfo(domain.replace("*", "www"), self.verify.https_port)
            except OSError:
                unknown.append(domain)
        if not unknown:
            return None
        do = 'add their records, or set "verify": {"address": …} beside "slipway" to the host\'s address meanwhile'
        return f"{', '.join(unknown)} can't be looked up from here; {do}"

    def run(self, command: str, *arguments: str) -> str:
        """What a command prints, stripped; fails the test when the command fails. ``%s`` stands for an argument."""
        done = self.host.run(command, *arguments)
        assert done.rc == 0, f"`{command % arguments if arguments else command}` ended with {done.rc}: {done.stderr}"
        return str(done.stdout).strip()

    def run_as(self, user: str, command: str, *arguments: str) -> str:
        """Like `run`, with the rights of another user."""
        return self.run(_AS_USER.format(shlex.quote(user)) + command, *arguments)

    def stat(self, *paths: str) -> dict[str, Entry]:
        """What is at each path, links not followed; paths where nothing is are left out."""
        printed = self.host.run(f"stat --printf='%n\\t%F\\t%a\\t%U\\t%G\\n' -- {shlex.join(paths)}").stdout
        fields = (line.split("\t") for line in printed.splitlines())
        return {path: Entry(*rest) for path, *rest in fields}

    def check_files(self, wanted: Mapping[str, File | None]) -> None:
        """Assert content, owner and mode of files; None is one that isn't there."""
        for path, file in wanted.items():
            there = self.stat(path)
            if file is None:
                assert there == {}, f"{path} is there, though its setting is off"
                continue
            assert tuple(there[path]) == ("regular file", file.mode, file.user, file.group), path
            assert self.run("cat %s", path) == file.content.strip(), path

    def allowed(self, user: str, right: str, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that `user` may read ("r"), write ("w") or enter and run ("x")."""
        script = f'for path; do if [ -{right} "$path" ]; then echo "$path"; fi; done'
        printed = self.run_as(user, f"sh -c {shlex.quote(script)} sh {shlex.join(paths)}")
        return set(printed.splitlines())

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a systemd unit."""
        printed = self.run(f"systemctl show --property={','.join(properties)} -- {shlex.quote(unit)}")
        return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)

    def exposure(self, unit: str) -> float:
        """What `systemd-analyze security` rates a service, from 0 (shut off from all) to 10; worst points are shown."""
        printed = self.run("systemd-analyze security --no-pager %s", unit)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
        assert found, printed
        print(*(line for line in printed.splitlines() if line.startswith("✗")), sep="\n")
        return float(found[1])

    @cached_property
    def overview(self) -> HostOverview:
        """The host as roles see it."""
        fact = Overview()
        return fact.process(self.run(fact.command().get_raw_value()).splitlines())

    @cached_property
    def nginx_status(self) -> dict[str, Any]:
        """What `slipway-nginx status` prints."""
        found: dict[str, Any] = json.loads(self.run("/opt/slipway/bin/slipway nginx status --json"))
        return found

    @cached_property
    def world_readable(self) -> str:
        """All text that any user of the host may read and that secrets could have slipped into."""
        folders = ["/etc/systemd", "/etc/nginx", "/etc/slipway", "/var/lib/slipway", "/run/slipway"]
        folders += ["/opt/slipway/bin", "/opt/slipway/host"]
        folders += [folder for app in self.apps.values() for folder in (app.settings.config_dir, app.settings.run_dir)]
        files = f"find {shlex.join(folders)} -type f -size -256k -exec cat -- {{}} +"
        # Command lines too: /proc shows them to everyone.
        script = f"{files} 2>/dev/null; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; true"
        return self.run_as(OUTSIDER, f"sh -c {shlex.quote(script)}")


@dataclass(frozen=True)
class Process:
    """A process of an app's service."""

    pid: int
    user: str
    open_files: int
    """Soft limit of open files."""
    status: dict[str, str]
    """Fields of /proc/<pid>/status."""
    fast: frozenset[str]
    """Which of uvloop and httptools it has loaded."""


_PROCESSES = r"""
main=$1
for pid in $main $(grep -lx "PPid:.$main" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3); do
    echo "pid=$pid"; echo "user=$(stat -c %U /proc/$pid)"
    awk '/^Max open files/ {print "open_files=" $4}' /proc/$pid/limits
    awk -F ':[\t ]+' '/^(NoNewPrivs|CapEff|CapBnd|Seccomp|Umask):/ {print "status." $1 "=" $2}' /proc/$pid/status
    for name in uvloop httptools; do if grep -q "/$name/" /proc/$pid/maps; then echo "fast.$name=yes"; fi; done
done
"""


class App:
    """An app on a host under test."""

    def __init__(self, target: Target, settings: AppSettings) -> None:
        """`settings` are the app's own."""
        self.target = target
        self.settings = settings
        self.name = settings.name

    def __repr__(self) -> str:
        return f"<{self.name} on {self.target.name}>"

    @cached_property
    def status(self) -> dict[str, Any]:
        """What `slipway status --json` prints."""
        printed = self.target.run("/opt/slipway/bin/slipway status --json %s", self.name)
        found: dict[str, Any] = json.loads(printed)
        return found

    @cached_property
    def release(self) -> str:
        """Id of the release that the `current` link names."""
        return self.target.run("readlink %s", self.settings.current_link).rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Folder of the release that serves."""
        return f"{self.settings.releases_dir}/{self.release}"

    @property
    def work(self) -> str:
        """Folder of the app itself in that release."""
        return "/".join(part for part in (self.folder, self.settings.source.subdir) if part)

    @property
    def python(self) -> str:
        """Interpreter of that release's environment."""
        return f"{self.folder}/.venv/bin/python"

    @property
    def service(self) -> str:
        """Unit of the release that serves."""
        return self.settings.unit(self.release).service

    @property
    def socket_unit(self) -> str:
        """Socket unit of the release that serves."""
        return self.settings.unit(self.release).socket

    @cached_property
    def unit(self) -> dict[str, str]:
        """Properties of the service."""
        return self.target.show(self.service, "ActiveState", "MainPID", "NRestarts", "ActiveEnterTimestamp")

    @property
    def pid(self) -> str:
        """Process id of Gunicorn's master."""
        pid = self.unit["MainPID"]
        assert pid != "0", f"{self.service} has no process: it is {self.unit['ActiveState']}"
        return pid

    @cached_property
    def processes(self) -> list[Process]:
        """Gunicorn's master, then its workers."""
        found: list[dict[str, str]] = []
        for line in self.target.run("sh -c %s sh %s", _PROCESSES, self.pid).splitlines():
            key, _, value = line.partition("=")
            if key == "pid":
                found.append({})
            found[-1][key] = value
        return [
            Process(
                pid=int(each["pid"]),
                user=each["user"],
                open_files=int(each["open_files"]),
                status={key.removeprefix("status."): value for key, value in each.items() if key.startswith("status.")},
                fast=frozenset(key.removeprefix("fast.") for key in each if key.startswith("fast.")),
            )
            for each in found
        ]

    @property
    def workers(self) -> int:
        """How many workers the settings ask for on this host."""
        return worker_count(self.settings, self.target.overview, len(self.target.apps))

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment that the running app has; holds secrets, so no test shows its values."""
        printed = self.target.run("cat /proc/%s/environ", self.pid)
        return dict(item.split("=", 1) for item in printed.split("\0") if "=" in item)

    def new_trust(self) -> ssl.SSLContext | None:
        """What a visitor verifies the site's certificate with; None for a site without TLS."""
        if self.settings.tls.mode == "off":
            return None
        if self.settings.tls.mode == "self-signed":
            found = ssl.create_default_context(cadata=self.target.run("cat %s", str(self.settings.certificate_path)))
            found.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which asks more of a CA than of a site's own certificate
            return found
        ca_file = self.target.verify.ca_file
        path = self.target.folder / person.expanded(ca_file) if ca_file else None
        return ssl.create_default_context(cafile=path)

    @cached_property
    def trust(self) -> ssl.SSLContext | None:
        """`new_trust`, made once: loading a trust store takes a while."""
        return self.new_trust()

    @cached_property
    def site(self) -> Site:
        """The site under the app's first domain."""
        return Site(self, self.settings.domains[0])


class Site:
    """One domain of an app."""

    def __init__(self, app: App, domain: str) -> None:
        """A wildcard stands for one name that it covers."""
        self.app = app
        self.domain = domain.replace("*", "any-name", 1)

    def __repr__(self) -> str:
        return f"<{self.domain} on {self.app.target.name}>"

    @property
    def client(self) -> Client:
        """Reaches the host from outside."""
        return self.app.target.client

    @property
    def tls(self) -> ssl.SSLContext:
        """What the certificate is verified with; skips the test for a site without TLS."""
        if self.app.trust is None:
            pytest.skip('tls.mode is "off": the site has no TLS')
        return self.app.trust

    def get(self, path: str, *, method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """Ask the site as a visitor does: by https, or by http where its TLS is off; skips the test in maintenance."""
        self.served()
        return self.client.request(self.domain, path, trust=self.app.trust, method=method, headers=list(headers))

    def served(self) -> None:
        """Skip the test where nginx answers instead of the app."""
        if self.app.settings.maintenance:
            pytest.skip("maintenance is True: nginx answers instead of the app")

    def get_http2(self, path: str) -> httpx.Response:
        """Ask the site by a client that prefers HTTP/2; skips the test for a site without TLS or in maintenance."""
        assert self.tls
        self.served()
        trust = self.app.new_trust()
        assert trust
        return self.client.http2(self.domain, path, trust=trust)

    @cached_property
    def whoami(self) -> tuple[Answer, dict[str, Any]]:
        """The answer to a request with every forged header of `FORGED`, and what the app saw of it."""
        answer = self.get("/api/whoami", headers=list(FORGED.items()))
        seen = answer.json() if "json" in (answer.header("Content-Type") or "") else None
        if answer.status != 200 or not isinstance(seen, dict) or "headers" not in seen:
            pytest.skip(f"the app has no /api/whoami that shows what reaches it (it answers {answer.status})")
        return answer, seen


FORGED_ADDRESS = "6.6.6.6"
FORGED_HOST = "forged.example"
FORGED_ID = "forged-request-id"
FORGED = {
    "X-Forwarded-For": FORGED_ADDRESS,
    "X-Real-IP": FORGED_ADDRESS,
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": FORGED_HOST,
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/forged",
    "Forwarded": f"for={FORGED_ADDRESS};host={FORGED_HOST};proto=gopher",
    "X-Request-ID": FORGED_ID,
}
"""What a client could lie with."""


def close_sessions(control: Path) -> None:
    """End the SSH sessions that were kept open, and remove the folder of their sockets."""
    for path in control.iterdir():
        subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "host"], capture_output=True, check=False)
    shutil.rmtree(control, ignore_errors=True)
